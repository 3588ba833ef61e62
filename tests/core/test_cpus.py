"""How many CPUs: on made-up file trees, and on this machine."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millpond import cpus

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset\n"
    "34 31 0:31 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
)
V1_MEMBER = "9:memory:/elsewhere\n4:cpu,cpuacct:{path}\n3:cpuset:/\n"


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def v2(root: Path, path: str, limits: dict[str, str], mounts: str = V2_MOUNT) -> str:
    files = {f"/sys/fs/cgroup{group}/cpu.max": text for group, text in limits.items()}
    files |= {"/proc/self/cgroup": f"0::{path}\n", "/proc/self/mountinfo": mounts}
    return tree(root, files)


def v1(root: Path, path: str, limits: dict[str, str], mounts: str = V1_MOUNTS) -> str:
    files = {"/proc/self/cgroup": V1_MEMBER.format(path=path), "/proc/self/mountinfo": mounts}
    for group, text in limits.items():
        quota, period = text.split()
        folder = f"/sys/fs/cgroup/cpu,cpuacct{group}"
        files[f"{folder}/cpu.cfs_quota_us"] = f"{quota}\n"
        files[f"{folder}/cpu.cfs_period_us"] = f"{period}\n"
    return tree(root, files)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("50000 100000", 0.5),
        ("400000", 4.0),
        ("max", None),
        ("", None),
        ("nonsense here", None),
        ("100000 0", None),
    ],
)
def test_cpu_max(text: str, limit: float | None) -> None:
    assert cpus.parse_cpu_max(text) == limit


@pytest.mark.parametrize(
    ("quota", "period", "limit"),
    [("-1\n", "100000\n", None), ("250000\n", "100000\n", 2.5), ("", "", None), ("0", "1", None)],
)
def test_cfs(quota: str, period: str, limit: float | None) -> None:
    assert cpus.parse_cfs(quota, period) == limit


@pytest.mark.parametrize(
    ("quota", "whole"), [(0.01, 1), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (2.001, 3)]
)
def test_a_part_of_a_cpu_counts_as_one(quota: float, whole: int) -> None:
    assert cpus.whole_cpus(quota) == whole


def test_only_hierarchies_that_limit_cpu_time_are_mounts() -> None:
    assert cpus.parse_mounts(V1_MOUNTS) == [cpus.Mount(1, "/", "/sys/fs/cgroup/cpu,cpuacct")]
    assert cpus.parse_mounts(V2_MOUNT) == [cpus.Mount(2, "/", "/sys/fs/cgroup")]


def test_a_mount_point_may_hold_a_space_and_lines_may_be_torn() -> None:
    text = "30 23 0:26 /a\\040b /mnt/c\\040d\\134e rw - cgroup2 cgroup2 rw\ntorn\n1 2 - \n\n"
    assert cpus.parse_mounts(text) == [cpus.Mount(2, "/a b", "/mnt/c d\\e")]


def test_membership_in_both_versions() -> None:
    text = "4:cpu,cpuacct:/one\n3:cpuset:/no\n1:name=systemd:/no\n0::/two:with:colons\n"
    assert cpus.parse_membership(text) == cpus.Membership("/one", "/two:with:colons")
    assert cpus.parse_membership("") == cpus.Membership(None, None)


def test_v2_own_group(tmp_path: Path) -> None:
    assert cpus.cgroup_limit(v2(tmp_path, "/job", {"/job": "200000 100000"})) == 2.0


def test_v2_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    limits = {"/a/b/c": "max 100000", "/a/b": "300000 100000", "/a": "150000 100000"}
    assert cpus.cgroup_limit(v2(tmp_path, "/a/b/c", limits)) == 1.5


def test_v2_a_sibling_does_not_count(tmp_path: Path) -> None:
    limits = {"/a": "max 100000", "/b": "100000 100000", "/a/deeper": "100000 100000"}
    assert cpus.cgroup_limit(v2(tmp_path, "/a", limits)) is None


def test_v2_in_a_container_with_its_own_namespace(tmp_path: Path) -> None:
    assert cpus.cgroup_limit(v2(tmp_path, "/", {"": "250000 100000"})) == 2.5


def test_v2_in_a_container_without_a_namespace(tmp_path: Path) -> None:
    mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    root = v2(tmp_path, "/docker/abc/inner", {"": "max", "/inner": "50000 100000"}, mounts)
    assert cpus.cgroup_limit(root) == 0.5


@pytest.mark.parametrize("path", ["/../elsewhere", "/docker/abcdef", "/other"])
def test_v2_a_path_out_of_what_is_mounted_leaves_the_mount(tmp_path: Path, path: str) -> None:
    mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    assert cpus.cgroup_limit(v2(tmp_path, path, {"": "100000 50000"}, mounts)) == 2.0


def test_v2_a_path_above_the_namespace_leaves_the_mount(tmp_path: Path) -> None:
    assert cpus.cgroup_limit(v2(tmp_path, "/../x", {"": "100000 50000"})) == 2.0


def test_v1_own_group_and_the_ones_above(tmp_path: Path) -> None:
    limits = {"/a/b": "400000 100000", "/a": "300000 200000", "": "-1 100000"}
    assert cpus.cgroup_limit(v1(tmp_path, "/a/b", limits)) == 1.5


def test_v1_without_a_quota(tmp_path: Path) -> None:
    assert cpus.cgroup_limit(v1(tmp_path, "/a", {"/a": "-1 100000"})) is None


def test_v1_in_a_container_without_a_namespace(tmp_path: Path) -> None:
    mounts = "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
    root = v1(tmp_path, "/docker/abc", {"": "100000 100000"}, mounts)
    assert cpus.cgroup_limit(root) == 1.0


def test_v1_and_v2_mounted_together(tmp_path: Path) -> None:
    root = v1(tmp_path, "/a", {"/a": "300000 100000"})
    tree(
        tmp_path,
        {
            "/proc/self/cgroup": V1_MEMBER.format(path="/a") + "0::/u\n",
            "/proc/self/mountinfo": V1_MOUNTS
            + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/unified/u/cpu.max": "200000 100000",
        },
    )
    assert cpus.cgroup_limit(root) == 2.0


@pytest.mark.parametrize("missing", ["/proc/self/cgroup", "/proc/self/mountinfo", "limits"])
def test_missing_files_set_no_limit(tmp_path: Path, missing: str) -> None:
    root = v2(tmp_path, "/a", {} if missing == "limits" else {"/a": "100000 100000"})
    (tmp_path / missing.lstrip("/")).unlink(missing_ok=True)
    assert cpus.cgroup_limit(root) is None


def test_no_files_at_all_set_no_limit(tmp_path: Path) -> None:
    assert cpus.cgroup_limit(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5", "3x"])
def test_a_bad_override_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", text)
    with pytest.raises(ValueError, match="MILLPOND_CPU_COUNT must be a positive whole number") as e:
        cpus.available()
    assert repr(text) in str(e.value)


def test_the_override_beats_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", " 1234 ")
    assert cpus.available() == 1234


@pytest.mark.parametrize(
    ("usable", "quota", "expected"),
    [(8, None, 8), (8, 2.5, 3), (2, 6.0, 2), (4, 0.1, 1)],
)
def test_the_least_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, usable: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "")  # blank says nothing
    monkeypatch.setattr(cpus, "_usable", lambda: usable)
    monkeypatch.setattr(cpus, "cgroup_limit", lambda: quota)
    assert cpus.available() == expected


def test_affinity_is_obeyed_and_asked_again_at_each_call() -> None:
    script = (
        "import os; from millpond import cpus; one = min(os.sched_getaffinity(0));"
        "before = cpus.available(); os.sched_setaffinity(0, {one});"
        "print(before, cpus.available())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_CPU_COUNT")}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    before, after = map(int, run.stdout.split())
    assert 1 <= before <= len(os.sched_getaffinity(0))
    assert after == 1


def test_the_interpreters_own_override_is_obeyed_where_there_is_one() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from millpond import cpus; print(cpus.available())"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHON_CPU_COUNT": "1", "MILLPOND_CPU_COUNT": ""},
    )
    plain = cpus.available() if sys.version_info < (3, 13) else 1
    assert int(run.stdout) == plain


def test_a_share_is_what_there_is_divided_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "9")
    monkeypatch.delenv("MILLPOND_DEPTH", raising=False)
    assert cpus.share(2) == cpus.Share(4, 1)
    assert cpus.share(9) == cpus.share(100) == cpus.Share(1, 1)


@pytest.mark.parametrize(("among", "share"), [(4, 2), (1, 1), (100, 4)])
def test_workers_that_are_pinned_share_no_more_than_their_cpus(
    monkeypatch: pytest.MonkeyPatch, among: int, share: int
) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "8")
    assert cpus.share(2, among).cpus == share


def test_a_process_is_told_of_its_share_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "8")
    for name, value in cpus.share(2).environment().items():
        monkeypatch.setenv(name, value)
    assert (cpus.available(), cpus.depth()) == (4, 1)
    assert cpus.share(4) == cpus.Share(1, 2)


def test_a_thread_s_share_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "8")

    def inside() -> tuple[int, int, cpus.Share]:
        cpus.of_thread.set(cpus.Share(3, 2))
        return cpus.available(), cpus.depth(), cpus.share(3)

    assert contextvars.copy_context().run(inside) == (3, 2, cpus.Share(1, 3))
    assert cpus.available() == 8


def test_pools_are_nested_to_a_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_DEPTH", str(cpus.DEEPEST - 1))
    assert cpus.share(1).depth == cpus.DEEPEST
    monkeypatch.setenv("MILLPOND_DEPTH", str(cpus.DEEPEST))
    with pytest.raises(RecursionError, match=r"in 8 pools.*backend='inline'"):
        cpus.share(1)


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (True, [{0}, {2}, {5}]),
        ([5], [{5}]),
        ((0, [2, 5], {0}), [{0}, {2, 5}, {0}]),
        (range(0, 3, 2), [{0}, {2}]),
        (iter([2, 2]), [{2}, {2}]),
    ],
)
def test_cpus_are_named_for_each_worker(wanted: Any, places: list[set[int]]) -> None:
    assert cpus.parse_pinning(wanted, {5, 0, 2}) == places


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        ([0, 7], ValueError, "cpus names 7; this process may use 0, 2, 5"),
        ([[0, -1], 3], ValueError, "cpus names -1, 3; this"),
        ([], ValueError, "a CPU for each worker"),
        ([0, []], ValueError, "a CPU for each worker"),
        (3, TypeError, "cpus must be True or a sequence, not 3"),
        ("0-2", TypeError, "cpus must be True or a sequence, not '0-2'"),
        ([0, "2"], TypeError, "an entry of cpus must be a CPU's number or several, not '2'"),
        ([0, [2.0]], TypeError, r"an entry of cpus must be .* not \[2.0\]"),
    ],
)
def test_cpus_that_make_no_sense(wanted: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        cpus.parse_pinning(wanted, {5, 0, 2})


def test_no_cpus_are_named() -> None:
    assert cpus.pinning(None) == cpus.pinning(False) == []


def test_a_system_that_cannot_pin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(ValueError, match="this system does not let a process choose its CPUs"):
        cpus.pinning([0])
