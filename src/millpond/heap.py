"""``multiprocessing.heap``: this name gives the standard library's own module."""

import multiprocessing.heap as standard
import sys
from multiprocessing.heap import *  # noqa: F403

sys.modules[__name__] = standard
