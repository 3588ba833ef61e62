"""The jobs of an engine that have not ended. Changed by whoever drives, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millpond.core.commands import Span
from millpond.core.events import JobId
from millpond.job import CallStream, Job
from millpond.streams import StreamJob


class Jobs:
    """By their numbers."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Job] = {}
        self._born = 0
        self.streams: list[StreamJob] = []
        self.done = 0  # tasks that have ended

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job.id in self._jobs

    @property
    def calls(self) -> int:
        """Calls of a pool's methods that have not ended."""
        jobs = list(self._jobs.values())
        return sum(job.unanswered if isinstance(job, CallStream) else 1 for job in jobs)

    def admit(self, job: Job) -> None:
        """Take the job in; a stream of calls may come again."""
        if job.id < 0:
            self._born += 1
            job.id = self._born
        self._jobs[job.id] = job
        if isinstance(job, StreamJob):
            self.streams.append(job)

    def work(self, spans: Sequence[Span]) -> list[tuple[Job, Span]]:
        """The jobs of these spans."""
        return [(self._jobs[span.job], span) for span in spans]

    def get(self, job: JobId) -> Job | None:
        """The job of that number, unless it has ended."""
        return self._jobs.get(job)

    def settle(self, job: Job, start: int, batch: list[Any]) -> None:
        """The job's tasks from ``start`` on have these outcomes."""
        self.done += len(batch)
        job.settle(start, batch)

    def begun(self, number: JobId, index: int) -> None:
        """A task of the job that was to be taken back has begun."""
        job = self._jobs.get(number)
        if job is not None:
            job.begun(index)

    def tried_again(self, number: JobId) -> None:
        """A task of the job failed, and will run again."""
        job = self._jobs.get(number)
        if job is not None:
            job.retried += 1

    def remove(self, job: Job) -> None:
        """The job has ended."""
        del self._jobs[job.id]
        if isinstance(job, StreamJob):
            self.streams = [stream for stream in self.streams if stream is not job]
            job.changed.wake()

    def withdraw(self) -> None:
        """The pool was terminated: tell whoever waits for any of them."""
        for job in list(self._jobs.values()):
            job.withdraw()
        self._jobs.clear()
        self.streams.clear()
