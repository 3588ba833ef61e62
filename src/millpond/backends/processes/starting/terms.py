"""What millpond keeps of a process: on which terms it is started, and what comes of it.

Rules: all of it is in one attribute of the process, with a name that nobody else takes, since programs
subclass Process and give it attributes of names of their own; whoever wants the terms of a process asks
``terms_of``, whatever class it is of and whether or not its ``__init__`` was called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millpond.backends.processes.starting.nursery import Nursery
    from millpond.backends.processes.starting.outcome_file import OutcomeFile
    from millpond.backends.processes.starting.returned import Returned
    from millpond.worker.place import Place


class Terms:
    """Of one process."""

    die_with_parent = False
    time_limit: float | None = None  # seconds
    returns = True
    """Whether ``result()`` is wanted; a pool does without, as its workers answer otherwise."""
    blocked: frozenset[int] = frozenset()
    """Signals that stay blocked in the child until its target unblocks them."""
    half_imported: tuple[str, ...] = ()
    """Modules that were being imported when its pool was made."""
    place: Place | None = None
    """What the child sees to before anything of the user's is loaded."""
    environment: dict[str, str] | None = None
    """All that a child which is no copy of its parent has in its environment; None: what its parent has."""
    server: Nursery | None = None
    """What is to fork this process, other than its start method says; set before ``start()``."""

    laid: int | None = None
    """The number that it has in the brood of its server, where that forks it without being asked."""

    bound = False  # whether this start ties the child's life to its parent's
    outcome: OutcomeFile | None = None
    left: bytes | None = None  # what the child left, until it is decoded
    decoded: Returned | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A child is told what it may be asked about; the rest is its parent's.
        return _told, (self.die_with_parent, self.time_limit)


def _told(die_with_parent: bool, time_limit: float | None) -> Terms:
    terms = Terms()
    terms.die_with_parent, terms.time_limit = die_with_parent, time_limit
    return terms


def terms_of(process: Any) -> Terms:
    """The terms of a process; they can be changed until it is started."""
    terms: Terms | None = vars(process).get("_millpond")
    if terms is None:
        terms = process._millpond = Terms()
    return terms
