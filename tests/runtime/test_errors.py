"""Wrong calls of a compiled model, and artifacts that cannot be written or read. There is one tiny test per mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from support.malformed import RELU, info, model, node, raises

import convc
from convc import ArtifactError, InputError, ModelFileError
from convc.ir.builder import Builder
from convc.ir.op import f32
from convc.ir.ops.binary import Add
from convc.ir.ops.unary import Relu

# -- running -----------------------------------------------------------------------------------------------------------

ONES = np.ones((2, 3), np.float32)


@pytest.fixture(scope="module")
def relu() -> convc.CompiledModel:
    return convc.compile(model(node("Relu", "x"), inputs=[info("x", [2, 3])]), threads=1)


class OnDevice:
    """A tensor that DLPack reports to be in a GPU's memory."""

    shape, dtype = (2, 3), "float32"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("its memory must not be asked for")


class Refuses(OnDevice):
    """A tensor that refuses to be exported, as PyTorch's do when they need a gradient."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("it requires a gradient")


CALLS: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "no input": ((), ("takes 1 input (x), not 0",)),
    "too many inputs": ((ONES, ONES), ("takes 1 input (x), not 2",)),
    "rank": ((ONES[0],), ("input 'x'", "1 axis, [3]", "[2, 3]")),
    "shape": ((ONES.T,), ("input 'x'", "has size 3", "[2, 3]")),
    "float64": ((ONES.astype(np.float64),), ("input 'x'", "dtype float64", "takes float32")),
    "integers": ((ONES.astype(np.int32),), ("input 'x'", "dtype int32", "takes float32")),
    "other byte order": ((ONES.astype(">f4"),), ("input 'x'", ">f4", "takes float32")),
    "objects": ((np.full((2, 3), None),), ("input 'x'", "dtype object")),
    "ragged list": (([[1], [1, 2]],), ("input 'x'", "cannot be read as an array of float32")),
    "text": (("abc",), ("input 'x'", "cannot be read as an array of float32")),
    "None": ((None,), ("input 'x'",)),
    "on a GPU": ((OnDevice(),), ("input 'x'", "not in the processor's memory")),
    "not exported": ((Refuses(),), ("input 'x'", "requires a gradient")),
}


@pytest.mark.parametrize(("arrays", "parts"), CALLS.values(), ids=CALLS)
def test_bad_call(relu: convc.CompiledModel, arrays: tuple[Any, ...], parts: tuple[str, ...]) -> None:
    with raises(InputError, *parts):
        relu(*arrays)


def test_wrong_input_name(relu: convc.CompiledModel) -> None:
    with raises(InputError, "no input 'z'", "its inputs are x"):
        relu.run({"z": ONES})


def test_missing_input_name(relu: convc.CompiledModel) -> None:
    with raises(InputError, "input 'x' is missing"):
        relu.run({})


def test_run_without_names(relu: convc.CompiledModel) -> None:
    with raises(InputError, "by name", "'x'"):
        relu.run(ONES)  # type: ignore[arg-type]


def test_fractions_are_not_cut_to_integers() -> None:
    negated = convc.compile(model(node("Relu", "x"), inputs=[info("x", [2], TensorProto.INT32)]), threads=1)
    np.testing.assert_array_equal(negated([1, -2]), [1, 0])
    with raises(InputError, "input 'x'", "int32", "not integers"):
        negated([1.5, 2])
    with raises(InputError, "input 'x'", "int32"):
        negated([1 << 40, 2])


# -- artifacts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(relu: convc.CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "relu.so"
    relu.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("file/below", "Not a directory"),
        ("folder", "Is a directory"),
        ("nowhere/m.so", "No such file"),
        ("/proc/m.so", ""),
        ("a\0b", "null byte"),
        ("n" * 300, "too long"),
    ],
)
def test_save_where_nothing_can_be_written(relu: convc.CompiledModel, tmp_path: Path, where: str, cause: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with raises(ArtifactError, "cannot write", where, cause):
        relu.save(tmp_path / where)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_export_where_nothing_can_be_written(tmp_path: Path) -> None:
    with raises(ModelFileError, "cannot write", "Is a directory"):
        convc.save_onnx(convc.load_onnx(RELU), tmp_path)


def test_saving_runs_no_other_program(
    relu: convc.CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiler and no linker are needed."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("subprocess.Popen", None)
    relu.save(tmp_path / "m.so")
    np.testing.assert_array_equal(convc.load(tmp_path / "m.so")(-ONES), 0 * ONES)


def test_no_temporary_folders(relu: convc.CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM writes to files; what it has compiled is saved without them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    b = Builder("net")
    graph = b.finish([b.emit(Relu(), b.input("x", f32[3]))])
    with raises(ArtifactError, "cannot write machine code to a temporary folder", "No such file", "missing"):
        convc.compile(graph, cache=False)
    relu.save(tmp_path / "m.convc")
    assert [p.name for p in tmp_path.iterdir()] == ["m.convc"]


def test_code_that_the_system_refuses_to_map(saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where files in memory are not allowed, and those in the temporary folder may not be executed."""

    def refused(path: str) -> Any:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr("convc.runtime.cpu.code._memory_file", lambda: None)
    monkeypatch.setattr("ctypes.CDLL", refused)
    b = Builder("net")
    graph = b.finish([b.emit(Relu(), b.input("x", f32[3]))])
    with raises(ArtifactError, "failed to map segment", "set TMPDIR"):
        convc.compile(graph, threads=1, cache=False)(np.ones(3, np.float32))
    (tmp_path / "m.convc").write_bytes(saved)
    with raises(ArtifactError, f"'{tmp_path / 'm.convc'}' cannot be loaded", "set TMPDIR"):
        convc.load(tmp_path / "m.convc")


def test_missing_artifact(tmp_path: Path) -> None:
    with raises(ArtifactError, "m.so", "No such file"):
        convc.load(tmp_path / "m.so")


def test_file_that_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "m.so").write_text("hello")
    with raises(ArtifactError, "m.so", "not a convc artifact"):
        convc.load(tmp_path / "m.so")


def test_torn_artifact_at_many_lengths(saved: bytes, tmp_path: Path) -> None:
    for length in {0, 1, 39, 40, len(saved) // 2, len(saved) - 400, len(saved) - 40, len(saved) - 1}:
        (tmp_path / "m.so").write_bytes(saved[:length])
        with raises(ArtifactError, "m.so", "torn"):
            convc.load(tmp_path / "m.so")


def test_artifact_torn_in_the_middle(saved: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.so").write_bytes(saved[:1000] + saved[2000:])
    with raises(ArtifactError, "m.so", "torn"):
        convc.load(tmp_path / "m.so")


@pytest.mark.parametrize("part", ["code", "weights", "description", "footer"])
def test_any_bit_changed(part: str, tmp_path: Path) -> None:
    b = Builder("net")
    weight = np.arange(4000, dtype=np.float32)
    convc.compile(b.finish([b.emit(Add(), b.input("x", f32[4000]), b.constant(weight))])).save(tmp_path / "m.so")
    saved = bytearray((tmp_path / "m.so").read_bytes())
    places = {"code": 4096, "weights": saved.find(weight.tobytes()) + 9000, "description": saved.find(b'"shape"') + 11}
    saved[places.get(part, len(saved) - 40)] ^= 1
    (tmp_path / "m.so").write_bytes(saved)
    with raises(ArtifactError, "m.so", "damaged: it is not what was written", "build it again"):
        convc.load(tmp_path / "m.so")


@pytest.mark.parametrize("threads", [0, -1, 2.5])
def test_load_with_bad_threads(saved: bytes, tmp_path: Path, threads: Any) -> None:
    (tmp_path / "m.so").write_bytes(saved)
    with raises(InputError, "threads must be an integer of at least 1"):
        convc.load(tmp_path / "m.so", threads=threads)


# -- arguments of the wrong type ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 5}, "outputs must name values"),
        ({"values": {1: ONES}}, "values must give the values of inputs by their names"),
        ({"limits": 5}, "limits must be a Limits"),
        ({"keep": 3}, "keep must be a Keep"),
        ({"cache": "x"}, "cache must be a bool"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(options: dict[str, Any], message: str) -> None:
    with raises(convc.ConvcError, message):
        convc.compile(model(node("Relu", "x"), inputs=[info("x", [2, 3])]), threads=1, **options)


@pytest.mark.parametrize("path", [None, 5, b"", []])
def test_load_takes_a_path(path: Any) -> None:
    with raises(ArtifactError, "load takes the path of an artifact, not"):
        convc.load(path)
