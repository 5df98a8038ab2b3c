"""The other engines that a model is compared with: the packages that they need, and how ONNX Runtime is imported.

This module imports nothing heavy, since ``footprint.py`` measures what importing an engine takes.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from convc.ir.errors import ConvcError

PACKAGES = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino",), "torch": ("torch", "onnx2torch")}
"""The packages that each engine needs, which are imported and installed by the same names."""


def check_installed(engines: Sequence[str]) -> None:
    """Raise ``ConvcError``, with what to install, when the package of an engine is missing."""
    for engine in engines:
        needed = PACKAGES.get(engine, ())
        if not all(map(_is_installed, needed)):
            raise ConvcError(
                f"engine {engine} is not installed: pip install {' '.join(needed)}, or choose what to compare with by "
                "--vs (none: time convc alone)"
            )


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def import_onnxruntime() -> Any:
    """The package ``onnxruntime``, with its telemetry switched off.

    ONNX Runtime's builds for Linux record and send telemetry by default since 1.29, and read this variable when they
    load. A model that is compared may be private.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
