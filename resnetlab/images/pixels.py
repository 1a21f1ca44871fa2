"""One image: decoded, upright, resized, cut."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from resnetlab.images.datasets import DataError

CHECK = "; `resnetlab data check` names every damaged file"
LARGE_FILE = 512 * 1024  # bytes of a JPEG that is worth decoding at a fraction of its size
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def decode(path: str | Path, at_least: int | None = None) -> Tensor:
    """The image in a file, upright, uint8 (3, H, W).

    Grey, CMYK and palette images become RGB, transparency is dropped, 16 bits become 8. With
    `at_least`, a large JPEG may come at 1/2, 1/4 or 1/8 of its size, its shorter side still at least
    that: the decoder skips what resizing would throw away. Raises DataError naming a file that is no
    image, not a whole one, or cannot be read.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    if encoded[:2].tobytes() == b"\xff\xd8" and (at_least is None or len(encoded) < LARGE_FILE):
        # A file that this decoder refuses is Pillow's to read, or to say what is wrong with it; so are
        # all files where a later torchvision has no decoders any more, as it warns.
        with contextlib.suppress(RuntimeError, ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from torchvision.io import ImageReadMode, decode_jpeg

            found: Tensor = decode_jpeg(
                torch.from_numpy(encoded), ImageReadMode.RGB, apply_exif_orientation=True
            )
            return found
    try:
        return torch.from_numpy(_decode_slowly(encoded, at_least)).permute(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise DataError(f"{path} is damaged or no image ({error}){CHECK}") from None


def _decode_slowly(encoded: Pixels, at_least: int | None) -> Pixels:
    """As `decode`, (H, W, 3), for every kind of file that Pillow knows."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata; what the pixels are is not in doubt
        with Image.open(io.BytesIO(encoded.tobytes())) as image:
            if at_least is not None:
                short = min(image.size)
                width, height = (-(-side * at_least // short) for side in image.size)
                image.draft(image.mode, (width, height))  # does nothing to other files than JPEG
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            if image.mode == "P" and "transparency" in image.info:
                return np.array(image.convert("RGBA").convert("RGB"))
            return np.array(image.convert("RGB"))


def _resample(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (3, H, W) -> (3, height, width): bilinear, antialiased, as Pillow and torchvision do it."""
    if pixels.shape[1:] == (height, width):
        return pixels
    # Three times as fast on pixels that lie side by side, as the decoder leaves them.
    packed = pixels[None].contiguous(memory_format=torch.channels_last)
    return interpolate(packed, size=(height, width), mode="bilinear", antialias=True)[0]


def resize(pixels: Tensor, side: int) -> Tensor:
    """The whole image with its shorter side `side`: uint8 (3, H, W) -> (3, h, w).

    The longer side is rounded down, as torchvision does; the paper does not say.
    """
    height, width = pixels.shape[1:]
    short = min(height, width)
    return _resample(pixels, side * height // short, side * width // short)


def centre_crop(pixels: Tensor, size: int) -> Tensor:
    """The square of `size` in the middle of (..., H, W), rounded as torchvision does."""
    top, left = (round((side - size) / 2.0) for side in pixels.shape[-2:])
    return pixels[..., top : top + size, left : left + size]  # (..., size, size)


def scaled_crop(pixels: Tensor, side: int, crop: int, x: float, y: float) -> Tensor:
    """A square of `crop` from an image whose shorter side is resized to `side` (Sec. 3.4).

    uint8 (3, H, W) -> (3, crop, crop); x and y in [0, 1) place it among all positions. The square is
    cut out first and only then resized: it is then `crop` * shorter side / `side` pixels wide, rounded
    to whole pixels, and at its edge the filter does not see what lies outside. The paper resizes
    first; the difference is below one pixel, and resizing what is cut away would cost a third of the
    decoding.
    """
    height, width = pixels.shape[1:]
    cut = max(1, round(crop * min(height, width) / side))
    top, left = int(y * (height - cut + 1)), int(x * (width - cut + 1))
    return _resample(pixels[:, top : top + cut, left : left + cut], crop, crop)
