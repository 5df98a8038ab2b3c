"""A fuzzer of values: whatever the operands of an op hold, its code reads and writes only its own arrays."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the package ``support`` lies
