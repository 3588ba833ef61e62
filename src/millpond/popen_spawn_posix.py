"""``multiprocessing.popen_spawn_posix``: this name gives the standard library's own module."""

import multiprocessing.popen_spawn_posix as standard
import sys
from multiprocessing.popen_spawn_posix import *  # noqa: F403

sys.modules[__name__] = standard
