"""``multiprocessing.managers``: this name gives the standard library's own module."""

import multiprocessing.managers as standard
import sys
from multiprocessing.managers import *  # noqa: F403

sys.modules[__name__] = standard
