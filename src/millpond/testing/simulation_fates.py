"""What may happen to the workers of a simulated world, one thing at a time."""

from __future__ import annotations

from millpond.testing.simulation_worker import SimulatedProcess
from millpond.testing.simulation_world import World


class Fates:
    """Workers are named by any number: it is taken as one of those that there are."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, which: int, steps: int) -> None:
        """A worker goes on."""
        worker = self._worker(which)
        if worker is not None and worker.strand.runnable:
            worker.strand.run(steps)

    def deliver(self, which: int, most: int) -> None:
        """Bytes of a worker arrive."""
        worker = self._worker(which)
        if worker is not None:
            worker.channel.deliver(most)

    def kill(self, which: int) -> None:
        """A worker is killed from outside."""
        alive = self._world.alive
        if alive:
            alive[which % len(alive)].kill()

    def garble(self, which: int, framed: bool = False) -> None:
        """A task of a worker writes where only frames should be, or something like a frame."""
        alive = self._world.alive
        if alive:
            alive[which % len(alive)].channel.garble(framed)

    def notice(self, which: int) -> None:
        """The end of a worker can be seen."""
        worker = self._worker(which)
        if worker is not None:
            worker.notice()

    def _worker(self, which: int) -> SimulatedProcess | None:
        workers = self._world.workers
        return workers[which % len(workers)] if workers else None
