"""``multiprocessing.popen_forkserver``: this name gives the standard library's own module."""

import multiprocessing.popen_forkserver as standard
import sys
from multiprocessing.popen_forkserver import *  # noqa: F403

sys.modules[__name__] = standard
