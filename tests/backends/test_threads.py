"""The contract on threads, which cannot be killed."""

import threading
from typing import Any

from millpond import Pool, cpus
from millpond.backends.threads import ThreadBackend
from millpond.core.commands import Span
from millpond.core.events import Done, Event, Lost, Ready, Recalled
from millpond.job import MapJob
from millpond.testing import ConcurrentBackendTests
from millpond.testing.suite import SOON
from millpond.worker.codec import MAP
from millpond.worker.loop import Settings


class TestThreads(ConcurrentBackendTests):
    kills_workers = False

    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, backend="threads", **options)


def test_a_worker_that_was_told_to_stop_does_so_though_its_tasks_are_taken_back() -> None:
    began, gate = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        began.set()
        assert gate.wait(SOON)

    backend = ThreadBackend(Settings(), cpus.Share(1, 1))
    backend.start(1)
    job = MapJob(backend.packing.function(wait), "wait", MAP, [0, 1, 2], 1, 1)
    backend.send(1, 0, [(job, Span(1, 0, 3))])
    assert began.wait(SOON)
    backend.stop(1)
    backend.recall(1)
    gate.set()
    events: list[Event] = []
    while not events or type(events[-1]) is not Lost:
        reports = backend.poll(SOON)
        assert reports, events
        events += [report.event for report in reports]  # type: ignore[misc]
    assert [type(event) for event in events] == [Ready, Recalled, Done, Lost]
    assert events[1] == Recalled(1, 1)
