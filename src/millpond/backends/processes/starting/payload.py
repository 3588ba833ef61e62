"""What travels to a child that is no copy of its parent: an unnamed file, and descriptors.

In the file are two pickles. The first tells a child what it needs before anything of the user's is
loaded (``Opening``); the second is the process object. Rules: what a pickle refers to as a
descriptor is an index into the list of those that travel; the file is made empty when a start is
given up, so a child that comes late finds nothing to do.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, BinaryIO

from millpond.backends.processes.starting import main_module, standard
from millpond.backends.processes.starting.interruptions import let_in
from millpond.backends.processes.starting.outcome_file import OutcomeFile, write_at
from millpond.backends.processes.starting.terms import terms_of
from millpond.system.files import unnamed_file
from millpond.worker import by_value

Opening = dict[str, Any]

_received: Sequence[int] = ()


class Descriptor:
    """A pickled descriptor: in the child, the one that travelled at this index."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        return _received[self.index]


class Packer:
    """Packs one process; multiprocessing's reducers see it as the Popen that is spawning."""

    DupFd = Descriptor

    def __init__(self, process_obj: BaseProcess) -> None:
        self.process_obj = process_obj
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """Let ``fd`` travel; its index."""
        self.fds.append(fd)
        return len(self.fds) - 1

    def for_copy(self, names: by_value.Names) -> tuple[Opening, bytes]:
        """For a child of a forked copy of this process: what it has travels as a name."""
        opening = self._opening()
        tracker_fd = standard.tracker_fd()
        if tracker_fd is not None:
            opening["tracker"] = self.duplicate_for_child(tracker_fd)
        return opening, self._pickled(main_importable=True, names=names)

    def for_fresh(self, method: str) -> tuple[Opening, bytes]:
        """For a child that shares nothing; ``method`` is what the user asked for."""
        data = standard.spawn.get_preparation_data(self.process_obj.name)
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
        if terms_of(self.process_obj).environment is not None:
            data.pop("authkey", None)
        main = main_module.source() if method != "fork" else None
        opening = self._opening()
        opening["tracker"] = self.duplicate_for_child(standard.resource_tracker().getfd())
        opening["main"] = main
        if main is not None:
            # What children return of its classes has them from there; it may have been set when another was main.
            sys.modules["__mp_main__"] = sys.modules["__main__"]
        opening["half_imported"] = terms_of(self.process_obj).half_imported
        opening["preparation"] = self._dump(data)
        return opening, self._pickled(main_importable=main is not None, names=None)

    def _opening(self) -> Opening:
        terms = terms_of(self.process_obj)
        outcome = terms.outcome
        opening: Opening = {
            "parent": os.getpid(),
            "bound": terms.bound,
            "blocked": set(terms.blocked),
            "place": terms.place,
        }
        if outcome is not None and outcome.fd is not None:
            opening["outcome"] = self.duplicate_for_child(outcome.fd)
        return opening

    def _dump(self, obj: object) -> bytes:
        standard.context.set_spawning_popen(self)
        try:
            with let_in():
                return bytes(ForkingPickler.dumps(obj))
        finally:
            standard.context.set_spawning_popen(None)

    def _pickled(self, *, main_importable: bool, names: by_value.Names | None) -> bytes:
        before = list(self.fds)
        standard.context.set_spawning_popen(self)
        try:
            with let_in():
                return by_value.dumps(
                    self.process_obj,
                    main_importable=main_importable,
                    names=names,
                    again=lambda: self.fds.__setitem__(slice(None), before),
                )
        except Exception as refusal:
            from millpond.backends.processes import explaining

            dump = partial(by_value.dumps, main_importable=main_importable, names=names)
            raise explaining.process(refusal, self.process_obj, dump) from None
        finally:
            standard.context.set_spawning_popen(None)


def write(opening: Opening, process_pickle: bytes, front: bytes = b"") -> int:
    """The file that a child reads; ``front`` stands before what ``read`` reads."""
    fd = unnamed_file("millpond-start")
    try:
        head = pickle.dumps(opening, by_value.PROTOCOL)
        front += len(head).to_bytes(8, "little") + head
        write_at(fd, front, 0)
        write_at(fd, process_pickle, len(front))
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(file: BinaryIO) -> tuple[Opening, bytes] | None:
    """In the child: what ``write`` wrote, or None where the start was given up."""
    with file:
        head = file.read(8)
        if len(head) < 8:
            return None
        opening: Opening = pickle.loads(file.read(int.from_bytes(head, "little")))
        return opening, file.read()


def give_up(fd: int) -> None:
    """Nobody waits for this start any more: a child that comes to it late must not run."""
    os.ftruncate(fd, 0)


def receive(fds: Sequence[int], opening: Opening) -> OutcomeFile | None:
    """In the child: let pickled descriptors be these; take the tracker's and the outcome's."""
    global _received
    _received = fds
    if "tracker" in opening:
        tracker = standard.resource_tracker()
        tracker._fd = fds[opening["tracker"]]
        tracker._pid = None
    return OutcomeFile(fds[opening["outcome"]]) if "outcome" in opening else None


def unpack(process_pickle: bytes, inherited: Mapping[str, object] | None) -> BaseProcess:
    """In the child: the process object."""
    process_obj: BaseProcess = by_value.loads(process_pickle, names=inherited)
    return process_obj
