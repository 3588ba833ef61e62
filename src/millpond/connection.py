"""``multiprocessing.connection``: this name gives the standard library's own module."""

import multiprocessing.connection as standard
import sys
from multiprocessing.connection import *  # noqa: F403

sys.modules[__name__] = standard
