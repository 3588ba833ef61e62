"""Write a file so that it is there completely or not at all."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; a reader, or a crash, never sees half of it."""
    with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as partial:
        try:
            partial.write(content)
            partial.flush()
            os.replace(partial.name, path)
        except BaseException:
            os.unlink(partial.name)
            raise
