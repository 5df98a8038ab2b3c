"""Code that tests share: models, oracles, tolerances, and checks of error messages."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the fuzzers import ONNX Runtime through this package, without conftest.py
