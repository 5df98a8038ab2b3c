"""Models with open sizes are imported once: with sizes put in, they are the graphs imported for these sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import models, small_models
from support.onnx_text import model
from support.open_sizes import at_sizes, final_graph, run_final
from support.oracles import run_reference
from support.tolerances import assert_close

import convc
from convc.backends.cpu.target import parse_target
from convc.ir.errors import ShapeError
from convc.ir.graph import Graph
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.text import parse_graph, print_graph
from convc.ir.verify import verify
from convc.onnx.export import to_onnx
from convc.onnx.importer import import_model, load_onnx
from convc.reader import reader

HERE = parse_target("cpu", 1)


def _parts(graph: Graph) -> tuple[object, ...]:
    """The nodes of a graph, its constants and its outputs, without the names of values."""
    known: dict[str, object] = {v.name: i for i, v in enumerate(graph.inputs)}
    known |= {name: c.digest for name, c in graph.constants.items()}
    nodes = []
    for i, node in enumerate(graph.nodes):
        nodes.append((node.op, [known[v.name] for v in node.inputs], [v.type for v in node.outputs]))
        known |= {v.name: (i, j) for j, v in enumerate(node.outputs)}
    return tuple(nodes), [known[v.name] for v in graph.outputs]


def _opened(made: onnx.ModelProto, names: tuple[str | int, ...]) -> onnx.ModelProto:
    """The model with open sizes at the axes of its input that have a name."""
    opened = onnx.ModelProto()
    opened.CopyFrom(made)
    for d, name in zip(opened.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
        if isinstance(name, str):
            d.dim_param = name
    for o in opened.graph.output:
        o.type.tensor_type.ClearField("shape")
    return opened


NETWORKS = ["resnet", "mobilenet", "densenet", "inception", "convnext", "vgg", "unet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    made = getattr(small_models, name)(1, 8)
    shape = [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim]
    x = made.graph.input[0].name
    whole = load_onnx(_opened(made, ("n", *shape[1:])))
    assert not whole.outputs[0].type.is_static
    assert parse_graph(print_graph(whole), {c.sha: c.array for c in whole.all_constants()}) == whole
    for batch in (1, 3):
        sizes = {x: (batch, *shape[1:])}
        fixed = fix_shapes(whole, sizes)
        verify(fixed)
        assert _parts(fixed) == _parts(load_onnx(_opened(made, ("n", *shape[1:])), sizes))


BODIES = {
    "flatten by view": (
        "s = Shape(x) i = Constant<value_int=0>() b = Gather(s, i) a = Constant<value_ints=[0]>()"
        " u = Unsqueeze(b, a) m = Constant<value_ints=[-1]>() t = Concat<axis=0>(u, m) y = Reshape(x, t)",
        "[n, 4*h*w]",
    ),
    "upsample by two": (
        "s = Shape<start=2>(x) k = Constant<value_ints=[2,2]>() d = Mul(s, k) f = Shape<end=2>(x)"
        ' t = Concat<axis=0>(f, d) y = Resize<mode="nearest">(x, , , t)',
        "[n, 4, 2*h, 2*w]",
    ),
    "sizes in floats": (
        "s = Shape<start=2>(x) f = Cast<to=1>(s) k = Constant<value_floats=[2.0,0.5]>() d = Mul(f, k) g = Floor(d)"
        ' j = Cast<to=7>(g) e = Shape<end=2>(x) t = Concat<axis=0>(e, j) y = Resize<mode="linear">(x, , , t)',
        "[n, 4, 2*h, w//2]",
    ),
    "the first half of the rows": (
        "s = Shape<start=2,end=3>(x) k = Constant<value_ints=[2]>() e = Div(s, k) z = Constant<value_ints=[0]>()"
        " y = Slice(x, z, e, k)",
        "[n, 4, h//2, w]",
    ),
    "halves": ("a, y = Split<axis=3, num_outputs=2>(x)", "[n, 4, h, w - (w + 1)//2]"),
    "windows of a vision transformer": (
        "s = Shape<end=1>(x) c = Constant<value_ints=[4]>() m = Constant<value_ints=[-1]>() t = Concat<axis=0>(s, c, m)"
        " r = Reshape(x, t) y = Transpose<perm=[0,2,1]>(r)",
        "[n, h*w, 4]",
    ),
    "padded to a multiple": (
        "s = Shape<start=3>(x) k = Constant<value_ints=[8]>() o = Constant<value_ints=[7]>() a = Add(s, o)"
        " q = Div(a, k) w = Mul(q, k) d = Sub(w, s) z = Constant<value_ints=[0,0,0,0,0,0,0]>() p = Concat<axis=0>(z, d)"
        " y = Pad(x, p)",
        "[n, 4, h, 8*((w + 7)//8)]",
    ),
    "cropped or padded, by the function body of ONNX": (
        "t = Constant<value_ints=[5,20]>() y = CenterCropPad<axes=[2,3]>(x, t)",
        "[n, 4, 5, 20]",
    ),
    "a mask of ones": (
        "s = Shape(x) o = ConstantOfShape(s) y = Add(x, o)",
        "[n, 4, h, w]",
    ),
    "expand with -1": (
        "s = Shape(x) m = Constant<value_ints=[-1]>() e = Equal(s, m) k = Constant<value_int=1>() t = Where(e, k, s)"
        " y = Expand(x, t)",
        "[n, 4, h, w]",
    ),
    "positions": (
        "s = Shape<start=3>(x) a = Constant<value_ints=[0]>() w = Squeeze(s, a) z = Constant<value_int=0>()"
        " k = Constant<value_int=1>() r = Range(z, w, k) f = Cast<to=1>(r) y = Add(x, f)",
        "[n, 4, h, w]",
    ),
    "a mask of three halves": (
        "s = Shape(x) c = Constant<value_float=1.5>() o = Expand(c, s) z = ConstantOfShape(s)"
        " a = Add(x, z) y = Mul(a, o)",
        "[n, 4, h, w]",
    ),
    "the mean over pixels": (
        "v = ReduceSum<keepdims=0>(x) s = Size(x) f = Cast<to=1>(s) y = Div(v, f)",
        "[]",
    ),
    "windows of 3 by 3 that keep the size": (
        'y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)',
        "[n, 4, h//2, w//2]",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_shape_arithmetic(name: str) -> None:
    """It gives the graphs that are imported for sizes. Exported with open sizes, and after all passes, it means the
    same.
    """
    body, shape = BODIES[name]
    made = model(18, "float[n,4,h,w] x", body, "float[n] y" if shape == "[]" else "float[n,4,h,w] y")
    del made.graph.output[0].type.tensor_type.shape.dim[:]
    made.graph.output[0].type.tensor_type.ClearField("shape")
    whole = load_onnx(made)
    assert f"[{', '.join(map(str, whole.outputs[0].type.shape))}]" == shape
    assert parse_graph(print_graph(whole), {c.sha: c.array for c in whole.all_constants()}) == whole
    again = load_onnx(to_onnx(whole))
    for sizes in ((1, 4, 6, 8), (3, 4, 12, 10)):
        x = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
        expected = onnx.reference.ReferenceEvaluator(made).run(None, {"x": x})[0]
        for graph in (whole, again):
            fixed = fix_shapes(graph, {"x": sizes})
            verify(fixed)
            assert fixed.outputs[0].type.sizes == expected.shape
        got = onnx.reference.ReferenceEvaluator(to_onnx(fix_shapes(again, {"x": sizes}))).run(None, {"x": x})[0]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    final = final_graph(whole, HERE)
    assert parse_graph(print_graph(final), {c.sha: c.array for c in final.all_constants()}) == final
    (got,) = run_final(at_sizes(final, dict(zip("nhw", (3, 12, 10), strict=True))), HERE, {"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_what_was_assumed_is_checked() -> None:
    made = model(18, "float[n,4,h,w] x, float[n,4,k,w] z", "y = Add(x, z)")
    made.graph.output[0].type.tensor_type.ClearField("shape")
    whole = load_onnx(made)
    assert [str(a) for a in whole.assumptions] == ["h == k"]
    fix_shapes(whole, {"x": (1, 4, 5, 6), "z": (1, 4, 5, 6)})
    with pytest.raises(ShapeError, match=r"Add node 'y': it was inferred for h == k, but h = 5, k = 1"):
        fix_shapes(whole, {"x": (1, 4, 5, 6), "z": (1, 4, 1, 6)})
    x, z = np.ones((1, 4, 5, 6), np.float32), np.ones((1, 4, 1, 6), np.float32)
    np.testing.assert_array_equal(convc.compile(made, threads=1)(x, z), x + z)  # imported for these sizes


def test_a_model_is_imported_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = []

    def counted(*args: Any, **options: Any) -> Graph:
        imported.append(args)
        return import_model(*args, **options)

    monkeypatch.setattr("convc.reader.import_model", counted)
    made = model(18, "float[n,4,h,w] x", "y = MaxPool<kernel_shape=[3,3]>(x)")
    found = reader(made)
    for h in (5, 6, 7):
        assert found.graph({"x": (1, 4, h, 9)}, {}).outputs[0].type.sizes == (1, 4, h - 2, 7)
    assert len(imported) == 1
    with pytest.raises(ShapeError, match=r"MaxPool node 'y': .* does not fit in size 2"):
        found.graph({"x": (1, 4, 2, 9)}, {})


def test_whether_a_size_is_one_is_assumed() -> None:
    made = model(18, "float[n,1,h] x", "y = Squeeze(x)", "float[a,b] y")
    made.graph.output[0].type.tensor_type.ClearField("shape")
    whole = load_onnx(made)
    assert str(whole.outputs[0].type) == "float32[n, h]"
    assert [str(a) for a in whole.assumptions][:2] == ["n != 1", "h != 1"]


def test_recurrent_layers() -> None:
    w, r = (helper.make_tensor(name, 1, [1, 8, d], np.ones(8 * d)) for name, d in (("w", 3), ("r", 2)))
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h", "c"], hidden_size=2)
    x = helper.make_tensor_value_info("x", 1, ["t", "b", 3])
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in "yhc"]
    made = helper.make_model(helper.make_graph([lstm], "g", [x], outputs, [w, r]))
    whole = load_onnx(made)
    assert [str(v.type) for v in whole.outputs] == ["float32[t, 1, b, 2]", "float32[1, b, 2]", "float32[1, b, 2]"]
    for sizes in ((5, 1, 3), (2, 4, 3)):
        assert _parts(fix_shapes(whole, {"x": sizes})) == _parts(load_onnx(made, {"x": sizes}))


def test_attention_of_any_length() -> None:
    """Its function splits rows into heads: sizes in attributes are products and quotients."""
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=2, kv_num_heads=2)
    shapes = {"q": ["n", "t", 8], "k": ["n", "u", 8], "v": ["n", "u", 8]}
    made = models.model([node], shapes, {"y": None}, opset=23, ir_version=11)
    compiled = convc.compile(made, threads=1)
    assert isinstance(compiled, convc.CompiledModel)
    for n, t, u in ((1, 4, 6), (2, 5, 3), (3, 1, 17)):
        rng = np.random.default_rng([n, t, u])
        feeds = {name: rng.uniform(-1, 1, (n, u if i else t, 8)).astype(np.float32) for i, name in enumerate("qkv")}
        assert_close(compiled.run(feeds)["y"], run_reference(made, feeds)[0])


def test_the_text_of_an_expression_is_a_dim_param() -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    x = helper.make_tensor_value_info("x", 1, ["n", 4, "h", "w"])
    graph = helper.make_graph([pool], "g", [x], [helper.make_tensor_value_info("y", 1, None)])
    made = to_onnx(load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])))
    assert [d.dim_param or d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim] == [
        "n", 4, "h//2", "w//2",
    ]  # fmt: skip


def test_a_batch_of_nothing_may_be_flattened() -> None:
    whole = load_onnx(model(18, "float[n,4,h,w] x", "y = Flatten(x)", "float[a,b] y"))
    assert not whole.assumptions
    assert fix_shapes(whole, {"x": (0, 4, 5, 6)}).outputs[0].type.sizes == (0, 120)
    assert fix_shapes(whole, {"x": (2, 4, 0, 6)}).outputs[0].type.sizes == (2, 0)
    for sizes in ((0, 4, 5, 6), (3, 4, 0, 6)):
        x = np.zeros(sizes, np.float32)
        assert convc.compile(model(18, "float[n,4,h,w] x", "y = Flatten(x)", "float[a,b] y"), threads=1)(x).shape == (
            sizes[0],
            4 * sizes[2] * sizes[3],
        )


def test_a_name_has_one_typical_value() -> None:
    made = model(18, "float[n,4,h,w] x, float[h,n] z", "a = MatMul(z, z) y = Relu(x)", "float[n,4,h,w] y")
    sizes = load_onnx(made, outputs=["y", "a"]).named_sizes
    assert {name: size.typical for name, size in sizes.items()} == {"n": 1, "h": 224, "w": 224}
