"""``multiprocessing.synchronize``: this name gives the standard library's own module."""

import multiprocessing.synchronize as standard
import sys
from multiprocessing.synchronize import *  # noqa: F403

sys.modules[__name__] = standard
