"""``multiprocessing.connection``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.connection as standard
from multiprocessing.connection import *  # noqa: F403

sys.modules[__name__] = standard
