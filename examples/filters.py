"""Gaussian blur, sharpening and edge detection of a photograph, each as a convolution.

    pip install '.[images]'     in the clone's root folder
    python examples/filters.py [PICTURE] [FOLDER]

Writes `blurred.png`, `sharpened.png` and `edges.png` into the folder (the current one by default).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import convc
from convc import nn

SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
"""The kernel that subtracts a picture's Laplacian from it."""
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
"""The kernel of the slope from left to right; its transpose is that of the slope from top to bottom."""


def gaussian(sigma: float) -> np.ndarray:
    """A Gaussian kernel float32 [2r+1, 2r+1] that sums to 1, with r three standard deviations (in pixels), rounded."""
    reach = round(3 * sigma)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(bell, bell)
    return np.asarray(kernel / kernel.sum(), np.float32)


def convolve(planes: np.ndarray, *kernels: np.ndarray) -> np.ndarray:
    """Convolve every plane of [N, H, W] with each of F square kernels of one odd size: [N, F, H, W].

    Border pixels are repeated.
    """
    size = len(kernels[0])
    layer = nn.Conv2D(len(kernels), kernel_size=size, use_bias=False)
    layer.set_weights({"weight": np.stack(kernels)[:, None]})
    reach = size // 2
    x = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)), mode="edge")[:, None]
    y: np.ndarray = convc.compile(layer, shapes={"x": x.shape})(x)
    return y


def save(planes: np.ndarray, path: Path) -> None:
    """Save planes [3 or 1, H, W] of values in [0, 1] as a picture; values outside are clipped."""
    pixels = (planes.clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=Path(__file__).parent / "cat.jpg")
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    arguments = parser.parse_args()
    with Image.open(arguments.picture) as picture:
        colours = np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
    save(convolve(colours, gaussian(2.0))[:, 0], arguments.folder / "blurred.png")
    save(convolve(colours, SHARPEN)[:, 0], arguments.folder / "sharpened.png")
    slopes = convolve(colours.mean(axis=0, keepdims=True), SOBEL, SOBEL.T)
    save(np.hypot(slopes[:, 0], slopes[:, 1]), arguments.folder / "edges.png")


if __name__ == "__main__":
    main()
