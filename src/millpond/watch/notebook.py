"""A bar in a notebook: one output of the cell, updated in place. Needs no widgets.

Text with it is for what shows no HTML: a console, or a notebook that is made a document of.
"""

from __future__ import annotations

import html
import sys
from typing import Any

from millpond.watch.snapshot import Snapshot
from millpond.watch.views import View
from millpond.watch.wording import line, title, words


def in_notebook() -> bool:
    """Whether this is an IPython kernel; IPython is not imported to find out."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


class NotebookBar(View):
    """Appears in the cell that runs when it is made, and stays there."""

    def __init__(self) -> None:
        import IPython.display

        display: Any = IPython.display.display
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, snapshot: Snapshot) -> None:
        self._handle.update(bundle(snapshot, last=False), raw=True)

    def close(self, snapshot: Snapshot) -> None:
        self._handle.update(bundle(snapshot, last=True), raw=True)


def bundle(snapshot: Snapshot, last: bool) -> dict[str, str]:
    """The bar by MIME types."""
    if snapshot.total is None:
        extent = 'value="0"' if last else ""  # without a value, something moves in it
    else:
        extent = (
            f'value="{snapshot.done}" max="{snapshot.total}"' if snapshot.total else 'value="1"'
        )
    name, said = html.escape(title(snapshot)), html.escape("\xa0 ".join(words(snapshot, last)))
    return {
        "text/plain": line(snapshot, last),
        "text/html": f"<div>{name}\xa0 <progress {extent}></progress>\xa0 {said}</div>",
    }
