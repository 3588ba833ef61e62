"""Logging in a worker: what would come to a copy of the parent's handlers goes to the parent.

    logging.info(...)  ->  a logger of the worker  ->  Forwarder  ->  LOG frame  ->  the same logger of the parent

Rules: the handlers that loggers have at the worker's start are copies of the parent's. They stay where they
are, and are not called: a record that would come to one is sent to the parent, once, and so is one that
would come to none. Those that the initializer or a task adds are called as ever. A record is sent at once,
by the thread that logged it. A copy of the process that a task forked calls all handlers, as if nothing were
done here; for what it has none, and where the parent has gone, there is stderr.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

from millpond.worker import frames
from millpond.worker.channel import WorkerChannel
from millpond.worker.diverting import Levels, Pack
from millpond.worker.frames import Buffer
from millpond.worker.outcome import PLAIN, PROTOCOL
from millpond.worker.raised import shown


class Forwarder(logging.Handler):
    """Sends records to the parent. As a handler of the root it only stands for there being none."""

    def __init__(self, channel: WorkerChannel, packed: Pack) -> None:
        super().__init__()
        self._pack = packed
        self._channel = channel
        self.pid = os.getpid()
        self.copies: set[logging.Handler] = set()  # of the parent's handlers

    def emit(self, record: logging.LogRecord) -> None:
        try:
            body = self._pack(record)
        except Exception:  # its arguments do not fit its message
            self.handleError(record)
            return
        if os.getpid() == self.pid:
            try:
                self._channel.send_amid(frames.encode(frames.LOG, [body]))
                return
            except OSError:
                pass  # the parent has gone
        stderr = logging.StreamHandler()
        stderr.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        stderr.handle(record)


_forwarder: Forwarder | None = None
_call_all: Callable[..., None] = logging.Logger.callHandlers


def divert(channel: WorkerChannel, levels: Levels | None, packed: Pack) -> None:
    """``diverting.divert``, now."""
    global _call_all, _forwarder
    root = logging.root
    if _forwarder is not None:  # this is a copy of a worker, for a pool of that one
        root.removeHandler(_forwarder)
    else:
        _call_all = logging.Logger.callHandlers
        logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]
        logging.basicConfig = _configuring(logging.basicConfig)
    _forwarder = Forwarder(channel, packed)
    for logger in [root, *root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            _forwarder.copies.update(h for h in logger.handlers if not _is_null(h))
    if not root.handlers:
        # ``logging.info`` and its like configure a root that has none.
        root.addHandler(_forwarder)
    if levels is not None:
        _adopt(levels)


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    """Stands in for ``Logger.callHandlers``, whose ``lastResort`` a library's NullHandler would hide."""
    assert _forwarder is not None
    if os.getpid() != _forwarder.pid:
        _call_all(self, record)
        return
    forward, handled = False, False
    logger: logging.Logger | None = self
    while logger is not None:
        for handler in logger.handlers:
            if handler in _forwarder.copies:
                forward = True
            elif handler is not _forwarder and not _is_null(handler):
                handled = True
                if record.levelno >= handler.level:
                    handler.handle(record)
        logger = logger.parent if logger.propagate else None
    if forward or not handled:
        _forwarder.handle(record)


def _configuring(original: Callable[..., None]) -> Callable[..., None]:
    """``basicConfig``, for which the root has no handlers where only ours is there."""

    def basicConfig(**options: Any) -> None:  # noqa: N802
        assert _forwarder is not None
        logging.root.removeHandler(_forwarder)
        original(**options)

    return basicConfig


def _is_null(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.NullHandler)


def _adopt(levels: Levels) -> None:
    logging.disable(levels.disabled)
    for name, level, propagate in levels.loggers:
        logger = logging.getLogger(name)
        logger.propagate = propagate
        if logger.level != level:
            logger.setLevel(level)


# A record as bytes ----------------------------------------------------------------------------


def state_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the record has, its message made and its exception shown."""
    state = record.__dict__.copy()
    state["msg"] = record.getMessage()
    state["args"] = None
    if record.exc_info and not record.exc_text:
        state["exc_text"] = logging.Formatter().formatException(record.exc_info)
    state["exc_info"] = None
    return state


def pack(record: logging.LogRecord) -> bytes:
    """The record with its message made, and without what cannot travel."""
    state = state_of(record)
    plain = {name: value for name, value in state.items() if type(value) in PLAIN}
    others = {}
    for name in state.keys() - plain.keys():  # what the program added with ``extra=``
        try:
            others[name] = pickle.dumps(state[name], PROTOCOL)
        except BaseException:  # a pickling hook may raise anything
            plain[name] = shown(state[name])
    return pickle.dumps((plain, others), PROTOCOL)


def unpack(body: Buffer) -> logging.LogRecord:
    """The record that ``pack`` packed; runs code of the user's where it carries objects of his."""
    plain, others = pickle.loads(body)
    for name, data in others.items():
        try:
            plain[name] = pickle.loads(data)
        except Exception as failure:
            plain[name] = f"<cannot be unpickled: {type(failure).__name__}>"
    return logging.makeLogRecord(plain)
