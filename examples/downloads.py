"""Download: fetch a few hundred files from a web server, most of the time waiting for it.

The server is one of our own on this machine, in a process of its own, and it serves the source
files of Python's standard library. Before it answers it waits for 20 milliseconds, as a server on
the internet would make you wait. Workers that wait need no processor, so there are more of them
here than processors.
"""

import hashlib
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from atomic_file import write_atomically
from millpond import Pipe, Process
from web_server import serve
from workload import Workload

FILES = 300
WORKERS = 16
LIBRARY = Path(sysconfig.get_path("stdlib"))

# The server is on this machine: a proxy that the environment names must not be asked for it.
direct = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class Download:
    """One file to fetch: its name, where it is and where to put it."""

    name: str
    url: str
    target: Path


@dataclass(frozen=True)
class Fetched:
    """What came: the file's name, its size and its SHA-256."""

    name: str
    size: int
    sha256: str


def fetch(download: Download) -> Fetched:
    """Fetch one file."""
    with direct.open(download.url, timeout=30) as response:
        content: bytes = response.read()
    write_atomically(download.target, content)
    return Fetched(download.name, len(content), hashlib.sha256(content).hexdigest())


def digest_of(path: Path) -> str:
    """The SHA-256 of a file on the disk."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def library_files() -> list[str]:
    """Names, relative to the standard library, of the first few hundred of its modules."""
    packages = ("", "asyncio", "collections", "concurrent/futures", "email", "encodings", "json")
    found = (path for each in packages for path in sorted((LIBRARY / each).glob("*.py")))
    return [path.relative_to(LIBRARY).as_posix() for path in found][:FILES]


def downloads_from(url: str) -> Callable[[Path], list[Download]]:
    """Which files to fetch from the server at ``url``, given the folder to put them into."""

    def downloads(folder: Path) -> list[Download]:
        return [
            Download(name, f"{url}/{quote(name)}", folder / name.replace("/", "."))
            for name in library_files()
        ]

    return downloads


def conclude(files: Sequence[Fetched]) -> str:
    """Compare what came with what is on the disk."""
    intact = sum(file.sha256 == digest_of(LIBRARY / file.name) for file in files)
    size = sum(file.size for file in files)
    return f"{intact} of {len(files)} files have the right SHA-256, {size / 1e6:.1f} MB in all"


@contextmanager
def server() -> Iterator[str]:
    """Serve the standard library from a process of its own; yields the server's address."""
    receiver, sender = Pipe(duplex=False)
    process = Process(target=serve, args=(LIBRARY, sender), name="web server", daemon=True)
    process.start()
    sender.close()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        receiver.close()
        process.terminate()
        process.join()


@contextmanager
def workload() -> Iterator[Workload[Download, Fetched]]:
    """The workload; the server runs for as long as the context lasts."""
    with server() as url:
        yield Workload(
            title=f"Download: {FILES} files from a web server, {WORKERS} at a time",
            function=fetch,
            inputs=downloads_from(url),
            conclude=conclude,
            workers=WORKERS,
        )
