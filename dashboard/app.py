"""The dashboard's entry, `streamlit run dashboard/app.py`: the server, and the script of every visit.

The server imports this file; for every visit it runs it as a script, which runs the chosen page.
"""

import sys
from pathlib import Path

import streamlit as st

here = Path(__file__).resolve().parent
# First, because the working folder, which Streamlit may put there, can have a dashboard of its own.
if sys.path[0] != str(here.parent):
    sys.path.insert(0, str(here.parent))

from dashboard import door, frame  # noqa: E402

SIDEBAR = 264  # pixels


def visit() -> None:
    """Name the pages and run the chosen one."""
    # Before the pages, whose icons would be fetched from a server for the tab; a file, not a name.
    icon = here / "icon.svg"
    st.set_page_config(page_icon=icon, layout="wide", initial_sidebar_state=SIDEBAR)
    pages = {
        name: st.Page(
            f"app_pages/{name}.py",
            title=about.get("menu", about["title"]),
            icon=about["icon"],
            default=name == "degradation",
            visibility="hidden" if about.get("hidden") else "visible",
        )
        for name, about in frame.PAGES.items()
    }
    page = st.navigation([*pages.values()])
    name = next(name for name, one in pages.items() if one == page)
    st.set_page_config(page_title=f"{page.title} · resnetlab")  # tells tabs of a browser apart
    frame.sidebar(name)
    page.run()


if __name__ == "__main__":
    visit()
else:
    app = st.App(Path(__file__).resolve(), **door.AROUND)
