"""The cases of every op class, as test parameters."""

from __future__ import annotations

import pytest

from convc.ir import ops  # noqa: F401  registers every op
from convc.ir.op import REGISTRY

CASES = [
    pytest.param(case, id=f"{name}-{i}") for name, cls in sorted(REGISTRY.items()) for i, case in enumerate(cls.cases())
]
