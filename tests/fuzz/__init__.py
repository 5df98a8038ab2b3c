"""Differential fuzzing: random valid graphs, compiled in several ways, against ONNX Runtime. From the root: ``python -m
tests.fuzz``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share lies there, as for pytest
