"""``multiprocessing.resource_tracker``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.resource_tracker as standard
from multiprocessing.resource_tracker import *  # noqa: F403

sys.modules[__name__] = standard
