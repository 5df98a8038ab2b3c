"""The command line of the fuzzer: ``python -m tests.fuzz --seconds 3600 --seed 0``."""

import sys

from .campaign import main

sys.exit(main())
