"""``multiprocessing.dummy``: this name gives the standard library's own module."""

import multiprocessing.dummy as standard
import sys
from multiprocessing.dummy import *  # noqa: F403

sys.modules[__name__] = standard
sys.modules[f"{__name__}.connection"] = standard.connection
