"""Logging in the parent: which levels workers are told, and what becomes of the records that they send.

Rule: ``reissue`` runs code of the user's (handlers, filters), so whoever drives calls it between steps; it
raises nothing.
"""

from __future__ import annotations

import logging
import sys

from millpond.interrupts import Allowed
from millpond.report import report
from millpond.worker import records
from millpond.worker.diverting import Levels
from millpond.worker.frames import Buffer
from millpond.worker.printed import Printed


def levels() -> Levels:
    """What loggers let pass now: of the root, and of all that do not merely follow their parent."""
    manager = logging.root.manager
    named = [("", logging.root), *list(manager.loggerDict.items())]
    return Levels(
        manager.disable,
        tuple(
            (name, logger.level, logger.propagate)
            for name, logger in named
            if isinstance(logger, logging.Logger)
            and (logger.level or not logger.propagate or logger is logging.root)
        ),
    )


def reissue(body: Buffer | Printed) -> None:
    """Give a worker's record to this process's logger of its name, as if it had been logged here."""
    try:
        with Allowed():
            if isinstance(body, Printed):
                stream = getattr(sys, body.stream)
                if stream is not None:
                    encoding = getattr(stream, "encoding", None) or "utf-8"
                    stream.write(body.text.encode(encoding, "backslashreplace").decode(encoding))
                    stream.flush()
                return
            record = records.unpack(body)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
    except KeyboardInterrupt:
        pass  # it comes again after the step
    except BaseException as failure:
        report(failure)
