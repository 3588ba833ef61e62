"""From the arguments of a Pool's method to a job that the engine has: each method has its counterpart here.

Rules: what is wrong with the arguments is raised here, before any work; what cannot be pickled becomes the
result's error, as in ``multiprocessing``; a call without options takes the short way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Final

from millpond import awaiting
from millpond.arguments import check_buffersize, check_chunksize, held, length_of
from millpond.backends.base import Packing
from millpond.core.policy import Policy
from millpond.engine import Engine
from millpond.errors import CannotKill
from millpond.feeding import feed, is_async
from millpond.iterators import IMapIterator, IMapUnorderedIterator
from millpond.job import CallStream, Job, MapJob, ReorderedJob
from millpond.options import NONE, PARENTAL, Options, parse
from millpond.results import AsyncResult, MapResult
from millpond.streams import StreamJob
from millpond.worker.codec import CALL, MAP
from millpond.worker.conduct import CHILDREN, Conduct, Conducted, is_coroutine_function, name_of
from millpond.worker.outcome import Error

_STREAMS: Final = 64
"""Functions whose calls are kept together, so that what was measured of them is known at the next call."""
_PLAIN: Final = Conduct()


Callbacks = tuple[Callable[[Any], object] | None, Callable[[BaseException], object] | None]
"""What a caller wants to be called when his call has ended: well, or not."""
_SILENT: Final[Callbacks] = None, None


class Submission:
    """Where the calls of a pool come in."""

    def __init__(self, engine: Engine, packing: Packing, policy: Policy, defaults: Options) -> None:
        self.engine = engine
        self.packing = packing
        self._workers = policy.workers
        self._recycling = policy.max_chunks is not None
        self._defaults = defaults
        self._calls: dict[Any, CallStream] = {}
        self._numbers = itertools.count()  # of calls that take their seed from the pool

    # One call -------------------------------------------------------------------------------------

    def call(
        self, pool: Any, func: Any, args: Iterable[Any], kwds: Mapping[str, Any],
        callbacks: Callbacks | None, given: Mapping[str, Any],
    ) -> AsyncResult[Any]:  # fmt: skip
        """``apply_async``."""
        options = self._defaults
        if given:
            _check_no_cost(given)
        if given or options is not NONE:
            options = self._options(given)
        result: AsyncResult[Any] = AsyncResult(self.engine, pool, *callbacks or _SILENT)
        try:
            payload = self.packing.argument(CALL, (tuple(args), dict(kwds)), func)
            stream = self.stream(func, options)
        except Exception as error:
            result.settle(Error(error))
            return result
        result._job = stream
        self.engine.submit((stream, held(result, callbacks is not None), payload))
        return result

    def stream(self, func: Any, options: Options = NONE) -> CallStream:
        """Where calls of the function are gathered: one stream for each that pickles by reference."""
        if type(func) is FunctionType and (options is NONE or options is PARENTAL):
            known = self._calls.get(func if options is NONE else (func, PARENTAL))
            if known is not None:
                return known
        if options.seed is not None or not self.packing.keeps(func):
            return self.new_stream(func, options)
        key = func if options is NONE else (func, options)
        try:
            stream = self._calls.get(key)
        except Exception:  # options that cannot be hashed, or compared
            return self.new_stream(func, options)
        return self._share(key, self.new_stream(func, options)) if stream is None else stream

    def _share(self, key: Any, fresh: CallStream) -> CallStream:
        """The stream of all who look for this key at once: each step is whole, whatever comes between."""
        fresh.shared = True
        stream = self._calls.setdefault(key, fresh)
        if len(self._calls) > _STREAMS:
            for oldest in list(self._calls)[:-_STREAMS]:
                old = self._calls.pop(oldest, None)
                if old is not None:
                    self.engine.retire(old)
        return stream

    def executors(self) -> Options:
        """The pool's own options, for one more call of an executor: in a process that may start some."""
        options = NONE if self._defaults is NONE else self._options({})
        if not self.engine.can_kill:
            return options
        return PARENTAL if options is NONE else options._replace(children=True)

    def new_stream(self, func: Any, options: Options = NONE) -> CallStream:
        """A stream for calls of this function."""
        func, name = self._prepared(func, options), name_of(func)
        packed = self.packing.function(func)
        stream = CallStream(packed, name)
        stream.renewal = int(self.packing.renews(func, packed))
        self._set_up(stream, func, options)
        return stream

    # Many at once ---------------------------------------------------------------------------------

    def map(
        self, pool: Any, func: Any, iterable: Any, style: int, chunksize: int | None,
        callbacks: Callbacks, given: Mapping[str, Any],
    ) -> MapResult[list[Any]]:  # fmt: skip
        """``map_async`` and ``starmap_async``."""
        chunksize = check_chunksize(chunksize)
        options = self._options(given)
        result: MapResult[list[Any]] = MapResult(self.engine, pool, *callbacks)
        put = partial(self._put, result, func, style, chunksize, callbacks, options)
        if is_async(iterable):
            awaiting.gather(iterable, partial(self._put_later, put), result)
            return result
        sized = length_of(iterable) is not None
        try:
            put(iterable if type(iterable) is range else _pulled(iterable))
        except Exception as error:
            if not sized or type(error) is CannotKill:
                raise
            result.settle(Error(error))
        return result

    def _put(
        self, result: MapResult[Any], func: Any, style: int, chunksize: int | None,
        callbacks: Callbacks, options: Options, inputs: Sequence[Any],
    ) -> None:  # fmt: skip
        """Submit a map whose input is all there."""
        name = name_of(func)
        func = self._prepared(func, options)
        grain = chunksize or -(-len(inputs) // (4 * self._workers)) or 1
        packed = self.packing.function(func)
        renewed = self.packing.renews(func, packed)
        unit = grain if chunksize or self._recycling or renewed else 1
        kind = MapJob if options.cost is None else partial(ReorderedJob, cost=options.cost)
        job = kind(packed, name, style, inputs, grain, unit)
        job.renewal = grain * renewed
        self._set_up(job, func, options)
        job.receiver = held(result, any(each is not None for each in callbacks))
        result._job = job
        if not inputs:
            result.settle_empty(job)
            return
        if options.progress:
            result.watch = _watch(job, options)
        self.engine.submit(job)

    def _put_later(self, put: Callable[[Sequence[Any]], None], inputs: list[Any]) -> None:
        put(inputs)
        self.engine.ring()

    # Bit by bit -----------------------------------------------------------------------------------

    def imap(
        self, pool: Any, func: Any, iterable: Any, chunksize: int | None, buffersize: int | None,
        given: Mapping[str, Any], *, ordered: bool = True,
    ) -> Any:  # fmt: skip
        """``imap`` and ``imap_unordered``."""
        chunksize = check_chunksize(chunksize)
        buffersize = check_buffersize(buffersize)
        _check_no_cost(given)
        options = self._options(given)
        name = name_of(func)
        func = self._prepared(func, options)
        packed = self.packing.function(func)
        job = StreamJob(packed, name, MAP, chunksize or 1, ordered)
        job.renewal = job.grain * self.packing.renews(func, packed)
        self._set_up(job, func, options)
        if buffersize is not None:
            job.fixed_bound = max(buffersize, job.unit)
        engine = self.engine
        job.widen(None, engine.policy)
        job.total = length_of(iterable)
        feed(
            job,
            iterable,
            partial(self.packing.argument, MAP, function=func),
            engine.ring,
            threaded=engine.attended,
            outside=engine.outside,
        )
        kind = IMapIterator if ordered else IMapUnorderedIterator
        iterator: IMapIterator[Any] = kind(engine, job, pool)
        if options.progress:
            iterator.watch = _watch(job, options)
        engine.submit(job)
        engine.ring()
        return iterator

    # Options --------------------------------------------------------------------------------------

    def _options(self, given: Mapping[str, Any]) -> Options:
        options = parse(self._defaults, given)
        if options.seed is not None and "seed" not in given:
            options = options._replace(seed=(*options.seed, next(self._numbers)))
        return options

    def _prepared(self, func: Any, options: Options) -> Any:
        """The function as the workers are to have it. Raises CannotKill for limits that nobody can keep."""
        is_async = is_coroutine_function(func)
        if options is NONE and not is_async:
            return func
        conduct = options.conduct(is_async)
        if options.timeout is not None and not is_async and not self.engine.can_kill:
            raise CannotKill(
                f"timeout={options.timeout:g} cannot be kept: a thread cannot be killed; use backend='processes'"
            )
        return func if conduct == _PLAIN else Conducted(func, conduct)

    @staticmethod
    def _set_up(job: Job, func: Any, options: Options) -> None:
        job.source = func
        if options is NONE and type(func) is not Conducted:
            return
        is_async = type(func) is Conducted and func.conduct.slots > 0
        job.limits = options.limits(is_async)
        job.on_error, job.fail_fast = options.on_error, options.fail_fast
        singly = type(func) is Conducted and func.conduct != CHILDREN
        if options.timeout is not None or singly:
            job.slice = 1  # each task is on the slate


def _pulled(iterable: Any) -> list[Any]:
    """All of it. ``list`` asks for a length first, and gives up where that fails; of a chain it cannot."""
    return list(iterable if type(iterable) in (list, tuple) else itertools.chain(iterable))


def _check_no_cost(given: Mapping[str, Any]) -> None:
    """Raises TypeError for what only calls with all their input can have."""
    if given.get("cost") is not None:
        raise TypeError(
            "cost= orders the input of map() and starmap(); there is nothing to order here"
        )


def _watch(job: Job, options: Options) -> Any:
    from millpond.watch import progress

    return progress.start(job, options.progress)
