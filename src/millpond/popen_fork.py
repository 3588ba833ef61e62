"""``multiprocessing.popen_fork``: this name gives the standard library's own module."""

import multiprocessing.popen_fork as standard
import sys
from multiprocessing.popen_fork import *  # noqa: F403

sys.modules[__name__] = standard
