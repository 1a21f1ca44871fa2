"""The dashboard's entry, `streamlit run dashboard/app.py`: names the pages and runs the chosen one."""

import sys
from pathlib import Path

import streamlit as st

here = Path(__file__).resolve().parent
# First, because the working folder, which Streamlit may put there, can have a dashboard of its own.
if sys.path[0] != str(here.parent):
    sys.path.insert(0, str(here.parent))

from dashboard import frame  # noqa: E402

SIDEBAR = 250  # pixels
# A file, because an icon given by name would be fetched from a server.
st.set_page_config(
    page_title="resnetlab", page_icon=here / "icon.svg", layout="wide", initial_sidebar_state=SIDEBAR
)
page = st.navigation(
    [
        st.Page(
            f"app_pages/{name}.py",
            title=about.get("menu", about["title"]),
            icon=about["icon"],
            default=name == "degradation",
        )
        for name, about in frame.PAGES.items()
    ]
)
frame.sidebar()
page.run()
