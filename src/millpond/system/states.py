"""What a process is doing, as the system says: /proc on Linux, and nobody anywhere else."""

from __future__ import annotations

STOPPED = "Tt"
"""States of a process that was stopped, by SIGSTOP or by who traces it."""
ENDED = "ZX"


def state(pid: int) -> str:
    """The letter that proc(5) has for the state of a process; "" where nobody says."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def is_stopped(pid: int) -> bool:
    """Whether it is known to be stopped, by a signal or by a debugger."""
    letter = state(pid)
    return bool(letter) and letter in STOPPED
