"""What ``Process.run()`` returned or raised, on its way from the child to whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millpond import errors
from millpond.backends.processes.starting.outcome_file import OutcomeFile
from millpond.worker import outcome as outcomes
from millpond.worker.interrupted import is_interruption
from millpond.worker.raised import set_trace


def captured(run: Callable[[], object], file: OutcomeFile) -> Callable[[], None]:
    """``run``, leaving what it returns or raises in ``file``; an exception goes on as before."""

    def captured_run() -> None:
        try:
            value = run()
        except BaseException as error:
            leave(file, outcomes.seal_error(error))
            raise
        leave(file, outcomes.seal_value(value))

    return captured_run


def leave(file: OutcomeFile, sealed: outcomes.Sealed) -> None:
    """Write the outcome; where there is no room for it (memory, a limit of file sizes), that.

    Where there is no room even for this, or no file any more, none is left, which the parent reports.
    """
    try:
        _write(file, sealed)
    except OSError as refusal:
        lost = errors.TaskError(f"what the process returned or raised could not be kept: {refusal}")
        try:
            _write(file, outcomes.seal_error(lost))
        except OSError:
            pass


def _write(file: OutcomeFile, sealed: outcomes.Sealed) -> None:
    file.write(bytes((sealed.tag,)), memoryview(sealed.data))


class Returned:
    """The outcome of a process that has ended: a value, or the ``error`` there was instead."""

    def __init__(self, left: bytes | None, died: errors.MillpondError) -> None:
        self._value: Any = None
        self.error: BaseException | None = None
        if left is None:
            self.error = died
            return
        sealed = outcomes.Sealed(left[0], memoryview(left)[1:])
        try:
            self._value = sealed.open()
        except Exception as error:
            if is_interruption(error):
                raise  # a signal's handler did: it can still be had
            outcomes.blame_result(error, sealed, "the result of the process")
            set_trace(error, None)
            self.error = error

    def get(self) -> Any:
        """The value; raises the error, as often as asked, without the frames of earlier times."""
        if self.error is not None:
            set_trace(self.error, None)
            raise self.error
        return self._value
