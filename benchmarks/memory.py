"""How much memory a tree of processes takes, from outside."""

from __future__ import annotations

import threading
from pathlib import Path


def tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _field(path: str, name: str) -> int:
    try:
        text = Path(path).read_text()
    except OSError:
        return 0
    _, _, rest = text.partition(f"{name}:")
    return int(rest.split()[0]) << 10 if rest else 0


def taken(root: int) -> int:
    """Bytes: what each process has for itself, and all shared memory of the machine, mapped or not."""
    own = sum(_field(f"/proc/{pid}/smaps_rollup", "Pss_Anon") for pid in tree(root))
    return own + _field("/proc/meminfo", "Shmem")


class Watch(threading.Thread):
    """Keeps the peak, and what it was at first."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._over = threading.Event()
        self._first = self._peak = taken(root)

    def run(self) -> None:
        while not self._over.wait(0.01):
            self._peak = max(self._peak, taken(self._root))

    def stop(self) -> float:
        """The peak beyond the first, in MB."""
        self._over.set()
        self.join()
        return (self._peak - self._first) / 1e6
