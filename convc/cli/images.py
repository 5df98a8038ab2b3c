"""Pictures as model inputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.ir.errors import InputError

from ..runtime.description import Port

FITS = ("crop", "pad", "stretch")
"""How a picture of other proportions than the model's can be fitted to the model's size."""


MOST_PIXELS = 1 << 26
"""A picture is not scaled to more pixels than this."""


def read_picture(
    path: str | os.PathLike[str],
    port: Port,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    fit: str = FITS[0],
    resize: int | None = None,
) -> np.ndarray:
    """Read a picture as the array that ``port`` takes.

    The picture is turned upright (EXIF), converted to grey or RGB by the number of the port's channels (1 or 3), and
    resized to the port's height and width by bilinear filtering. ``fit`` says what happens to other proportions:
    ``crop`` scales the picture to cover the port's size and keeps its middle, ``pad`` scales it to lie within the size
    and puts it in the middle of a black picture, ``stretch`` scales both sides by themselves. With ``resize``, and
    ``crop``, the shorter side is scaled to that many pixels before the middle is cut out.

    A height or width that is dynamic becomes that of the picture, and a dynamic batch size becomes 1. The array is laid
    out as ``[1, C, H, W]``, or as ``[1, H, W, C]`` when the port has its channels last.

    The values for a float port are ``(value - mean) / std``, where ``value`` is from 0 to 1; ``mean`` and ``std`` have
    one number, or one per channel. The values for a uint8 port are from 0 to 255.

    Raises ``InputError`` when the file is not a picture, Pillow is missing, or the port does not take a picture.
    """
    channels, height, width, last = _geometry(_sized(port, path))
    for what, values in (("mean", mean), ("std", std)):
        if values and len(values) not in (1, channels):
            raise InputError(f"{what} has {len(values)} numbers; input '{port.name}' has {channels} channels")
    if (mean or std) and port.dtype == "uint8":
        raise InputError(f"mean and std do not apply: input '{port.name}' takes uint8")
    if std and not all(std):
        raise InputError("std must not be 0")
    pixels = _pixels(path, channels, (width, height), fit, resize)
    if port.dtype != "uint8":
        scaled = pixels.astype(np.float64) / 255
        pixels = ((scaled - np.array(mean or 0.0)) / np.array(std or 1.0)).astype(port.dtype)
    return np.ascontiguousarray((pixels if last else pixels.transpose(2, 0, 1))[None])


def _geometry(port: Port) -> tuple[int, int, int, bool]:
    """Channels, height, width, and whether the channels come last."""
    shape = port.sizes
    if len(shape) == 4 and shape[0] == 1 and port.dtype in ("float16", "float32", "float64", "uint8"):
        if shape[1] in (1, 3):
            return shape[1], shape[2], shape[3], False
        if shape[3] in (1, 3):
            return shape[3], shape[1], shape[2], True
    raise InputError(
        f"input '{port.name}' ({port.dtype}{list(shape)}) does not take a picture, "
        "which is [1, 1 or 3, H, W] of floats or uint8; give a .npy file"
    )


def _sized(port: Port, path: str | os.PathLike[str]) -> Port:
    """The port with its dynamic sizes fixed for one picture."""
    shape = list(port.shape)
    if len(shape) == 4 and any(isinstance(size, str) for size in shape):
        axes = (1, 2) if shape[3] in (1, 3) and shape[1] not in (1, 3) else (2, 3)
        width, height = _upright(path).size
        own = {0: 1, axes[0]: height, axes[1]: width}
        shape = [own.get(i, size) if isinstance(size, str) else size for i, size in enumerate(shape)]
    return Port(port.name, tuple(shape), port.dtype)


def _pixels(
    path: str | os.PathLike[str], channels: int, size: tuple[int, int], fit: str, resize: int | None
) -> np.ndarray:
    """The decoded picture of a size (width, height) as uint8 ``[H, W, C]``."""
    picture = _upright(path)
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8, not scale
        picture = Image.fromarray((np.asarray(picture, np.int64).clip(0, 65535) // 257).astype(np.uint8))
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = _fitted(picture, size, fit, resize)
    return np.asarray(picture).reshape(size[1], size[0], channels)


def _fitted(picture: Any, size: tuple[int, int], fit: str, resize: int | None) -> Any:
    """The picture scaled, cut or padded to a size (width, height), as ``read_picture`` says."""
    from PIL import Image

    own: tuple[int, int] = picture.size
    scales = [want / have for want, have in zip(size, own, strict=True)]
    if fit == "stretch":
        scaled = size
    elif resize is not None:
        if resize < max(size):
            raise InputError(f"--resize {resize} is less than the model's picture of {size[0]}x{size[1]} pixels")
        if own[0] * own[1] * (resize / min(own)) ** 2 > MOST_PIXELS:
            raise InputError(
                f"--resize {resize} makes more than {MOST_PIXELS} pixels of the picture of {own[0]}x{own[1]}"
            )
        scaled = _scaled(own, resize / min(own))
    else:
        scaled = _scaled(own, max(scales) if fit == "crop" else min(scales))
        most = max if fit == "crop" else min
        scaled = most(scaled[0], size[0]), most(scaled[1], size[1])
    if scaled != own:
        picture = picture.resize(scaled, Image.Resampling.BILINEAR)
    if scaled == size:
        return picture
    left, top = ((have - want) // 2 for have, want in zip(scaled, size, strict=True))  # below 0 for borders
    return picture.crop((left, top, left + size[0], top + size[1]))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _upright(path: str | os.PathLike[str]) -> Any:
    """The decoded picture, turned as its EXIF data says. Raises ``InputError`` when it cannot be read."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError("reading pictures needs Pillow: pip install pillow") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures and odd metadata; too large a picture raises
            with Image.open(path) as opened:
                return ImageOps.exif_transpose(opened)
    except FileNotFoundError:
        raise InputError(f"cannot read '{path}': no such file") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as e:
        raise InputError(f"cannot read '{path}' as a picture: {e}") from None
