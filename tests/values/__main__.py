"""The command line of the fuzzer of values: ``python -m tests.values --count 1000000 --seed 0``."""

import sys

from .campaign import main

sys.exit(main())
