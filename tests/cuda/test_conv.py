"""Convolutions and dense layers on GPUs, compared in emulation with ONNX Runtime, and the choices of the cost model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from emulator import check, run
from emulator.check import code_of

from convc.backends.cuda import nvrtc
from convc.backends.cuda.gpu import GPUS, Gpu
from convc.backends.cuda.layouts import ChannelsLast
from convc.backends.cuda.lower import lower
from convc.backends.cuda.rules import RULES, Rule
from convc.backends.cuda.schedules import implicit_gemm, tensor_core
from convc.backends.cuda.schedules.cost import Choice, Sizes, Tile, Unit, blocks, choose, resident
from convc.backends.cuda.schedules.gemv import gemv
from convc.backends.cuda.schedules.product_blocks import scheduled
from convc.backends.cuda.schedules.products import product_of
from convc.backends.group import Group
from convc.backends.kernels import ask
from convc.ir.builder import Builder
from convc.ir.graph import Graph, Node, Value
from convc.ir.layout import Layout
from convc.ir.op import Op
from convc.ir.ops.activations import HardSwish
from convc.ir.ops.binary import Add, Mul
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_transpose import ConvTranspose
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.transcendental import Tanh
from convc.ir.ops.unary import Relu
from convc.ir.ops.where import Where
from convc.ir.types import TensorType

SM75, SM80, SM86, SM90 = (GPUS[name] for name in ("sm_75", "sm_80", "sm_86", "sm_90"))
TF32 = replace(SM80, tf32=True)
Shape = tuple[int, ...]

# schedule, dtype, GPU
UNITS: list[tuple[ModuleType, str, Gpu]] = [
    (implicit_gemm, "f32", SM75),
    (implicit_gemm, "f32", SM80),
    (tensor_core, "f32", TF32),
    (tensor_core, "f16", SM75),
    (tensor_core, "f16", SM80),
]
NAMES = ["cores-sm_75", "cores-sm_80", "tf32-sm_80", "f16-sm_75", "f16-sm_80"]
units = pytest.mark.parametrize(("unit", "dtype", "gpu"), UNITS, ids=NAMES)
some_units = pytest.mark.parametrize(("unit", "dtype", "gpu"), UNITS[1:4], ids=NAMES[1:4])


def pads(*sizes: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) for p in sizes)


# op, data, weight
CONVOLUTIONS: list[tuple[Conv, Shape, Shape]] = [
    (Conv((2, 2), pads(1, 1)), (1, 12, 13, 7), (40, 12, 3, 3)),
    (Conv((1, 1), pads(2, 2), (2, 2)), (2, 1, 7, 7), (1, 1, 3, 3)),
    (Conv((2, 1), ((3, 2), (0, 1))), (1, 3, 13, 13), (12, 3, 7, 5)),
    (Conv(), (2, 58, 7, 1), (58, 58, 1, 1)),
    (Conv(pads=pads(1, 1), group=2), (1, 6, 7, 5), (10, 3, 3, 3)),
    (Conv(pads=pads(1, 1), group=3), (2, 12, 5, 5), (24, 4, 3, 3)),
    (Conv((2,), ((1, 0),)), (2, 40, 13), (12, 40, 3)),
    (Conv((1, 2, 1), pads(1, 0, 1)), (1, 3, 3, 7, 4), (8, 3, 3, 2, 3)),
]
TRANSPOSED: list[tuple[ConvTranspose, Shape, Shape]] = [
    (ConvTranspose((2, 2), pads(1, 1)), (1, 12, 6, 5), (12, 8, 4, 4)),
    (ConvTranspose((2, 3), ((1, 0), (0, 2)), output_padding=(1, 2)), (2, 3, 5, 4), (3, 2, 3, 3)),  # ragged phases
    (ConvTranspose((3, 2), pads(1, 1), (2, 4)), (1, 2, 4, 5), (2, 3, 3, 2)),  # no input contributes to some positions
    (ConvTranspose((2,), pads(1), group=2), (1, 4, 5), (4, 3, 4)),
]
# op, left, right, third operand
DENSE: list[tuple[Op, Shape, Shape, Shape | None]] = [
    (Gemm(trans_b=True), (13, 40), (30, 40), (30,)),
    (Gemm(0.5, 2.0), (13, 40), (40, 33), (13, 1)),
    (Gemm(trans_a=True), (24, 13), (24, 7), None),
    (MatMul(), (2, 3, 7, 20), (2, 3, 20, 9), None),
    (MatMul(), (2, 1, 7, 12), (3, 12, 8), None),
    (MatMul(), (2, 7, 20), (20, 8), None),
    (MatMul(), (2, 5, 20), (20,), None),
]
FEW_ROWS: list[tuple[Op, Shape, Shape, Shape | None]] = [
    (Gemm(trans_b=True), (1, 72), (50, 72), (50,)),
    (Gemm(trans_b=True), (3, 50), (30, 50), (30,)),
    (Gemm(), (1, 72), (72, 50), (50,)),
    (Gemm(0.5, 2.0), (4, 40), (40, 33), (4, 1)),
    (MatMul(), (2, 3, 1, 20), (2, 3, 20, 9), None),
    (MatMul(), (20,), (2, 20, 5), None),
    (MatMul(), (3, 20), (20,), None),
    (MatMul(), (20,), (20,), None),
]


def convolution(
    op: Any,
    data: Shape,
    weight: Shape,
    dtype: str = "f32",
    after: Sequence[Op] = (),
    *,
    bias: bool = True,
    plain: bool = False,
) -> Graph:
    """A convolution of channels-last data with a bias, and the ops that follow it.

    Ops of two operands read an additional input of the result's type.
    """
    layouts = ChannelsLast()
    b = Builder("g")
    x = b.input("x", TensorType(dtype, data))
    w = b.input("w", TensorType(dtype, weight))
    outputs = weight[1] * op.group if isinstance(op, ConvTranspose) else weight[0]
    rest = [b.input("b", TensorType(dtype, (outputs,)))] if bias else []
    node = Node(op, (x, w, *rest), (Value("y", TensorType(dtype, data)),))
    held = Builder("g")
    x = held.input("x", x.type if plain else x.type.with_layout(layouts.data(x.type)))
    w = held.input("w", w.type.with_layout(layouts.weight(node)))
    rest = [held.input("b", v.type) for v in rest]
    return followed(held, held.emit(op, x, w, *rest), after)


def followed(b: Builder, y: Value, after: Sequence[Op]) -> Graph:
    for i, op in enumerate(after):
        y = b.emit(op, y, b.input(f"r{i}", y.type)) if isinstance(op, Add | Mul) else b.emit(op, y)
    return b.finish([y])


def dense(op: Op, *shapes: Shape | None, dtype: str = "f32", after: Sequence[Op] = ()) -> Graph:
    b = Builder("g")
    inputs = [b.input(f"x{i}", TensorType(dtype, s)) for i, s in enumerate(shapes) if s is not None]
    return followed(b, b.emit(op, *inputs), after)


def by(unit: ModuleType, tile: Tile | None = None, splits: int = 1) -> Rule:
    """A schedule as a rule, with this tile or with the one that it chooses."""

    def rule(group: Group, gpu: Gpu) -> Any:
        product = product_of(group)
        assert product is not None
        choice = Choice(tile, splits, 0.0) if tile else unit.choice(product, gpu)
        return scheduled(group, product, choice, gpu, unit.schedule)

    return rule


@units
@pytest.mark.parametrize(("op", "data", "weight"), CONVOLUTIONS, ids=lambda v: str(v) if isinstance(v, tuple) else "")
def test_convolution(unit: ModuleType, dtype: str, gpu: Gpu, op: Conv, data: Shape, weight: Shape) -> None:
    after = [Add(), Relu()] if op.group == 1 else []
    check(convolution(op, data, weight, dtype, after), by(unit), gpu)


@units
def test_a_row_major_image(unit: ModuleType, dtype: str, gpu: Gpu) -> None:
    check(convolution(Conv((2, 2), pads(3, 3)), (2, 3, 13, 15), (12, 3, 7, 7), dtype, plain=True), by(unit), gpu)


@some_units
@pytest.mark.parametrize("case", range(len(TRANSPOSED)))
def test_transposed_convolution(unit: ModuleType, dtype: str, gpu: Gpu, case: int) -> None:
    check(convolution(*TRANSPOSED[case], dtype), by(unit), gpu)


@some_units
@pytest.mark.parametrize("case", range(len(DENSE)))
def test_dense(unit: ModuleType, dtype: str, gpu: Gpu, case: int) -> None:
    check(dense(*DENSE[case], dtype=dtype), by(unit), gpu)


@pytest.mark.parametrize(("dtype", "gpu"), [("f32", SM80), ("f16", SM75)], ids=["f32", "f16"])
@pytest.mark.parametrize("case", range(len(FEW_ROWS)))
def test_few_rows(dtype: str, gpu: Gpu, case: int) -> None:
    check(dense(*FEW_ROWS[case], dtype=dtype, after=[Relu()]), gemv, gpu)


@pytest.mark.parametrize("shapes", [((1, 96, 1, 1), (4, 96, 1, 1)), ((1, 6, 2, 2), (24, 6, 3, 3))], ids=str)
def test_few_pixels(shapes: tuple[Shape, Shape]) -> None:
    op = Conv(pads=pads(*(size // 2 for size in shapes[1][2:])))
    check(convolution(op, *shapes, after=[HardSwish(), Add()]), gemv, SM80)


@some_units
@pytest.mark.parametrize(
    "after", [[Tanh()], [HardSwish(), Mul()], [Mul(), Add(), Relu()]], ids=lambda a: "_".join(o.name for o in a)
)
def test_epilogue(unit: ModuleType, dtype: str, gpu: Gpu, after: list[Op]) -> None:
    check(convolution(Conv(pads=pads(1, 1)), (1, 8, 7, 7), (12, 8, 3, 3), dtype, after), by(unit), gpu)


@some_units
def test_booleans_on_the_way_out(unit: ModuleType, dtype: str, gpu: Gpu) -> None:
    """Results may be booleans, for which CUDA has no vectors."""
    b = Builder("g")
    x = b.input("x", TensorType(dtype, (1, 8, 5, 5), Layout("NHWC")))
    y = b.emit(Conv(), x, b.input("w", TensorType(dtype, (12, 8, 1, 1), Layout("HWIO"))))
    which = b.input("which", y.type.with_dtype("bool"))
    check(b.finish([b.emit(Where(), which, y, b.input("z", y.type))]), by(unit), gpu)


def product_of_equal_factors(x: float, w: float, inner: int, dtype: str, gpu: Gpu) -> np.ndarray:
    """A product of 16x16 results on tensor cores, each the sum of this many equal terms ``x * w``."""
    kind = {"f16": np.float16, "f32": np.float32}[dtype]
    code = code_of(Group(dense(Gemm(), (16, inner), (inner, 16), dtype=dtype)), by(tensor_core), gpu)
    y = np.zeros((16, 16), kind)
    run(code, [np.full((16, inner), x, kind), np.full((inner, 16), w, kind), y])
    return y


def test_tf32_rounds_to_nearest() -> None:
    """Factors are rounded to the nearest TF32 number. ``mma`` alone would truncate the low bits, and lose this one."""
    np.testing.assert_array_equal(product_of_equal_factors(1 + 2**-11, 1, 8, "f32", TF32), 8 * (1 + 2**-10))


@pytest.mark.parametrize("gpu", [SM75, SM80], ids=lambda g: g.name)
def test_float16_is_summed_in_float32(gpu: Gpu) -> None:
    """Sums of float16 products are float32. In float16 a sum of ones stays at 2048."""
    np.testing.assert_array_equal(product_of_equal_factors(1, 1, 3000, "f16", gpu), 3000)


@pytest.mark.parametrize("splits", [1, 2])
def test_float64(splits: int) -> None:
    check(
        dense(Gemm(), (13, 40), (40, 36), (36,), dtype="f64"),
        by(implicit_gemm, Tile(32, 32, 16, 8, 8, 3), splits),
        SM80,
    )


@units
@pytest.mark.parametrize("splits", [3])
def test_sums_in_parts(unit: ModuleType, dtype: str, gpu: Gpu, splits: int) -> None:
    """A sum is split between blocks, and a second kernel adds the parts and applies what follows."""
    depth = {"f16": 32, "f32": 16}[dtype]
    stages = 3 if gpu.has_async_copy else 1
    tile = Tile(32, 32, depth, *((8, 8) if unit is implicit_gemm else (2, 1)), stages)
    graph = convolution(Conv(pads=pads(1, 1)), (1, 40, 7, 7), (36, 40, 3, 3), dtype, [Add(), Relu()])
    code = check(graph, by(unit, tile, splits), gpu)
    assert len(code.launches) == 2
    assert code.scratch >= splits * 49 * 36 * 4


@pytest.mark.parametrize(
    ("unit", "tile"),
    [(implicit_gemm, t) for t in implicit_gemm.TILES]
    + [(tensor_core, Tile(m, n, 32, r, c, 3)) for m, n, r, c in tensor_core.TILES],
    ids=lambda v: f"{v.m}x{v.n}" if isinstance(v, Tile) else v.__name__.rpartition(".")[2],
)
def test_every_tile(unit: ModuleType, tile: Tile) -> None:
    """Every tile is right with several partial blocks along each axis, and enough steps to use all stages."""
    dtype, gpu = ("f32", SM75) if unit is implicit_gemm else ("f16", SM80)
    graph = dense(Gemm(), (tile.m + 3, 104), (104, tile.n + 4), dtype=dtype)
    code = check(graph, by(unit, tile), gpu)
    assert code.launches[0].grid == (4, 1, 1)


@units
@pytest.mark.parametrize("channels", [(8, 16), (10, 6)], ids=str)
def test_channels_put_together_as_they_are_read(
    unit: ModuleType, dtype: str, gpu: Gpu, channels: tuple[int, ...]
) -> None:
    """Vectors must neither run over from one operand to the next, nor begin between two vectors of an operand."""
    b = Builder("g")
    parts = [b.input(f"x{i}", TensorType(dtype, (1, c, 5, 3), Layout("NHWC"))) for i, c in enumerate(channels)]
    joined = b.emit(Concat(1), *parts)
    w = b.input("w", TensorType(dtype, (12, sum(channels), 1, 1), Layout("HWIO")))
    check(b.finish([b.emit(Conv(), joined, w)]), by(unit), gpu)


@pytest.mark.parametrize(
    ("graph", "gpu", "rule"),
    [
        (convolution(Conv(pads=pads(1, 1)), (1, 64, 56, 56), (64, 64, 3, 3)), SM80, "implicit_gemm"),
        (convolution(Conv(pads=pads(1, 1)), (1, 64, 56, 56), (64, 64, 3, 3)), TF32, "tensor_core"),
        (
            convolution(Conv(pads=pads(1, 1)), (1, 64, 56, 56), (64, 64, 3, 3)),
            replace(SM75, tf32=True),
            "implicit_gemm",
        ),
        (convolution(Conv(pads=pads(1, 1)), (1, 64, 56, 56), (64, 64, 3, 3), "f16"), SM75, "tensor_core"),
        (convolution(Conv((2, 2), pads(3, 3)), (1, 3, 224, 224), (64, 3, 7, 7), plain=True), SM90, "implicit_gemm"),
        (convolution(Conv(pads=pads(1, 1), group=32), (1, 128, 56, 56), (128, 4, 3, 3)), SM90, "implicit_gemm"),
        (convolution(Conv(pads=pads(1, 1), group=32), (1, 32, 56, 56), (32, 1, 3, 3)), SM90, "depthwise"),
        (convolution(Conv(), (1, 96, 1, 1), (4, 96, 1, 1)), SM80, "gemv"),
        (convolution(ConvTranspose((2, 2)), (1, 64, 28, 28), (64, 32, 2, 2)), SM80, "implicit_gemm"),
        (dense(Gemm(trans_b=True), (1, 2048), (1000, 2048), (1000,)), SM80, "gemv"),
        (dense(Gemm(trans_b=True), (64, 2048), (1000, 2048), (1000,)), SM80, "implicit_gemm"),
        (dense(Gemm(trans_b=True), (64, 2048), (1000, 2048), (1000,), dtype="f16"), SM80, "tensor_core"),
        (dense(MatMul(), (12, 197, 64), (12, 64, 197), dtype="f16"), SM90, "tensor_core"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.name,
)
def test_which_rule_fires(graph: Graph, gpu: Gpu, rule: str) -> None:
    assert ask(RULES, Group(graph), gpu)[1] == rule


# -- the cost model ----------------------------------------------------------------------------------------------------

RESNET50 = [  # m, n, k at batch 1
    (12544, 64, 147), (3136, 64, 64), (3136, 64, 576), (3136, 256, 64), (784, 128, 1152), (784, 512, 128),
    (196, 256, 2304),
    (196, 1024, 256), (49, 512, 4608), (49, 2048, 512),
]  # fmt: skip


def unit_of(rate: int, threads: int, nbytes: int) -> Unit:
    return Unit(rate, threads, nbytes, 16 if threads > 1 else 0)


def graph_of(m: int, n: int, k: int, dtype: str) -> Graph:
    return dense(Gemm(), (m, k), (k, n), dtype=dtype)


@pytest.mark.parametrize("gpu", [replace(g, tf32=True) for g in GPUS.values()], ids=lambda g: g.name)
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_choices_stay_within_the_limits(gpu: Gpu, dtype: str) -> None:
    for unit in [implicit_gemm, *([tensor_core] if dtype == "f16" or gpu.has_async_copy else [])]:
        for sizes in [*RESNET50, (100352, 64, 147), (1, 1, 1), (7, 3, 5)]:
            product = product_of(Group(graph_of(*sizes, dtype)))
            assert product is not None
            choice = unit.choice(product, gpu)
            threads = choice.tile.rows * choice.tile.columns * (gpu.warp if unit is tensor_core else 1)
            assert threads <= 1024
            assert choice.cycles < math.inf
            assert (choice.splits - 1) * choice.tile.k * math.ceil(
                math.ceil(sizes[2] / choice.tile.k) / choice.splits
            ) < sizes[2]


@pytest.mark.parametrize("gpu", [SM80, SM90], ids=lambda g: g.name)
@pytest.mark.parametrize("unit", [implicit_gemm, tensor_core], ids=["cores", "tensor_core"])
def test_batch_1_fills_the_machine(gpu: Gpu, unit: ModuleType) -> None:
    """Batch 1 fills the machine where there is enough work.

    At least 45 % of the multiprocessors have a block where a tile of 128x128 would leave most of them idle.
    """
    for m, n, k in [s for s in RESNET50 if math.prod(s) > 5e7]:
        product = product_of(Group(graph_of(m, n, k, "f32" if unit is implicit_gemm else "f16")))
        assert product is not None
        choice = unit.choice(product, gpu)
        assert blocks(product.sizes, choice.tile, choice.splits) >= gpu.sms * 0.45, (m, n, k, choice)


def test_large_products_take_large_tiles_and_no_parts() -> None:
    tiles = [Tile(m, n, 32, r, c, 3) for m, n, r, c in tensor_core.TILES]
    choice = choose(Sizes(1, 50176, 512, 1152), tiles, unit_of(1024, 32, 2), SM80)
    assert choice is not None
    assert choice.splits == 1
    assert choice.tile.m * choice.tile.n >= 128 * 64


def test_a_tile_that_does_not_fit_is_not_chosen() -> None:
    huge = Tile(128, 128, 64, 2, 4, 3)
    assert resident(huge, unit_of(1024, 32, 4), SM86) == 0
    assert choose(Sizes(1, 4096, 4096, 4096), [huge], unit_of(1024, 32, 4), SM86) is None
    assert choose(Sizes(1, 4096, 4096, 4096), [huge], unit_of(1024, 32, 4), SM90) is not None


# -- what the assembler says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", [SM75, SM80, SM90], ids=lambda g: g.name)
@pytest.mark.parametrize("kind", ["cores", "f16", "tf32"])
def test_no_tile_spills(gpu: Gpu, kind: str) -> None:
    """The largest tiles spill no registers in a convolution with everything that takes registers.

    They use at most the shared memory that the cost model assumes.
    """
    if kind == "tf32" and not gpu.has_async_copy:
        return
    stages = 3 if gpu.has_async_copy else 1
    unit = implicit_gemm if kind == "cores" else tensor_core
    dtype, depth = {"cores": ("f32", 16), "f16": ("f16", 32), "tf32": ("f32", 16)}[kind]
    tiles = [replace(t, stages=stages) for t in implicit_gemm.TILES[:2]]
    if unit is tensor_core:
        tiles = [Tile(m, n, depth, r, c, stages) for m, n, r, c in tensor_core.TILES[1:3]]
    sizes = unit_of(1, 1 if unit is implicit_gemm else 32, 2 if kind == "f16" else 4)
    group = Group(convolution(Conv(pads=pads(1, 1)), (1, 64, 28, 28), (128, 64, 3, 3), dtype, [Add(), Relu()]))
    sources, shared = [], []
    for i, tile in enumerate(tiles):
        if not resident(tile, sizes, gpu):
            continue
        func, _ = ask([by(unit, tile)], group, replace(gpu, tf32=kind == "tf32"))
        code = lower(func, gpu, f"k{i}")
        sources.append(code.source)
        shared.append((code.launches[0].shared, sizes.shared(tile)))
    assert sources
    for source in sources:
        figures = nvrtc.compile_source(source, gpu.name, "k").figures
        assert all(f.spills == 0 for f in figures.values()), figures
    assert all(used <= estimate for used, estimate in shared), shared
