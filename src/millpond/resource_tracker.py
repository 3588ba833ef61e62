"""``multiprocessing.resource_tracker``: this name gives the standard library's own module."""

import multiprocessing.resource_tracker as standard
import sys
from multiprocessing.resource_tracker import *  # noqa: F403

sys.modules[__name__] = standard
