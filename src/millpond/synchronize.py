"""``multiprocessing.synchronize``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.synchronize as standard
from multiprocessing.synchronize import *  # noqa: F403

sys.modules[__name__] = standard
