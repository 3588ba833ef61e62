"""Coverage-guided fuzzing of what reads bytes from workers: ``python -m tests.fuzz [target] [--seconds N]``.

    frames      any bytes in any pieces give frames or ProtocolError, in bounded memory
    values      the fixed codec of sandboxed workers gives a value or ProtocolError
    laundered   and so does what makes their frames harmless

``make fuzz`` runs each in turn. A failing input is written to a file that the last lines name, and
``python -m tests.fuzz TARGET --replay FILE`` runs it again. Inputs that led to new code are in ``.fuzz/TARGET``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit(
        "tests.fuzz needs atheris, which has wheels for some interpreters: make fuzz, or pip install '.[fuzz]'"
    )

with atheris.instrument_imports(include=["millpond.worker"]):
    from tests.fuzz import properties

from millpond.worker import frames

FOLDER = Path(".fuzz")
vars(frames)["_FIRST"] = 1 << 13  # so that large bodies grow in small inputs, too
LONGEST = 1 << 17
"""Bytes of an input, at most: large bodies begin at half of that."""


def _frames(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    cuts = given.ConsumeIntListInRange(given.ConsumeIntInRange(0, 8), 0, LONGEST)
    largest = properties.SMALL_CAP if given.ConsumeBool() else frames.LARGEST
    in_place = given.ConsumeBool()
    properties.check_frames(given.ConsumeBytes(LONGEST), cuts, largest, in_place)


def _laundered(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    kind, flags = given.ConsumeIntInRange(0, 12), given.ConsumeIntInRange(0, 4)
    count = given.ConsumeIntInRange(0, 4)
    properties.check_laundered(kind, flags, count, given.ConsumeBytes(LONGEST))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": _frames,
    "values": properties.check_value,
    "laundered": _laundered,
}


def _fuzz(target: str, seconds: int, replay: str | None) -> None:
    """Never returns: libFuzzer ends the process, with a status that tells whether something was found."""
    corpus = FOLDER / target
    corpus.mkdir(parents=True, exist_ok=True)
    for name, stream in properties.begin().items():
        (corpus / f"begin-{name}").write_bytes(stream)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={FOLDER}/{target}-",
    ]
    options += ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]
    given: list[Any] = (
        [sys.argv[0], *options, str(corpus)] if replay is None else [sys.argv[0], replay]
    )
    atheris.Setup(given, TARGETS[target])
    atheris.Fuzz()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--replay", metavar="FILE", help="run one input again")
    asked = parser.parse_args()
    if asked.target is not None:
        _fuzz(asked.target, asked.seconds, asked.replay)
    failed = []
    for target in TARGETS:
        print(f"=== {target}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(asked.seconds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(target)
            print(f"again: python -m tests.fuzz {target} --replay FILE, with the file named above")
    sys.exit(f"found something in: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
