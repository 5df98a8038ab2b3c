"""Shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["CONVC_CACHE"] = ""  # what somebody tuned here decides no test
