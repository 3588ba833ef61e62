"""Sockets between this program's own processes, whatever it has put in the place of ``socket.socket``.

pytest-socket has a class there that refuses to be made, and PySocks one that speaks to a proxy. Neither means the
socket pairs of a pool, as neither means ``multiprocessing``'s pipes.
"""

from __future__ import annotations

import _socket
import array
from collections.abc import Sequence
from typing import Self

AnySocket = _socket.socket


class Socket(_socket.socket):
    """The interpreter's own, as a context manager that closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pair() -> tuple[Socket, Socket]:
    """Two unix sockets that are connected to each other, for no child to inherit. Raises OSError."""
    one, other = _socket.socketpair()
    return Socket(fileno=one.detach()), Socket(fileno=other.detach())


def send_fds(control: AnySocket, data: bytes, fds: Sequence[int]) -> int:
    """Send bytes with descriptors of this process. Raises OSError."""
    rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds)
    return control.sendmsg([data], [rights])
