"""Images: make thumbnails of photographs, in many sizes.

The photographs come with the package scikit-image. Those named here are in the public domain or
CC0: by NASA (astronaut, hubble_deep_field), SpaceX (rocket), Lav Varshney (camera), Stefan van der
Walt (chelsea, clock_motion), Rachel Michetti (coffee), Mikael Haeggstroem (retina), CC0Textures
(brick, gravel) and linolafett (grass).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path

from PIL import Image

from atomic_file import write_atomically
from workload import Workload

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
WIDTHS = range(32, 512 + 1, 32)


@dataclass(frozen=True)
class Order:
    """One thumbnail to make: of what, how wide, and where to put it."""

    photograph: Path
    width: int
    target: Path


@dataclass(frozen=True)
class Thumbnail:
    """What was made: the file's name, its size and its SHA-256."""

    name: str
    size: int
    sha256: str


def make_thumbnail(order: Order) -> Thumbnail:
    """Make one thumbnail."""
    encoded = BytesIO()
    with Image.open(order.photograph) as image:
        image.thumbnail((order.width, order.width), Image.Resampling.LANCZOS)
        image.convert("RGB").save(encoded, "WebP", quality=85, method=6)
    content = encoded.getvalue()
    write_atomically(order.target, content)
    return Thumbnail(order.target.name, len(content), hashlib.sha256(content).hexdigest())


def orders(folder: Path) -> list[Order]:
    """Every photograph in every width."""
    photographs = Path(str(distribution("scikit-image").locate_file("skimage/data")))
    return [
        Order(photographs / name, width, folder / f"{Path(name).stem}-{width}.webp")
        for name in PHOTOGRAPHS
        for width in WIDTHS
    ]


def conclude(thumbnails: Sequence[Thumbnail]) -> str:
    """Say how much was made."""
    size = sum(thumbnail.size for thumbnail in thumbnails)
    return f"{len(thumbnails)} thumbnails, {size / 1e6:.1f} MB in all"


WORKLOAD = Workload(
    title=f"Images: {len(PHOTOGRAPHS)} photographs in {len(WIDTHS)} sizes",
    function=make_thumbnail,
    inputs=orders,
    conclude=conclude,
)
