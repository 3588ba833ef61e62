"""A bar in a notebook: a real kernel, without widgets, and what is left in the cell."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from millpond.watch.notebook import bundle, in_notebook
from millpond.watch.snapshot import Snapshot
from tests.compat import main_program
from tests.watch.jobs import snapshot

RUN = str(Path(main_program.__file__).with_name("run_notebook.py"))

BAR = """\
import sys
sys.modules["ipywidgets"] = None
from millpond.watch import progress
from tests.watch.jobs import FakeJob
job = FakeJob(10)
watch = progress.start(job, "squares & <more>")
job.settled = 7
"""
MORE = """\
job.complete()
watch.finish()
print("next")
"""
CALLABLE = """\
job = FakeJob(10)
watch = progress.start(job, lambda seen: print(seen.done) if seen.done else None)
job.complete()
watch.finish()
"""


def outputs(*cells: str) -> list[str]:
    """What the cells of a notebook are left with."""
    shown = main_program.run([RUN], json.dumps(cells))
    return [line for line in shown.splitlines() if line]


def test_one_output_is_left_in_the_cell_that_began_it() -> None:
    bar, *others = outputs(BAR, MORE)
    assert others == ["next"]
    output: dict[str, Any] = ast.literal_eval(bar)
    assert output["output_type"] == "display_data"
    assert output["data"]["text/plain"].startswith("squares & <more>: 10/10, 100%, in ")
    assert output["data"]["text/html"].startswith(
        '<div>squares &amp; &lt;more&gt;\xa0 <progress value="10" max="10"></progress>\xa0 10/10'
    )


def test_what_a_callable_prints_is_in_the_cell() -> None:
    assert outputs(BAR + "watch.finish()", CALLABLE)[1:] == ["10"]


@pytest.mark.parametrize(
    ("seen", "last", "extent"),
    [
        (snapshot(3, 4), False, 'value="3" max="4"'),
        (snapshot(0, 0), True, 'value="1"'),
        (snapshot(3, None), False, ""),
        (snapshot(3, None), True, 'value="0"'),
    ],
)
def test_the_bar(seen: Snapshot, last: bool, extent: str) -> None:
    assert f"<progress {extent}></progress>" in bundle(seen, last)["text/html"]


def test_a_kernel_is_known_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        pass

    class Shell(ZMQInteractiveShell):
        """As some services derive their own."""

    class TerminalInteractiveShell:
        pass

    for shell, kernel in ((Shell(), True), (TerminalInteractiveShell(), False), (None, False)):

        class IPython:
            get_ipython = staticmethod(lambda shell=shell: shell)

        monkeypatch.setitem(sys.modules, "IPython", IPython)
        assert in_notebook() is kernel
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()
