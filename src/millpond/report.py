"""Exceptions that have nobody to go to: reported as Python reports those of ``__del__``."""

from __future__ import annotations


class _Carrier:
    """Raises from ``__del__``, the one way to reach ``sys.unraisablehook`` with all that it expects."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __del__(self) -> None:
        raise self.exception


def report(exception: BaseException) -> None:
    """Hand the exception to ``sys.unraisablehook``."""
    _Carrier(exception)
