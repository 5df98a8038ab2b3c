"""The passes run once on a graph of open sizes: with numbers put in afterwards it computes what the model does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support import small_models
from support.open_sizes import at_sizes, final_graph, kernels_of, open_case, opened, run_final
from support.oracles import case_graph, expected, run_onnxruntime
from support.real_models import ZOO, zoo_model
from support.tolerances import MODEL_ATOL, MODEL_RTOL, assert_close

import convc.ir.ops  # noqa: F401  registers every op
from convc.backends.cpu.target import parse_target
from convc.ir.graph import Graph
from convc.ir.op import REGISTRY, Case
from convc.ir.passes.fix_shapes import with_sizes
from convc.ir.sizes import named
from convc.ir.text import parse_graph, print_graph
from convc.onnx.importer import load_onnx

MACHINE, HERE = parse_target("x86-64-v4", 1), parse_target("cpu", 1)
Names = tuple[str | None, ...]
Sizes = Mapping[str, int]
ALL: Names = ("n", None, "h", "w")
BATCH: Names = ("n", None, None, None)


def _copying_batch(made: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its reshapes to a batch of 1 copying the batch of their operand."""
    shapes = {n.input[1] for n in made.graph.node if n.op_type == "Reshape"}
    nodes = [n for n in made.graph.node if n.op_type == "Constant" and n.output[0] in shapes]
    for tensor in [*(t for t in made.graph.initializer if t.name in shapes), *(n.attribute[0].t for n in nodes)]:
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size > 1 and shape[0] == 1:
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    return made


def _check_kernels(whole: Graph, sizes: Sizes) -> None:
    """A graph whose typical sizes are these has the kernels of the graph of these sizes, and assumes nothing more."""
    usual = with_sizes(whole, {name: named(name, typical=size) for name, size in sizes.items()})
    final = final_graph(usual, MACHINE)
    assert final.assumptions == usual.assumptions
    assert kernels_of(at_sizes(final, sizes)) == kernels_of(final_graph(with_sizes(whole, sizes), MACHINE))
    assert parse_graph(print_graph(final), {c.sha: c.array for c in final.all_constants()}) == final


def _check_outputs(made: onnx.ModelProto, some: Sequence[Sizes]) -> None:
    """With numbers put in, the graph that has been through the passes gives ONNX Runtime's results."""
    final = final_graph(load_onnx(made), HERE)
    for sizes in some:
        fixed = at_sizes(final, sizes)
        x = np.random.default_rng(0).standard_normal(fixed.inputs[0].type.sizes).astype(np.float32)
        feeds = {fixed.inputs[0].name: x}
        for y, want in zip(run_final(fixed, HERE, feeds), run_onnxruntime(made, feeds), strict=True):
            assert y.shape == want.shape
            np.testing.assert_allclose(y, want, rtol=MODEL_RTOL, atol=MODEL_ATOL * max(1.0, float(want.std())))


NETWORKS: dict[str, tuple[Names, Sizes, Sizes]] = {
    "resnet": (ALL, {"n": 1, "h": 32, "w": 32}, {"n": 2, "h": 17, "w": 40}),
    "mobilenet": (ALL, {"n": 1, "h": 15, "w": 15}, {"n": 3, "h": 8, "w": 31}),
    "densenet": (ALL, {"n": 1, "h": 14, "w": 14}, {"n": 2, "h": 9, "w": 20}),
    "inception": (ALL, {"n": 1, "h": 17, "w": 17}, {"n": 2, "h": 8, "w": 21}),
    "unet": (ALL, {"n": 1, "h": 16, "w": 20}, {"n": 3, "h": 4, "w": 34}),
    "shufflenet": (BATCH, {"n": 1}, {"n": 3}),
    "convnext": (ALL, {"n": 1, "h": 14, "w": 14}, {"n": 2, "h": 5, "w": 19}),
    "vgg": (BATCH, {"n": 1}, {"n": 4}),
    "yolo": (BATCH, {"n": 1}, {"n": 2}),
    "attention": (BATCH, {"n": 1}, {"n": 2}),
}
"""For each small network, its open sizes, its own sizes, and others."""


def _small(name: str) -> onnx.ModelProto:
    return opened(_copying_batch(getattr(small_models, name)(1, 16)), NETWORKS[name][0])


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_networks(name: str) -> None:
    _check_kernels(load_onnx(_small(name)), NETWORKS[name][1])


@pytest.mark.parametrize("name", ["mobilenet", "shufflenet", "unet"])
def test_networks(name: str) -> None:
    _check_outputs(_small(name), NETWORKS[name][2:])


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_at_more_sizes(name: str) -> None:
    _check_outputs(_small(name), NETWORKS[name][1:])


SPECIAL: dict[str, Sequence[Sizes]] = {
    "alexnet": ({"n": 2, "h": 224, "w": 254}, {"n": 3, "h": 253, "w": 223}),
    "inception_v3": ({"n": 2, "h": 75, "w": 128}, {"n": 3, "h": 160, "w": 96}),
    "shufflenet_v2_x1_0": ({"n": 2}, {"n": 3}),
    "vgg16": ({"n": 2, "h": 225, "w": 255}, {"n": 3, "h": 255, "w": 224}),
}
"""Sizes that networks of the zoo take, where they do not take just any. Shufflenet is exported with its pictures' sizes
in its reshapes, and AlexNet and VGG without the adaptive pooling that 224x224 does not need."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, tmp_path: Path) -> None:
    own = zoo_model(name, tmp_path)
    names = BATCH if name.startswith("shufflenet") else ALL
    shape = [d.dim_value for d in own.graph.input[0].type.tensor_type.shape.dim]
    made = opened(_copying_batch(own), names)
    first = {axis: size for axis, size in zip(names, shape, strict=True) if axis}
    _check_kernels(load_onnx(made), first)
    _check_outputs(made, [first, *SPECIAL.get(name, ({"n": 2, "h": 96, "w": 128}, {"n": 3, "h": 160, "w": 96}))])


OTHER_KERNELS = {
    "conv": "channels are in blocks only where their number is known",
    **dict.fromkeys(
        ("gather", "slice", "tile", "top_k", "trim"), "a result without elements is a constant once that is known"
    ),
}
"""The ops for which a graph of open sizes may have other kernels, and why. Their results are compared instead."""


@pytest.mark.parametrize("name", [n for n, op in sorted(REGISTRY.items()) if any(op.cases()) and op.counted is None])
def test_kernels_of_ops(name: str) -> None:
    """Of all ops but those of which data decides a size, for which no number is put in."""
    for case in REGISTRY[name].cases():
        whole, values = open_case(case)
        final = final_graph(whole, MACHINE)
        assert final.assumptions == whole.assumptions
        fixed = at_sizes(final, values)
        if kernels_of(fixed) != kernels_of(final_graph(with_sizes(whole, values), MACHINE)):
            assert name in OTHER_KERNELS, case
            _, feeds = case_graph(case)
            fixed = at_sizes(final_graph(whole, HERE), values)
            for y, (want, *_) in zip(run_final(fixed, HERE, feeds), _truths(case), strict=True):
                assert_close(y, want)


def _truths(case: Case) -> Iterator[list[np.ndarray]]:
    """For each output, what each oracle says of it."""
    return zip(*(outputs for _, outputs in expected(case, *case_graph(case))), strict=True)
