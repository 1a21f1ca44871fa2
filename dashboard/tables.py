"""Tables in a page's width, and their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from resnetlab.plots import series


def table(
    data: pd.DataFrame, key: str, columns: Mapping[str, Any], *, rows: int = 1000, **more: Any
) -> None:
    """A table in the page's width. Of more than `rows` rows it shows a part and scrolls.

    Its own button saves it as CSV: no cell is a formula there.
    """
    data = series.safe(data)
    height = "content" if len(data) <= rows else 600
    words: dict[str, Any] = {"hide_index": True, "placeholder": "", "height": height} | more
    st.dataframe(data, key=key, column_config=columns, **words)


def number(label: str, hint: str | None = None, form: str = "%.2f") -> Any:
    """A column of numbers: heading with its unit, what it means on hover, two decimals by default."""
    return st.column_config.NumberColumn(label, help=hint, format=form)


def text(label: str, hint: str | None = None, **options: Any) -> Any:
    """A column of text, shown as it is."""
    return st.column_config.TextColumn(label, help=hint, **options)
