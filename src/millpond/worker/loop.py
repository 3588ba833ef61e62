"""What a worker process does: receive a chunk, run it, send its outcomes, repeat.

Rules of this module:

1. An outcome is sent before the next task begins, unless tasks are shorter than a send: those are gathered
   for at most a millisecond.
2. Before a task begins, the slate says so; after its outcome is encoded and before it is sent, the slate
   says that it ended.
3. Nothing that a task does may end the loop, short of ending the process.
4. A copy of the process that a task forked never writes on the channel.
5. A handler that a task left behind (an alarm's, a profiler's) may raise between any two steps. What the loop did
   is then told by ``answers.next`` and by what it had in its hand; it goes on from there (``strays``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, starmap
from operator import length_hint
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from millpond.worker import arena, diverting, frames, outcome, place, seeding
from millpond.worker.answers import GATHER, SHORT, Answers
from millpond.worker.channel import ENDINGS, WorkerChannel
from millpond.worker.codec import CALL, MAP, STAR, Part, decode_argument, decode_chunk
from millpond.worker.conduct import Conducted
from millpond.worker.outcome import UNSIZED, Sealed, Wire, may_stand
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
    free_ahead,
    note,
    recalled,
    word,
)
from millpond.worker.strays import Hand, Strays

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
        self._strays = Strays()
        self._pending: list[frames.Frame] = []  # received; the first is being done
        self._frame: frames.Frame | None = None  # the one whose tasks are being run
        self._parts: Sequence[Part] = ()  # of it
        self._loaded: Part | None = None  # whose function was
        self._hand: Hand | None = None  # what had come of tasks when something else was raised
        self._over = False

    def run(self) -> None:
        """Until the parent says stop, or is gone."""
        try:
            about = _initialize(self._settings)
        except BaseException as exception:
            sealed = self._wire.seal_error(exception, skip=2)
            self._channel.send(frames.encode(frames.FAILED, [sealed.data], flags=sealed.tag))
            return
        self._channel.send(frames.encode(frames.READY, about))
        while not self._over:
            try:
                self._serve()
            except ENDINGS:
                raise
            except BaseException as stray:
                self._strays.take(
                    stray, (self.answers.next, len(self._pending)), self._channel.torn
                )

    def _serve(self) -> None:
        """Obey what comes, until there will be no more."""
        self._resume()
        pending = self._pending
        while True:
            while pending:
                self._obey(pending[0])
                if self._over:
                    return
                del pending[0]
            if self._coroutines is not None and self._coroutines.over:
                self._coroutines.close()
                self._over = True
                return
            pending += self._receive()

    def _obey(self, frame: frames.Frame) -> None:
        coroutines = self._coroutines
        if coroutines is not None:
            coroutines.purge()
        if frame.kind in _WORK:
            if frame is not self._frame:
                self._frame, self._parts, self.answers.first = frame, (), frame.seq
            self._seq = self.answers.next
            if frame.kind == frames.CALL:
                self._run_call(frame)
            else:
                self._run_chunk(frame)
        elif frame.kind in _LETTING_GO:
            self._pending[0] = _DONE  # once, whatever comes amid it
            _let_go(frame, self._functions, self._channel)
        elif coroutines is not None:
            coroutines.obey(frame)
        elif frame.kind == frames.STOP:
            self._over = True

    def _resume(self) -> None:
        """Keep what was in the hand when something was raised between two tasks, and send what was gathered."""
        answers = self.answers
        answers.amid = None
        hand = self._hand
        if hand is not None:
            self._seq = hand.seq
            if hand.results and answers.next == hand.seq:
                self._keep(hand.results, len(hand.results))
            self._seq = answers.next
            if hand.error is not None and self._seq == hand.seq + len(hand.results):
                self._add_error(hand.error, hand.skip)
            self._hand = None
        answers.flush(answers.next)
        if self._coroutines is not None:
            self._coroutines.mend()

    def _run_chunk(self, frame: frames.Frame) -> None:
        page, answers = self._page, self.answers
        if not self._parts and answers.next == frame.seq:
            note(page, frame.seq, frame.count)
            self._parts = self._decode(frame)
        stop = frame.seq
        for part in self._parts:
            start, stop = stop, stop + part.tasks
            if answers.next < stop:
                function, left = self._function(part), part.after(answers.next - start)
                self._retry_on = ()
                if type(function) is Renewed:
                    self._run_renewed(function, left)
                else:
                    self._run_part(function, left)
                answers.flush(self._seq)
                self._seq = answers.first = stop
        answers.flush(self._seq)
        page[WORD] = word(frame.seq + frame.count, 0, IDLE)

    def _decode(self, frame: frames.Frame) -> Sequence[Part]:
        """The parts of a chunk. What is raised meanwhile is its tasks' outcome: nothing can be claimed twice."""
        try:
            return decode_chunk(frame.body)
        except ENDINGS:
            raise
        except BaseException as exception:
            self.answers.repeat(self._wire.seal_error(exception), frame.count)
            set_trace(exception, None)
            return ()

    def _run_part(self, function: Any, part: Part) -> None:
        if type(function) is Sealed:
            self.answers.repeat(function, part.tasks)
            self._seq = self.answers.next
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
            begin = monotonic_ns()
            note(page, self._seq, piece.tasks)
            if recalled(page, self._seq):
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
        if self.answers.next > frame.seq:
            return  # it was answered, and something was raised after that
        function = self._known(frame.count)
        if type(function) in _INDIRECT:
            if not self._parts:
                note(self._page, frame.seq, 1)
            self._parts = [Part(frame.count, CALL, 0, 1, None, None, [frame.body])]
            self._run_chunk(frame._replace(count=1))
            return
        page, value, error = self._page, _NONE, None
        begin = page[TIME] = monotonic_ns()
        page[WORD] = self._seq * STEP + ONE + DECODING
        if self._seq < page[RECALLED_TO] and recalled(page, self._seq):
            page[WORD] = (self._seq + 1) * STEP + IDLE
            return
        try:
            try:
                try:
                    args, kwds = decode_argument(frame.body)
                except BaseException as failure:
                    add_note(failure, _UNLOADABLE)
                    raise
                page[WORD] = self._seq * STEP + ONE + RUNNING
                value = function(*args, **kwds)
            except BaseException as exception:
                error = exception
                self._add_error(exception, skip=1)
                set_trace(exception, None)
            else:
                self._add(value)
        except BaseException:
            self._hand = Hand(frame.seq, [] if value is _NONE else [value], error, 1)
            raise
        self.answers.pace(monotonic_ns() - begin, self._seq)
        self.answers.flush(self._seq)
        self._channel.expect()

    def _function(self, part: Part) -> Any:
        """The part's function, or the sealed error that loading it raised."""
        if part.function is not None and part is not self._loaded:
            try:
                function, renewal = part.function, part.renewal
                loaded = Renewed(function, renewal) if renewal else decode_argument(function)
                self._functions[part.job] = loaded
            except BaseException as exception:
                self._functions[part.job] = self._wire.seal_missing(exception)
            self._loaded = part
        return self._known(part.job)

    def _known(self, job: int) -> Any:
        """The job's function, or that it is missing, where it came with a chunk that could not be read."""
        if job not in self._functions:
            lost = LookupError("it was lost when something was raised while it came")
            self._functions[job] = self._wire.seal_missing(lost)
        return self._functions[job]

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
        if conduct.children:
            from millpond.worker import parenting  # for executors only

            with parenting.Allowed():
                self._run_part(conducted.without_children(), part)
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
        items: Any = part.plain if part.plain is not None else part.blobs
        encoded = part.plain is None
        call = _CALLS[part.style] if encoded or part.style != CALL else _star
        phase = DECODING if encoded else RUNNING
        assert items is not None
        seq, value, error = self._seq, _NONE, None
        try:
            for item in items:
                seq = self._seq
                begin = page[TIME] = monotonic_ns()
                page[WORD] = seq * STEP + ONE + phase
                if seq < page[RECALLED_TO] and recalled(page, seq):
                    break
                if item is None and encoded:
                    self._add(None)
                    continue
                try:
                    if encoded:
                        try:
                            item = decode_argument(item)
                        except BaseException as failure:
                            add_note(failure, _UNLOADABLE)
                            raise
                        page[WORD] += RUNNING - DECODING
                    answers.amid = seq
                    value = call(function, item)
                    answers.amid = None
                except BaseException as exception:
                    answers.amid = None
                    error = exception
                    self._add_error(exception, skip)
                    set_trace(exception, None)
                    error = None
                else:
                    self._add(value)
                    value = _NONE
                item = None
                answers.pace(monotonic_ns() - begin, self._seq)
        except BaseException:  # between two tasks
            results = [] if value is _NONE else [value]
            self._hand = Hand(seq, results, error, skip)
            raise

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
        seq, results, error = self._seq, list[Any](), None
        try:
            while index < count:
                edge = part.slice - (part.first + index) % part.slice
                size = min(size, count - index, edge, MOST, free_ahead(page, self._seq))
                begin = page[TIME] = monotonic_ns()
                page[WORD] = word(self._seq, size, RUNNING)
                if self._seq < page[RECALLED_TO] and recalled(page, self._seq):
                    return
                seq, results, error = self._seq, [], None
                error = self._run_slice(outputs, size, results)
                done = len(results)
                if error is not None and count - length_hint(source) == index + done:
                    raise error  # no task did: all that had begun have returned
                if error is None and done < size:
                    error = StopIteration()  # of the function, which ends an iterator silently
                self._keep(results, size)
                if error is None:
                    page[WORD] = self._seq * STEP + IDLE
                else:
                    self._add_error(error, skip=1)
                    set_trace(error, None)
                index += size if done == size else done + 1
                took = monotonic_ns() - begin
                self.answers.pace(took, self._seq)
                size = max(1, min(size * 8, GATHER * max(done, 1) // (took + 1)))
                if took > SHORT * done:
                    size = 1  # a task that is longer than sending its outcome is answered by itself
                self._lately = part.job, size
        except BaseException:  # between two tasks
            if count - length_hint(source) == index + len(results):
                error = None
            self._hand = Hand(seq, results, error, 1)
            raise

    def _run_slice(self, outputs: Any, size: int, results: list[Any]) -> BaseException | None:
        """Run ``size`` tasks; what was raised meanwhile, by the one after those with results or by nobody's."""
        try:
            self.answers.amid = self._seq
            results.extend(islice(outputs, size))
        except BaseException as exception:  # no jump backward may follow: a handler may raise there
            self.answers.amid = None
            return exception
        self.answers.amid = None
        return None

    def _keep(self, results: list[Any], size: int) -> None:
        """What the first tasks of a slice returned."""
        if len(results) >= MANY and self.answers.add_together(results, self._seq):
            pass
        elif UNSIZED.issuperset(map(type, results)) or all(map(may_stand, results)):
            self.answers.add_all(results)
        else:
            self._page[WORD] = word(self._seq, size, ENCODING)
            self.answers.seal_some(results)
        self._seq += len(results)


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

_DONE: Final = frames.Frame(0, 0, 0, 0, 0.0, b"")
_NONE: Final[Any] = object()
_WORK: Final = frozenset({frames.CALL, frames.CHUNK})
_LETTING_GO: Final = frozenset({frames.FORGET, frames.RELEASED})
_INDIRECT: Final = frozenset({Conducted, Renewed, Sealed})
"""Types of what is kept as a job's function and cannot simply be called."""
