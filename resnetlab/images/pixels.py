"""One image: decoded, upright, resized, cut."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from resnetlab import files, machine
from resnetlab.config import WordedError

MOST_BYTES = 1024**3  # of an image file
SMALL_FILE = 512 * 1024  # bytes; a larger JPEG is worth decoding at a fraction of its size
CHECK = "; `resnetlab data check` names every damaged file"
# Of tqdm: no bar where nobody watches, as in a log.
BAR: dict[str, Any] = {"leave": False, "disable": None}
T = TypeVar("T")
R = TypeVar("R")


class DataError(WordedError, RuntimeError):
    """A data set that is missing, damaged or not as it should be; the message names the file."""

    code = 2


class DownloadError(DataError):
    """What the network or the disk did not let through: the same command may succeed later."""

    code = 1


class _Quiet:
    """Silences warnings while any thread is inside; `catch_warnings` by itself is not for threads.

    Pillow warns of metadata it cannot read, of palettes and of large images. None of it says that the
    pixels are wrong, and what is too large is an error below.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._outside = warnings.catch_warnings()
                self._outside.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *raised: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._outside.__exit__(*raised)


quiet = _Quiet()


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with an image file inside is a DataError that names it; no warning leaks."""
    from PIL import Image

    try:
        with quiet:
            yield
    except (MemoryError, DataError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large: {error}") from None
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        if isinstance(error, OSError) and error.filename is not None:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from None
        raise DataError(f"{path} is damaged or no image ({error}){CHECK}") from None


def in_threads(
    function: Callable[[T], R], items: Sequence[T], together: int = 32
) -> Generator[R, None, None]:
    """`function` of each item, in order, in as many threads as cores, `together` at a time.

    Decoders leave Python's lock while they work. An error in one ends the rest, and so
    does closing the generator.
    """
    tasks = [items[first : first + together] for first in range(0, len(items), together)]
    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        try:
            for results in pool.map(lambda task: [function(item) for item in task], tasks):
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def content_of(path: str | Path) -> bytes:
    """The bytes of an image's file. OSError for a pipe, a device and what is too large to be one."""
    return files.read(Path(path), MOST_BYTES)


def decode(path: str | Path, at_least: int | None = None) -> Tensor:
    """The image in a file, upright as its EXIF orientation asks, uint8 (3, H, W).

    Every kind of file that Pillow reads, whatever its name. Grey, palette, CMYK, YCbCr and LAB images
    become RGB. What is transparent lies on white, as on a page: the colours hidden under transparent
    pixels are arbitrary. Of 16 bits the upper 8 count, so that the whole range stays; floating-point
    pixels have no stated range and are refused, as 32 bits are. Of several frames the first counts.

    With `at_least`, a large JPEG may come at 1/2, 1/4 or 1/8 of its size, its shorter side still at
    least that: the decoder skips what resizing would throw away. Raises DataError naming a file that is
    no image, not a whole one, too large for Pillow's limit of 179 million pixels, or cannot be read.
    """
    with reading(path):
        encoded = content_of(path)
        pixels = _decode_fast(encoded)
        if pixels is None:
            pixels = torch.from_numpy(_decode(path, encoded, at_least)).permute(2, 0, 1)
        return pixels


def _decode_fast(encoded: bytes) -> Tensor | None:
    """A small grey or RGB JPEG by torchvision, a quarter faster and the same bits; None for the rest.

    None also for a file that torchvision refuses: Pillow reads it or says what is wrong with it. So
    small a file cannot hold many more pixels than Pillow's limit: each block of 64 takes a bit.
    """
    if not encoded.startswith(b"\xff\xd8") or len(encoded) > SMALL_FILE:
        return None
    with contextlib.suppress(RuntimeError, ImportError):  # a later torchvision may have no decoders
        from PIL import Image
        from torchvision.io import decode_jpeg

        buffer = torch.from_numpy(np.frombuffer(encoded, dtype=np.uint8).copy())
        pixels: Tensor = decode_jpeg(buffer, apply_exif_orientation=True)  # (1, 3 or 4, H, W)
        if pixels.shape[0] in (1, 3) and pixels[0].numel() <= 2 * (Image.MAX_IMAGE_PIXELS or 0):
            return pixels.expand(3, -1, -1)
    return None


def _decode(
    path: str | Path, encoded: bytes, at_least: int | None
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """As `decode`, (H, W, 3), by Pillow."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(encoded)) as image:
        if at_least is not None:
            short = min(image.size)
            width, height = (-(-side * at_least // short) for side in image.size)
            image.draft(image.mode, (width, height))  # does nothing to other files than JPEG
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):  # Pillow itself would cut off at 255
            grey = np.asarray(image)
            if grey.min() < 0 or grey.max() > 0xFFFF:
                raise DataError(f"{path} has pixels of more than 16 bits: save it with 8 or 16")
            grey = np.where(grey == image.info.get("transparency"), 0xFFFF, grey) >> 8
            return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        if image.mode == "F":
            raise DataError(f"{path} has floating-point pixels: save it with 8 or 16 bits")
        if image.has_transparency_data:
            seen = image.convert("RGBA")
            return np.array(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen))[..., :3]
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
