"""Quantizes models to 8 bits in QDQ form by ONNX Runtime: ``python tests/quantize_zoo.py DIR MODEL.onnx...``.

It writes ``DIR/MODEL_int8.onnx``. The models are calibrated on two random images: they serve to time engines and to
compare their results, not to measure accuracy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, shape: list[int]) -> None:
        rng = np.random.default_rng(0)
        self.images = iter([{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(2)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.images, None)


def main(folder: str, *models: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in map(Path, models):
        image = onnx.load(path, load_external_data=False).graph.input[0]
        shape = [d.dim_value for d in image.type.tensor_type.shape.dim]
        quantize_static(
            path, Path(folder) / f"{path.stem}_int8.onnx", Images(image.name, shape), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
