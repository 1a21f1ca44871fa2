"""The dashboard in a real browser: charts appear, nothing leaves the machine, live runs grow."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from dashboard_data import append_rows, write_run, write_study

from resnetlab import results

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
if BROWSER is None and os.environ.get("RESNETLAB_REQUIRE_BROWSER"):
    raise RuntimeError("RESNETLAB_REQUIRE_BROWSER is set, and neither chromium nor chrome is installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="neither chromium nor chrome is installed"),
]

PROJECT = Path(__file__).resolve().parent.parent
PATIENCE = 90_000  # ms; a loaded machine with two cores
CHART = ".js-plotly-plot .main-svg"
LAST_STEP = (
    "Math.max(...document.querySelector('.js-plotly-plot')._fullData.flatMap(t => Array.from(t.x)))"
)
HOSTILE = "<img src=http://evil.example/x> ![a](http://evil.example/y)"


@dataclass
class Server:
    url: str
    root: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard as `streamlit run dashboard/app.py` starts it, over its own results folder."""
    root = tmp_path_factory.mktemp("browser") / "results"
    root.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["streamlit", "run", "dashboard/app.py", "--server.port", str(port)]
    log = root.parent / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words, "--server.headless", "true"],
            cwd=PROJECT,
            env=os.environ | {"RESNETLAB_RESULTS": str(root)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield Server(url, root)
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


@dataclass
class Seen:
    """What the browser asked for and complained about."""

    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("request", lambda request: self.request(request.url))
        page.on("websocket", lambda socket: self.request(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self.console)

    def request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.outside.append(url)

    def console(self, message: Any) -> None:
        # Streamlit looks for its server below a page's own path first and then above it.
        looking = "/_stcore/" in message.location.get("url", "") and "404" in message.text
        if message.type == "error" and not looking:
            self.errors.append(message.text)


@pytest.fixture
def open_page(server: Server, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page of a study; at the end nothing may have gone wrong or outside in any of them."""
    seen, contexts = Seen(), []

    def open_one(study: str, page: str = "", scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        tab = context.new_page()
        seen.watch(tab)
        tab.goto(f"{server.url}/{page}?study={quote(study)}")
        return tab

    yield open_one
    for context in contexts:
        for tab in context.pages:
            assert tab.locator("[data-testid=stException]").count() == 0
        context.close()
    assert seen.outside == []
    assert seen.errors == []


def wait_for(page: Any, script: str) -> Any:
    return page.wait_for_function(script, timeout=PATIENCE)


@pytest.mark.parametrize(("page", "count"), [("", 2), ("gradients", 3), ("runs", 1)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_appear_on_every_page(
    server: Server, open_page: Callable[..., Any], page: str, count: int, scheme: str
) -> None:
    if not (server.root / "plain").exists():
        write_study(server.root, study="plain")
    tab = open_page("plain", page, scheme)
    wait_for(tab, f"document.querySelectorAll('.js-plotly-plot').length === {count}")
    tab.wait_for_selector(CHART)
    buttons = tab.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert not [title for title in buttons if title and "cloud" in title.lower()]


def test_the_menu_leads_to_every_page_and_keeps_the_study(
    server: Server, open_page: Callable[..., Any]
) -> None:
    write_study(server.root, study="first")
    write_run(server.root, "plain-8", study="other")
    tab = open_page("other")
    tab.wait_for_selector(CHART)
    for name in ("Gradient norms", "Runs"):
        tab.get_by_test_id("stSidebarNav").get_by_text(name, exact=True).click()
        tab.get_by_role("heading", name=name, exact=True).wait_for()
        tab.wait_for_selector(CHART)
        tab.wait_for_url("**study=other*", timeout=PATIENCE)
        picker = tab.get_by_test_id("stSidebar").get_by_role("combobox")
        assert picker.input_value() == "other"


def test_hostile_names_do_nothing(server: Server, open_page: Callable[..., Any]) -> None:
    write_run(server.root, "plain-14", study="hostile")
    write_run(server.root, "plain-8", study="hostile", status="failed", steps=8, error=HOSTILE)
    study = server.root / "hostile"
    (study / "plain-14-seed0").rename(study / HOSTILE.replace("/", "_"))
    study.rename(server.root / "<b onclick=alert(1)>![x](y)")
    for page in ("", "gradients", "runs", "compare", "paper", "notebooks", "health"):
        tab = open_page("<b onclick=alert(1)>![x](y)", page)
        tab.wait_for_selector("h1" if page in ("paper", "notebooks", "health") else CHART)
        assert tab.locator("main img, b[onclick]").count() == 0
    tab.get_by_text("evil.example/x").first.wait_for()  # it is there, as text


def test_live_rows_arrive_and_zoom_stays_while_nothing_changes(
    server: Server, open_page: Callable[..., Any]
) -> None:
    path = write_run(server.root, "plain-14", study="live", steps=16, status="running")
    tab = open_page("live", "runs")
    tab.wait_for_selector(CHART)
    tab.get_by_text("1 run training").wait_for()
    assert tab.evaluate(LAST_STEP) == 16

    zoom = "document.querySelector('.js-plotly-plot')._fullLayout.xaxis2.range"
    drag = tab.locator(".js-plotly-plot .nsewdrag").first
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    before = tab.evaluate(zoom)
    tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=5)
    tab.mouse.up()
    wait_for(tab, f"JSON.stringify({zoom}) !== {str(before).replace(' ', '')!r}")
    zoomed = tab.evaluate(zoom)
    tab.wait_for_timeout(5_000)  # two looks at files that did not change
    assert tab.evaluate(zoom) == zoomed

    run = results.read_run(path)
    writer = results.RunWriter(server.root, run.study, run.name, run.config)
    writer.info = dict(run.info)
    append_rows(writer, 20, 28)
    wait_for(tab, f"{LAST_STEP} === 28")


def test_an_empty_page_fills_when_a_study_begins(
    server: Server, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    hidden = [(item, tmp_path / item.name) for item in server.root.iterdir()]
    for item, away in hidden:
        item.rename(away)
    try:
        tab = open_page("")
        tab.get_by_text("There are no results yet.").wait_for()
        write_run(server.root, "plain-8", study="new", steps=8, status="running")
        tab.wait_for_selector(CHART)
    finally:
        for item, away in hidden:
            away.rename(item)
