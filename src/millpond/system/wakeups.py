"""Descriptors to be woken by: an eventfd, or the two ends of a pipe where the system has none."""

from __future__ import annotations

import os

from millpond.system import refusals


def pair() -> tuple[int, int]:
    """Where to poll and read, and where to write eight bytes; neither blocks. They may be one descriptor."""
    maker = getattr(os, "eventfd", None)
    try:
        if maker is not None:
            fd: int = maker(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return fd, fd
    except OSError as error:
        if not refusals.is_refusal(error):
            raise
    refusals.note("eventfd", "pipes wake threads")
    return pipe()


def pipe() -> tuple[int, int]:
    """The same as two descriptors, the second of which takes any bytes."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
