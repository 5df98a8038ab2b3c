"""Large weights are read apart from the rest of a file, with protobuf itself as the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support import models

from convc.ir.errors import ModelFileError
from convc.onnx.importer import read_model
from convc.onnx.tensors import read_tensor
from convc.onnx.wire import Outside, read_apart

LARGE = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)


def model(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    made = models.model([onnx.helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]}, opset=22)
    made.graph.initializer.extend(tensors)
    return made


def tensor(name: str, array: np.ndarray = LARGE) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


def arrays(made: onnx.ModelProto, outside: Outside) -> list[np.ndarray]:
    return [read_tensor(t, outside) for t in made.graph.initializer]


def test_weights_come_from_the_file(tmp_path: Path) -> None:
    packed = onnx.helper.make_tensor("d", onnx.TensorProto.INT4, [64, 256], bytes(range(256)) * 32, raw=True)
    given = model(tensor("a"), tensor("b", LARGE[:2]), tensor("c", LARGE.astype(np.float16)), packed)
    onnx.save(given, tmp_path / "m.onnx")
    for source in (str(tmp_path / "m.onnx"), given.SerializeToString()):
        read, outside = read_model(source)
        assert len(outside.weights) == 3
        for found, t in zip(arrays(read, outside), given.graph.initializer, strict=True):
            np.testing.assert_array_equal(found, numpy_helper.to_array(t), strict=True)
            assert found.flags.aligned
        for made in (read, given):
            made.graph.ClearField("initializer")
        assert read == given
        given = onnx.load(tmp_path / "m.onnx")


def test_the_last_of_several_values_counts_as_in_protobuf() -> None:
    """Protobuf takes the last of several values of a field, and joins several graphs."""
    twice = tensor("a").SerializeToString() + onnx.TensorProto(raw_data=(2 * LARGE).tobytes()).SerializeToString()
    inner = bytes([5 << 3 | 2, *_varint(len(twice))]) + twice
    data = model().SerializeToString()
    data += bytes([7 << 3 | 2, *_varint(len(inner))]) + inner
    data += model(tensor("b")).SerializeToString()
    read, outside = read_model(data)
    a, b = arrays(read, outside)
    np.testing.assert_array_equal(a, 2 * LARGE)
    np.testing.assert_array_equal(b, LARGE)


def _varint(number: int) -> bytes:
    return (
        bytes([number & 127 | 128, number >> 7])
        if number < 1 << 14
        else bytes([number & 127 | 128, number >> 7 & 127 | 128, number >> 14])
    )


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_is_read_as_protobuf_reads_it(seed: int) -> None:
    """Bytes are changed, mostly those of keys and lengths, or the file is cut."""
    rng = np.random.default_rng(seed)
    whole = bytearray(model(tensor("a"), tensor("b", LARGE[:40])).SerializeToString())
    headers = [i for i in range(len(whole)) if i < 80 or whole[i : i + 4] in (b"\x12\x01a", b"J\x80@") or i % 997 == 0]
    for _ in range(rng.integers(1, 3)):
        whole[rng.choice(headers)] = rng.integers(256)
    damaged = bytes(whole[: rng.integers(len(whole)) if seed % 3 == 0 else len(whole)])
    try:
        expected = onnx.ModelProto.FromString(damaged)
    except Exception:  # what protobuf raises for a damaged message
        with pytest.raises(ModelFileError):
            read_model(damaged)
        return
    data, weights = read_apart(io.BytesIO(damaged))
    read = onnx.ModelProto.FromString(data)
    for t in read.graph.initializer:
        if t.raw_data in weights:
            t.raw_data = weights[t.raw_data].tobytes()
    assert read == expected


def test_a_tensor_that_names_segments_is_damaged() -> None:
    t = tensor("a")
    t.segment.begin = 1
    read, outside = read_model(model(t).SerializeToString())
    with pytest.raises(ModelFileError, match="damaged"):
        arrays(read, outside)
