"""The reader's screen: how wide it is, which only the browser knows; and what scrolls there by keys."""

from __future__ import annotations

import streamlit as st

NARROW = 640  # pixels; below them panels stand one below the other, as Streamlit's columns do

# Code and formulas may be wider than a page: who has no mouse scrolls them once keys can reach them.
_look = st.components.v2.component(
    "resnetlab_screen",
    js=f"""export default function ({{ setStateValue, parentElement }}) {{
  if (parentElement.looking) return;
  parentElement.looking = true;
  const screen = matchMedia("(max-width: {NARROW}px)");
  const tell = () => setStateValue("narrow", screen.matches);
  screen.addEventListener("change", tell);
  if (screen.matches) tell();
  const code = ":is(pre, .katex-display):not([tabindex])";
  const reach = () => document.querySelectorAll(code).forEach((one) => (one.tabIndex = 0));
  new MutationObserver(reach).observe(document.body, {{ childList: true, subtree: true }});
  reach();
}}""",
)


def look() -> None:
    """Ask the browser. A page is drawn again where the answer is another than before."""
    st.session_state["narrow"] = bool(
        _look(key="screen", height=1, on_narrow_change=lambda: None).narrow
    )


def narrow() -> bool:
    """Whether the page is shown on a narrow screen."""
    return bool(st.session_state.get("narrow"))
