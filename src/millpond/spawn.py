"""``multiprocessing.spawn``: this name gives the standard library's own module."""

import multiprocessing.spawn as standard
import sys
from multiprocessing.spawn import *  # noqa: F403

sys.modules[__name__] = standard
