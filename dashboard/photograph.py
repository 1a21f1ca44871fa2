"""The pictures of the dashboard in the manual, taken again from the committed runs: `make figures`.

    python dashboard/photograph.py

Needs playwright (a development dependency) and a Chromium or Chrome on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).parent / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
STUDY = "study=reference%2Fdigits"
PICTURES = {  # of each its address, and its height in pixels
    "degradation": (f"/?{STUDY}", 900),
    "compare": (f"/compare?{STUDY}", 1150),
    "networks": (f"/networks?{STUDY}", 2340),
}
WIDTH = 1280
CHART = ".js-plotly-plot .main-svg"
PATIENCE = 90  # seconds; a loaded machine with two cores


def serve() -> tuple[subprocess.Popen[str], str]:
    """The dashboard over the project's results, and its address, which it prints when it is up."""
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless=true"],
        cwd=PROJECT,
        env=os.environ | {"RESNETLAB_RESULTS": str(PROJECT / "results")},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in server.stdout or ():
        if "URL:" in line:
            return server, line.split()[-1]
    raise SystemExit("error: the dashboard did not start")


def main() -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(
            "error: the pictures need a Chromium or Chrome; install one and run this again"
        )
    from playwright.sync_api import sync_playwright

    server, url = serve()
    try:
        with sync_playwright() as play:
            chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            for name, (address, height) in PICTURES.items():
                page = chromium.new_page(viewport={"width": WIDTH, "height": height})
                page.set_default_timeout(1_000 * PATIENCE)
                page.goto(url + address, wait_until="commit")
                page.wait_for_selector(CHART)
                page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
                page.wait_for_timeout(2_000)  # charts fade in
                page.screenshot(path=FOLDER / f"{name}.png")
                print(FOLDER / f"{name}.png")
            chromium.close()
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == "__main__":
    main()
