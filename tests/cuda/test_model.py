"""Models compiled for a GPU, used through the public interface on the emulated GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator.device import EmulatedDevice
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc import nn
from convc.backends.cuda import build
from convc.backends.cuda.nvrtc import Compiled
from convc.runtime.cuda.model import CudaModel
from convc.runtime.cuda.program import DeviceArray


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the compiled code by its source, which the emulated device takes."""
    monkeypatch.setattr(build, "compile_source", lambda source, arch, name: Compiled(source.encode(), {}))


def features() -> nn.Module:
    return nn.Sequential(nn.Conv2D(8, kernel_size=3, padding=1, activation="relu"), nn.MaxPool2D(2))


def head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dense(5, activation="sigmoid"))


X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


def compiled(net: Any, shape: tuple[int, ...], device: EmulatedDevice) -> CudaModel:
    model = convc.compile(net, "cuda", {"x": shape}, arch="sm_80")
    assert isinstance(model, CudaModel)
    model._open = lambda: device
    return model


def want(net: Any, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = run_onnxruntime(convc.to_onnx(net.to_graph({"x": x.shape})), {"x": x})[0]
    return result


def test_arrays_of_the_processor() -> None:
    net = features()
    model = compiled(net, X.shape, EmulatedDevice(80))
    for scale in (1, -2):
        y = model(X * scale)
        assert type(y) is np.ndarray
        assert_close(y, want(net, X * np.float32(scale)))
    assert_close(model.run({"x": X.tolist()})[model.outputs[0].name], want(net, X))


def test_after_saving_and_loading(tmp_path: Path) -> None:
    model = compiled(features(), X.shape, EmulatedDevice(80))
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    assert isinstance(loaded, CudaModel)
    loaded._open = lambda: EmulatedDevice(80)
    np.testing.assert_array_equal(loaded(X), model(X))


def test_results_on_the_device_are_inputs_of_the_next_model() -> None:
    first, second = features(), head()
    device = EmulatedDevice(80)
    a, b = compiled(first, X.shape, device), compiled(second, (2, 8, 4, 4), device)
    results = [a.program([X * np.float32(s)], 0)[0] for s in (1, 2)]  # both are kept, and neither overwrites the other
    for s, y in zip((1, 2), results, strict=True):
        assert isinstance(y, DeviceArray)
        z = b(y)
        assert isinstance(z, DeviceArray)
        middle = want(first, X * np.float32(s))
        assert_close(y.numpy(), middle)
        assert_close(z.numpy(), want(second, middle))


def test_code_for_another_architecture() -> None:
    model = compiled(head(), (2, 3), EmulatedDevice(75))
    with pytest.raises(convc.DeviceError, match="built for sm_80; this is sm_75"):
        model(np.zeros((2, 3), np.float32))
