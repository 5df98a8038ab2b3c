"""The calls of NVIDIA's driver, tested against a stand-in (``fake_driver.cpp``), and DLPack in both directions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.commands import run

import convc
from convc.runtime import dlpack

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the stand-in is built with g++ and found by LD_LIBRARY_PATH"
)
LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in, and an artifact for sm_80 and PTX."""
    folder = tmp_path_factory.mktemp("fake")
    source = Path(__file__).parent / "fake_driver.cpp"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    convc.compile(LENET, "cuda", arch="sm_80,ptx").save(folder / "lenet.convc")
    return folder


def with_driver(folder: Path, code: str, **settings: str) -> tuple[int, list[str], str]:
    """Run Python code with the stand-in as driver.

    Returns the exit status, the lines of stdout and the last line of stderr.
    """
    text = PRELUDE + textwrap.dedent(code)
    environment = os.environ | settings | {"LD_LIBRARY_PATH": str(folder)}
    command = [sys.executable, "-c", text, str(folder / "lenet.convc")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), (done.stderr.splitlines() or [""])[-1]


PRELUDE = """
import sys
import numpy as np
import convc

model = convc.load(sys.argv[1])
x = np.zeros((1, 1, 28, 28), np.float32)


class OnGpu:
    '''What a library that works in stream 77 has on the GPU.'''

    def __init__(self, array=x, device=0, stream=77):
        self.array, self.device, self.stream = array, device, stream

    def __dlpack_device__(self):
        return 2, self.device

    def __dlpack__(self, stream):
        print("ready on", stream, flush=True)
        return self.array.__dlpack__()


def say(*words):
    print(*words, flush=True)
"""


def test_a_call_is_one_graph(folder: Path) -> None:
    status, lines, error = with_driver(
        folder, "for _ in range(2): y = model(x); say(type(y).__name__, y.shape, y.dtype)"
    )
    assert (status, error) == (0, "")
    starts = [i for i, line in enumerate(lines) if line.startswith("graph on 100")]
    results = [i for i, line in enumerate(lines) if line == "ndarray (1, 10) float32"]
    first, second = ([*lines[a : b - 1], lines[b]] for a, b in zip(starts, results, strict=True))
    assert first == second
    assert len(first) == len(set(first)) >= 7
    assert all(line.startswith("launch k") for line in first[1:-1])


def test_ptx_where_there_is_no_machine_code(folder: Path) -> None:
    status, lines, _ = with_driver(folder, "model(x)", FAKE_CUDA_ARCH="90")
    assert status == 0
    assert "load ELF" not in lines


def test_code_stays_loaded_as_long_as_the_model(folder: Path) -> None:
    code = """
    for _ in range(2): model(x)
    say("done")
    del model
    """
    status, lines, error = with_driver(folder, code)
    assert (status, error) == (0, "")
    before, after = lines[: lines.index("done")], lines[lines.index("done") :]
    assert not {"unload", "graph destroyed"} & set(before)
    assert after.count("unload") == lines.count("load ELF")
    assert after.count("graph destroyed") == 1
    assert lines.count("allocate") == lines.count("free")


def test_work_is_given_to_the_callers_stream(folder: Path) -> None:
    code = """
    say("call")
    y = model(OnGpu())
    say(type(y).__name__, y.shape, y.dtype, y.stream)
    """
    status, lines, error = with_driver(folder, code)
    assert (status, error) == (0, "")
    packed, done = [(i, line.split()) for i, line in enumerate(lines) if line.startswith("event")][:2]
    assert packed[1][3] != "77"
    assert done[1][3] == "77"
    waits, graph = lines.index(f"77 waits for event {packed[1][1]}"), lines.index("graph on 77")
    assert lines.index("ready on 77") < graph
    assert packed[0] < waits < graph < done[0]
    assert len([line for line in lines if line.startswith("graph on")]) == 1
    assert "DeviceArray (1, 10) float32 77" in lines


def test_whoever_takes_a_result_waits_for_it(folder: Path) -> None:
    code = """
    y = model(OnGpu())
    for stream in (77, -1, 5, None, 1, 5):
        say("taken by", stream)
        y.__dlpack__(stream=stream)
    say(y.numpy().shape)
    """
    status, lines, error = with_driver(folder, code)
    assert (status, error) == (0, "")
    taken = lines[lines.index("taken by 77") : lines.index("(1, 10)")]
    assert [line for line in taken if line.startswith("event")] == []
    waits = [re.sub(r"event \d+", "it", line) for line in taken]
    assert waits == [
        "taken by 77", "taken by -1", "taken by 5", "5 waits for it", "taken by None", "0 waits for it",
        "taken by 1", "taken by 5", "5 waits for it",
    ]  # fmt: skip


def test_memory_of_results_is_used_again_when_nobody_holds_it(folder: Path) -> None:
    code = """
    address = lambda y: y._address
    a = model(OnGpu())
    b = model(OnGpu())
    assert address(a) != address(b)
    capsule, first = a.__dlpack__(stream=77), address(a)
    del a
    assert address(model(OnGpu())) not in (first, address(b))
    del capsule
    assert address(model(OnGpu())) == first
    """
    assert with_driver(folder, code)[::2] == (0, "")


def test_values_pass_through_the_copies(folder: Path) -> None:
    """Inputs are copied to the right places.

    Kernels of the stand-in do nothing, so the outputs show what the memory holds.
    """
    code = """
    import ctypes
    from convc.backends.network import Place
    for given in (x + 3, OnGpu(x + 4)):
        model(given)
        at = model.program._bases[Place("input", 0)]
        say(np.frombuffer((ctypes.c_char * x.nbytes).from_address(at), np.float32).sum() / x.size)
    """
    _, lines, error = with_driver(folder, code)
    assert error == ""
    assert [line for line in lines if line.endswith(".0")] == ["3.0", "4.0"]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"FAKE_CUDA_STATUS": "100"}, ("finds no GPU", "CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)")),
        ({"FAKE_CUDA_COUNT": "0"}, ("finds no GPU", "CUDA_VISIBLE_DEVICES")),
        ({"FAKE_CUDA_VERSION": "12040"}, ("for CUDA 12.4", "13.0 or newer")),
        ({"FAKE_CUDA_ARCH": "70"}, ("built for sm_80; this is sm_70",)),
        (
            {"FAKE_CUDA_FAIL": "cuMemAlloc_v2"},
            ("cuMemAlloc_v2", "CUDA_ERROR_OUT_OF_MEMORY (out of memory)", "free memory"),
        ),
    ],
)
def test_what_is_missing_is_said(folder: Path, settings: dict[str, str], parts: tuple[str, ...]) -> None:
    status, _, error = with_driver(folder, "model(x)", **settings)
    assert status == 1
    assert error.startswith("convc.ir.errors.DeviceError: ")
    assert all(part in error for part in parts), error


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("convc.load(sys.argv[1], device=3)(x)", ("DeviceError", "no GPU 3", "one GPU, 0")),
        ("model(OnGpu(device=1))", ("InputError", "'x' lies on GPU 1, and the model on GPU 0")),
        ("model(OnGpu(x[0]))", ("InputError", "'x' has 3 axes, [1, 28, 28]")),
        ("model(OnGpu(x.astype(np.float64)))", ("InputError", "'x' has dtype float64")),
        ("model(OnGpu(np.moveaxis(x, 2, 3)))", ("InputError", "'x' is not contiguous", ".contiguous()")),
        ("model(OnGpu(), OnGpu())", ("InputError", "takes 1 input (x)")),
    ],
)
def test_inputs_that_do_not_fit(folder: Path, code: str, parts: tuple[str, ...]) -> None:
    status, _, error = with_driver(folder, code)
    assert status == 1
    assert all(part in error for part in parts), error


def test_arrays_in_the_processors_memory_by_dlpack(folder: Path) -> None:
    code = """
    class Host:
        def __dlpack_device__(self): return 1, 0
        def __dlpack__(self, **_): return x.__dlpack__()

    say(type(model(Host())).__name__)
    """
    assert "ndarray" in with_driver(folder, code)[1]


def test_run_and_bench_say_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(next((LENET.parent / "digits").glob("*.png")))
    for command in (["run", str(folder / "lenet.convc"), "--input", image], ["bench", str(folder / "lenet.convc")]):
        code = f"from convc.cli import main; sys.exit(main({command!r}))"
        status, _, error = with_driver(folder, code, FAKE_CUDA_ARCH="75", FAKE_CUDA_STATUS="100")
        assert status == 1
        assert "finds no GPU" in error
        assert with_driver(folder, code)[0] == 0


def test_bench_takes_no_artifact_for_a_processor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convc.compile(LENET).save(tmp_path / "m.so")
    assert run("bench", str(tmp_path / "m.so")) == 2
    assert "compiled for a processor" in capsys.readouterr().err


# -- DLPack ------------------------------------------------------------------------------------------------------------


class Owner:
    """An array of convc that is exported by DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        where = self.array.ctypes.data
        return dlpack.capsule(self, where, self.array.shape, self.array.dtype, self.__dlpack_device__())


DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 2)])
def test_memory_handed_out(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    taken = np.from_dlpack(Owner(array))
    assert taken.dtype == array.dtype
    np.testing.assert_array_equal(taken, array)
    assert taken.size == 0 or taken.ctypes.data == array.ctypes.data


def test_memory_handed_out_lives_until_it_is_given_back() -> None:
    owner = Owner(np.arange(4.0))
    alive = weakref.ref(owner)
    taken = np.from_dlpack(owner)
    untaken = owner.__dlpack__()
    del owner
    assert alive() is not None
    np.testing.assert_array_equal(taken, np.arange(4.0))
    del untaken
    assert alive() is not None
    del taken
    assert alive() is None


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 4)), np.zeros((4, 6))[::2, ::3], np.zeros((3, 1)).T, np.zeros((0, 3)).T]
)
def test_memory_of_others(array: np.ndarray) -> None:
    v = dlpack.view(array)
    assert (v.address, v.shape, v.dtype) == (array.ctypes.data, array.shape, "float64")
    assert v.contiguous == array.flags.c_contiguous


def test_bfloat16_is_read_by_copying() -> None:
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(dlpack.as_numpy(Owner(array)), array)
