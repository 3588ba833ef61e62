"""``multiprocessing.queues``: this name gives the standard library's own module."""

import multiprocessing.queues as standard
import sys
from multiprocessing.queues import *  # noqa: F403

sys.modules[__name__] = standard
