"""The cases that every op's class gives."""

from __future__ import annotations

import pytest

from convc.ir.op import REGISTRY

CASES = [
    pytest.param(case, id=f"{name}-{i}") for name, cls in sorted(REGISTRY.items()) for i, case in enumerate(cls.cases())
]
