"""``multiprocessing.popen_spawn_win32``: this name gives the standard library's own module."""

import multiprocessing.popen_spawn_win32 as standard
import sys
from multiprocessing.popen_spawn_win32 import *  # noqa: F403

sys.modules[__name__] = standard
