"""Figures as PNG files, drawn by a browser on this machine; executed notebooks that hold them.

GitHub, nbconvert and paper draw no plotly data: there the picture beside them is shown.
"""

from __future__ import annotations

import base64
import functools
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
import plotly.graph_objects as go
from PIL import Image

from resnetlab import files, plots
from resnetlab.pages import executed

PNG = "image/png"
WIDTH = 900  # pixels of a picture in a notebook: a column of JupyterLab
COLOURS = 256  # of its palette: a quarter of the bytes, and no difference to see


def pngs(figures: Sequence[go.Figure], *, width: int, scale: float = 1) -> list[bytes]:
    """The figures as PNG files, `width` times `scale` pixels wide, all drawn by one browser.

    RuntimeError, with what to install, where nothing can draw them.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.png") for number in range(len(figures))]
        opts = {"width": width, "scale": scale}
        pairs = zip(figures, paths, strict=True)
        orders = [{"fig": figure, "path": path, "opts": opts} for figure, path in pairs]
        try:
            import kaleido

            # MathJax would be fetched from a server.
            kaleido.write_fig_from_object_sync(orders, kopts={"mathjax": False})
            return [path.read_bytes() for path in paths]
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            raise RuntimeError(
                "figures need `pip install 'resnetlab[figures]'` and Chromium or Chrome "
                f"({' '.join(str(error).split())})"
            ) from None


def add_to(copy: Path) -> None:
    """Store beside each plotly figure of an executed notebook its picture, on white, if it has none.

    Where nothing can draw them it stays without, which is said once. What cannot be read is left alone.
    """
    try:
        notebook = nbformat.read(copy, as_version=4)
    except (OSError, ValueError):
        return  # whoever looks at it says why
    bundles = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    bare = [bundle for bundle in bundles if PNG not in bundle]
    figures = [(bundle, executed.block({"data": bundle})) for bundle in bare]
    figures = [(bundle, content) for bundle, (kind, content) in figures if kind == "figure"]
    if not figures:
        return
    try:
        drawn = pngs([plots.themed(figure, "light") for _, figure in figures], width=WIDTH)
    except RuntimeError as error:
        _say_once(f"executed notebooks are kept without pictures of their figures: {error}")
        return
    for (bundle, _), picture in zip(figures, drawn, strict=True):
        bundle[PNG] = base64.b64encode(_small(picture)).decode()
    files.atomic_write(copy, nbformat.writes(notebook).encode() + b"\n")


def _small(picture: bytes) -> bytes:
    """The same picture with a palette of colours, no transparency."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
    return out.getvalue()


@functools.cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        add_to(Path(name))
