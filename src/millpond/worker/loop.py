"""What a worker process does: receive a chunk, run it, send its outcomes, repeat.

Rules of this module:

1. An outcome is sent before the next task begins, unless tasks are shorter than a send: those are gathered
   for at most a millisecond.
2. Before a task begins, the slate says so; after its outcome is encoded and before it is sent, the slate
   says that it ended.
3. Nothing that a task does may end the loop, short of ending the process.
4. A copy of the process that a task forked never writes on the channel.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from itertools import islice, starmap
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from millpond.worker import arena, diverting, frames, last_words, outcome, place, seeding
from millpond.worker.answers import GATHER, PRESS, SHORT, Answers
from millpond.worker.channel import WorkerChannel
from millpond.worker.codec import CALL, MAP, STAR, Part, decode_argument, decode_chunk
from millpond.worker.conduct import Conducted
from millpond.worker.outcome import (
    UNSIZED,
    Sealed,
    Wire,
    may_stand,
)
from millpond.worker.raised import add_note, set_trace
from millpond.worker.renewal import Renewed
from millpond.worker.slate import (
    DECODING,
    ENCODING,
    IDLE,
    MOST,
    ONE,
    RECALLED_TO,
    RUNNING,
    STEP,
    TIME,
    WORD,
    Slate,
    recalled,
    taken_back,
    word,
)

if TYPE_CHECKING:
    from millpond.worker.framed import ChannelCoroutines
    from millpond.worker.sandbox import Sandbox

MANY: Final = 64
"""Results of one slice from which on they are a batch of their own."""
_UNLOADABLE: Final = "raised while an argument of the task was unpickled in the worker"


class Settings(NamedTuple):
    """What a worker is told at its start."""

    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    at_most_once: bool = False
    levels: diverting.Levels | None = None
    sandbox: Sandbox | None = None
    answers: type[Answers] = Answers  # what gathers them
    place: place.Place = place.Place({})  # whose limit of threads has to wait for the sandbox
    half_imported: tuple[str, ...] = ()  # modules that were being imported when the pool was made

    @property
    def wire(self) -> Wire:
        """How outcomes travel from these workers."""
        if self.sandbox is None:
            return outcome
        from millpond.worker import untrusted

        return untrusted


class Worker:
    """The loop and what it holds."""

    def __init__(self, channel: WorkerChannel, slate: Slate, settings: Settings) -> None:
        self._channel = channel
        self._page = slate.words
        self._settings = settings
        self._functions: dict[int, Any] = {}
        self._seq = 0  # of the next task
        self._lately = -1, 1  # the job whose tasks ran in slices, and the size of the next one
        self._retry_on: tuple[type[BaseException], ...] = ()  # of the part that is being run
        self._receive = channel.receive
        self._wire = settings.wire  # how outcomes travel
        self.answers = settings.answers(channel, self._wire, at_once=settings.at_most_once)
        self._coroutines: ChannelCoroutines | None = None  # from the first one on

    def run(self) -> None:
        """Until the parent says stop, or is gone."""
        try:
            about = _initialize(self._settings)
        except BaseException as exception:
            sealed = self._wire.seal_error(exception, skip=2)
            self._channel.send(frames.encode(frames.FAILED, [sealed.data], flags=sealed.tag))
            return
        self._channel.send(frames.encode(frames.READY, about))
        while True:
            for frame in self._receive():
                coroutines = self._coroutines
                if coroutines is not None:
                    coroutines.purge()
                if frame.kind == frames.CALL:
                    self._seq = frame.seq
                    self._run_call(frame)
                elif frame.kind == frames.CHUNK:
                    self._seq = frame.seq
                    self._run_chunk(frame)
                elif frame.kind in _LETTING_GO:
                    _let_go(frame, self._functions, self._channel)
                elif coroutines is not None:
                    coroutines.obey(frame)
                elif frame.kind == frames.STOP:
                    return
            if self._coroutines is not None and self._coroutines.over:
                self._coroutines.close()
                return

    def _run_chunk(self, frame: frames.Frame, parts: Sequence[Part] = ()) -> None:
        page = self._page
        page[TIME] = monotonic_ns()
        page[WORD] = word(frame.seq, min(frame.count, MOST), DECODING)
        for part in parts or decode_chunk(frame.body):
            stop = self._seq + part.tasks
            function = self._function(part)
            if type(function) is Renewed:
                self._run_renewed(function, part)
            else:
                self._run_part(function, part)
            self.answers.flush(self._seq)
            self._seq = stop
        page[WORD] = word(self._seq, 0, IDLE)

    def _run_part(self, function: Any, part: Part) -> None:
        if type(function) is Sealed:
            self.answers.repeat(function, part.tasks)
            self._seq += part.tasks
        elif type(function) is Conducted:
            self._run_conducted(function, part)
        elif part.plain is not None and part.slice > 1 and not self._settings.at_most_once:
            self._run_slices(function, part)
        else:
            self._run_each(function, part)

    def _run_renewed(self, renewed: Renewed, part: Part) -> None:
        """Run the tasks of a part, each of multiprocessing's chunks with a copy of the function."""
        if renewed.alone:
            self._run_each(renewed.call, part, skip=3)
            return
        page = self._page
        for piece in renewed.pieces(part):
            stop = self._seq + piece.tasks
            begin = page[TIME] = monotonic_ns()
            page[WORD] = word(self._seq, min(piece.tasks, MOST), DECODING)
            if self._recalled():
                return
            try:
                function = renewed.take()
            except BaseException as exception:
                function = self._wire.seal_missing(exception)
            self.answers.pace(monotonic_ns() - begin, self._seq)
            self._run_part(function, piece)
            if self._seq < stop:
                return  # the rest was taken back
            function = None  # the next copy may have its memory

    def _run_call(self, frame: frames.Frame) -> None:
        """The straight line for one call of a function that is here: its job's number is in ``count``."""
        function = self._functions[frame.count]
        if type(function) in _INDIRECT:
            part = Part(frame.count, CALL, 0, 1, None, None, [frame.body])
            self._run_chunk(frame._replace(count=1), [part])
            return
        page = self._page
        begin = page[TIME] = monotonic_ns()
        page[WORD] = self._seq * STEP + ONE + DECODING
        if self._seq < page[RECALLED_TO] and self._recalled():
            page[WORD] = (self._seq + 1) * STEP + IDLE
            return
        try:
            try:
                args, kwds = decode_argument(frame.body)
            except BaseException as failure:
                add_note(failure, _UNLOADABLE)
                raise
            page[WORD] = self._seq * STEP + ONE + RUNNING
            value = function(*args, **kwds)
        except BaseException as exception:
            self._add_error(exception, skip=1)
            set_trace(exception, None)
        else:
            self._add(value)
        self.answers.pace(monotonic_ns() - begin, self._seq)
        self.answers.flush(self._seq)
        self._channel.expect()

    def _function(self, part: Part) -> Any:
        """The part's function, or the sealed error that loading it raised."""
        if part.function is not None:
            try:
                self._functions[part.job] = (
                    Renewed(part.function, part.renewal)
                    if part.renewal
                    else decode_argument(part.function)
                )
            except BaseException as exception:
                self._functions[part.job] = self._wire.seal_missing(exception)
        return self._functions[part.job]

    def _recalled(self) -> bool:
        return recalled(self._page, self._seq)

    # One at a time --------------------------------------------------------------------------------

    def _run_conducted(self, conducted: Conducted, part: Part) -> None:
        """Run the tasks of a part as their job's conduct says."""
        function, conduct = conducted
        if conduct.slots:
            if self._coroutines is None:
                from millpond.worker.framed import ChannelCoroutines  # asyncio is large

                self._coroutines = ChannelCoroutines(self._page, self._channel, self._wire)
                self._receive = self._coroutines.receive
            self._coroutines.hold(conducted, part, self._seq)
            return
        self._retry_on = conduct.retry_on
        if conduct.seed is None:
            self._run_each(function, part)
        else:
            before = part.first - self._seq
            index = (lambda: 0) if part.style == CALL else (lambda: before + self._seq)
            with seeding.Borrowed():
                function = seeding.Seeded(function, conduct.seed, index, alone=True)
                self._run_each(function, part, skip=3)
        self._retry_on = ()

    def _run_each(self, function: Any, part: Part, skip: int = 2) -> None:
        """Run the tasks of a part, each noted on the slate; ``skip`` frames of a traceback are ours."""
        page, answers = self._page, self.answers
        items = part.plain if part.plain is not None else part.blobs
        encoded = part.plain is None
        call = _CALLS[part.style] if encoded or part.style != CALL else _star
        phase = DECODING if encoded else RUNNING
        assert items is not None
        for item in items:
            begin = page[TIME] = monotonic_ns()
            page[WORD] = self._seq * STEP + ONE + phase
            if self._seq < page[RECALLED_TO] and self._recalled():
                break
            try:
                if encoded:
                    if item is None:
                        self._add(None)
                        continue
                    try:
                        item = decode_argument(item)
                    except BaseException as failure:
                        add_note(failure, _UNLOADABLE)
                        raise
                    page[WORD] += RUNNING - DECODING
                answers.amid = self._seq
                value = call(function, item)
                answers.amid = None
            except BaseException as exception:
                answers.amid = None
                self._add_error(exception, skip)
                set_trace(exception, None)
            else:
                self._add(value)
                value = None
            item = None
            answers.pace(monotonic_ns() - begin, self._seq)

    def _add(self, value: object) -> None:
        if may_stand(value):
            self.answers.add(value)
        else:
            self._page[WORD] = self._seq * STEP + ONE + ENCODING
            self.answers.seal(value)
        self._seq += 1
        self._page[WORD] = self._seq * STEP + IDLE

    def _add_error(self, exception: BaseException, skip: int) -> None:
        self._page[WORD] = self._seq * STEP + ONE + ENCODING
        self.answers.add_error(exception, skip, self._retry_on, self._seq)
        self._seq += 1
        self._page[WORD] = self._seq * STEP + IDLE

    # In slices ------------------------------------------------------------------------------------

    def _run_slices(self, function: Any, part: Part) -> None:
        """Run plain short tasks many at a time, at C speed; a slice never leaves multiprocessing's chunk."""
        page, items = self._page, part.plain
        assert items is not None
        source = iter(items)
        outputs = map(function, source) if part.style == MAP else starmap(function, source)
        index, count = 0, len(items)
        job, size = self._lately
        if job != part.job:
            size = 1
        while index < count:
            edge = part.slice - (part.first + index) % part.slice
            size = min(size, count - index, edge, MOST, self._free_ahead())
            begin = page[TIME] = monotonic_ns()
            page[WORD] = word(self._seq, size, RUNNING)
            if self._seq < page[RECALLED_TO] and self._recalled():
                return
            done, error = self._run_slice(outputs, size)
            if error is not None:
                self._add_error(error, skip=1)
                set_trace(error, None)
                error = None
            elif done < size:  # the function raised StopIteration, which ends an iterator silently
                self._add_error(StopIteration(), skip=1)
            index += size if done == size else done + 1
            took = monotonic_ns() - begin
            self.answers.pace(took, self._seq)
            size = max(1, min(size * 8, GATHER * max(done, 1) // (took + 1)))
            if took > SHORT * done:
                size = 1  # a task that is longer than sending its outcome is answered by itself
            self._lately = part.job, size

    def _free_ahead(self) -> int:
        """How many tasks may begin before one that was taken back; a slice must not reach into it."""
        start, stop = taken_back(self._page)
        return start - self._seq if self._seq < start < stop else MOST

    def _run_slice(self, outputs: Any, size: int) -> tuple[int, BaseException | None]:
        """Run ``size`` tasks; say how many ended well, and what stopped the next one."""
        results: list[Any] = []
        error = None
        try:
            self.answers.amid = self._seq
            results.extend(islice(outputs, size))
        except BaseException as exception:
            error = exception
        self.answers.amid = None
        done = len(results)
        if done >= MANY and self.answers.add_together(results, self._seq):
            pass
        elif UNSIZED.issuperset(map(type, results)) or all(map(may_stand, results)):
            self.answers.add_all(results)
        else:
            self._page[WORD] = word(self._seq, size, ENCODING)
            self.answers.seal_some(results)
        self._seq += done
        if error is None:
            self._page[WORD] = self._seq * STEP + IDLE
        return done, error


def _let_go(frame: frames.Frame, functions: dict[int, Any], channel: WorkerChannel) -> None:
    if frame.kind == frames.RELEASED:
        arena.take_back(frame)
    elif functions.pop(frame.seq, None) is not None:
        channel.tell()  # the memory of a large one need not wait for the next outcome


def _initialize(settings: Settings) -> list[frames.Buffer]:
    """Call the initializer, then go into the sandbox if there is one; what READY tells."""
    if settings.initializer is not None:
        settings.initializer(*settings.initargs)
    if settings.sandbox is None:
        return []
    from millpond.worker import fixed_codec, sandbox

    about = sandbox.enter(settings.sandbox)
    place.limit(settings.place)
    return [fixed_codec.encode(about)]


def _apply(function: Any, item: Any) -> Any:
    return function(*item[0], **item[1])


def _map(function: Any, item: Any) -> Any:
    return function(item)


def _star(function: Any, item: Any) -> Any:
    return function(*item)


_CALLS: Final = {CALL: _apply, MAP: _map, STAR: _star}

_LETTING_GO: Final = frozenset({frames.FORGET, frames.RELEASED})
_INDIRECT: Final = frozenset({Conducted, Renewed, Sealed})
"""Types of what is kept as a job's function and cannot simply be called."""


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
    try:
        worker = Worker(channel, slate, settings)
        signal.signal(PRESS, worker.answers.press)
        worker.run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, or has given this worker up


def _ignore(_number: int, _frame: object) -> None:
    """A Ctrl-C is the parent's affair."""
