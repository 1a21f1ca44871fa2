"""THE decoder: every mode that Pillow reads from a file, every EXIF orientation, what is refused."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from resnetlab.images import pixels
from resnetlab.images.pixels import DataError, decode

COLOURS = np.array([[[200, 10, 30], [0, 255, 0]], [[7, 7, 7], [90, 60, 240]]], dtype=np.uint8)
GREY = np.array([[0, 255], [77, 130]], dtype=np.uint8)
ALPHA = np.array([[255, 0], [128, 255]], dtype=np.uint8)


def read(
    content: bytes | Image.Image, path: Path, kind: str = "PNG", **options: Any
) -> np.ndarray[Any, Any]:
    """What `decode` makes of a file with that content: uint8 (H, W, 3)."""
    if isinstance(content, Image.Image):
        buffer = io.BytesIO()
        content.save(buffer, kind, **options)
        content = buffer.getvalue()
    (path / "file.png").write_bytes(content)
    found = decode(path / "file.png")
    assert found.dtype == torch.uint8
    return found.permute(1, 2, 0).numpy()


def three(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.repeat(grey[..., None], 3, axis=2)


def on_white(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Composited by hand: alpha times the colour, the rest of it white."""
    part = ALPHA[..., None] / 255
    return np.rint(part * colours + (1 - part) * 255)


def png(width: int, bits: int, kind: int, pixels: bytes, transparent: bytes = b"") -> bytes:
    """A PNG of one row, chunk by chunk: kinds and depths that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + pixels))]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in (*chunks, (b"IEND", b"")):
        if data or name == b"IEND":
            out += (
                struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            )
    return out


# --- every mode -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000"])
def test_rgb_and_grey_are_their_own_values(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(read(Image.fromarray(COLOURS), tmp_path, kind, **options), COLOURS)
    assert np.array_equal(read(Image.fromarray(GREY), tmp_path, kind, **options), three(GREY))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_one_bit_is_black_or_white(kind: str, tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert np.array_equal(read(bits, tmp_path, kind), three(np.array([[0, 255], [255, 0]])))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_a_palette_is_looked_up(kind: str, tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(4)
    assert np.array_equal(read(image, tmp_path, kind), COLOURS)


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    coloured = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    assert np.abs(read(coloured, tmp_path) - on_white(COLOURS)).max() <= 1
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    for kind in ("PNG", "TIFF"):
        assert np.abs(read(grey, tmp_path, kind) - on_white(three(GREY))).max() <= 1
    palette = Image.fromarray(COLOURS).quantize(4)
    numbers = np.array(palette)
    opacity = bytes(int(ALPHA[numbers == number][0]) for number in range(4))  # one per colour
    assert np.abs(read(palette, tmp_path, transparency=opacity) - on_white(COLOURS)).max() <= 1
    clear = numbers == numbers[0, 1]
    for kind in ("PNG", "GIF"):  # one colour of the palette is clear
        found = read(palette, tmp_path, kind, transparency=int(numbers[0, 1]))
        assert np.array_equal(found, np.where(clear[..., None], 255, COLOURS))
    with_alpha = palette.convert("PA")
    with_alpha.putalpha(Image.fromarray(ALPHA))
    assert with_alpha.mode == "PA"
    assert np.abs(read(with_alpha, tmp_path, "TIFF") - on_white(COLOURS)).max() <= 1


def test_a_colour_that_is_marked_as_transparent_is_white(tmp_path: Path) -> None:
    assert read(
        png(2, 8, 2, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">3H", 1, 2, 3)), tmp_path
    ).tolist() == [[[255, 255, 255], [4, 5, 6]]]
    assert read(png(2, 8, 0, bytes([9, 8]), struct.pack(">H", 9)), tmp_path).tolist() == [
        [[255, 255, 255], [8, 8, 8]]
    ]
    sixteen = png(2, 16, 0, struct.pack(">2H", 1000, 40_000), struct.pack(">H", 1000))
    assert read(sixteen, tmp_path).tolist() == [[[255, 255, 255], [156, 156, 156]]]


def test_sixteen_bits_keep_their_whole_range(tmp_path: Path) -> None:
    """The upper 8 of 16 bits, in grey as in colour; Pillow's own conversion cuts grey off at 255."""
    values = np.array([[0, 255, 256], [1000, 40_000, 65_535]], dtype=np.uint16)
    wanted = three(values >> 8)
    for kind in ("PNG", "TIFF", "JPEG2000"):
        assert np.array_equal(read(Image.fromarray(values), tmp_path, kind), wanted)
    assert np.array_equal(read(Image.fromarray(values.astype(np.int32)), tmp_path, "TIFF"), wanted)
    colours = struct.pack(">6H", 1000, 2000, 3000, 40_000, 50_000, 65_535)
    assert read(png(2, 16, 2, colours), tmp_path).tolist() == [[[3, 7, 11], [156, 195, 255]]]
    grey_and_alpha = struct.pack(">4H", 1000, 65_535, 40_000, 0)
    assert read(png(2, 16, 4, grey_and_alpha), tmp_path).tolist() == [[[3, 3, 3], [255, 255, 255]]]


def test_numbers_without_a_stated_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"file\.png has floating-point pixels: save it with 8 or 16 bits"
    ):
        read(Image.fromarray(np.float32([[0.0, 1.0]])), tmp_path, "TIFF")
    for value in (-1, 70_000):
        with pytest.raises(DataError, match=r"file\.png has pixels of more than 16 bits"):
            read(Image.fromarray(np.int32([[0, value]])), tmp_path, "TIFF")


def test_other_colour_spaces_become_rgb(tmp_path: Path) -> None:
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0]], [[0, 255, 255, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    white, cyan, red, black = [255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]
    print_ = Image.merge("CMYK", [Image.fromarray(channel) for channel in ink.transpose(2, 0, 1)])
    assert read(print_, tmp_path, "TIFF").tolist() == [[white, cyan], [red, black]]
    whole = print_.resize((32, 32), Image.Resampling.NEAREST)  # JPEG blocks of one colour each
    found = read(whole, tmp_path, "JPEG", quality=100, subsampling=0).astype(int)
    assert np.abs(found[::16, ::16] - np.array([[white, cyan], [red, black]])).max() <= 4
    video = Image.fromarray(COLOURS).convert("YCbCr")
    assert np.abs(read(video, tmp_path, "TIFF").astype(int) - COLOURS).max() <= 3
    lab = Image.fromarray(COLOURS).convert("LAB")
    assert (
        np.abs(read(lab, tmp_path, "TIFF").astype(int) - COLOURS).max() <= 20
    )  # 8 bits, strong colours


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [75, 92])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_pillows_to_the_last_bit(
    mode: str, quality: int, progressive: bool, tmp_path: Path
) -> None:
    """Whichever decoder reads it: committed runs and their caches rest on these bits."""
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (37, 50, 3), dtype=np.uint8)).convert(mode)
    for subsampling in (0, 2) if mode == "RGB" else (0,):
        buffer = io.BytesIO()
        options = {"subsampling": subsampling} if mode == "RGB" else {}
        noise.save(buffer, "JPEG", quality=quality, progressive=progressive, **options)
        with Image.open(buffer) as again:
            wanted = np.array(again.convert("RGB"))
        with pixels.quiet:
            assert pixels._decode_fast(buffer.getvalue()) is not None
        assert np.array_equal(read(buffer.getvalue(), tmp_path), wanted)


# --- upright ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("I;16", "PNG")],
)
def test_all_eight_orientations_come_upright(
    orientation: int, mode: str, kind: str, tmp_path: Path
) -> None:
    """The corner that was the upper left one ends where EXIF says, whichever decoder reads the file."""
    grey = np.full((16, 32), 220, dtype=np.uint8)
    grey[:8, :8] = 20
    shown = {1: grey, 2: grey[:, ::-1], 3: grey[::-1, ::-1], 4: grey[::-1]}
    shown |= {5: grey.T, 6: grey.T[:, ::-1], 7: grey.T[::-1, ::-1], 8: grey.T[::-1]}
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(grey.astype(np.uint16) << 8 if mode == "I;16" else grey)
    image = image if mode == "I;16" else image.convert(mode)
    found = read(image, tmp_path, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
    assert np.abs(found.astype(int) - three(shown[orientation]).astype(int)).max() <= 3


def test_an_unknown_orientation_changes_nothing(tmp_path: Path) -> None:
    for value in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = value
        assert np.array_equal(read(Image.fromarray(COLOURS), tmp_path, exif=exif), COLOURS)


def test_a_large_jpeg_comes_smaller_and_upright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    image = image.resize((1600, 1200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "large.jpg", quality=95, exif=exif)
    monkeypatch.setattr(pixels, "SMALL_FILE", 1000)
    found = decode(tmp_path / "large.jpg", at_least=224)
    assert found.shape == (3, 400, 300)  # a quarter: an eighth would be 150
    wanted = ImageOps.exif_transpose(image).rotate(-90, expand=True).resize((300, 400))
    assert (found.permute(1, 2, 0).numpy().astype(int) - np.array(wanted)).mean() < 2
    assert decode(tmp_path / "large.jpg").shape == (3, 1600, 1200)


# --- what is refused, and what is not said ----------------------------------------------------


def test_a_file_that_is_too_large_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20 * 20)  # Pillow refuses twice as many
    for kind in ("PNG", "JPEG"):
        with pytest.raises(DataError, match=r"file\.png is too large: .*840 pixels"):
            read(Image.new("RGB", (40, 21)), tmp_path, kind)
        assert read(Image.new("RGB", (40, 20)), tmp_path, kind).shape == (20, 40, 3)  # no warning


def test_a_damaged_file_is_named_and_the_check_recommended(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((200, 200), 50).save(whole)
    for name, content in (
        ("cut.jpg", whole.read_bytes()[:900]),
        ("text.png", b"hello"),
        ("none.jpg", b""),
    ):
        (tmp_path / name).write_bytes(content)
        said = rf"{name} is damaged or no image.*; `resnetlab data check` names every damaged file"
        with pytest.raises(DataError, match=said):
            decode(tmp_path / name)
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read"):
        decode(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match=r"folder\.jpg cannot be read"):
        decode(tmp_path / "folder.jpg")


def test_no_warning_leaks_from_any_thread_and_filters_are_as_before(tmp_path: Path) -> None:
    """A palette with clear bytes, of which Pillow warns if it is converted carelessly; broken EXIF."""
    palette = Image.fromarray(COLOURS).quantize(4)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 255, 255, 255]))
    Image.fromarray(COLOURS).save(tmp_path / "b.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0broken")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        work = [
            threading.Thread(target=lambda p=path: [decode(p) for _ in range(20)])
            for path in (tmp_path / "a.png", tmp_path / "b.png", tmp_path / "a.png")
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert list(warnings.filters) == before
    assert heard == []
