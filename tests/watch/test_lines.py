"""Lines of text, where nothing can be drawn in place."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path

from millpond.watch import outlet
from millpond.watch.views import Lines
from tests.watch.jobs import snapshot


def test_lines_come_more_and_more_seldom_and_one_at_the_end() -> None:
    stream = io.StringIO()
    lines, times = Lines(stream), []
    for tick in range(6000):
        size = stream.tell()
        lines.show(snapshot(tick, 6000, elapsed=tick / 10))
        if stream.tell() > size:
            times.append(tick / 10)
    pauses = [round(after - before, 1) for before, after in pairwise(times)]
    assert times[0] == 5.0
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (7.5, 60.0)
    lines.close(snapshot(6000, 6000, elapsed=600, rate=10, eta=0))
    written = stream.getvalue().splitlines()
    assert len(written) == len(times) + 1
    assert written[0] == "squares: 50/6,000, 0%, 5 s so far"
    assert written[-1] == "squares: 6,000/6,000, 100%, in 10:00, 10/s"


def test_a_short_job_is_one_line() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.show(snapshot(0, 3, elapsed=0.0))
    lines.show(snapshot(2, 3, elapsed=4.9))
    lines.close(snapshot(3, 3, elapsed=4.95))
    assert stream.getvalue() == "squares: 3/3, 100%, in 4 s\n"


def test_what_a_stream_cannot_encode_is_spelt_out(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w", encoding="ascii") as log:
        Lines(log).close(snapshot(3, 3, description="Größe"))
    assert (tmp_path / "log").read_text() == "Gr\\xf6\\xdfe: 3/3, 100%, in 12 s\n"


def test_python_s_streams_are_written_to_below_their_buffers(tmp_path: Path) -> None:
    """Their locks must not be held when the program forks, or when the interpreter ends."""
    with open(tmp_path / "log", "w", buffering=1 << 16) as log:
        outlet.put(log, "at once\n")
        assert (tmp_path / "log").read_text() == "at once\n"


def test_a_long_text_reaches_a_pipe_whole() -> None:
    reader, writer = os.pipe()
    with open(reader) as out, open(writer, "w") as stream:
        outlet.put(stream, "x" * 60_000)
        stream.close()
        assert out.read() == "x" * 60_000


def test_a_stream_of_the_program_s_own_gets_the_text() -> None:
    class Tee(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    stream = Tee()
    outlet.put(stream, "text\n")
    assert stream.flushed == "text\n"
