"""Whole networks compared with ONNX Runtime: small ones always, and published ones where their files exist (`slow`).

Slow tests read the ONNX files in the folder that the environment variable CONVC_ZOO names. Without it, `model_zoo.py`
makes the files where torch and torchvision are installed. PP-OCR's files come from the packages
rapidocr-onnxruntime and rapidocr, and those of Silero's voice detector from silero-vad.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from support.compiling import compiled
from support.oracles import Feeds, run_onnxruntime
from support.real_models import LIGHT, ZOO, package_models, with_logits, with_random_weights, zoo_model, zoo_truth
from support.small_models import MODELS
from support.tolerances import MODEL_ATOL, MODEL_RTOL

import convc

EXAMPLES = Path(__file__).parent.parent / "examples"


def random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Normally distributed values for each input that is not an initializer, the same on every run."""
    rng = np.random.default_rng(0)
    weights = {t.name for t in model.graph.initializer}
    return {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in model.graph.input
        if i.name not in weights
    }


def check(model: onnx.ModelProto, feeds: Feeds) -> None:
    """Compare every output with ONNX Runtime's.

    The absolute tolerance grows with the deviation of values where it is above 1.
    """
    got = compiled(model, threads=2, shapes={name: x.shape for name, x in feeds.items()}).run(feeds)
    for port, want in zip(model.graph.output, run_onnxruntime(model, feeds), strict=True):
        y = got[port.name]
        assert (y.shape, y.dtype) == (want.shape, want.dtype)
        assert np.isfinite(want).all()
        atol = MODEL_ATOL * max(1.0, float(want.std()))
        np.testing.assert_allclose(y, want, rtol=MODEL_RTOL, atol=atol, err_msg=port.name)


@pytest.mark.parametrize(("batch", "width"), [(1, 16), (2, 12)])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_small(build: Callable[[int, int], onnx.ModelProto], batch: int, width: int) -> None:
    """One piece of each family, with channel counts that are whole vectors and counts that are not."""
    model = build(batch, width)
    check(model, random_feeds(model))


def test_lenet_numbers() -> None:
    model = onnx.load(EXAMPLES / "lenet.onnx")
    check(model, random_feeds(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, tmp_path: Path) -> None:
    """torchvision's networks at full size, with the weights that model_zoo.py describes."""
    model = zoo_model(name, tmp_path)
    check(model, random_feeds(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_error_against_float64(name: str, tmp_path: Path) -> None:
    """The root mean square error of the logits is at most a multiple of ONNX Runtime's own.

    The truth is PyTorch's result in float64.
    """
    model = zoo_model(name, tmp_path)
    truth = zoo_truth(name, tmp_path)
    feeds = {"x": truth["x"]}

    def error(logits: np.ndarray) -> float:
        return float(np.sqrt(np.square(logits.astype(np.float64) - truth["logits"]).mean()))

    theirs = error(run_onnxruntime(model, feeds)[0])
    for precision, most in (("default", 10), ("strict", 2)):
        ours = error(convc.compile(model, precision=precision).run(feeds)["logits"])
        print(f"{name} {precision}: {ours:.1e}, {ours / theirs:.1f} times ONNX Runtime's")
        assert ours <= most * theirs


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light(path: Path) -> None:
    """The networks of the onnx package, which have no weights, with random ones.

    With the constants that they have instead, all outputs are equal; convc.onnx_suite checks those.
    """
    model = with_logits(with_random_weights(onnx.load(path)))
    check(model, random_feeds(model))


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["noise", "page"])
@pytest.mark.parametrize(
    ("package", "name", "sizes"),
    [
        ("rapidocr_onnxruntime", "ch_PP-OCRv4_det_infer", [(320, 480), (224, 352)]),
        ("rapidocr_onnxruntime", "ch_PP-OCRv4_rec_infer", [(48, 320), (48, 200)]),
        ("rapidocr_onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer", [(48, 192), (80, 160)]),
        ("rapidocr", "PP-OCRv6_det_small", [(320, 480), (224, 352)]),
        ("rapidocr", "PP-OCRv6_rec_small", [(48, 320), (48, 200)]),
        ("rapidocr", "ch_ppocr_mobile_v2.0_cls_mobile", [(48, 192), (80, 160)]),
    ],
)
def test_ocr(package: str, name: str, sizes: list[tuple[int, int]], real: bool) -> None:
    """Trained networks at two sizes, on noise and on a picture."""
    model = with_logits(onnx.load(package_models(package, "models") / f"{name}.onnx"))
    for height, width in sizes:
        pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
        if real:
            with Image.open(EXAMPLES / "page.png") as page:
                part = page if "det" in name else page.crop((0, 44, 130, 66))  # "Let us first"
                grey = np.asarray(part.convert("L").resize((width, height)), np.float32) / 127.5 - 1
            pixels = np.broadcast_to(grey, pixels.shape).copy()
        check(model, {"x": pixels})


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 8000])
@pytest.mark.parametrize(
    "name",
    ["", "_16k_op15", "_16k_sequence", "_half", "_op18_ifless", "_openvino_16k"],
    ids=lambda name: name or "plain",
)
def test_voice_detector(name: str, rate: int) -> None:
    """Silero's networks, some of which take the rate as an input and branch by it, as they are and for one rate."""
    model = onnx.load(package_models("silero_vad", "data") / f"silero_vad{name}.onnx")
    inputs = {i.name for i in model.graph.input}
    if rate != 16000 and "sr" not in inputs:
        return  # a file for 16 kHz alone
    rng = np.random.default_rng(0)
    feeds = {"input": (rng.standard_normal((1, 576 * rate // 16000)) * 0.1).astype(np.float32)}
    feeds |= {n: rng.standard_normal((1, 1, 128)).astype(np.float32) for n in ("h", "c") if n in inputs}
    feeds |= {n: rng.standard_normal((2, 1, 128)).astype(np.float32) for n in ("state",) if n in inputs}
    if "sr" not in inputs:
        check(model, feeds)
        return
    want = run_onnxruntime(model, {**feeds, "sr": np.array(rate)})
    as_it_is = convc.compile(model, threads=2, cache=False).run({**feeds, "sr": np.array(rate)})
    fixed = convc.compile(model, threads=2, shapes={n: x.shape for n, x in feeds.items()}, values={"sr": rate})
    for got in (as_it_is, fixed.run(feeds)):
        for y, w in zip(got.values(), want, strict=True):
            np.testing.assert_allclose(y, w, rtol=MODEL_RTOL, atol=MODEL_ATOL)
