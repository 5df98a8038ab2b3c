"""Differential fuzzing: random valid graphs are compiled in several ways and compared with ONNX Runtime.

Run it from the root of the repository: ``python -m tests.fuzz``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # code that tests share lies there, as for pytest
