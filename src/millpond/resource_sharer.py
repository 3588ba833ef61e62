"""``multiprocessing.resource_sharer``: this name gives the standard library's own module."""

import multiprocessing.resource_sharer as standard
import sys
from multiprocessing.resource_sharer import *  # noqa: F403

sys.modules[__name__] = standard
