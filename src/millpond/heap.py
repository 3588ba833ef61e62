"""``multiprocessing.heap``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.heap as standard
from multiprocessing.heap import *  # noqa: F403

sys.modules[__name__] = standard
