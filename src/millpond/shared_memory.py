"""``multiprocessing.shared_memory``: this name gives the standard library's own module."""

import multiprocessing.shared_memory as standard
import sys
from multiprocessing.shared_memory import *  # noqa: F403

sys.modules[__name__] = standard
