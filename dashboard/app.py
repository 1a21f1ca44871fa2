"""The dashboard's entry, `streamlit run dashboard/app.py`: names the pages and runs the chosen one."""

import sys
from pathlib import Path

import streamlit as st

here = Path(__file__).resolve().parent
if str(here.parent) not in sys.path:  # streamlit puts only this file's folder there
    sys.path.append(str(here.parent))

from dashboard import frame  # noqa: E402

# The order of a lesson: what happens, why not, what is inside, how it compares, try it, look behind.
PAGES = {
    "degradation": ("Degradation", ":material/trending_up:"),
    "gradients": ("Gradient norms", ":material/gradient:"),
    "networks": ("Inside the networks", ":material/account_tree:"),
    "why": ("Why it fails, why it works", ":material/psychology:"),
    "paper": ("Ours and the paper", ":material/menu_book:"),
    "compare": ("Compare runs", ":material/stacked_line_chart:"),
    "lab": ("Live lab", ":material/science:"),
    "notebooks": ("Notebooks", ":material/description:"),
    "runs": ("Runs", ":material/table_rows:"),
    "health": ("Health", ":material/monitor_heart:"),
}

# A file, because an icon given by name would be fetched from a server.
st.set_page_config(page_title="resnetlab", page_icon=here / "icon.svg", layout="wide")
page = st.navigation(
    [
        st.Page(f"app_pages/{name}.py", title=title, icon=icon, default=name == "degradation")
        for name, (title, icon) in PAGES.items()
    ]
)
frame.sidebar()
page.run()
