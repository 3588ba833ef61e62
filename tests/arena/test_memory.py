"""How much memory is left, as the files of proc and of cgroups say it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.worker import memory
from millpond.worker.memory import Memory

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nHugePages_Total:       0\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    yield tmp_path
    memory.groups.cache_clear()


def group(root: Path, folder: str, **files: str) -> None:
    where = root / folder
    where.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (where / name.replace("__", ".", 1)).write_text(text)


def unified(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/a/b\n")
    mount = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    (root / "proc/self/mountinfo").write_text(mount)


def test_of_the_machine(root: Path) -> None:
    assert memory.look(str(root)) == Memory(1000 << 10, 600 << 10)


def test_nobody_says(tmp_path: Path) -> None:
    assert memory.look(str(tmp_path)) is None
    memory.groups.cache_clear()


def test_of_a_group_and_those_above_it(root: Path) -> None:
    unified(root)
    group(root, "sys/fs/cgroup/a/b", memory__max="max\n", memory__current="5\n")
    group(
        root, "sys/fs/cgroup/a",
        memory__max="400000\n", memory__current="350000\n", memory__stat="anon 1\ninactive_file 50000\n",
    )  # fmt: skip
    assert memory.look(str(root)) == Memory(400_000, 100_000)


def test_a_group_with_more_than_the_machine_has_is_no_limit(root: Path) -> None:
    unified(root)
    group(root, "sys/fs/cgroup/a/b", memory__max=str(1 << 40), memory__current="5\n")
    assert memory.look(str(root)) == Memory(1000 << 10, 600 << 10)


def test_a_group_that_is_over_its_limit_has_nothing_to_spare(root: Path) -> None:
    unified(root)
    group(root, "sys/fs/cgroup/a/b", memory__max="4096\n", memory__current="8192\n")
    assert memory.look(str(root)) == Memory(4096, 0)


def test_of_a_group_of_the_first_version(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("4:memory:/x\n3:cpu,cpuacct:/y\n")
    mounts = (
        "31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    (root / "proc/self/mountinfo").write_text(mounts)
    group(
        root, "sys/fs/cgroup/memory/x",
        memory__limit_in_bytes="300000\n", memory__usage_in_bytes="100000\n",
        memory__stat="inactive_file 1\ntotal_inactive_file 20000\n",
    )  # fmt: skip
    assert memory.look(str(root)) == Memory(300_000, 220_000)


def test_here() -> None:
    found = memory.look()
    assert found is not None
    assert 0 < found.spare <= found.total
