"""The functions that the pools run; all do next to nothing, so what is measured is the pool."""


def successor(number: int) -> int:
    """A task with a small argument and a small result."""
    return number + 1


def length(content: bytes) -> int:
    """A task with a big argument."""
    return len(content)


def zeros(size: int) -> bytes:
    """A task with a big result."""
    return bytes(size)
