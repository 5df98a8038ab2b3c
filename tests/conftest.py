"""Shared by all tests."""

from __future__ import annotations

import os

os.environ["CONVC_CACHE"] = ""  # what somebody tuned here decides no test
