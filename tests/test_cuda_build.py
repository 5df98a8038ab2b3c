"""Building for GPUs on a machine without one: what the compiler makes, what the artifact holds, and what is refused."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from emulator import run as emulate
from malformed import raises

import convc
from convc import ArtifactError, CompileError, DeviceError, InputError, nn
from convc.artifact import read_artifact
from convc.backends.blocks import all_blocks
from convc.backends.cuda import driver, nvrtc
from convc.backends.cuda.arch import choose, parse_architectures
from convc.backends.cuda.build import build
from convc.backends.cuda.gpu import GPUS
from convc.backends.cuda.launch import Launch
from convc.backends.cuda.lower import lower
from convc.backends.cuda.plan import Plan
from convc.backends.group import Group
from convc.cuda_model import CudaModel
from convc.ir.builder import Builder
from convc.ir.op import Op, f32
from convc.ir.ops.logical import Not
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.unary import Relu
from convc.ir.types import TensorType, numpy_dtype
from convc.pipeline import apply, gpu_passes
from convc.sources import as_graph

LENET = Path(__file__).parent.parent / "examples" / "lenet.onnx"
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA makes no compiler for macOS")


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2D(8, kernel_size=3, padding=1, activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(8, kernel_size=3, padding=1, activation="sigmoid"),
        nn.GlobalAvgPool(),
        nn.Flatten(),
        nn.Dense(5),
    )


SHAPES = {"x": (1, 3, 12, 12)}
PRECISIONS = ("fp32", "tf32", "fp16")


def compiled(arch: str, precision: str = "fp32") -> CudaModel:
    model = convc.compile(network(), "cuda", SHAPES, arch=arch, precision=precision)
    assert isinstance(model, CudaModel)
    return model


# -- lowering -----------------------------------------------------------------------------------------------------------


def schedule_of(*ops: Op, type: TensorType) -> Any:
    """The schedule of a chain of ops, nothing done to it yet."""
    b = Builder("g")
    value = b.input("x", type)
    for op in ops:
        value = b.emit(op, value)
    return Group(b.finish([value], ["y"])).lower().schedule()


def bind(sch: Any, block: Any, lanes: int = 1) -> None:
    """A thread for each element, or for each vector of them."""
    outer, inner, lane = sch.split(sch.fuse(*sch.get_loops(block)), [None, 128, lanes])
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")
    sch.vectorize(lane)


def test_launches_and_scratch_memory() -> None:
    sch = schedule_of(Relu(), Transpose((1, 0)), type=f32[20, 50])
    for block in all_blocks(sch):
        bind(sch, block)
    code = lower(sch.mod["main"], GPUS["sm_80"], "k3")
    first = Launch("k3_kernel", (8, 1, 1), (128, 1, 1), 0, (0, -1))
    assert code.launches == (first, Launch("k3_kernel_1", (8, 1, 1), (128, 1, 1), 0, (-1, 1)))
    assert 4000 <= code.scratch < 4096
    assert lower(sch.mod["main"], GPUS["sm_80"], "k3") == code


def test_work_that_is_bound_to_no_thread() -> None:
    sch = schedule_of(Relu(), Transpose((1, 0)), type=f32[20, 50])
    bind(sch, all_blocks(sch)[0])
    with raises(CompileError, "kernel k3", "no thread"):
        lower(sch.mod["main"], GPUS["sm_80"], "k3")


def test_vectors_of_bool() -> None:
    sch = schedule_of(Not(), type=TensorType("bool", (1024,)))
    bind(sch, all_blocks(sch)[0], 4)
    with raises(CompileError, "k_kernel", "vectors of bool"):
        lower(sch.mod["main"], GPUS["sm_80"], "k")


@pytest.mark.parametrize(("dtype", "lanes"), [("f16", 8), ("i16", 8), ("u16", 8), ("f16", 4), ("u16", 2)])
def test_vectors_that_are_gathered(dtype: str, lanes: int) -> None:
    """TVM prints ``make_uint4`` and the like of more arguments than these functions take."""
    sch = schedule_of(Transpose((1, 0)), type=TensorType(dtype, (32, 64)))
    bind(sch, all_blocks(sch)[0], lanes)
    code = lower(sch.mod["main"], GPUS["sm_80"], "k")
    nvrtc.compile_source(code.source, "sm_80", "k")
    x = np.arange(2048).reshape(32, 64).astype(numpy_dtype(dtype))
    y = np.empty((64, 32), x.dtype)
    emulate(code, [x, y])
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize(("dtype", "lanes"), [("f16", 8), ("i16", 8), ("i8", 8), ("i8", 16), ("i64", 2)])
def test_vectors_of_one_value_repeated(dtype: str, lanes: int) -> None:
    sch = schedule_of(Relu(), type=TensorType(dtype, (2048,)))
    bind(sch, all_blocks(sch)[0], lanes)
    nvrtc.compile_source(lower(sch.mod["main"], GPUS["sm_80"], "k").source, "sm_80", "k")


# -- the compiler -------------------------------------------------------------------------------------------------------

KERNEL = 'extern "C" __global__ void k(float* x) { __shared__ float s[64]; s[threadIdx.x] = x[0]; __syncthreads(); x[1] = s[63 - threadIdx.x]; }'


@pytest.mark.parametrize("arch", GPUS)
def test_machine_code(arch: str) -> None:
    made = nvrtc.compile_source(KERNEL, arch, "k")
    assert architecture_of(made.code) == arch
    figures = made.figures["k"]
    assert 0 < figures.registers <= 32
    assert (figures.shared, figures.spills, figures.stack) == (256, 0, 0)


def test_ptx() -> None:
    made = nvrtc.compile_source(KERNEL, "compute_75", "k")
    assert architecture_of(made.code) == "compute_75"
    assert made.code.endswith(b"\0")
    assert made.figures == {}


def test_spills_are_counted() -> None:
    source = """extern "C" __global__ void __launch_bounds__(1024) k(float* x) {
        float v[96];
        #pragma unroll
        for (int i = 0; i < 96; i++) v[i] = x[i * 1024 + threadIdx.x];
        for (int j = 0; j < 100; j++) {
          #pragma unroll
          for (int i = 0; i < 96; i++) v[i] = v[i] * v[(i + 1) % 96] + x[j];
        }
        #pragma unroll
        for (int i = 0; i < 96; i++) x[i * 1024 + threadIdx.x] = v[i];
    }"""
    assert nvrtc.compile_source(source, "sm_80", "k").figures["k"].spills > 0


def test_source_that_does_not_compile() -> None:
    with raises(CompileError, "kernel k7", "sm_80", 'identifier "y" is undefined'):
        nvrtc.compile_source('extern "C" __global__ void k(float* x) { x[0] = y; }', "sm_80", "k7")


def test_more_shared_memory_than_there_is() -> None:
    source = KERNEL.replace("s[64]", "s[64000]").replace("63 -", "63999 -")
    with raises(CompileError, "kernel k7", "too much shared data"):
        nvrtc.compile_source(source, "sm_80", "k7")


@pytest.mark.parametrize(
    ("version", "parts"),
    [(None, ("not installed",)), ("12.9.86", ("is 12.9.86", "needs 13.0")), ("13.0.1", ("not complete",))],
)
def test_a_package_is_missing(version: str | None, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def found(package: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(metadata, "version", found)
    monkeypatch.setattr(metadata, "files", lambda package: [])
    nvrtc._nvrtc.cache_clear()
    with raises(CompileError, "nvidia-cuda-nvrtc", *parts, "pip install", "'convc[cuda]'"):
        compiled("sm_80")
    nvrtc._nvrtc.cache_clear()


# -- the artifact -------------------------------------------------------------------------------------------------------


def architecture_of(code: bytes) -> str:
    """``sm_80`` for machine code, by the ELF header's flags; ``compute_75`` for PTX."""
    if code[:4] == b"\x7fELF":
        return f"sm_{struct.unpack_from('<I', code, 48)[0] >> 8 & 0xFF}"
    found = re.search(rb"^\.target sm_(\d+)", code, re.MULTILINE)
    assert found is not None
    return f"compute_{found[1].decode()}"


def kernels_in(code: bytes) -> set[str]:
    """The kernels that a module defines."""
    pattern = rb"\0\.text\.(\w+)" if code[:4] == b"\x7fELF" else rb"\.visible \.entry (\w+)"
    return {name.decode() for name in re.findall(pattern, code)}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_artifact_holds_the_code_it_claims(precision: str, tmp_path: Path) -> None:
    model = compiled("sm_75,sm_80,sm_90,ptx", precision)
    model.save(tmp_path / "m.convc")
    (artifact,) = read_artifact(tmp_path / "m.convc")
    assert artifact.description.kind == "cuda"
    held = artifact.description.details["architectures"]
    assert set(held) == {"sm_75", "sm_80", "sm_90", "compute_75"}
    ends = [0]
    for name, variant in held.items():
        codes = [bytes(artifact.code[at : at + length]) for at, length in variant["modules"]]
        assert {architecture_of(code) for code in codes} == {name}
        plan = Plan.of(variant["plan"])
        assert all(start.kernel in kernels_in(codes[start.module]) for start in (*plan.load, *plan.run))
        assert sum(len(kernels_in(code)) for code in codes) == len({start.kernel for start in (*plan.load, *plan.run)})
        ends += [at + length for at, length in variant["modules"]]
    assert max(ends) == len(artifact.code) == sum(n for v in held.values() for _, n in v["modules"])
    assert {name: w.tobytes() for name, w in artifact.weights.items()} == {
        name: np.asarray(w).tobytes() for name, w in model._weights.items()
    }


def test_a_loaded_model_says_what_it_is_and_is_saved_again(tmp_path: Path) -> None:
    model = compiled("sm_80,ptx", "tf32")
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    assert isinstance(loaded, CudaModel)
    assert (
        (loaded.architectures, loaded.precision) == (("compute_75", "sm_80"), "tf32") == (model.architectures, "tf32")
    )
    assert (loaded.inputs, loaded.outputs, repr(loaded)) == (model.inputs, model.outputs, repr(model))
    loaded.save(tmp_path / "again.convc")
    assert (tmp_path / "again.convc").read_bytes() == (tmp_path / "m.convc").read_bytes()


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    code = "import sys, convc; convc.compile(sys.argv[1], 'cuda', arch='sm_80,ptx').save(sys.argv[2])"
    for name in "ab":
        subprocess.run([sys.executable, "-c", code, str(LENET), str(tmp_path / name)], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_equal_kernels_are_compiled_once() -> None:
    layers = [nn.Conv2D(8, kernel_size=3, padding=1, activation="relu") for _ in range(4)]
    model = convc.compile(nn.Sequential(*layers), "cuda", {"x": (1, 8, 9, 9)}, arch="sm_80")
    held = model._description.details["architectures"]["sm_80"]
    starts = Plan.of(held["plan"]).run
    assert len(held["modules"]) < len(starts)
    assert len(model.kernels) == len({k.group.key for k in model.kernels})


def test_a_plan_comes_back_from_json() -> None:
    graph = apply(as_graph(LENET), gpu_passes())
    plan = build(graph, parse_architectures("sm_80"))["sm_80"].variant.plan
    assert Plan.of(json.loads(json.dumps(asdict(plan)))) == plan


def test_a_damaged_plan(tmp_path: Path) -> None:
    model = compiled("sm_80")
    model._description.details["architectures"]["sm_80"]["plan"].pop("run")  # type: ignore[union-attr]
    model.save(tmp_path / "m.convc")
    with raises(ArtifactError, "damaged description", "run"):
        convc.load(tmp_path / "m.convc")


def test_damaged_machine_code(tmp_path: Path) -> None:
    compiled("sm_80").save(tmp_path / "m.convc")
    damaged = bytearray((tmp_path / "m.convc").read_bytes())
    damaged[2000] ^= 255
    (tmp_path / "m.convc").write_bytes(damaged)
    with raises(ArtifactError, "is damaged"):
        convc.load(tmp_path / "m.convc")


# -- architectures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("built", "capability", "want"),
    [
        (("sm_80", "sm_90"), 80, "sm_80"),
        (("sm_80", "sm_86"), 89, "sm_86"),
        (("sm_80", "sm_100", "sm_90"), 103, "sm_100"),
        (("sm_90", "compute_75"), 80, "compute_75"),
        (("sm_80", "compute_75", "compute_80"), 120, "compute_80"),
        (("sm_75", "compute_90"), 75, "sm_75"),
    ],
)
def test_the_code_that_a_device_runs(built: tuple[str, ...], capability: int, want: str) -> None:
    assert choose(built, capability) == want


@pytest.mark.parametrize(
    ("built", "capability", "parts"),
    [
        (("sm_80", "sm_90"), 75, ("built for sm_80, sm_90; this is sm_75, and it holds no PTX", "--arch sm_75")),
        (("sm_90", "sm_80"), 120, ("built for sm_80, sm_90; this is sm_120",)),
        (("sm_90", "compute_90"), 80, ("built for sm_90; this is sm_80", "its PTX (compute_90) is for newer ones")),
        (("sm_80", "compute_75"), 70, ("this is sm_70", "convc knows sm_75")),
        (("compute_80",), 75, ("built for no architecture", "compute_80")),
    ],
)
def test_a_device_that_nothing_was_built_for(built: tuple[str, ...], capability: int, parts: tuple[str, ...]) -> None:
    with raises(DeviceError, *parts):
        choose(built, capability)


def test_names_of_architectures() -> None:
    assert [a.name for a in parse_architectures("sm_90,ptx,sm_90,compute_80")] == ["sm_90", "compute_75", "compute_80"]
    assert [a.name for a in parse_architectures(None)] == [*GPUS, "compute_75"]
    assert [a.gpu.arch for a in parse_architectures(["ptx", "sm_120"])] == [75, 120]


@pytest.mark.parametrize("arch", ["sm_81", "80", "sm_80,", "", "ptx_80", "sm_90a"])
def test_unknown_architecture(arch: str) -> None:
    with raises(
        CompileError, f"unknown architecture '{arch.partition(',')[2] if ',' in arch else arch}'", "sm_75, sm_80"
    ):
        convc.compile(LENET, "cuda", arch=arch)


def test_no_architecture() -> None:
    with raises(CompileError, "no architecture is named", "ptx"):
        convc.compile(LENET, "cuda", arch=[])


# -- what does not go together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"arch": "sm_80"}, ("arch is for target 'cuda'", "'cpu'")),
        ({"target": "cuda", "threads": 2}, ("threads is for a processor",)),
        ({"target": "cuda", "precision": "strict"}, ("'strict'", "fp32, tf32, fp16", "for a processor")),
        ({"precision": "tf32"}, ("'tf32'", "default, strict", "for target 'cuda'")),
        ({"target": "cuda", "precision": "int4"}, ("unknown precision 'int4'", "fp16")),
        ({"target": "cuda:0"}, ("unknown target 'cuda:0'", "cuda")),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], parts: tuple[str, ...]) -> None:
    with raises(CompileError, *parts):
        convc.compile(LENET, **options)


# -- running where no GPU is --------------------------------------------------------------------------------------------


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver, "_LIBRARY", "libnowhere.so.1")
    driver.driver.cache_clear()
    model = compiled("sm_80")
    model.save(tmp_path / "m.convc")
    for m in (model, convc.load(tmp_path / "m.convc")):
        with raises(DeviceError, "no NVIDIA driver", "libnowhere.so.1", "install the driver"):
            m(np.zeros(SHAPES["x"], np.float32))


def test_threads_for_a_gpu(tmp_path: Path) -> None:
    compiled("sm_80").save(tmp_path / "m.convc")
    with raises(InputError, "m.convc", "runs on a GPU", "threads"):
        convc.load(tmp_path / "m.convc", threads=2)


def test_loading_for_a_gpu_needs_no_compiler(tmp_path: Path) -> None:
    compiled("sm_80").save(tmp_path / "m.convc")
    code = "import sys, convc; convc.load(sys.argv[1]); assert not {'tvm', 'tvm_ffi'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.convc")], check=True)


# -- the command line ---------------------------------------------------------------------------------------------------


def test_build_shows_what_kernels_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("build", str(LENET), "--target", "cuda", "--arch", "sm_80,ptx", "--precision", "tf32", "--kernels") == 0
    first, arch, header, *kernels = capsys.readouterr().out.splitlines()
    assert first.startswith("lenet.convc (")
    assert (arch, header.split()[:4]) == ("sm_80:", ["regs", "shared", "spill", "occupancy"])
    model = convc.load("lenet.convc")
    assert isinstance(model, CudaModel)
    assert (model.architectures, model.precision) == (("compute_75", "sm_80"), "tf32")
    plan = Plan.of(model._description.details["architectures"]["sm_80"]["plan"])
    assert {line.split()[-1] for line in kernels} == {start.kernel for start in (*plan.load, *plan.run)}


def test_run_without_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "_LIBRARY", "libnowhere.so.1")
    driver.driver.cache_clear()
    compiled("sm_80").save(tmp_path / "m.convc")
    np.save(tmp_path / "x.npy", np.zeros(SHAPES["x"], np.float32))
    assert run("run", str(tmp_path / "m.convc"), "--input", str(tmp_path / "x.npy")) == 1
    assert "no NVIDIA driver" in capsys.readouterr().err


def test_occupancy() -> None:
    """Worked out by hand from the limits in the programming guide: registers, threads, shared memory, blocks."""
    a100, turing = GPUS["sm_80"], GPUS["sm_75"]
    assert a100.resident(256, 32, 0) == 8
    assert a100.resident(256, 64, 0) == 4
    assert a100.resident(128, 72, 29184) == 5
    assert a100.resident(32, 16, 0) == 32
    assert turing.resident(32, 16, 0) == 16
    assert a100.resident(256, 32, 164 * 1024) == a100.resident(2048, 32, 0) == a100.resident(32, 256, 0) == 0
