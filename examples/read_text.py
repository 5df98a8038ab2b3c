"""Reads the text in a picture with PP-OCR's three networks, compiled by convc.

    pip install '.[images]' && pip install --no-deps rapidocr-onnxruntime
    python examples/read_text.py [PICTURE] [--models FOLDER]

The package rapidocr-onnxruntime (Apache-2.0) only supplies the ONNX files; none of its code is run. One network finds
the lines of text (DB: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", 2020), one tells
whether a line is upside down, and one reads it (CTC: Graves et al., 2006). convc compiles each input size once and
keeps the result on disk; lines are padded to a few widths, so that few sizes occur.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import onnx
from PIL import Image

import convc

DETECT, DIRECT, READ = "ch_PP-OCRv4_det_infer", "ch_ppocr_mobile_v2.0_cls_infer", "ch_PP-OCRv4_rec_infer"
HEIGHT = 48
"""The height in pixels of a line of text for the second and third network."""
WIDTHS = (160, 320, 640, 1280, 2560)
"""The widths in pixels that lines are padded to."""


@dataclass(frozen=True)
class Line:
    """One line of text, with the mean probability of its characters as ``confidence``.

    ``corners`` [4, 2] are (x, y) in pixels of the picture, clockwise from the top left.
    """

    text: str
    confidence: float
    corners: np.ndarray


class TextReader:
    """Reads text with PP-OCR's three networks."""

    def __init__(self, folder: Path) -> None:
        """Compile the three ONNX files in a folder."""
        metadata = {p.key: p.value for p in onnx.load(folder / f"{READ}.onnx").metadata_props}
        self.characters = ["", *metadata["character"].split("\n"), " "]
        """The character of each class; class 0 is CTC's blank."""
        self.networks = {name: convc.compile(folder / f"{name}.onnx") for name in (DETECT, DIRECT, READ)}

    def __call__(self, picture: Image.Image) -> list[Line]:
        """The lines of text in a picture, from top to bottom."""
        picture = picture.convert("RGB")
        lines = []
        for corners in self.detect(picture):
            crop = cut_out(picture, corners)
            turned = self.upside_down(crop)  # when in doubt, read both ways and keep the more confident result
            ways = [crop] * (turned < 0.9) + [crop.transpose(Image.Transpose.ROTATE_180)] * (turned > 0.1)
            text, confidence = max(map(self.read, ways), key=lambda result: result[1])
            if text and confidence >= 0.5:
                lines.append(Line(text, confidence, corners))
        return sorted(lines, key=lambda line: (line.corners[:, 1].mean(), line.corners[0, 0]))

    def detect(self, picture: Image.Image, short_side: int = 736) -> list[np.ndarray]:
        """The corners [4, 2] of each line of text, in pixels of the picture."""
        scale = max(1.0, short_side / min(picture.size))
        width, height = (max(32, round(side * scale / 32) * 32) for side in picture.size)
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        probability = self.networks[DETECT](as_input(resized, width))[0, 0]
        grown = probability > 0.3
        grown[1:] |= grown[:-1]
        grown[:, 1:] |= grown[:, :-1]
        found = []
        for rows, starts, ends in components(grown):
            score = np.mean(np.concatenate([probability[r, s:e] for r, s, e in zip(rows, starts, ends, strict=True)]))
            corners = text_box(np.stack([np.r_[starts, ends - 1], np.r_[rows, rows]], axis=1))
            if score >= 0.5 and corners is not None:
                found.append(corners * (np.array(picture.size) / (width, height)))
        return found

    def upside_down(self, crop: Image.Image) -> float:
        """The probability that a line is upside down: the mean over windows of the width that the network takes."""
        fitted = crop.resize((line_width(crop), HEIGHT), Image.Resampling.BILINEAR)
        windows = [fitted.crop((x, 0, x + 192, HEIGHT)) for x in range(0, max(1, fitted.width - 191), 96)]
        return float(np.mean([self.networks[DIRECT](as_input(w, 192))[0, 1] for w in windows]))

    def read(self, crop: Image.Image) -> tuple[str, float]:
        """The text of one line, and the mean probability of its characters."""
        width = next((w for w in WIDTHS if w >= line_width(crop)), WIDTHS[-1])
        fitted = crop.resize((min(width, line_width(crop)), HEIGHT), Image.Resampling.BILINEAR)
        probabilities = self.networks[READ](as_input(fitted, width))[0]
        classes = probabilities.argmax(axis=1)
        kept = (classes != 0) & np.r_[True, classes[1:] != classes[:-1]]
        text = "".join(self.characters[c] for c in classes[kept])
        return text, float(probabilities.max(axis=1)[kept].mean()) if text else 0.0


def line_width(crop: Image.Image) -> int:
    """The width of a line of text when its height is ``HEIGHT``, in pixels."""
    return max(1, round(HEIGHT * crop.width / crop.height))


def as_input(picture: Image.Image, width: int) -> np.ndarray:
    """float32 [1, 3, height, width] in [-1, 1], BGR as PaddleOCR has it, with zeros to the right of the picture."""
    pixels = np.asarray(picture, np.float32)[:, :, ::-1] / 127.5 - 1
    return np.pad(pixels, ((0, 0), (0, width - picture.width), (0, 0))).transpose(2, 0, 1)[None].copy()


def components(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The connected regions of a boolean mask [H, W].

    Each region is given by its horizontal runs: three arrays of rows, first columns and ends.
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(rows)))
    first = np.searchsorted(rows, np.arange(len(mask) + 1))
    for (a, b), (_, c) in pairwise(pairwise(first)):  # runs a..b in one row, b..c in the next
        touch = (starts[a:b, None] <= ends[b:c]) & (starts[b:c] <= ends[a:b, None])
        graph.add_edges_from((a + i, b + j) for i, j in np.argwhere(touch))
    regions = [np.array(sorted(region)) for region in nx.connected_components(graph)]
    return [(rows[r], starts[r], ends[r]) for r in regions]


def text_box(points: np.ndarray, grow: float = 1.6) -> np.ndarray | None:
    """The corners [4, 2] of the smallest rectangle, at any angle, around points [P, 2], grown as DB's boxes must be.

    DB learns shrunken regions; each side moves out by ``grow * area / perimeter``. Returns ``None`` for a speck.
    """
    angles = np.radians(np.arange(-45, 45, 0.5))
    axes = np.stack([[np.cos(angles), np.sin(angles)], [-np.sin(angles), np.cos(angles)]])  # [axis, xy, angle]
    along = np.einsum("pc,dca->dap", points, axes)
    low, high = along.min(axis=2), along.max(axis=2)
    best = np.argmin((high - low + 1).prod(axis=0))
    low, high = low[:, best], high[:, best] + 1
    if min(high - low) < 3:
        return None
    out = grow * (high - low).prod() / (2 * (high - low).sum())
    (left, top), (right, bottom) = low - out, high + out
    return np.asarray([[left, top], [right, top], [right, bottom], [left, bottom]] @ axes[:, :, best])


def cut_out(picture: Image.Image, corners: np.ndarray) -> Image.Image:
    """The line of text within four corners, turned level.

    A line much taller than wide is taken to be on its side, and is turned by a quarter.
    """
    width, height = (max(1, round(float(np.linalg.norm(corners[0] - corners[i])))) for i in (1, 3))
    quad = tuple(corners[[0, 3, 2, 1]].reshape(-1))
    crop = picture.transform((width, height), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    return crop.transpose(Image.Transpose.ROTATE_90) if height >= 1.5 * width else crop


def default_models() -> Path:
    """The folder of ONNX files in the installed package rapidocr-onnxruntime, which is not imported."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        raise SystemExit("no models: give --models FOLDER, or pip install --no-deps rapidocr-onnxruntime")
    return Path(spec.origin).parent / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=Path(__file__).parent / "page.png")
    parser.add_argument("--models", type=Path, help="folder of the three ONNX files")
    arguments = parser.parse_args()
    reader = TextReader(arguments.models or default_models())
    with Image.open(arguments.picture) as picture:
        for line in reader(picture):
            x, y = line.corners[0]
            print(f"{line.confidence:.2f} at ({x:.0f}, {y:.0f}): {line.text}")


if __name__ == "__main__":
    main()
