"""Processes that a server forks without being asked."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond.backends.processes import outfit, ways
from millpond.backends.processes.starting.births import Unborn
from millpond.backends.processes.starting.nursery import Nursery
from millpond.backends.processes.starting.terms import terms_of
from millpond.testing import tasks
from tests.processes import work
from tests.processes.waiting import LIMIT


def unborn(target: Any, *args: Any) -> Unborn:
    process: Any = millpond.get_context("fork").Process(target=target, args=args)
    terms_of(process).returns = False
    return Unborn(process, [])


def adopted(server: Nursery, unborn: Unborn) -> Any:
    process: Any = unborn.process
    terms_of(process).server = server
    process.start()
    return process


def test_a_brood_is_forked_unasked_and_adopted_in_any_order(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    brood = [unborn(file.write_text, "here") for file in files]
    server = Nursery.fork({}, brood=brood)
    tasks.wait_until(lambda: all(file.exists() for file in files), "all run")
    for each in (brood[2], brood[0], brood[1]):
        process = adopted(server, each)
        process.join(LIMIT)
        assert process.exitcode == 0
    another: Any = millpond.get_context("fork").Process(target=os.getppid)
    terms_of(another).server = server
    another.start()
    assert another.result(LIMIT) == server.pid
    server.close()


def test_how_one_of_a_brood_ended_is_known_though_nobody_had_adopted_it() -> None:
    brood = [unborn(work.vanish, 7), unborn(time.sleep, 0.2), unborn(work.vanish, 8)]
    server = Nursery.fork({}, brood=brood)
    second = adopted(server, brood[1])
    second.join(LIMIT)
    assert [adopted(server, each).join(LIMIT) for each in (brood[0], brood[2])] == [None, None]
    assert [each.process.exitcode for each in brood] == [7, 0, 8]
    server.close()


def test_descriptors_of_one_of_a_brood_are_for_it_alone() -> None:
    ends = [socket.socketpair() for _ in range(2)]
    brood = [
        Unborn(unborn(theirs.sendall, b"hello").process, [theirs.fileno()]) for _, theirs in ends
    ]
    server = Nursery.fork({}, brood=brood)
    for ours, theirs in ends:
        theirs.close()
        ours.settimeout(LIMIT)
        assert ours.recv(10) == b"hello"
    for (ours, _), each in zip(ends, brood, strict=True):
        adopted(server, each).join(LIMIT)
        assert ours.recv(10) == b"", "neither the server nor another holds the other end"
        ours.close()
    server.close()


def stay(file: Path) -> None:
    file.with_suffix(".new").write_text(str(os.getpid()))
    os.rename(file.with_suffix(".new"), file)
    work.wait_for_end()


def test_who_of_a_brood_is_not_adopted_ends_with_the_server(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    brood = [unborn(stay, file) for file in files]
    server = Nursery.fork({}, brood=brood)
    tasks.wait_until(lambda: all(file.exists() for file in files), "both run")
    other = adopted(server, brood[1])
    server.close()
    other.join(LIMIT)
    assert other.exitcode == -signal.SIGKILL
    assert not any(os.path.exists(f"/proc/{file.read_text()}") for file in files)


def test_a_pool_that_is_being_made_holds_the_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another pool's end, in another thread or by garbage collection, may come at any moment of it."""
    last = millpond.Pool(1, start_method="fork")
    found: list[outfit.Outfit] = []

    def hatch(*args: Any) -> Any:
        server, outfits = original(*args)
        found.extend(outfits)
        last.terminate()
        return server, outfits

    original = outfit.hatch
    monkeypatch.setattr(ways, "hatch", hatch)
    with millpond.Pool(1, start_method="fork") as pool:
        assert pool._backend._arena is found[0].lent
        assert found[0].lent.fd >= 0
        assert pool.apply(len, (bytearray(1 << 20),)) == 1 << 20
    assert found[0].lent.fd < 0, "it was the last one's to close"
