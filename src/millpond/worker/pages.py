"""Whether pages of a private mapping of a file were written to, by what the kernel tells of them.

``/proc/self/pagemap`` has eight bytes for each page (Linux 4.2 and newer). A page that is in memory or swapped
out, and is not the file's, is a copy that was made when it was written to.
"""

from __future__ import annotations

import os
from typing import Any, Final

from millpond.worker.segments import PAGE

_ENTRY: Final = 8
_THERE, _OF_THE_FILE = 0b1100_0000, 0b0010_0000
"""In the last byte of an entry: it is in memory or swapped out; it is the file's."""


def are_as_they_came(address: int, size: int, numpy: Any) -> bool:
    """Whether so many bytes from a page's begin on are; False where that cannot be told."""
    entries = bytearray(_ENTRY * -(-size // PAGE))
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            told = os.preadv(fd, [entries], address // PAGE * _ENTRY)
        finally:
            os.close(fd)
    except OSError:
        return False
    if told != len(entries):
        return False
    flags = numpy.frombuffer(entries, numpy.uint8)[_ENTRY - 1 :: _ENTRY]
    return not (((flags & _THERE) != 0) & ((flags & _OF_THE_FILE) == 0)).any()
