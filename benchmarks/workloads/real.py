"""Work as people have it: a large text, a simulation, photographs."""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, NotOffered
from benchmarks.workloads.base import Metric, Workload, expect, warm_pool

MEGABYTES = 200
PIECE = 2_000_000
POINTS = 400_000
EDGE = 320


@cache
def text() -> Path:
    """A file of so many MB of words, made on first use and kept between runs."""
    path = Path(tempfile.gettempdir(), f"millpond-benchmark-{MEGABYTES}.txt")
    if not path.exists():
        dice = random.Random(5)
        words = [
            "".join(dice.choices("etaoinshrdlu", k=dice.randrange(2, 9))) for _ in range(5_000)
        ]
        lines = [" ".join(dice.choices(words, k=12)) for _ in range(20_000)]
        block = ("\n".join(lines) + "\n").encode()
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            for _ in range(MEGABYTES * 10**6 // len(block)):
                file.write(block)
        draft.rename(path)
    return path


def count_words(piece: tuple[str, int, int]) -> Counter[bytes]:
    """How often each word begins in a part of the file."""
    path, start, stop = piece
    with open(path, "rb") as file:
        file.seek(start)
        if start:
            file.readline()
        content = file.read(max(stop - file.tell(), 0))
        content += file.readline()
    return Counter(content.split())


def words(contender: Contender, _: int) -> Sequence[float]:
    """Seconds to count the words of the file."""
    path = text()
    size = path.stat().st_size
    pieces = [(str(path), at, min(at + PIECE, size)) for at in range(0, size, PIECE)]
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        total: Counter[bytes] = Counter()
        for counted in _stream(pool, pieces):
            total.update(counted)
        seconds = time.perf_counter() - began
    expect(sum(total.values()) > MEGABYTES * 10**4)
    return (seconds,)


def _stream(pool: Any, pieces: list[tuple[str, int, int]]) -> Iterable[Counter[bytes]]:
    try:
        return pool.imap_unordered(count_words, pieces)  # type: ignore[no-any-return]
    except NotOffered:
        return pool.imap(count_words, pieces)  # type: ignore[no-any-return]


def inside(seed: int) -> int:
    """How many of random points lie in the unit circle."""
    import numpy as np

    points = np.random.default_rng(seed).random((2, POINTS))
    return int(((points**2).sum(0) < 1).sum())


def monte_carlo(contender: Contender, count: int) -> Sequence[float]:
    """Seconds to estimate pi."""
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        hits = sum(pool.map(inside, range(count)))
        seconds = time.perf_counter() - began
    expect(abs(4 * hits / count / POINTS - 3.1416) < 0.01)
    return (seconds,)


def thumbnail(name: str) -> bytes:
    """A photograph, smaller, as JPEG."""
    from PIL import Image

    with Image.open(name) as image:
        image.thumbnail((EDGE, EDGE))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG")
    return out.getvalue()


def photographs() -> list[str]:
    """Those that come with scikit-image."""
    from importlib.util import find_spec

    found = find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "data"
    return [str(path) for path in sorted(folder.iterdir()) if path.suffix in {".jpg", ".png"}]


def thumbnails(contender: Contender, count: int) -> Sequence[float]:
    """Seconds to make them."""
    given = photographs() * count
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        made = pool.map(thumbnail, given)
        seconds = time.perf_counter() - began
    expect(len(made) == len(given) and all(made))
    return (seconds,)


WORKLOADS = (
    Workload("words", (Metric(f"words of a text of {MEGABYTES} MB", "s"),), words, 1),
    Workload("monte-carlo", (Metric("Monte Carlo in NumPy", "s"),), monte_carlo, 200),
    Workload("thumbnails", (Metric("thumbnails of photographs", "s"),), thumbnails, 8),
)
