"""``multiprocessing.reduction``: this name gives the standard library's own module."""

import multiprocessing.reduction as standard
import sys
from multiprocessing.reduction import *  # noqa: F403

sys.modules[__name__] = standard
