"""The target of a worker process: what is around its loop."""

from __future__ import annotations

import os
import signal
from typing import Any

from millpond.worker import diverting, last_words, place
from millpond.worker.answers import PRESS
from millpond.worker.channel import ENDINGS
from millpond.worker.loop import Settings, Worker


def serve(endpoint: Any, settings: Settings, own: place.Place) -> None:
    """The target of a worker process."""
    if "MILLPOND_FAILPOINTS" in os.environ:
        from millpond.worker import failpoints

        failpoints.arm()
    # A process of another library's context has not done it before.
    place.take(own if settings.sandbox is None else place.without_threads(own))
    place.forget_handler()  # which importing the main module may have set
    # A handler that does nothing, not SIG_IGN, which programs that a task starts would inherit.
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    channel, slate, page = endpoint.open()
    channel.brisk = own.usable > 1
    last_words.keep(slate, page)
    pack = None
    if settings.sandbox is not None:
        from millpond.worker import confined

        settings, pack = confined.begin(settings, own)
    diverting.divert(channel, settings.levels, pack)
    place.limit_descriptors(own)
    try:
        worker = Worker(channel, slate, settings)
        signal.signal(PRESS, worker.answers.press)
        worker.run()
    except ENDINGS:
        pass


def _ignore(_number: int, _frame: object) -> None:
    """A Ctrl-C is the parent's affair."""
