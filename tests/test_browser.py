"""Dashboard and lesson in a real browser: charts appear, nothing leaves the machine, live runs grow."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import plotly.graph_objects as go
import pytest
from dashboard_data import append_rows, write_run, write_study

from resnetlab import store
from resnetlab.pages import document
from resnetlab.plots import draw
from resnetlab.plots.style import finish
from resnetlab.studies import lesson

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
TOKEN = "what-the-printed-address-carries"
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
            env=os.environ | {"RESNETLAB_RESULTS": str(root), "RESNETLAB_TOKEN": TOKEN},
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

    def open_one(
        study: str, page: str = "", scheme: str = "light", url: str = "", size: Any = (1280, 1000)
    ) -> Any:
        viewport = dict(zip(("width", "height"), size, strict=True))
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        tab = context.new_page()
        seen.watch(tab)
        tab.goto(url or f"{server.url}/{page}?study={quote(study)}")
        return tab

    yield open_one
    for context in contexts:
        for tab in context.pages:
            assert tab.locator("[data-testid=stException]").count() == 0
        context.close()
    assert seen.outside == []
    assert seen.errors == []


def wait_for(page: Any, script: str) -> None:
    """Until the script gives something true: asked from outside, where no page's policy forbids it."""
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        with contextlib.suppress(sync_api.Error):  # while another address is being opened
            if page.evaluate(script):
                return
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(50)


@pytest.mark.parametrize(("page", "count"), [("", 5), ("gradients", 3), ("runs", 1)])
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
        wait_for(tab, f"document.title === '{name} · resnetlab'")
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


def test_zoom_and_hidden_curves_survive_live_rows(
    server: Server, open_page: Callable[..., Any]
) -> None:
    path = write_run(server.root, "plain-14", study="live", steps=16, status="running")
    tab = open_page("live", "runs")
    tab.wait_for_selector(CHART)
    tab.get_by_text("1 run training").wait_for()
    wait_for(tab, f"{LAST_STEP} === 16")

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
    tab.locator(".js-plotly-plot .legendtoggle").first.click()
    hidden = "document.querySelector('.js-plotly-plot')._fullData.map(t => t.visible)"
    wait_for(tab, f"{hidden}.includes('legendonly')")
    curves = tab.evaluate(hidden)

    run = store.read_run(path)
    writer = store.RunWriter(server.root, run.study, run.name, run.config)
    writer.info = dict(run.info)
    for last in (24, 28):
        append_rows(writer, last - 4, last)
        wait_for(tab, f"{LAST_STEP} === {last}")
        assert tab.evaluate(zoom) == zoomed
        assert tab.evaluate(hidden) == curves


def test_zoom_along_the_steps_survives_another_quantity(
    server: Server, open_page: Callable[..., Any]
) -> None:
    if not (server.root / "digits").exists():
        write_study(server.root, study="digits", seeds=3)
    tab = open_page("", url=f"{server.url}/compare?study=digits")
    tab.wait_for_selector(".live-chart .nsewdrag")
    zoom = "document.querySelector('.live-chart')._fullLayout.xaxis.range"
    before = tab.evaluate(zoom)
    drag = tab.locator(".live-chart .nsewdrag").first
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5 + 2, steps=5)
    tab.mouse.up()
    wait_for(tab, f"JSON.stringify({zoom}) !== {str(before).replace(' ', '')!r}")
    zoomed = tab.evaluate(zoom)
    tab.get_by_label("Quantity").first.click()
    tab.get_by_role("option", name="test error", exact=True).click()
    wait_for(tab, "document.querySelector('.live-chart').layout.title.text.includes('Test error')")
    assert tab.evaluate(zoom) == zoomed


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


def test_a_link_shows_what_its_sender_saw(server: Server, open_page: Callable[..., Any]) -> None:
    write_study(server.root, study="a", seeds=1)  # the first study is not named in the address
    write_study(server.root, study="link", seeds=2)
    tab = open_page("link")
    tab.wait_for_selector(CHART)
    tab.get_by_role("link", name="Compare runs").click()
    tab.get_by_role("button", name="Display").click()
    tab.get_by_text("Camera button saves").wait_for()
    tab.wait_for_selector(CHART)
    tab.get_by_text("Log y").click()
    log_y = "document.querySelector('.js-plotly-plot')?._fullLayout?.yaxis.type === 'log'"
    wait_for(tab, log_y)
    names = "document.querySelector('.js-plotly-plot')._fullData.map(t => t.name)"
    sent, curves = tab.url, tab.evaluate(names)
    assert "study=link" in sent
    assert "/compare" in sent

    theirs = open_page("", url=sent)  # a browser that has never been here
    theirs.wait_for_selector(CHART)
    wait_for(theirs, log_y)
    assert theirs.evaluate(names) == curves
    theirs.get_by_role("button", name="Display").click()
    theirs.get_by_text("Log y").click()
    wait_for(theirs, f"!({log_y})")
    assert tab.evaluate(log_y), "two browsers are two readers"


def test_the_finding_stands_on_the_first_screen(server: Server, open_page: Callable[..., Any]) -> None:
    """Three numbers, the blocks and error against depth, whole, above 800 pixels at 1280."""
    write_study(server.root, study="finding", seeds=3)
    tab = open_page("finding")
    tab.wait_for_selector(CHART)
    wait_for(tab, "document.querySelectorAll('[data-testid=stMetric]').length === 3")
    last = "([...document.querySelectorAll('{part}')].at(-1)?.getBoundingClientRect().bottom < 800)"
    for part in (
        "[data-testid=stMetric]",
        ".st-key-figure-blocks .main-svg",
        ".st-key-figure-depth .main-svg",
    ):
        wait_for(tab, last.replace("{part}", part))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1280


def test_projector_and_hidden_controls(server: Server, open_page: Callable[..., Any]) -> None:
    write_study(server.root, study="hall", seeds=2)
    tab = open_page("hall")
    tab.wait_for_selector(CHART)
    size = "document.querySelector('.st-key-figure-depth .js-plotly-plot')?._fullLayout?.font.size"
    text = "parseFloat(getComputedStyle(document.querySelector('[data-testid=stMain] p')).fontSize)"
    wait_for(tab, size)
    small, small_text = tab.evaluate(size), tab.evaluate(text)
    tab.get_by_text("Projector").click()
    wait_for(tab, f"{size} > {small} * 1.3")
    wait_for(tab, f"{text} > {small_text} * 1.3")
    assert "projector=true" in tab.url

    tab.get_by_text("Hide controls").click()
    sidebar, choice = tab.get_by_test_id("stSidebar"), tab.get_by_text("The paper's curves")
    sidebar.wait_for(state="hidden")
    choice.wait_for(state="hidden")
    tab.wait_for_selector(CHART)
    bare = open_page("", url=tab.url)  # the link, too, shows figures and words only
    bare.wait_for_selector(CHART)
    bare.get_by_test_id("stSidebar").wait_for(state="hidden")
    tab.get_by_role("button", name="Show controls").click()
    sidebar.wait_for(state="visible")
    choice.wait_for(state="visible")


@pytest.mark.deep
def test_live_lab_from_start_to_stop(server: Server, open_page: Callable[..., Any]) -> None:
    choices = "lab_depth=8&lab_steps=2000&lab_seed=7"
    reader = open_page("", url=f"{server.url}/lab?{choices}")
    reader.get_by_text("it carries a token").wait_for()
    tab = open_page("", url=f"{server.url}/lab?{choices}&token={TOKEN}")
    tab.get_by_role("button", name="Start", exact=True).click()
    # Streamlit has a Stop of its own in the header while a slow page is drawn.
    tab.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").wait_for()
    tab.wait_for_selector(CHART)
    wait_for(tab, f"{LAST_STEP} > 0")
    seen = tab.evaluate(LAST_STEP)
    wait_for(tab, f"{LAST_STEP} > {seen}")
    assert "token" not in tab.url, "a copied link has none"
    theirs = reader.get_by_test_id("stMainBlockContainer")
    assert theirs.get_by_role("button", name="Stop").count() == 0
    tab.close()  # nothing is lost: another tab finds the run and ends it
    again = open_page("", url=f"{server.url}/lab?token={TOKEN}")
    stop = again.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")
    stop.click()
    stop.wait_for(state="hidden")
    (run,) = store.read_study(server.root / "live-lab").runs
    assert run.config.seed == 7
    assert run.status == "interrupted"
    assert 0 < run.info["step"] < 2000


def test_a_click_on_a_block_tells_what_it_computes(
    server: Server, open_page: Callable[..., Any]
) -> None:
    write_study(server.root, study="blocks", seeds=1)
    tab = open_page("blocks", "networks")
    tab.wait_for_selector(CHART)
    boxes = tab.evaluate(
        """() => {
            const chart = document.querySelector('.js-plotly-plot');
            const place = chart.getBoundingClientRect();
            return chart._fullData.flatMap(trace => (trace.customdata || []).map((name, i) => {
                const x = chart._fullLayout['xaxis' + trace.xaxis.slice(1)];
                const y = chart._fullLayout['yaxis' + trace.yaxis.slice(1)];
                return [String(name), place.left + x._offset + x.d2p(trace.x[i]),
                        place.top + y._offset + y.d2p(trace.base[i] + trace.y[i] / 2)];
            }));
        }"""
    )
    _, x, y = next(box for box in boxes if box[0] == "stage1.0")
    tab.mouse.click(x, y)
    tab.get_by_role("heading", name="Stage 1, block 1").wait_for()
    assert "block=stage+1" in tab.url


def test_a_click_on_a_run_shows_it(server: Server, open_page: Callable[..., Any]) -> None:
    write_study(server.root, study="clicked", seeds=1)
    tab = open_page("clicked", "runs")
    tab.wait_for_selector(CHART)
    box = tab.get_by_test_id("stDataFrame").bounding_box()
    tab.mouse.click(box["x"] + 15, box["y"] + 35 * 3.5)  # the box before the third row
    tab.get_by_text("resnetlab train resnet-8").wait_for()
    assert "run=resnet-8-seed0" in tab.url


def test_measurements_appear_while_their_page_is_open(server: Server, open_page: Any) -> None:
    """Why it fails, why it works: empty, then filled by a notebook that ends meanwhile."""
    write_study(server.root, study="measured")
    tab = open_page("measured", "why")
    tab.get_by_text("Not measured yet").first.wait_for()
    assert tab.locator(CHART).count() == 0
    committed = PROJECT / "results" / "reference" / store.MEASUREMENTS / "digits"
    target = server.root / store.MEASUREMENTS / "digits"
    target.mkdir(parents=True)
    shutil.copy(committed / "gradient-correlation.json", target)
    tab.locator(CHART).first.wait_for()
    tab.get_by_text("mean cosine at 110 layers").wait_for()
    tab.locator(".st-key-whole-gradient-correlation summary").click()
    tab.get_by_text("Residual: 8 layers").wait_for()
    tab.get_by_text("How alike are the gradients").first.wait_for()


def test_arrow_keys_lead_through_the_lesson_without_any_control(
    server: Server, open_page: Callable[..., Any]
) -> None:
    """With hidden controls too: question, hands, a figure that draws itself, the next question."""
    write_study(server.root, study="digits", seeds=3)
    tab = open_page("", url=f"{server.url}/lesson?screen=degradation&bare=true")
    tab.get_by_role("button", name="Reveal").wait_for()
    assert tab.locator(CHART).count() == 0
    tab.get_by_test_id("stSidebar").wait_for(state="hidden")
    tab.get_by_label("Both alike").fill("3")
    for _ in range(120):  # what listens to the key may come after the field
        tab.get_by_label("Both alike").press("Enter")
        tab.wait_for_timeout(250)
        if tab.evaluate("document.activeElement.tagName") != "INPUT":
            break
    tab.keyboard.press("ArrowRight")  # the key goes to the page again
    tab.wait_for_url("**shown=true**")
    tab.wait_for_selector(CHART)  # the screen, too, not its address alone
    tab.keyboard.press("ArrowLeft")
    tab.locator(CHART).first.wait_for(state="detached")
    tab.get_by_role("button", name="Reveal").wait_for()
    tab.get_by_label("The shallower one").fill("14")
    tab.get_by_label("The shallower one").press("PageDown")  # a clicker, from within the field
    tab.wait_for_url("**shown=true**")
    tab.get_by_text("Both alike: 3 · The shallower one: 14").wait_for()
    tab.wait_for_selector(CHART)
    top = "document.querySelector('.js-plotly-plot').getBoundingClientRect().top"
    wait_for(tab, f"{top} < 400")  # the figure is in view
    wait_for(tab, "document.querySelector('.live-chart').dataset.revealed === 'true'")
    tab.keyboard.press("PageDown")
    tab.wait_for_url("**screen=same-function**")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_url("**screen=degradation**")


def test_a_screen_of_the_lesson_is_whole_for_a_hall_and_escape_leaves_it(
    server: Server, open_page: Callable[..., Any]
) -> None:
    if not (server.root / "digits").exists():
        write_study(server.root, study="digits", seeds=3)
    address = f"{server.url}/lesson?screen=degradation&projector=true"
    tab = open_page("", url=address, size=(1280, 720))
    for choice in ("The deeper one", "Both alike", "The shallower one"):
        tab.get_by_label(choice).fill("11")
    tab.get_by_role("button", name="Reveal").click()  # takes the last count along
    tab.get_by_text("The shallower one: 11").wait_for()
    tab.wait_for_selector(".live-chart .main-svg")
    ends = "document.querySelector('.st-key-lesson').getBoundingClientRect().bottom"
    keys = "document.querySelector('.st-key-lesson-steps').getBoundingClientRect()"
    wait_for(tab, f"{ends} <= {keys}.top && {keys}.bottom <= 720")
    wait_for(tab, "document.querySelector('.live-chart').dataset.revealed === 'true'")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("[data-testid=stMetric]")
    wait_for(tab, "!location.pathname.endsWith('/lesson')")
    wait_for(tab, "location.search.includes('projector=true')")


# --- the lesson's pages, from a disk and without any network -----------------------------------------

SHOWN = "[...document.querySelectorAll('.opening, figure')].map(e => getComputedStyle(e).visibility)"
TOO_WIDE = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"


@pytest.fixture(scope="module")
def lesson_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesson")
    lesson.from_reference(PROJECT / "results", folder)
    return folder


def test_a_lesson_is_projected_one_figure_per_screen(lesson_pages: Path, browser: Any) -> None:
    """Question, figures, the next page of the story; dark as the reader's system is; print; back."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="dark")
    context.set_offline(True)
    context.set_default_timeout(PATIENCE)
    tab, errors, asked = context.new_page(), list[str](), set[str]()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("request", lambda request: asked.add(urlsplit(request.url).scheme))
    tab.goto((lesson_pages / lesson.INDEX).as_uri())
    tab.get_by_role("link", name="One figure per screen").click()
    tab.wait_for_selector(CHART, state="attached")
    count = tab.locator("figure").count()
    assert tab.evaluate(SHOWN) == ["visible", *["hidden"] * count]
    assert "Predict first" in tab.locator(".opening .predict").inner_text()
    for number, key in enumerate(("ArrowRight", "PageDown", " ")[:count], start=1):
        tab.keyboard.press(key)
        tab.wait_for_url(f"**#screen-{number}")
        wait_for(tab, f"{SHOWN}[{number}] === 'visible'")
        assert tab.evaluate(SHOWN).count("visible") == 1
        box = tab.locator("figure.shown").bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert max(box["width"] / 1280, box["height"] / 720) > 0.85, "it fills the window"
        assert max(box["width"] / 1280, box["height"] / 720) <= 1
    page, ink = (f"getComputedStyle(document.body).{name}" for name in ("backgroundColor", "color"))
    assert (tab.evaluate(page), tab.evaluate(ink)) == ("rgb(13, 17, 23)", "rgb(230, 237, 243)")

    tab.emulate_media(media="print")
    assert tab.evaluate(page) == "rgb(255, 255, 255)", "paper is light"
    assert tab.evaluate(SHOWN) == ["visible"] * (count + 1)
    sheets = re.findall(rb"/Type\s*/Page\b", tab.pdf(prefer_css_page_size=True))
    assert len(sheets) == count + 1, "a sheet per screen"
    tab.emulate_media(media="screen")

    first = tab.url.partition("#")[0]
    for _ in range(count - number + 1):
        tab.keyboard.press("ArrowDown")
    wait_for(tab, f"!location.href.startsWith({first!r}) && location.hash === '#screen-0'")
    tab.wait_for_selector("body.one")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_url(f"{first}#*")
    wait_for(tab, f"{SHOWN}[{count}] === 'visible'")
    tab.keyboard.press("Escape")
    tab.wait_for_url(f"**#part-{count}")
    assert tab.evaluate(SHOWN) == ["visible"] * (count + 1)
    figure = f"document.querySelectorAll('figure')[{count - 1}]"
    wait_for(tab, f"{figure}.getBoundingClientRect().y < innerHeight")
    context.close()
    assert (errors, asked) == ([], {"file"})


def test_a_slider_moves_on_a_page_without_kernel_and_figures_keep_their_place(
    tmp_path: Path, browser: Any
) -> None:
    slides = {name: go.Figure(go.Scatter(x=[1, 2], y=[at, at])) for at, name in enumerate("abc")}
    figure = draw.slider({name: finish(one, "t", "", []) for name, one in slides.items()}, "slide")
    page = tmp_path / "page.html"
    page.write_bytes(document.whole("a test", "t", document.drawn(figure, "t")))
    # The test asks in JavaScript, which the page itself forbids.
    context = browser.new_context(viewport={"width": 1280, "height": 720}, bypass_csp=True)
    context.set_offline(True)
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector(".slider-group")
    plot = "document.querySelector('.plot')"
    shown = f"{plot}._fullData.map(trace => trace.visible).join()"
    assert tab.evaluate(shown) == "false,false,true"
    tab.set_viewport_size({"width": 900, "height": 600})  # plotly then asks the place for its size
    wait_for(tab, f"{plot}._fullLayout.width < 900")
    assert tab.evaluate(f"{plot}.offsetHeight") == figure.layout.height
    rail = tab.locator(".slider-rail-touch-rect").bounding_box()
    tab.mouse.click(rail["x"] + 5, rail["y"] + rail["height"] / 2)
    wait_for(tab, f"{shown} === 'true,false,false'")
    assert tab.locator(".slider-label").first.text_content() == "slide a"
    context.close()


def test_printed_pages_hold_their_tables_and_open_answers(lesson_pages: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    tab = context.new_page()
    for path in sorted(lesson_pages.glob("[0-9]*.html")):
        tab.goto(path.as_uri())
        assert tab.evaluate(TOO_WIDE) == 0, path.name
        answers, code = tab.locator("details:not(.code)"), tab.locator("details.code")
        folded = answers.first.bounding_box()["height"]
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": 688, "height": 1000})  # A4 within its margins
        assert tab.evaluate(TOO_WIDE) == 0, path.name
        assert answers.first.bounding_box()["height"] > folded * 1.5
        assert not code.first.is_visible()
        tab.emulate_media(media="screen")
        tab.set_viewport_size({"width": 1280, "height": 720})
    context.close()


PAGES = tomllib.loads((PROJECT / "dashboard" / "pages.toml").read_text("utf-8"))


# Words of a figure that its edge cuts or that lie on one another; a legend may scroll.
UNREADABLE = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(chart => {
  const found = [], edge = chart.getBoundingClientRect();
  const name = chart.querySelector('.gtitle')?.textContent ?? '';
  const words = [...chart.querySelectorAll('text')]
    .filter(text => text.textContent.trim() && !text.closest('.hoverlayer, .legend'))
    .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width > 1);
  words.forEach(([text, box], at) => {
    if (box.left < edge.left - 1.5 || box.right > edge.right + 1.5 || box.top < edge.top - 1.5)
      found.push(`${name}: cut: ${text}`);
    for (const [other, its] of words.slice(at + 1)) {
      const wide = Math.min(box.right, its.right) - Math.max(box.left, its.left);
      const high = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
      if (wide > 3 && high > 4) found.push(`${name}: on one another: ${text} | ${other}`);
    }
  });
  return found;
})"""


def committed(
    server: Server, open_page: Callable[..., Any], page: str, look: str, size: tuple[int, int]
) -> Any:
    """A page of the committed studies in one of the looks, drawn to its end."""
    if not (server.root / store.REFERENCE).exists():
        shutil.copytree(PROJECT / "results" / store.REFERENCE, server.root / store.REFERENCE)
    address = f"{server.url}/{'' if page == 'degradation' else page}"
    address += f"?study=reference/digits&token={TOKEN}"
    address += "&projector=true" if look == "projector" else ""
    tab = open_page("", scheme="dark" if look == "dark" else "light", size=size, url=address)
    tab.wait_for_selector("h1")
    tab.wait_for_timeout(2_000)
    tab.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
    tab.wait_for_timeout(1_000)
    return tab


def test_on_paper_every_chart_and_table_is_whole(server: Server, open_page: Callable[..., Any]) -> None:
    """A printer waits for nothing: what is as wide as the window is made smaller before."""
    if not (server.root / "paper").exists():
        write_study(server.root, study="paper", seeds=2)
    tab = open_page("paper", size=(1600, 900))
    tab.wait_for_selector(".st-key-figure-curves .main-svg")
    parts = "[...document.querySelectorAll('.js-plotly-plot .main-svg, [data-testid=stDataFrame]')]"
    widths = "parts.map(part => part.getBoundingClientRect().width)"
    before = tab.evaluate(f"(window.parts = {parts}, {widths})")  # others may be on their way
    assert max(before) > 701
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert max(tab.evaluate(widths)) <= 701
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(widths) == before


@pytest.mark.deep
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("look", ["light", "dark", "projector"])
def test_axe_finds_nothing_on_any_page(
    server: Server, open_page: Callable[..., Any], page: str, look: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab = committed(server, open_page, page, look, (1280, 800))
    found = axe.Axe().run(tab).response["violations"]
    assert {one["id"]: [node["html"] for node in one["nodes"]] for one in found} == {}


@pytest.mark.deep
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("look", "size"),
    [
        ("light", (390, 844)),
        ("light", (1280, 800)),
        ("light", (1920, 1080)),
        ("projector", (1280, 800)),
        ("projector", (1920, 1080)),
    ],
)
def test_no_word_of_a_figure_is_cut_or_lies_on_another(
    server: Server, open_page: Callable[..., Any], page: str, look: str, size: tuple[int, int]
) -> None:
    tab = committed(server, open_page, page, look, size)
    deadline = time.monotonic() + 20  # a chart may still be on its way
    while (found := tab.evaluate(UNREADABLE)) and time.monotonic() < deadline:
        tab.wait_for_timeout(500)
    assert found == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_on_a_phone_panels_stand_one_below_the_other(
    server: Server, open_page: Callable[..., Any]
) -> None:
    if not (server.root / "plain").exists():
        write_study(server.root, study="plain")
    tab = open_page("plain", "gradients")
    tab.set_viewport_size({"width": 390, "height": 844})
    stacked = """[...document.querySelectorAll('.js-plotly-plot')].every(chart =>
        Object.entries(chart._fullLayout).every(([name, axis]) =>
            !/^xaxis\\d*$/.test(name) || axis.domain[0] === 0 && axis.domain[1] === 1))"""
    wait_for(tab, f"document.querySelectorAll('.js-plotly-plot').length === 3 && {stacked}")
    ends = "all => all.map(title => title.getBoundingClientRect().right)"
    assert max(tab.locator(".gtitle").evaluate_all(ends)) <= 390
