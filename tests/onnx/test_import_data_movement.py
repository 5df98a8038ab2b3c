"""Import of ops that move, reduce and resample data, in each opset and form, compared with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_text import check, feeds_of, model
from support.tolerances import assert_close

import convc
from convc.ir.errors import ConvcError, ModelFileError, NotConstantError, ShapeError, UnsupportedOpError

FORMS = {
    "slice attributes": (7, "float[4,6] x", "y = Slice<starts=[1,-3], ends=[9,-1], axes=[0,-1]>(x)"),
    "slice no axes": (9, "float[4,6] x", "y = Slice<starts=[1], ends=[3]>(x)"),
    "slice inputs": (
        10,
        "float[4,6] x",
        "s = Constant<value=int64[2] {-1, 5}>() e = Constant<value=int64[2] {-9223372036854775808, 0}>()"
        "a = Constant<value=int64[2] {0, 1}>() t = Constant<value=int64[2] {-1, -2}>() y = Slice(x, s, e, a, t)",
    ),
    "squeeze all": (11, "float[1,3,1] x", "y = Squeeze(x)"),
    "squeeze attribute": (11, "float[1,3,1] x", "y = Squeeze<axes=[-1]>(x)"),
    "squeeze input": (13, "float[1,3,1] x", "a = Constant<value_ints=[0]>() y = Squeeze(x, a)"),
    "unsqueeze attribute": (11, "float[2,3] x", "y = Unsqueeze<axes=[3,0]>(x)"),
    "unsqueeze input": (13, "float[2,3] x", "a = Constant<value_ints=[-1,1]>() y = Unsqueeze(x, a)"),
    "flatten": (9, "float[2,3,4] x", "y = Flatten(x)"),
    "flatten zero": (9, "float[2,3,4] x", "y = Flatten<axis=0>(x)"),
    "flatten negative": (13, "float[2,3,4] x", "y = Flatten<axis=-1>(x)"),
    "flatten rank 1": (13, "float[5] x", "y = Flatten(x)"),
    "flatten nothing": (13, "float[0,3] x", "y = Flatten(x)"),
    "flatten rank 0": (13, "float[] x", "y = Flatten<axis=0>(x)"),
    "reshape": (7, "float[2,3,4] x", "s = Constant<value=int64[3] {0, -1, 2}>() y = Reshape(x, s)"),
    "pad attributes": (7, "float[2,3] x", "y = Pad<pads=[0,1,1,2], value=1.5>(x)"),
    "pad reflect": (7, "float[3,3] x", 'y = Pad<mode="reflect", pads=[0,1,1,2]>(x)'),
    "pad run-time value": (
        13,
        "float[2,3] x, float[] v",
        "p = Constant<value_ints=[1,0,0,2]>() y = Pad(x, p, v)",
    ),
    "pad NaN": (
        13,
        "float[2,3] x",
        "p = Constant<value_ints=[1,0,0,2]>() zero = Constant<value_float=0.0>() v = Div(zero, zero) y = Pad(x, p, v)",
    ),
    "pad axes": (
        18,
        "float[2,3,4] x",
        'p = Constant<value_ints=[1,0,2,3]>() a = Constant<value_ints=[-1,0]>() y = Pad<mode="edge">(x, p, , a)',
    ),
    "upsample attribute": (7, "float[1,2,3,4] x", "y = Upsample<scales=[1.0,1.0,2.0,3.0]>(x)"),
    "upsample linear": (
        9,
        "float[1,2,3,4] x",
        's = Constant<value=float[4] {1,1,2,1.5}>() y = Upsample<mode="linear">(x, s)',
    ),
    "resize 10 up and down": (
        10,
        "float[1,2,4,10] x",
        's = Constant<value=float[4] {1,1,1.7,0.6}>() y = Resize<mode="nearest">(x, s)',
    ),
    "resize 10 linear": (
        10,
        "float[1,2,4,10] x",
        's = Constant<value=float[4] {1,1,1.7,0.6}>() y = Resize<mode="linear">(x, s)',
    ),
    "resize 11 sizes": (
        11,
        "float[1,2,4,5] x",
        "e = Constant<value=float[0] {}>() s = Constant<value=int64[4] {1,2,7,3}>() y = Resize(x, e, e, s)",
    ),
    "resize 11 for nn": (
        11,
        "float[1,2,4,5] x",
        "e = Constant<value=float[0] {}>() s = Constant<value=int64[4] {1,2,7,3}>()"
        'y = Resize<coordinate_transformation_mode="tf_half_pixel_for_nn">(x, e, e, s)',
    ),
    "resize 13 crop": (
        13,
        "float[1,1,4,5] x",
        "r = Constant<value_floats=[0.,0.,-0.2,0.1,1.,1.,1.3,0.9]>() s = Constant<value_ints=[1,1,5,4]>()"
        'y = Resize<coordinate_transformation_mode="tf_crop_and_resize", mode="linear", '
        "extrapolation_value=5.0>(x, r, , s)",
    ),
    "resize 18 axes": (
        18,
        "float[1,4,5] x",
        's = Constant<value_ints=[4,6]>() y = Resize<axes=[2,1], keep_aspect_ratio_policy="not_larger">(x, , , s)',
    ),
    "resize same size": (13, "float[1,2,4,5] x", "s = Constant<value_ints=[1,2,4,5]>() y = Resize(x, , , s)"),
    "reduce attribute": (11, "float[2,3,4] x", "y = ReduceMean<axes=[-1,0], keepdims=0>(x)"),
    "reduce all": (11, "float[2,3,4] x", "y = ReduceL2<keepdims=0>(x)"),
    "reduce input": (18, "float[2,3,4] x", "a = Constant<value_ints=[1]>() y = ReduceMax(x, a)"),
    "reduce sum nothing": (13, "float[2,3] x", "y = ReduceSum<noop_with_empty_axes=1>(x)"),
    "reduce sum no axes": (13, "float[2,3] x", "a = Constant<value=int64[0] {}>() y = ReduceSum(x, a)"),
    "argmax": (11, "float[2,3,4] x", "i = ArgMax<axis=-1, keepdims=0>(x) y = Cast<to=1>(i)"),
    "compress": (11, "float[2,3] x", "c = Constant<value=bool[3] {1,0,1}>() y = Compress<axis=-1>(x, c)"),
    "compress flat": (11, "float[2,3] x", "c = Constant<value=bool[5] {0,1,1,0,1}>() y = Compress(x, c)"),
    "transpose": (13, "float[2,3,4] x", "y = Transpose(x)"),
    "trilu": (14, "float[3,4] x", "y = Trilu(x)"),
    "eye": (9, "float[3,4] x", "y = EyeLike<k=1>(x)"),
    "einsum implicit": (12, "float[2,3] x, float[3,4] z", 'y = Einsum<equation="ij,jk">(x, z)'),
    "depth to space": (11, "float[1,8,2,3] x", "y = DepthToSpace<blocksize=2>(x)"),
    "split attribute": (11, "float[6,2] x", "a, y = Split<split=[1,5]>(x)"),
    "split input": (13, "float[2,6] x", "s = Constant<value_ints=[4,0,2]>() y, a, b = Split<axis=-1>(x, s)"),
    "split equal": (13, "float[6,2] x", "a, y, b = Split(x)"),
    "split uneven": (18, "float[7,2] x", "a, b, y = Split<num_outputs=3>(x)"),
    "one-hot": (
        9,
        "int64[3] x",
        "d = Constant<value=int64[1] {4}>() v = Constant<value=float[2] {1,5}>() y = OneHot<axis=0>(x, d, v)",
    ),
    "constants": (
        13,
        "float[2] x",
        "a = Constant<value_float=2.0>() b = Constant<value_floats=[1.0,3.0]>() c = Constant<value_int=3>()"
        "d = Constant<value_ints=[1,2]>() e = Mul(c, d) f = Cast<to=1>(e) g = Mul(a, b) h = Add(f, g) y = Add(x, h)",
    ),
    "constant of shape": (
        9,
        "float[2,3] x",
        "s = Shape(x) c = ConstantOfShape<value=float[1] {2}>(s) n = ConstantOfShape(s) d = Add(c, n) y = Add(x, d)",
    ),
    "range": (
        11,
        "float[4] x",
        "n = Size(x) z = Constant<value=int64 {0}>() o = Constant<value=int64 {1}>() "
        "r = Range(z, n, o) f = Cast<to=1>(r)"
        "y = Add(x, f)",
    ),
    "part of a shape": (
        15,
        "float[2,3,4] x",
        "s = Shape<start=1>(x) m = Constant<value_ints=[-1]>() t = Concat<axis=0>(m, s) y = Reshape(x, t)",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str) -> None:
    check(model(*FORMS[name]))


@pytest.mark.parametrize(
    ("op", "want"), [("ReduceLogSum", np.log), ("ReduceSumSquare", np.square), ("ReduceMax", np.positive)]
)
def test_reduction_over_no_axes_still_does_the_rest(op: str, want: np.ufunc) -> None:
    """A reduction over no axes applies its other steps. ONNX Runtime returns the input, against the specification."""
    made = model(18, "float[2,3] x", f"y = {op}<noop_with_empty_axes=1>(x)")
    (x,) = feeds_of(made).values()
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), want(x))


EMPTY = {
    "concat": "y = Concat<axis=0>(x, x)",
    "slice": "s = Constant<value_ints=[2]>() y = Slice(z, s, s)",
    "transpose": "y = Transpose(x)",
    "reshape": "s = Constant<value_ints=[3,0,2]>() y = Reshape<allowzero=1>(x, s)",
    "unsqueeze": "a = Constant<value_ints=[0]>() y = Unsqueeze(x, a)",
    "pad": "p = Constant<value_ints=[1,0,1,0]>() y = Pad(x, p)",
    "expand": "s = Constant<value_ints=[2,0,3]>() y = Expand(x, s)",
    "tile": "r = Constant<value_ints=[2,2]>() y = Tile(x, r)",
    "gather": "i = Constant<value_ints=[0,2]>() y = Gather<axis=1>(x, i)",
    "sum": "a = Constant<value_ints=[0]>() y = ReduceSum(x, a)",
    "prod": "y = ReduceProd<keepdims=0>(x)",
    "min": "a = Constant<value_ints=[0]>() y = ReduceMin<keepdims=0>(x, a)",
    "log sum exp": "a = Constant<value_ints=[0]>() y = ReduceLogSumExp(x, a)",
    "argmax": "i = ArgMax<axis=1>(x) y = Cast<to=1>(i)",
    "cumsum": "a = Constant<value_int=1>() y = CumSum(x, a)",
    "einsum": 'y = Einsum<equation="ij,kj->ik">(x, z)',
    "einsum over nothing": 'y = Einsum<equation="ij,ik->jk">(x, x)',
    "trilu": "y = Trilu(x)",
    "split": "s = Constant<value_ints=[0,4]>() y, a = Split(z, s)",
}


@pytest.mark.parametrize("name", EMPTY)
def test_tensors_without_elements(name: str) -> None:
    check(model(20, "float[0,3] x, float[4,3] z", EMPTY[name]), "reference")


SCALAR = {
    "transpose": "y = Transpose(x)",
    "reshape": "s = Constant<value_ints=[1,1]>() y = Reshape(x, s)",
    "unsqueeze": "a = Constant<value_ints=[0]>() y = Unsqueeze(x, a)",
    "squeeze": "y = Squeeze(x)",
    "expand": "s = Constant<value_ints=[2,3]>() y = Expand(x, s)",
    "sum": "y = ReduceSum(x)",
    "log sum exp": "y = ReduceLogSumExp<keepdims=0>(x)",
    "gather": "s = Constant<value_ints=[1]>() v = Reshape(x, s) i = Constant<value_int=-1>() y = Gather(v, i)",
    "einsum": 'y = Einsum<equation=",->">(x, x)',
}


@pytest.mark.parametrize("name", SCALAR)
def test_scalars(name: str) -> None:
    check(model(20, "float[] x", SCALAR[name]))


SYMBOLIC = {
    "flatten": ("y = Flatten(x)", ("N", 60)),
    "reshape": ("s = Constant<value_ints=[0,-1,5]>() y = Reshape(x, s)", ("N", 12, 5)),
    "reshape away": ("s = Constant<value_ints=[-1,60]>() y = Reshape(x, s)", ("N", 60)),
    "unsqueeze": ("a = Constant<value_ints=[0]>() y = Unsqueeze(x, a)", (1, "N", 3, 4, 5)),
    "transpose": ("y = Transpose(x)", (5, 4, 3, "N")),
    "slice": ("s = Constant<value_ints=[1]>() y = Slice(x, s, s, s)", ("N", 0, 4, 5)),
    "whole slice": (
        "s = Constant<value_ints=[0,1]>() e = Constant<value_ints=[9223372036854775807,2]>() y = Slice(x, s, e)",
        ("N", 1, 4, 5),
    ),
    "split": ("a, y = Split<axis=2, num_outputs=2>(x)", ("N", 3, 2, 5)),
    "pad": ("p = Constant<value_ints=[0,0,1,1,0,0,1,1]>() y = Pad(x, p)", ("N", 3, 6, 7)),
    "concat": ("y = Concat<axis=1>(x, x)", ("N", 6, 4, 5)),
    "resize": (
        's = Constant<value_floats=[1.,1.,2.,2.]>() y = Resize<mode="linear">(x, , s)',
        ("N", 3, 8, 10),
    ),
    "mean": ("a = Constant<value_ints=[2,3]>() y = ReduceMean<keepdims=0>(x, a)", ("N", 3)),
    "expand": ("s = Constant<value_ints=[2,1,1,1,1]>() y = Expand(x, s)", (2, "N", 3, 4, 5)),
    "tile": ("r = Constant<value_ints=[1,2,1,1]>() y = Tile(x, r)", ("N", 6, 4, 5)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_symbolic_batch(name: str) -> None:
    body, shape = SYMBOLIC[name]
    made = model(18, "float[N,3,4,5] x", body)
    assert convc.load_onnx(made).outputs[0].type.stated == shape
    got = convc.compile(made, shapes={"x": (2, 3, 4, 5)}, threads=1)(np.zeros((2, 3, 4, 5), np.float32))
    assert got.shape == tuple(2 if d == "N" else d for d in shape)


REFUSED: dict[str, tuple[str, type[ConvcError], str]] = {
    "run-time shape": ("y = Reshape(x, n)", NotConstantError, "computed at run time"),
    "run-time fill": ("c = ConstantOfShape(n) y = Add(x, c)", NotConstantError, "ConstantOfShape"),
    "run-time range": (
        "i = Constant<value_int=0>() s = Squeeze(n) r = Range(i, s, i) y = Cast<to=1>(r)",
        NotConstantError,
        "Range",
    ),
    "endless range": (
        "i = Constant<value_int=0>() s = Constant<value_int=9>() r = Range(i, s, i) y = Cast<to=1>(r)",
        ModelFileError,
        "a range from 0 to 9 in steps of 0 has no end",
    ),
    "range of nan": (
        "i = Constant<value_float=1.0>() s = Constant<value_float=nan>() y = Range(i, s, i)",
        ModelFileError,
        "a range from 1.0 to nan in steps of 1.0 has no number of elements",
    ),
    "too long a range": (
        "i = Constant<value_int=1>() s = Constant<value_int=99999999999>() r = Range(i, s, i) y = Cast<to=1>(r)",
        UnsupportedOpError,
        "Range node 'r': a range from 1 to 99999999999 in steps of 1 has more elements",
    ),
    "run-time tile": ("y = Tile(x, n)", NotConstantError, "repeats"),
    "strings": ('c = Constant<value_strings=["a"]>() y = Identity(c)', UnsupportedOpError, "Constant node"),
    "numbers that do not fit": ("s = Constant<value_ints=[5]>() y = Reshape(x, s)", ShapeError, "5"),
    "two of -1": ("s = Constant<value_ints=[-1,-1]>() y = Reshape(x, s)", ShapeError, "-1 once"),
    "zero step": (
        "s = Constant<value_ints=[0]>() e = Constant<value_ints=[2]>() y = Slice(x, s, e, s, s)",
        ShapeError,
        "zero",
    ),
    "wrong split": ("s = Constant<value_ints=[1,3]>() y, z = Split(x, s)", ModelFileError, "cannot be split"),
    "missing axis": ("a = Constant<value_ints=[4]>() y = ReduceSum(x, a)", ShapeError, "axis 4"),
    "axis twice": ("a = Constant<value_ints=[1,-1]>() y = ReduceSum(x, a)", ShapeError, "twice"),
    "too many pads": ("p = Constant<value_ints=[1,1,1]>() y = Pad(x, p)", ModelFileError, "pads"),
    "cropped too far": ("p = Constant<value_ints=[-1,0,-2,0]>() y = Pad(x, p)", ShapeError, "size 2"),
    "reflecting nothing": (
        'p = Constant<value_ints=[-2,0,2,0]>() y = Pad<mode="reflect">(x, p)',
        ShapeError,
        "nothing",
    ),
    "bad permutation": ("y = Transpose<perm=[0,0]>(x)", ShapeError, "permutation"),
    "no sizes": ("y = Resize(x)", ModelFileError, "scales or sizes"),
    "bad mode": ('s = Constant<value_ints=[3,3]>() y = Resize<mode="best">(x, , , s)', ConvcError, "best"),
    "bad equation": ('y = Einsum<equation="ijk->i">(x)', ShapeError, "rank 2"),
    "bad repeats": ("r = Constant<value_ints=[1]>() y = Tile(x, r)", ShapeError, "repeats"),
    "squeezing 3": ("a = Constant<value_ints=[1]>() y = Squeeze(x, a)", ModelFileError, "size 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_cause(name: str) -> None:
    body, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        convc.load_onnx(model(18, "float[2,3] x, int64[1] n", body))


def test_nan_is_the_largest_and_the_smallest() -> None:
    """NaN is both the largest and the smallest value, as in numpy."""
    x = np.array([[1, np.nan, 3], [np.nan, 5, 4], [7, 8, np.nan], [1, 2, 3]], np.float32)
    for op, want in (("ReduceMax", np.max), ("ReduceMin", np.min), ("ArgMax", np.argmax), ("ArgMin", np.argmin)):
        axes = "<axis=1, keepdims=0>(x)" if op.startswith("Arg") else "<keepdims=0>(x, a)"
        body = f"a = Constant<value_ints=[1]>() y = {op}{axes}"
        made = model(18, "float[4,3] x", body, "int64 y" if op.startswith("Arg") else "float y")
        np.testing.assert_array_equal(convc.compile(made, threads=1)(x), want(x, axis=1))


def test_log_sum_exp_of_infinities() -> None:
    x = np.array([[-np.inf, -np.inf], [-np.inf, 1], [np.inf, 1], [np.nan, 1], [1000, 1000]], np.float32)
    made = model(18, "float[5,2] x", "a = Constant<value_ints=[1]>() y = ReduceLogSumExp<keepdims=0>(x, a)")
    want = np.array([-np.inf, 1, np.inf, np.nan, 1000 + np.log(2)], np.float32)
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), want)


def test_indices_out_of_range_read_inside_the_tensor() -> None:
    """Indices out of range, which ONNX leaves undefined, must not read memory outside the tensor."""
    made = model(18, "float[3] x, int64[4] i", "y = Gather(x, i)")
    x, i = np.array([1, 2, 3], np.float32), np.array([3, -4, 2**40, -(2**40)])
    np.testing.assert_array_equal(convc.compile(made, threads=1)(x, i), [3, 1, 3, 1])
