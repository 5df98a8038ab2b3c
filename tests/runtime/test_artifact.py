"""Artifacts and arrays: a saved model gives the same results elsewhere, and inputs are read without a copy."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.malformed import raises

import convc
from convc import ArtifactError
from convc.ir.builder import Builder
from convc.ir.graph import Constant, Graph
from convc.ir.op import f32
from convc.ir.ops.binary import Add
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Relu
from convc.ir.text import parse_graph
from convc.reader import as_graph
from convc.runtime.artifact import MAGIC, is_artifact, read_artifact, write_artifact
from convc.runtime.cpu.program import Space
from convc.runtime.description import Port
from convc.runtime.offsets import ALIGNMENT

LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"
CHANNELS = 256
WEIGHT_BYTES = CHANNELS * CHANNELS * 9 * 4

MODULE = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from support.malformed import raises

import convc
from convc import ArtifactError
from runtime.test_artifact import image, network
"""


def network() -> Graph:
    """Two convolutions that share a weight, with a residual connection. The weight is most of the model's size."""
    rng = np.random.default_rng(0)
    b = Builder("net")
    x = b.input("x", f32[1, CHANNELS, 8, 8])
    w = b.constant(rng.uniform(-0.02, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32), "w")
    same = Conv(pads=((1, 1), (1, 1)))
    y = b.emit(Relu(), b.emit(same, x, w))
    return b.finish([b.emit(Add(), b.emit(same, y, w), x), y], ["sum", "inner"])


def image() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (1, CHANNELS, 8, 8)).astype(np.float32)


def elsewhere(code: str, **names: object) -> str:
    """The output of a new process that runs this code."""
    text = MODULE.format(tests=str(Path(__file__).parents[1])) + code.format(**names)
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def compiled() -> convc.CompiledModel:
    return convc.compile(network(), threads=1)


@pytest.fixture(scope="module")
def artifact(compiled: convc.CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "net.so"
    compiled.save(path)
    return path


def equal_bits(got: Any, want: Any) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        assert g.tobytes() == w.tobytes()


# -- saving and loading ------------------------------------------------------------------------------------------------


def test_a_new_process_computes_the_same_bits(compiled: convc.CompiledModel, artifact: Path, tmp_path: Path) -> None:
    code = "np.savez({out!r}, *convc.load({path!r})(image()))"
    elsewhere(code, out=str(tmp_path / "y.npz"), path=str(artifact))
    with np.load(tmp_path / "y.npz") as made:
        equal_bits(made.values(), compiled(image()))


def test_the_description_comes_back(compiled: convc.CompiledModel, artifact: Path) -> None:
    loaded = convc.load(artifact)
    assert loaded.inputs == compiled.inputs
    assert loaded.outputs == compiled.outputs
    assert repr(loaded) == repr(compiled)
    assert loaded.threads == 1, "the thread count is part of the artifact"
    assert convc.load(artifact, threads=2).threads == 2


def test_weights_lie_in_the_file_once(artifact: Path) -> None:
    assert artifact.stat().st_size <= WEIGHT_BYTES + (1 << 20)
    (read,) = read_artifact(artifact)
    assert sum(w.nbytes for w in read.weights.values()) == WEIGHT_BYTES
    assert all(w.ctypes.data % ALIGNMENT == 0 for w in read.weights.values())
    np.testing.assert_array_equal(next(iter(read.weights.values())), network().constants["w"].array)


def dense_block(layers: int = 30) -> Graph:
    """A model of many small weights, as in a densely connected network."""
    rng = np.random.default_rng(0)
    b = Builder("block")
    x = b.input("x", f32[1, 8, 6, 6])
    for _ in range(layers):
        w = b.constant(rng.uniform(-0.1, 0.1, (8, x.type.sizes[1], 3, 3)).astype(np.float32))
        y = b.emit(Conv(pads=((1, 1), (1, 1))), x, w, b.constant(rng.uniform(-1, 1, 8).astype(np.float32)))
        x = b.emit(Concat(1), x, y)
    return b.finish([x], ["y"])


@pytest.mark.parametrize("source", [dense_block(), LENET], ids=["dense block", "LeNet"])
def test_an_artifact_is_little_more_than_its_weights(source: Any, tmp_path: Path) -> None:
    weights = {c.sha: c.array for c in as_graph(source).constants.values()}
    convc.compile(source).save(tmp_path / "m.so")
    assert (tmp_path / "m.so").stat().st_size <= sum(w.nbytes for w in weights.values()) + (1 << 20)
    kept = read_artifact(tmp_path / "m.so")[0].weights
    assert {Constant.of(np.array(w)).sha for w in kept.values()} <= set(weights)


def test_two_processes_write_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    for name in ("a.so", "b.so"):
        elsewhere("convc.compile(network(), threads=1).save({path!r})", path=str(tmp_path / name))
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()
    assert (tmp_path / "a.so").read_bytes() == artifact.read_bytes()


def test_a_loaded_model_is_saved_again(artifact: Path, tmp_path: Path) -> None:
    convc.load(artifact).save(tmp_path / "again.so")
    assert (tmp_path / "again.so").read_bytes() == artifact.read_bytes()


@pytest.mark.parametrize("change", ["replaced", "moved", "deleted", "touched", "saved on itself"])
def test_a_file_may_go_after_loading(change: str, artifact: Path, tmp_path: Path) -> None:
    """What a loaded model needs of its file stays readable when the file is replaced or deleted."""
    path, content = tmp_path / "m.convc", artifact.read_bytes()
    path.write_bytes(content)
    model = convc.load(path)
    {
        "replaced": lambda: convc.compile(dense_block(2), threads=1).save(path),
        "moved": lambda: path.rename(tmp_path / "moved"),
        "deleted": path.unlink,
        "touched": lambda: os.utime(path, (0, 0)),
        "saved on itself": lambda: model.save(path),
    }[change]()
    model.save(tmp_path / "again.convc")
    assert (tmp_path / "again.convc").read_bytes() == content


@pytest.mark.parametrize("change", ["other bytes", "a shorter file", "an empty file", "other bytes at an old time"])
def test_a_file_changed_in_place_is_not_saved(change: str, artifact: Path, tmp_path: Path) -> None:
    """A mapped file that another program writes to would be saved damaged and signed, or end the process."""
    path = tmp_path / "m.convc"
    path.write_bytes(artifact.read_bytes())
    before = path.stat()
    model, want = convc.load(path), convc.load(artifact)(image())
    with path.open("r+b") as f:
        f.seek(64)
        f.write(b"torn" * 16)
        if "file" in change:
            f.truncate(0 if "empty" in change else 5000)
    if "time" in change:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(convc.ArtifactError, match="was changed in place since the model was loaded"):
        model.save(tmp_path / "again.convc")
    assert not (tmp_path / "again.convc").exists()
    equal_bits(model(image()), want)


def test_saving_over_a_loaded_artifact(artifact: Path, tmp_path: Path) -> None:
    """Saving replaces the file of a loaded artifact and does not write into it. The mapped file stays intact."""
    path = tmp_path / "net.so"
    path.write_bytes(artifact.read_bytes())
    old = convc.load(path)
    want = old(image())
    convc.compile(network(), threads=1).save(path)
    equal_bits(old(image()), want)
    equal_bits(convc.load(path)(image()), want)


def test_saving_keeps_the_rights_of_new_files(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    assert artifact.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_results_outlive_the_model(artifact: Path) -> None:
    model = convc.load(artifact)
    results = model(image())
    want = [r.copy() for r in results]
    del model
    gc.collect()
    equal_bits(results, want)


def test_loading_needs_no_compiler(artifact: Path) -> None:
    code = "import os; os.environ['PATH'] = ''; print(convc.load({path!r})(image())[0].shape)"
    assert elsewhere(code, path=str(artifact)) == "(1, 256, 8, 8)\n"


def test_a_model_without_weights(tmp_path: Path) -> None:
    b = Builder("bare")
    convc.compile(b.finish([b.emit(Relu(), b.input("x", f32[3]))], ["y"])).save(tmp_path / "m.so")
    np.testing.assert_array_equal(convc.load(tmp_path / "m.so")([1, -2, 3]), [1, 0, 3])


def test_saving_in_a_read_only_folder_leaves_nothing(compiled: convc.CompiledModel, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(convc.ArtifactError, match="Permission denied"):
        compiled.save(folder / "m.so")
    assert not list(folder.iterdir())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that not even root may write to")
def test_saving_where_nobody_may_write(compiled: convc.CompiledModel) -> None:
    before = sorted(os.listdir("/proc/self"))
    with pytest.raises(convc.ArtifactError, match=r"cannot write '/proc/self/m\.so'"):
        compiled.save("/proc/self/m.so")
    assert sorted(os.listdir("/proc/self")) == before


def test_a_write_that_fails_leaves_the_old_file(
    compiled: convc.CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.so").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(convc.ArtifactError, match="No space left"):
        compiled.save(tmp_path / "m.so")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.so", "old")]


def test_features_that_this_processor_lacks(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (read,) = read_artifact(artifact)
    features = [*read.description.details["features"], "avx9000"]
    object.__setattr__(read.description, "details", {**read.description.details, "features": features})
    monkeypatch.setattr("convc.runtime.load.read_artifact", lambda _: (read,))
    with pytest.raises(convc.ArtifactError, match="avx9000"):
        convc.load(artifact)


# -- arrays in ---------------------------------------------------------------------------------------------------------


class OnlyDLPack:
    """An array that implements the DLPack protocol and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


def aligned(array: np.ndarray, offset: int = 0) -> np.ndarray:
    """A copy of an array whose data lies ``offset`` bytes after a 64-byte boundary."""
    memory = np.empty(array.nbytes + 2 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    made = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def read_only(array: np.ndarray) -> np.ndarray:
    made = array.copy()
    made.flags.writeable = False
    return made


VIEWS = {
    "aligned": aligned,
    "one element off": lambda x: aligned(x, 4),
    "one byte off": lambda x: aligned(x, 1),
    "Fortran order": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    "read-only": read_only,
    "read-only and strided": lambda x: read_only(np.repeat(x, 2, axis=3))[..., ::2],
    "mapped from a file": None,
    "only DLPack": OnlyDLPack,
    "only DLPack, strided": lambda x: OnlyDLPack(np.repeat(x, 2, axis=3)[..., ::2]),
    "only DLPack, not aligned": lambda x: OnlyDLPack(aligned(x, 4)),
    "nested lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_inputs_in_any_form(name: str, compiled: convc.CompiledModel, tmp_path: Path) -> None:
    x = image()
    if name == "broadcast":
        x = np.ascontiguousarray(np.broadcast_to(x[:, :, :1], x.shape))
    if name == "mapped from a file":
        np.save(tmp_path / "x.npy", x)
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        given = VIEWS[name](x)  # type: ignore[misc]
    equal_bits(compiled(given), compiled(x))


def test_the_caller_keeps_its_input(compiled: convc.CompiledModel) -> None:
    x = aligned(image())
    compiled(x)
    np.testing.assert_array_equal(x, image())


@pytest.mark.parametrize("name", ["aligned", "one element off", "read-only", "only DLPack", "only DLPack, not aligned"])
def test_contiguous_memory_is_read_in_place(name: str, compiled: convc.CompiledModel, copies: list[int]) -> None:
    wrap: Any = VIEWS[name]
    compiled(wrap(image()))
    assert copies == []


@pytest.mark.parametrize("name", ["every other", "Fortran order", "only DLPack, strided"])
def test_other_memory_is_copied(name: str, compiled: convc.CompiledModel, copies: list[int]) -> None:
    wrap: Any = VIEWS[name]
    compiled(wrap(image()))
    assert copies == [image().nbytes]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the inputs that are copied before a call."""
    found = []
    original = Space.copy

    def copy(self: Space, i: int, array: np.ndarray) -> int:
        found.append(array.nbytes)
        return original(self, i, array)

    monkeypatch.setattr(Space, "copy", copy)
    return found


def test_results_do_not_share_memory_with_each_other(compiled: convc.CompiledModel) -> None:
    first = compiled(image())
    want = [r.copy() for r in first]
    compiled(image() * 2)
    equal_bits(first, want)
    assert not np.shares_memory(first[0], first[1])


def test_an_input_returned_is_the_callers_own_or_a_copy() -> None:
    b = Builder("alias")
    x = b.input("x", f32[4])
    model = convc.compile(b.finish([x, x], ["a", "b"]))
    given = aligned(np.arange(4, dtype=np.float32))
    a, also = model(given)
    given[0] = 42
    np.testing.assert_array_equal(a, [0, 1, 2, 3])
    np.testing.assert_array_equal(also, [0, 1, 2, 3])


def test_a_constant_returned_is_not_the_models_own(tmp_path: Path) -> None:
    b = Builder("constant")
    b.input("x", f32[4])
    model = convc.compile(b.finish([b.constant(np.arange(4, dtype=np.float32))], ["y"]))
    for run in (model, _through_file(model, tmp_path)):
        first = run(np.zeros(4, np.float32))
        np.testing.assert_array_equal(first, [0, 1, 2, 3])
        if first.flags.writeable:
            first[:] = 42
        np.testing.assert_array_equal(run(np.zeros(4, np.float32)), [0, 1, 2, 3])


def _through_file(model: convc.CompiledModel, folder: Path) -> convc.CompiledModel:
    model.save(folder / "m.so")
    return convc.load(folder / "m.so")


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64", "i8", "i32", "i64"])
def test_every_dtype_passes_through_a_file(dtype: str, tmp_path: Path) -> None:
    b = Builder("dtype")
    array = np.array([1, 0, 2]).astype(b.input("x", f32[3].with_dtype(dtype)).type.numpy_dtype)
    y = b.emit(Add(), b.inputs[0], b.constant(array))
    loaded = _through_file(convc.compile(b.finish([y], ["y"])), tmp_path)
    made = loaded(array)
    assert made.dtype == array.dtype
    assert made.astype(float).tolist() == [2, 0, 4]


def test_bfloat16_comes_back_as_bfloat16() -> None:
    b = Builder("dtype")
    x = b.input("x", f32[3].with_dtype("bf16"))
    made = convc.compile(b.finish([b.emit(Relu(), x)], ["y"]))(np.array([1, -2, 3], ml_dtypes.bfloat16))
    assert made.dtype == ml_dtypes.bfloat16


def test_several_threads_call_one_model(compiled: convc.CompiledModel) -> None:
    inputs = [image() * (i + 1) for i in range(4)]
    want = [compiled(x) for x in inputs]
    made: list[Any] = [None] * 4

    def call(i: int) -> None:
        for _ in range(5):
            made[i] = compiled(inputs[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for g, w in zip(made, want, strict=True):
        equal_bits(g, w)


# -- other formats -----------------------------------------------------------------------------------------------------


def test_an_artifact_of_another_format_names_the_convc_that_made_it(tmp_path: Path) -> None:
    """Formats since the fourth end alike, and keep the version in the description."""
    path = tmp_path / "m.convc"
    convc.compile(parse_graph(RELU), threads=1).save(path)
    whole = path.read_bytes()
    assert whole.endswith(MAGIC + bytes(16 - len(MAGIC)))
    path.write_bytes(whole.replace(b"convc-artifact-8", b"convc-artifact-6"))
    with raises(
        ArtifactError, "m.convc", f"convc {convc.__version__}, in format 6", "reads format 8", "build it again"
    ):
        convc.load(path)
    for mark in (b"convc-artifact-9", b"convc-artifact-12", b"convc-artifact-8" + bytes(16)):  # of a later convc
        path.write_bytes(whole[:-200] + bytes(184) + mark)
        assert is_artifact(path)
        with raises(ArtifactError, "m.convc", "another version of convc, in format", "build it again"):
            convc.load(path)


def test_an_artifact_of_another_version_whose_description_differs(tmp_path: Path) -> None:
    """The error names both versions, where the format has one number but the descriptions differ."""
    path = tmp_path / "m.convc"
    part = convc.compile(parse_graph(RELU), threads=1).part()
    other = replace(part.description, version="0.0.9", inputs=(Port("x", (-2,), "float32"),))
    write_artifact(path, [part._replace(description=other)])
    with raises(ArtifactError, "an artifact of convc 0.0.9", f"convc {convc.__version__}", "build it again"):
        convc.load(path)


RELU = "graph @g(%x: f32[2]) {\n  %y: f32[2] = relu(%x)\n  return %y\n}"
