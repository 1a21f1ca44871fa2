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
    columns = {name: _wide_enough(data, name, column) for name, column in columns.items()}
    height = "content" if len(data) <= rows else 600
    words: dict[str, Any] = {"hide_index": True, "placeholder": "", "height": height} | more
    st.dataframe(data, key=key, column_config=columns, **words)


def _wide_enough(data: pd.DataFrame, name: str, column: Any) -> Any:
    """The column, as wide as its longest cell where that stands to the right: it is cut at its left.

    `34.39 ± 6.16` would read `4.39 ± 6.16`.
    """
    if not isinstance(column, dict) or column.get("alignment") != "right" or column.get("width"):
        return column
    cells = data[name].dropna().astype(str) if name in data else pd.Series(dtype=str)
    letters = max([len(str(column.get("label") or "")), *cells.str.len()])
    return column | {"width": 24 + 8 * letters}


def number(label: str, hint: str | None = None, form: str = "%.2f") -> Any:
    """A column of numbers: heading with its unit, what it means on hover, two decimals by default."""
    return st.column_config.NumberColumn(label, help=hint, format=form)


def text(label: str, hint: str | None = None, **options: Any) -> Any:
    """A column of text, shown as it is."""
    return st.column_config.TextColumn(label, help=hint, **options)
