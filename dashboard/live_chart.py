"""A chart that keeps the reader's zoom while its data grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from plotly.offline import get_plotlyjs

# Plotly's library as it comes with the Python package: nothing is fetched. An element of its own that
# never changes, so that Streamlit sends its 5 MB to a browser once, not with every look at the files.
_library = st.components.v2.component(
    "resnetlab_plotly", js=get_plotlyjs() + "\nexport default function () {}\n", isolate_styles=False
)
_chart = st.components.v2.component(
    "resnetlab_live_chart",
    js=(Path(__file__).parent / "live_chart.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def offer() -> None:
    """Bring the library to the page. Once on each page, outside of what is drawn again and again."""
    _library(key="plotly_library", height=1)


def show(
    figure: go.Figure, key: str, same: str, alt: str, config: dict[str, Any], seconds: float = 0.0
) -> None:
    """The figure; zoom and hidden curves last as long as `key` and `same` stay. `alt` is its words.

    With `seconds` its curves draw themselves in that time, once, where the reader's system does not ask
    for still pictures.
    """
    data = {"figure": figure.to_json(), "same": same, "alt": alt, "config": config, "seconds": seconds}
    _chart(key=key, data=data)
