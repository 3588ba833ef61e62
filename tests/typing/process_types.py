"""What type checkers must conclude about a Process. Checked by test_types.py, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

import millpond
from millpond import Process


def start_and_join() -> None:
    process = Process(target=print, args=("hello",), kwargs={"end": ""}, name="p", daemon=True)
    process.start()
    process.join(1.5)
    assert_type(process.pid, int | None)
    assert_type(process.exitcode, int | None)
    assert_type(process.is_alive(), bool)
    assert_type(process.sentinel, int)
    assert_type(process.name, str)
    process.terminate()
    process.kill()
    process.close()


def outcome() -> None:
    process = Process(target=print, die_with_parent=True, timeout=2.5)
    assert_type(process.result(), Any)
    assert_type(process.result(timeout=1.0), Any)
    assert_type(process.exception(), BaseException | None)


async def awaited(process: Process) -> None:
    assert_type(await process, Any)


def names() -> None:
    assert_type(millpond.current_process().name, str)
    assert_type(millpond.cpu_count(), int)
    millpond.set_start_method("spawn")
    queue: millpond.pool.Pool | None = None
    del queue
    with millpond.Manager() as manager:
        manager.dict()
    millpond.get_context("spawn").Process(target=print).start()


def mistakes() -> None:
    """Each line is an error; a checker that lets one pass reports its unused ignore."""
    Process(target=5)  # type: ignore[arg-type]
    Process(targt=print)  # type: ignore[call-arg]
    Process(target=print).join("1")  # type: ignore[arg-type]
    Process(target=print, timeout="1")  # type: ignore[arg-type]
