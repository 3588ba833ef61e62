"""How text gets out of a thread that nobody knows of.

Rules: the standard streams are written to below Python's buffers, whose locks a forked copy of the program
would inherit locked, and at which the interpreter's end would stumble over a thread that holds one. A stream
that is none of Python's own (a test's, an editor's) is used as any program would use it.
"""

from __future__ import annotations

import io
import os
from typing import TextIO


def descriptor(stream: TextIO) -> int | None:
    """The file behind one of Python's own streams, or None."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a file in memory; a closed one
        return None


def encodable(text: str, stream: TextIO) -> str:
    """The text with only such characters as the stream can take; the others are spelt out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def put(stream: TextIO, text: str) -> None:
    """Write the text at once. Raises OSError where the stream does."""
    text = encodable(text, stream)
    fd = descriptor(stream)
    if fd is None:
        stream.write(text)
        stream.flush()
        return
    data = text.encode(stream.encoding)
    while data:
        data = data[os.write(fd, data) :]
