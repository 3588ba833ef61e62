"""``multiprocessing.sharedctypes``: this name gives the standard library's own module."""

import multiprocessing.sharedctypes as standard
import sys
from multiprocessing.sharedctypes import *  # noqa: F403

sys.modules[__name__] = standard
