"""Kills for want of memory, read from files as the kernel's are; no cgroup is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from millpond.backends.processes.out_of_memory import Kills, shown

MIB = 1 << 20
V1_UNLIMITED = 0x7FFFFFFFFFFFF000


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_2(root: Path, folder: str = "a/b") -> Callable[[int], None]:
    """A cgroup whose limit is its parent's; what sets its count."""
    put(root, {
        "proc/self/cgroup": f"0::/{folder}\n",
        f"sys/fs/cgroup/{folder}/memory.max": "max\n",
        f"sys/fs/cgroup/{folder}/memory.peak": f"{90 * MIB}\n",
        "sys/fs/cgroup/a/memory.max": f"{100 * MIB}\n",
        "sys/fs/cgroup/a/memory.peak": f"{99 * MIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{50 * MIB}\n",
    })  # fmt: skip
    events = root / f"sys/fs/cgroup/{folder}/memory.events"

    def killed(count: int) -> None:
        events.write_text(f"low 0\nhigh 0\nmax 3\noom 2\noom_kill {count}\noom_group_kill 0\n")

    killed(0)
    return killed


def test_a_kill_is_told_once_with_the_limit_that_was_met(tmp_path: Path) -> None:
    killed = version_2(tmp_path)
    kills = Kills(str(tmp_path))
    assert kills.take() == ""
    killed(1)
    assert kills.take() == "its cgroup may use 100.0 MiB and used 99.0 MiB"
    assert kills.take() == ""


def test_several_at_once_are_told_of_each(tmp_path: Path) -> None:
    killed = version_2(tmp_path)
    kills = Kills(str(tmp_path))
    killed(2)
    assert [bool(kills.take()) for _ in range(3)] == [True, True, False]


def test_kills_of_before_are_not_told(tmp_path: Path) -> None:
    killed = version_2(tmp_path)
    killed(7)
    assert Kills(str(tmp_path)).take() == ""


def test_a_kill_that_was_nobody_s_is_not_told_of_a_later_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    killed = version_2(tmp_path)
    kills = Kills(str(tmp_path))
    killed(2)
    assert kills.take()
    now[0] += 1.5
    assert kills.take() == ""


def test_without_a_peak_it_is_what_is_used_now(tmp_path: Path) -> None:
    killed = version_2(tmp_path)
    (tmp_path / "sys/fs/cgroup/a/memory.peak").unlink()
    kills = Kills(str(tmp_path))
    killed(1)
    assert kills.take() == "its cgroup may use 100.0 MiB and used 50.0 MiB"


def test_version_1(tmp_path: Path) -> None:
    put(tmp_path, {
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/box\n1:name=systemd:/\n0::/\n",
        "sys/fs/cgroup/memory/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{512 * MIB}\n",
        "sys/fs/cgroup/memory/box/memory.max_usage_in_bytes": f"{512 * MIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{V1_UNLIMITED}\n",
    })  # fmt: skip
    kills = Kills(str(tmp_path))
    events = tmp_path / "sys/fs/cgroup/memory/box/memory.oom_control"
    events.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert kills.take() == "its cgroup may use 512.0 MiB and used 512.0 MiB"


def test_in_a_namespace_the_group_is_the_outermost(tmp_path: Path) -> None:
    put(tmp_path, {
        "proc/self/cgroup": "0::/../elsewhere\n",
        "sys/fs/cgroup/memory.events": "oom_kill 0\n",
        "sys/fs/cgroup/memory.max": f"{3 << 30}\n",
    })  # fmt: skip
    kills = Kills(str(tmp_path))
    (tmp_path / "sys/fs/cgroup/memory.events").write_text("oom_kill 1\n")
    assert kills.take() == "its cgroup may use 3.0 GiB"


def test_without_a_cgroup_it_is_the_machine_s(tmp_path: Path) -> None:
    put(tmp_path, {
        "proc/vmstat": "nr_free_pages 17\noom_kill 5\n",
        "proc/meminfo": "MemTotal:       16384000 kB\nMemFree:        123 kB\n",
    })  # fmt: skip
    kills = Kills(str(tmp_path))
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 17\noom_kill 6\n")
    assert kills.take() == "the machine has 15.6 GiB"


def test_where_nothing_can_be_read_nothing_is_told(tmp_path: Path) -> None:
    assert Kills(str(tmp_path)).take() == ""


def test_here_the_files_are_what_they_are() -> None:
    assert Kills().take() == ""


@pytest.mark.parametrize(
    ("size", "text"),
    [(1 << 30, "1.0 GiB"), (1536 * MIB, "1.5 GiB"), (5 * MIB, "5.0 MiB"), (4096, "4 KiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert shown(size) == text
