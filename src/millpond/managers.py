"""``multiprocessing.managers``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.managers as standard
from multiprocessing.managers import *  # noqa: F403

sys.modules[__name__] = standard
