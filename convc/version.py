"""The version of convc."""

import time

__version__ = "0.1.0"
LOADED = time.time_ns()
"""When this process began to load convc, in nanoseconds since 1970."""
