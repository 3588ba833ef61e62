"""``multiprocessing.util``: this name gives the standard library's own module."""

import multiprocessing.util as standard
import sys
from multiprocessing.util import *  # noqa: F403

sys.modules[__name__] = standard
