"""A whole ``Pool`` over a simulated world: the real engine, no process, and the same history for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

from millpond import assembly
from millpond.backends import registry
from millpond.backends.places import Staff
from millpond.engine import Engine
from millpond.pool import Pool
from millpond.testing.simulation_world import SimulatedBackend, World
from millpond.worker.loop import Settings


class SimulatedPool(Pool):
    """``SimulatedPool(2, world=World(seed=7))``: a pool whose workers are simulated.

    Time is the world's: it passes as soon as nothing else can happen, for a limit (``get(timeout)``) after other
    threads had a moment to say something.
    """

    def __init__(self, processes: int = 2, *, world: World | None = None, **options: Any) -> None:
        self.world = world or World()

        def choose(
            name: str | None,
            start: registry.Start,
            initializer: Callable[..., object] | None,
            initargs: tuple[Any, ...],
            _staff: Staff = Staff(1),  # noqa: B008
            _sandbox: object = None,
        ) -> registry.Choice:
            backend = SimulatedBackend(self.world, Settings(initializer, initargs))
            return registry.Choice("simulated", backend, reason="asked for")

        engine = partial(Engine, clock=self.world.clock)
        with (
            mock.patch.object(registry, "choose", choose),
            mock.patch.object(assembly, "Engine", engine),
        ):
            super().__init__(processes, **options)
