"""A real terminal, for tests: tmux runs a program in it, types, and reads the screen."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

MARK = "MILLPOND_TERMINAL"
# A shell that Ctrl-C does not end: it tells how the program ended, and holds the terminal open, so
# that what the program left behind is not ended with the terminal.
STAY = ["sh", "-c", 'trap : INT; "$@"; echo "[ended with $?]"; exec sleep 600', "sh"]


class Terminal:
    """One program in one terminal. Everything it starts carries the terminal's mark."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.mark = uuid.uuid4().hex
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", str(folder / "tmux.conf")]
        (folder / "tmux.conf").write_text("set -g history-limit 20000\n")
        marked = ["env", f"{MARK}={self.mark}", *command]
        self._run("new-session", "-d", "-x", "200", "-y", "50", "-s", "test", *STAY, *marked)

    def _run(self, *arguments: str) -> str:
        command = [*self._tmux, *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=20
        ).stdout

    def type(self, *keys: str) -> None:
        """Press keys, named as tmux names them: ``C-c``, ``Enter``, or text."""
        self._run("send-keys", "-t", "test", *keys)

    def screen(self) -> str:
        """Return all that was ever written, long lines joined, without blank ones."""
        text = self._run("capture-pane", "-t", "test", "-p", "-J", "-S", "-")
        return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())

    def exit_code(self) -> int | None:
        """Return the program's exit code as a shell sees it; None while it runs."""
        found = re.search(r"\[ended with (\d+)\]", self.screen())
        return int(found[1]) if found else None

    def ended(self) -> bool:
        return self.exit_code() is not None

    def processes(self) -> list[int]:
        """Return every process that is the program's, forked ones and orphans included."""
        needle = f"{MARK}={self.mark}".encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and needle in _environment(entry)
        ]

    def wait(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds; fail with the screen."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {seconds} s. On screen:\n{self.screen()}")
            time.sleep(0.01)

    def wait_for_text(self, text: str, times: int, seconds: float) -> None:
        """Wait until a text was written so many times; fail at once if the program ended before."""

        def seen() -> bool:
            ended = self.ended()
            if self.screen().count(text) >= times:
                return True
            assert not ended, f"ended without writing {text!r} {times} times:\n{self.screen()}"
            return False

        self.wait(f"{text!r} {times} times", seen, seconds)

    def close(self) -> None:
        """End the terminal and whatever of the program is left."""
        for pid in self.processes():
            os.kill(pid, 9)
        self._run("kill-server")


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
