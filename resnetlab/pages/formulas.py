"""Formulas in Markdown, `$...$` and `$$...$$`, as MathML: typeset without script, font or network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

# What a formula of the project may become. latex2mathml hands on what stands in \text or \href as it
# is, and a notebook is a file that anybody may have written.
ELEMENTS = {
    "math",
    *"mrow mi mo mn mtext mspace msub msup msubsup mfrac msqrt mroot mover munder".split(),
}
ATTRIBUTES = set("display stretchy mathvariant width".split())


def enable(markdown: MarkdownIt) -> None:
    """Let it typeset formulas. A lone dollar stays as it is; what is no formula becomes code."""
    strict = dict.fromkeys(["allow_labels", "allow_space", "allow_digits", "allow_blank_lines"], False)
    markdown.use(dollarmath_plugin, renderer=_render, **strict)


def _render(tex: str, how: Mapping[str, Any]) -> str:
    try:
        return mathml(tex, "block" if how["display_mode"] else "inline")
    except ValueError:
        return f"<code>{escape(tex)}</code>"


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as a <math> element, `display` inline or block. ValueError for what is no such formula."""
    try:
        math = convert(tex, display=display)
        parts = list(ElementTree.fromstring(math).iter())
    except Exception as error:  # latex2mathml raises many kinds, IndexError too
        raise ValueError(f"no formula: {tex!r}") from error
    names = {part.tag.rpartition("}")[2] for part in parts}
    attributes = {name for part in parts for name in part.attrib}
    unknown = any("\\" in (part.text or "") for part in parts)  # a command that it does not know
    if unknown or not (names <= ELEMENTS and attributes <= ATTRIBUTES):
        raise ValueError(f"no formula: {tex!r}")
    return str(math)
