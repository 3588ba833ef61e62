"""``multiprocessing.sharedctypes``, as it is: this name gives the standard library's own module."""

import sys

import multiprocessing.sharedctypes as standard
from multiprocessing.sharedctypes import *  # noqa: F403

sys.modules[__name__] = standard
