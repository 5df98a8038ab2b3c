"""Building for GPUs on a machine without one: the code, the artifact, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import run
from support.gpu_code import architecture_of
from support.malformed import raises

import convc
from convc import ArtifactError, CompileError, DeviceError, InputError, nn
from convc.backends.cuda.arch import parse_architectures
from convc.backends.cuda.build import build
from convc.backends.cuda.gpu import GPUS
from convc.backends.cuda.pipeline import pipeline
from convc.reader import as_graph
from convc.runtime.artifact import read_artifact
from convc.runtime.cuda import driver
from convc.runtime.cuda.arch import choose
from convc.runtime.cuda.model import CudaModel
from convc.runtime.cuda.plan import Plan

LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"
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


# -- the artifact ------------------------------------------------------------------------------------------------------


def kernels_in(code: bytes) -> set[str]:
    """The names of the kernels that a module defines."""
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
        name: np.asarray(w).tobytes() for name, w in model.part().weights.items()
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
    held = model.description.details["architectures"]["sm_80"]
    starts = Plan.of(held["plan"]).run
    assert len(held["modules"]) < len(starts)
    assert len(model.kernels) == len({k.group.key for k in model.kernels})


def test_a_plan_comes_back_from_json() -> None:
    graph = pipeline().run(as_graph(LENET))
    plan = build(graph, parse_architectures("sm_80"))["sm_80"].variant.plan
    assert Plan.of(json.loads(json.dumps(asdict(plan)))) == plan


def test_a_damaged_plan(tmp_path: Path) -> None:
    model = compiled("sm_80")
    model.description.details["architectures"]["sm_80"]["plan"].pop("run")  # type: ignore[union-attr]
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


# -- architectures -----------------------------------------------------------------------------------------------------


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


# -- what does not go together -----------------------------------------------------------------------------------------


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


# -- running where no GPU is -------------------------------------------------------------------------------------------


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


# -- the command line --------------------------------------------------------------------------------------------------


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
    plan = Plan.of(model.description.details["architectures"]["sm_80"]["plan"])
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
    """Occupancy agrees with values worked out by hand from the programming guide.

    The guide limits registers, threads, shared memory and blocks.
    """
    a100, turing = GPUS["sm_80"], GPUS["sm_75"]
    assert a100.resident(256, 32, 0) == 8
    assert a100.resident(256, 64, 0) == 4
    assert a100.resident(128, 72, 29184) == 5
    assert a100.resident(32, 16, 0) == 32
    assert turing.resident(32, 16, 0) == 16
    assert a100.resident(256, 32, 164 * 1024) == a100.resident(2048, 32, 0) == a100.resident(32, 256, 0) == 0
