"""The dashboard's entry, `streamlit run dashboard/app.py`: names the pages and runs the chosen one."""

import sys
from pathlib import Path

import streamlit as st

here = Path(__file__).resolve().parent
if str(here.parent) not in sys.path:  # streamlit puts only this file's folder there
    sys.path.append(str(here.parent))

from dashboard import frame  # noqa: E402

# A file, because an icon given by name would be fetched from a server.
st.set_page_config(page_title="resnetlab", page_icon=here / "icon.svg", layout="wide")
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
