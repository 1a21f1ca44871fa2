"""The reader's screen: how wide it is, what scrolls there by keys; and the same on a sheet of paper."""

from __future__ import annotations

import streamlit as st

NARROW = 640  # pixels; below them panels stand one below the other, as Streamlit's columns do
PAPER = 700  # pixels of a sheet (A4 or letter) within its margins

# Code and formulas may be wider than a page: who has no mouse scrolls them once keys can reach them.
# Charts and tables are drawn for the window, and a printer waits for nothing: each is made smaller.
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
  const sheet = '[data-testid="stPlotlyChart"], .live-chart, [data-testid="stDataFrame"]';
  const fit = (to) => document.querySelectorAll(sheet).forEach((one) => {{
    const place = one.closest('[data-testid="stElementContainer"]');
    place.style.zoom = to ? Math.min(1, to / one.getBoundingClientRect().width) : "";
  }});
  addEventListener("beforeprint", () => fit({PAPER}));
  addEventListener("afterprint", () => fit(0));
  // Who has typed a count of hands goes on by key: the field would keep keys for itself.
  addEventListener("keydown", (event) => {{
    const field = event.target;
    if (!field.matches(".st-key-lesson input[type=number]")) return;
    const leads = ["PageDown", "PageUp"].includes(event.key);
    if (!leads && event.key !== "Enter") return;
    setTimeout(() => {{
      field.blur();
      const again = {{ key: event.key, code: event.code, bubbles: true }};
      if (leads) document.body.dispatchEvent(new KeyboardEvent("keydown", again));
    }});
  }}, true);
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
