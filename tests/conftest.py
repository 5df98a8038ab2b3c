"""Settings that all tests share."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports ONNX Runtime
os.environ["CONVC_CACHE"] = ""  # a tuning database of this machine must not affect tests
