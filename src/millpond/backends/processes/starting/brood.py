"""Children that a nursery forks at once, without being asked: what is heard of them before somebody wants them."""

from __future__ import annotations

from typing import NamedTuple

from millpond.backends.processes.starting import server
from millpond.backends.processes.starting.popen import close_all


class Answer(NamedTuple):
    """What the server said of a child."""

    what: int
    value: int
    number: int
    pid: int
    pidfd: int


class Brood:
    """The children that have the numbers from 1 on, until each is taken."""

    def __init__(self, size: int) -> None:
        first = server.END + 1
        self._heard: dict[int, list[Answer]] = {first + i: [] for i in range(size)}
        self.end = first + size  # the first number that is another's

    def note(self, answer: Answer) -> bool:
        """Keep the answer if it is about one of these; whether it is."""
        for number, heard in self._heard.items():
            ended = answer.what == server.EXITED and heard and heard[0].pid == answer.pid
            if ended or answer.number == number:
                heard.append(answer)
                return True
        return False

    def heard(self, number: int) -> bool:
        """Whether anything is known of it."""
        return bool(self._heard[number])

    def take(self, number: int) -> list[Answer]:
        """What was heard of it; from now on it is not kept here."""
        return self._heard.pop(number)

    def close(self) -> None:
        """Give back the descriptors of those that nobody took."""
        close_all(
            *(heard[0].pidfd for heard in self._heard.values() if heard and heard[0].pidfd >= 0)
        )
        self._heard.clear()
