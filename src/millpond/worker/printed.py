"""What a worker in a sandbox printed, on its way to the program's streams."""

from __future__ import annotations

from typing import NamedTuple


class Printed(NamedTuple):
    """What a worker printed that has none of the program's streams, safe for a terminal."""

    stream: str  # of ``sys``
    text: str
