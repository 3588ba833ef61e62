"""The class of an exception that pickle refused. In a module of its own, since workers do without its base."""

from __future__ import annotations

from millpond import errors


class UnsendableError(errors.MaybeEncodingError, errors.TaskError):  # type: ignore[misc]
    """A task raised an exception that cannot be pickled: multiprocessing's error, and our stand-in as well."""
