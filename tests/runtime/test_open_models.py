"""Models of open sizes, compiled once: what a user does with them, and what they are not to be given."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.malformed import raises
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc.backends.cpu.backend import compile_graph
from convc.backends.cpu.build import Built
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.profile import node_times
from convc.backends.cpu.target import host_target
from convc.backends.network import Network
from convc.backends.store import Store
from convc.cli import main
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.limits import using
from convc.ir.op import f32
from convc.ir.ops.binary import Add
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Relu
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.sizes import named
from convc.runtime.artifact import write_artifact
from convc.runtime.cpu.model import CpuModel
from convc.runtime.cpu.program import KEPT

RNG = np.random.default_rng(0)


H, W = named("h"), named("w")
HALF = ((H + 1) // 2, (W + 1) // 2)


def network() -> Graph:
    """A convolution of stride 2, and a sum with another input of its size."""
    b = Builder("net")
    x = b.input("x", f32[1].with_shape(("n", 3, H, W)))
    z = b.input("z", f32[1].with_shape(("n", 16, *HALF)))
    weight = b.constant(RNG.uniform(-0.2, 0.2, (16, 3, 3, 3)).astype(np.float32))
    y = b.emit(Conv(strides=(2, 2), pads=((1, 1), (1, 1))), x, weight)
    return b.finish([b.emit(Relu(), b.emit(Add(), y, z))], ["y"])


NETWORK = network()
ONNX = convc.to_onnx(NETWORK)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CpuModel]:
    """Compiles a graph; the kernels are compiled once for all tests here."""
    kernels, target = Store(tmp_path_factory.mktemp("kernels"), 1 << 30), host_target()

    def compiled(graph: Graph) -> CpuModel:
        return compile_graph(graph, target, pipeline(target.machine), 2, store=kernels)

    return compiled


@pytest.fixture(scope="module")
def model(compiled: Callable[..., CpuModel]) -> CpuModel:
    return compiled(NETWORK)


def feeds(n: int, h: int, w: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([n, h, w])
    shapes = {"x": (n, 3, h, w), "z": (n, 16, (h + 1) // 2, (w + 1) // 2)}
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def check(model: convc.Model, n: int, h: int, w: int) -> None:
    given = feeds(n, h, w)
    assert_close(model(*given.values()), run_onnxruntime(ONNX, given)[0])


SIZES = [(1, 32, 32), (3, 17, 40), (2, 64, 16), (1, 33, 31), (1, 32, 32)]


def test_through_a_file(model: CpuModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc", threads=1)
    assert [str(p) for p in (*loaded.inputs, *loaded.outputs)] == [
        "x: float32[n, 3, h, w]",
        "z: float32[n, 16, (h + 1)//2, (w + 1)//2]",
        "y: float32[n, 16, (h + 1)//2, (w + 1)//2]",
    ]
    for size in SIZES:
        check(loaded, *size)
    loaded.save(tmp_path / "again.convc")
    assert (tmp_path / "again.convc").read_bytes() == (tmp_path / "m.convc").read_bytes()


def test_memory_is_that_of_the_largest_size(model: CpuModel) -> None:
    before = model.nbytes
    check(model, 1, 200, 180)
    assert model.nbytes > before
    after = model.nbytes
    check(model, 1, 20, 18)
    assert model.nbytes == after


def test_inputs_in_any_form(model: CpuModel) -> None:
    given = feeds(2, 9, 10)
    want = model(*given.values())
    strided = np.ascontiguousarray(given["x"].transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    for x in (strided, given["x"].tolist(), np.lib.stride_tricks.as_strided(given["x"], given["x"].shape)):
        assert_close(model(x, given["z"]), want, tolerance=(0.0, 0.0))
    assert_close(model.run({"z": given["z"], "x": strided})["y"], want, tolerance=(0.0, 0.0))


def test_eight_threads_with_eight_sizes(model: CpuModel) -> None:
    wrong: list[Any] = []

    def call(i: int) -> None:
        try:
            sizes = [(1 + i % 3, 20 + 5 * i, 24 + 3 * i), (1, 16 + i, 50)]
            wanted = [(feeds(*size), run_onnxruntime(ONNX, feeds(*size))[0]) for size in sizes]
            for k in range(20):
                given, want = wanted[k % 7 == 0]
                assert_close(model(*given.values()), want)
        except BaseException as e:  # shown below
            wrong.append(e)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def blank(*shape: int) -> np.ndarray:
    """An array of any size that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


@pytest.mark.parametrize(
    ("x", "z", "parts"),
    [
        ((1, 3, 8, 8), (2, 16, 4, 4), ("size 'n' is 1 by axis 0 of input 'x', and 2 by axis 0 of input 'z'",)),
        (
            (1, 3, 9, 9),
            (1, 16, 5, 4),
            ("axis 3 of input 'z' has size 4", "takes (w + 1)//2 there", "5 for w = 9"),
        ),
        ((1, 4, 8, 8), (1, 16, 8, 8), ("axis 1 of input 'x' has size 4; the model takes 3 there, [n, 3, h, w]",)),
        ((1, 3, 8), (1, 16, 8, 8), ("input 'x' has 3 axes, [1, 3, 8]; the model takes 4, [n, 3, h, w]",)),
        ((1, 3, 1 << 20, 1 << 16), (1, 16, 1 << 19, 1 << 15), ("'x' has", "h = 1048576", "at most 2147483647")),
        ((1 << 28, 3, 2, 1), (1 << 28, 16, 1, 1), ("'z' has 4294967296 elements for n = 268435456",)),
    ],
)
def test_sizes_that_cannot_be(x: Any, z: Any, parts: tuple[str, ...], model: CpuModel) -> None:
    with pytest.raises(convc.InputError) as e:
        model(blank(*x), blank(*z))
    assert all(part in str(e.value) for part in parts), str(e.value)
    check(model, 1, 32, 32)


def test_too_much_memory(compiled: Callable[..., CpuModel], tmp_path: Path) -> None:
    with using(convc.Limits(workspace_bytes=1 << 20)):
        small = compiled(NETWORK)
    small.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    check(loaded, 1, 32, 32)
    with raises(convc.LimitError, "bytes of workspace are needed for n = 8, h = 128, w = 128", "workspace_bytes=..."):
        loaded(*feeds(8, 128, 128).values())


@pytest.mark.parametrize("size", [(0, 8, 8), (1, 0, 8), (0, 0, 0), (1, 1, 1), (1, 1, 9), (2, 2, 2)])
def test_empty_and_tiny(size: tuple[int, int, int], model: CpuModel) -> None:
    """An answer, or an error that names a size."""
    given = feeds(*size)
    try:
        y = model(*given.values())
    except convc.SizeError as e:
        error = str(e)
    else:
        error = f"n = {size[0]}"
        assert y.shape == (size[0], 16, (size[1] + 1) // 2, (size[2] + 1) // 2)
        if y.size:
            assert_close(y, run_onnxruntime(ONNX, given)[0])
    assert any(f"{name} = {value}" in error for name, value in zip("nhw", size, strict=True))


def test_many_sizes_keep_few_plans(model: CpuModel) -> None:
    for i in range(2 * KEPT):
        model(blank(1, 3, 8 + i % 17, 8 + i), blank(1, 16, (9 + i % 17) // 2, (9 + i) // 2))
    assert len(model.program._plans) == KEPT
    check(model, 1, 9, 9)


def test_what_is_shown_of_it(model: CpuModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "m.convc")
    assert main(["inspect", str(tmp_path / "m.convc")]) == 0
    shown = capsys.readouterr().out
    assert "y: float32[n, 16, (h + 1)//2, (w + 1)//2]" in shown
    assert "for each calling thread what the sizes ask for (n, h, w)" in shown
    assert "x: float32[n, 3, h, w]" in repr(model)


@pytest.mark.parametrize(
    "edit",
    [
        lambda plan: plan.pop("run"),
        lambda plan: plan["names"].pop(),
        lambda plan: plan["names"].append("d"),
        lambda plan: plan["inputs"][0].reverse(),
        lambda plan: plan["run"]["calls"][0]["extents"].append("s0**s1"),
        lambda plan: plan["run"]["tensors"].append(["__import__('os')", 4, 0, 0, "t"]),
        lambda plan: plan["run"]["calls"][0]["arguments"].append([99, 0]),
        lambda plan: plan["kernels"][0][0].__setitem__(0, "convc_other"),
        lambda plan: plan["copies"].append(["const", 1 << 40]),
    ],
)
def test_a_damaged_plan(
    edit: Callable[[Any], Any], model: CpuModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = model.part()
    plan = json.loads(json.dumps(part.description.details["plan"]))
    edit(plan)
    damaged = replace(part.description, details={**part.description.details, "plan": plan})
    write_artifact(tmp_path / "m.convc", [part._replace(description=damaged)])
    with pytest.raises(convc.ArtifactError, match=r"m.convc' does not start"):
        convc.load(tmp_path / "m.convc")
    assert main(["inspect", str(tmp_path / "m.convc")]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_a_set_of_open_and_fixed_models(model: CpuModel, compiled: Callable[..., CpuModel]) -> None:
    """The model of exactly these sizes is called before one of any."""
    own = compiled(fix_shapes(NETWORK, {"x": (1, 3, 32, 32), "z": (1, 16, 16, 16)}))
    both = convc.ModelSet([model, own], [model, own])
    arrays = list(feeds(1, 32, 32).values())
    assert both._pick(arrays)[0] is own
    for size in SIZES:
        check(both, *size)
    with raises(convc.InputError, "not compiled for x [1, 4, 8, 8]", "x [n, 3, h, w]"):
        both(blank(1, 4, 8, 8), blank(1, 16, 8, 8))


def test_the_profile_is_taken_at_typical_sizes(compiled: Callable[..., CpuModel], model: CpuModel) -> None:
    target = host_target()
    final = pipeline(target.machine).run(NETWORK)
    built = Built(model.machine_code, model.plan, (), tuple(n.output.name for n in Network(final).run))
    times = node_times(built, final, seconds=0.0)
    assert len(times) >= 2
    assert all(t > 0 for t in times.values())


def test_a_size_that_no_axis_has(compiled: Callable[..., CpuModel]) -> None:
    b = Builder("odd")
    x = b.input("x", f32[1].with_shape((named("n") * 2,)))
    with raises(convc.CompileError, "size n is that of no input's axis"):
        compiled(b.finish([b.emit(Relu(), x)], ["y"]))
