"""``python -m tests.fuzz SECONDS``: bytes guided by coverage for what reads a worker's channel (atheris).

The first byte says into which pieces the others are cut, and whether they come in place. The parser gives
frames or raises ProtocolError, and holds no more memory than the cap; what a sandboxed worker's frame holds is
translated, or refused as well. Anything else ends the run with the bytes that did it. Needs ``pip install
'millpond[fuzz]'``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from millpond.errors import ProtocolError
from millpond.worker.frames import Decoder, Frame
from millpond.worker.untrusted import laundered

CAP = 1 << 16


def frames_in(data: bytes) -> list[Frame]:
    """What the parser makes of these bytes. Raises ProtocolError."""
    how, data = data[:1] or b"\\0", data[1:]
    piece, in_place = 1 + how[0] % 64, how[0] > 127
    decoder = Decoder(CAP)
    found: list[Frame] = []
    at = 0
    while at < len(data):
        room = decoder.room()
        assert room is None or len(room) <= CAP, "more room than the cap"
        if room is not None and in_place:
            taken = data[at : at + min(piece, len(room))]
            room[: len(taken)] = taken
            found += decoder.advance(len(taken))
        else:
            taken = data[at : at + piece]
            found += decoder.feed(taken)
        at += len(taken)
    return found


def one(data: bytes) -> None:
    """One input."""
    try:
        found = frames_in(data)
    except ProtocolError:
        return
    for frame in found:
        assert len(frame.body) <= CAP
        try:
            laundered(frame)
        except ProtocolError:
            pass


def main(arguments: list[str]) -> None:
    """Run for so many seconds (default: 60)."""
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        raise SystemExit("the fuzzer needs atheris: pip install 'millpond[fuzz]'") from None
    seconds = arguments[0] if arguments else "60"
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-rss_limit_mb=2048"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
