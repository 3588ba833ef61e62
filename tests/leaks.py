"""What a test may leave behind: nothing. Here is how that is seen; conftest.py enforces it.

1. Everything is compared with the state before the test, never with an ideal.
2. Processes are ours if they descend from this one, or carry its mark: a variable that programs
   inherit, and the name of the main thread, which forked children inherit even where the process
   between us and them is gone. Other runs on the same machine carry other marks.
3. Exempt are servers of which a process keeps one for good (the fork servers and the resource
   tracker), with the descriptors that lead to them, and only while they live.
4. Looking must cost little, as it happens twice a test.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "MILLPOND_TEST_RUN"
PATIENCE = float(os.environ.get("MILLPOND_TEST_PATIENCE", "5"))  # seconds
KERNEL_THREAD = 0x00200000  # PF_KTHREAD


@dataclass(frozen=True)
class Snapshot:
    """What there is of each kind, by what identifies it, with a text for a person."""

    kinds: Mapping[str, Mapping[Hashable, str]]

    def beyond(self, earlier: Snapshot, only: str = "") -> list[str]:
        """Name everything here (of one kind) that was not there earlier."""
        return [
            f"{kind}: {text}"
            for kind, found in self.kinds.items()
            for key, text in found.items()
            if key not in earlier.kinds[kind] and only in {"", kind}
        ]


@dataclass
class Watcher:
    """Sees what this process, and all it started, holds."""

    temporary: Path
    mark: str
    foreign: set[int] = field(default_factory=set)

    def snapshot(self) -> Snapshot:
        servers, links = standing()
        return Snapshot(
            {
                "process": self.processes(servers),
                "thread": dict(threads()),
                "descriptor": {
                    key: f"fd {key[0]} -> {key[1]}" for key in descriptors() if key[0] not in links
                },
                "shared memory": {name: f"/dev/shm/{name}" for name in entries("/dev/shm")},
                "temporary file": {
                    name: str(self.temporary / name) for name in self._temporary_names()
                },
            }
        )

    def leaks(self, before: Snapshot, kind: str = "") -> list[str]:
        """Return what is there (of one kind) beyond ``before``, once it had its time to go away."""
        left = self.snapshot().beyond(before, kind)
        deadline, pause = time.monotonic() + PATIENCE, 0.001
        while left and time.monotonic() < deadline:
            gc.collect()
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
            left = self.snapshot().beyond(before, kind)
        return [text for text in left if not held_by_others(text, self.mark)]

    def processes(self, servers: set[int]) -> dict[Hashable, str]:
        """Find the processes that are ours, those below a server too, but not the servers."""
        below = set(descendants(os.getpid()))
        found: dict[Hashable, str] = {}
        for pid in (below | set(self._strays(below))) - servers:
            about = stat(pid)
            if about is not None and not (about.state == "Z" and about.parent == 1):
                # (a dead one that was given to init is init's to reap)
                found[pid, about.started] = describe(pid, about)
        return found

    def _strays(self, below: set[int]) -> Iterator[int]:
        """Yield marked processes. What is known to be another's is not looked at again."""
        everyone = {int(name) for name in entries("/proc") if name.isdigit()}
        self.foreign &= everyone
        for pid in everyone - self.foreign - below - {os.getpid()}:
            if marked(pid, self.mark):
                yield pid
            else:
                self.foreign.add(pid)

    def _temporary_names(self) -> set[str]:
        return entries(self.temporary) - server_folder()

    def kill(self, before: Snapshot) -> None:
        """End leaked processes, so that one test's leak does not disturb the next."""
        for key in set(self.snapshot().kinds["process"]) - set(before.kinds["process"]):
            assert isinstance(key, tuple)
            end(key[0])


def standing() -> tuple[set[int], set[int]]:
    """Return the pids of the servers that a process may keep, and the descriptors to them."""
    pids: set[int | None] = set()
    links: set[int | None] = set()
    server: Any = sys.modules.get("multiprocessing.forkserver")
    if server is not None:
        pids.add(server._forkserver._forkserver_pid)
        links.add(server._forkserver._forkserver_alive_fd)
    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:
        pids.add(tracker._resource_tracker._pid)
        links.add(tracker._resource_tracker._fd)
    own = own_server()
    return {*own[0], *(pid for pid in pids if pid)}, {*own[1], *(fd for fd in links if fd)}


def own_server() -> tuple[set[int], set[int]]:
    """Return millpond's own fork server's pid and the descriptors that lead to it."""
    module: Any = sys.modules.get("millpond.backends.processes.starting.nursery")
    server = module.current_fork_server() if module is not None else None
    if server is None:
        return set(), set()
    return {server.pid}, {server._control.fileno(), server.end_fd}


def server_folder() -> set[str]:
    """Return the name of multiprocessing's folder, made once a process for its servers' sockets."""
    process: Any = sys.modules.get("multiprocessing.process")
    folder = process.current_process()._config.get("tempdir") if process is not None else None
    return {os.path.basename(folder)} if folder else set()


def threads() -> Iterator[tuple[Hashable, str]]:
    named = {thread.ident: thread for thread in threading.enumerate()}
    for ident in sys._current_frames():
        thread = named.get(ident)
        if thread is None:
            yield (ident, None), f"{ident:#x}, not made by threading"
        else:
            yield (ident, thread.name), f"{thread.name}, {'' if thread.daemon else 'not '}daemonic"


def descriptors() -> Iterator[tuple[int, str]]:
    for name in entries("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
        if not link.startswith("/dev/shm/pym-"):  # multiprocessing's heap keeps its segments
            yield int(name), link


@dataclass(frozen=True)
class Stat:
    state: str
    parent: int
    flags: int
    started: int


def stat(pid: int) -> Stat | None:
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(fields[0].decode(), *(int(fields[i]) for i in (1, 6, 19)))


def describe(pid: int, about: Stat) -> str:
    state = "zombie" if about.state == "Z" else f"state {about.state}"
    command = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return f"pid {pid} ({state}, parent {about.parent}): {command or 'no command line'}"


def descendants(pid: int) -> Iterator[int]:
    for task in entries(f"/proc/{pid}/task"):
        for child in map(int, read(f"/proc/{pid}/task/{task}/children").split()):
            yield child
            yield from descendants(child)


def marked(pid: int, mark: str) -> bool:
    """Say whether a process carries the mark.

    In the moment of an exec a process has no environment to read, so an empty one is looked at
    again for a while; kernel threads and zombies never have one.
    """
    for _ in range(20):
        if read(f"/proc/{pid}/comm").strip() == thread_name(mark):
            return True
        environment = read(f"/proc/{pid}/environ")
        about = stat(pid)
        if environment or about is None or about.state == "Z" or about.flags & KERNEL_THREAD:
            return f"{MARK}={mark}".encode() in environment.split(b"\0")
        time.sleep(0.001)
    return False


def thread_name(mark: str) -> bytes:
    return f"test-{mark}".encode()[:15]


def held_by_others(text: str, mark: str) -> bool:
    """Say whether a leaked segment of shared memory is another program's: mapped, not by us."""
    name = text.partition("/dev/shm/")[2]
    if not name or not text.startswith("shared memory"):
        return False
    if not Path("/dev/shm", name).exists():
        return True  # whoever it was unlinked it meanwhile
    needle = f"/dev/shm/{name}".encode()
    holders = [
        int(pid)
        for pid in entries("/proc")
        if pid.isdigit() and needle in read(f"/proc/{pid}/maps")
    ]
    return bool(holders) and not any(pid == os.getpid() or marked(pid, mark) for pid in holders)


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except OSError:
        pass  # already gone, or not our child to wait for


def entries(folder: str | Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def stop_servers() -> None:
    """End the servers that were exempt, so that the run itself leaves nothing either."""
    shutdown = getattr(sys.modules.get("millpond"), "shutdown", None)
    if shutdown is not None:
        shutdown()
    server: Any = sys.modules.get("multiprocessing.forkserver")
    if server is not None:
        server._forkserver._stop()
    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:
        tracker._resource_tracker._stop()
