"""`resnetlab report`: one file that is true, asks no network, and takes any name from disk for text."""

import base64
import errno
import hashlib
import json
import os
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from dashboard_data import write_run, write_study

from resnetlab import store, verdict
from resnetlab.config import commands
from resnetlab.pages import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)></script><script>alert(2)</script>"


def page_of(found: store.Study) -> str:
    return report.page(found).decode()


def body_of(page: str) -> str:
    """The page without its two scripts: what is drawn and read."""
    return page.split("</main>")[0]


def text_of(page: str) -> str:
    """What a reader sees outside figures."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", "", body_of(page), flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", body))


def table_after(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below that heading, its head first."""
    table = page.split(f">{heading}<")[1].split("<table>")[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def figures_of(page: str) -> list[dict]:
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def values_of(numbers) -> list[float]:
    """The numbers of a trace, which plotly may have packed."""
    if isinstance(numbers, dict):
        return np.frombuffer(base64.b64decode(numbers["bdata"]), numbers["dtype"]).tolist()
    return numbers


@pytest.fixture(scope="module")
def reference() -> str:
    return page_of(store.read_study(REFERENCE / "digits"))


# --- what it says -----------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_files(reference):
    head, *rows = table_after(reference, "Means")
    assert [row[0] for row in rows] == [
        f"{f}-{d}" for f in ("plain", "resnet") for d in (8, 20, 32, 44, 56)
    ]
    for row in rows:
        shown = dict(zip(head, row, strict=True))
        files = (REFERENCE / "digits").glob(f"{shown['network']}-seed*/summary.json")
        summaries = [json.loads(path.read_text()) for path in files]
        assert shown["finished"] == str(len(summaries)) == "5"
        for heading, key in (("train", "train_error"), ("test", "test_error")):
            values = [summary[key] for summary in summaries]
            mean = sum(values) / 5
            spread = (sum((value - mean) ** 2 for value in values) / 4) ** 0.5
            assert shown[heading] == f"{mean:.2f} ± {spread:.2f}"
    assert dict(zip(head, rows[1], strict=True))["paper: train"] == "1.40"
    assert "The paper: CIFAR-10, 64,000 steps, single view." in text_of(reference)

    head, *rows = table_after(reference, "Every run")
    assert len(rows) == 50
    for row in rows:
        shown = dict(zip(head, row, strict=True))
        summary = json.loads((REFERENCE / "digits" / shown["run"] / "summary.json").read_text())
        assert shown["status"] == summary["status"]
        assert shown["train (%)"] == f"{summary['train_error']:.2f}"
        assert shown["time (s)"] == f"{summary['seconds']:,.0f}"


def test_the_verdict_its_limits_and_where_it_ran_are_said(reference):
    said = text_of(reference)
    for sentence in verdict.answers(store.read_study(REFERENCE / "digits").table()):
        assert sentence in said
    assert "these runs on digits: only orderings compare" in said
    assert "not the cause" in said
    assert "None: every folder of the study is a readable run" in said
    settings = dict(table_after(reference, "The same in all runs")[1:])
    assert (settings["recipe.lr"], settings["recipe.steps"]) == ("0.1", "400")
    assert table_after(reference, "What differs")[0] == [
        "run",
        *"network.depth network.shortcut seed".split(),
    ]
    info = json.loads((REFERENCE / "digits" / "plain-20-seed0" / "run.json").read_text())
    origins = {row[0]: row[1:] for row in table_after(reference, "Versions and machine")[1:]}
    assert origins["torch"] == [info["versions"]["torch"], "50 of 50"]
    assert origins["commit of the code"][0] == info["commit"]
    assert origins["threads"] == ["1", "50 of 50"]
    assert info["host"] not in {cell for row in origins.values() for cell in row}


def test_the_figures_are_those_of_plots_with_the_values_of_the_runs(reference):
    figures = figures_of(reference)
    titles = [figure["layout"]["title"]["text"] for figure in figures]
    for part, title in zip(
        ("Error during training", "Error against depth", "Gradient norm of every", "Gradient norm by"),
        titles,
        strict=True,
    ):
        assert part in title
    panels = [trace for trace in figures[2]["data"] if trace["type"] == "heatmap"]
    assert len(panels) == 4  # shallowest and deepest, plain and residual
    for figure in figures:
        assert figure["config"]["showSendToCloud"] is False
        assert figure["config"]["plotlyServerURL"] == ""


def test_shortcut_studies_get_their_own_question(tmp_path):
    for network in ("plain-8", "resnet-8", "resnet-8-B"):
        for seed in range(3):
            write_run(tmp_path, network, study="shortcuts", seed=seed)
    page = page_of(store.read_study(tmp_path / "shortcuts"))
    assert "Does it matter how the shortcut grows" in text_of(page)
    assert "Final training error of plain-8 minus resnet-8:" in text_of(page)
    assert "Bars: means over seeds" in figures_of(page)[1]["layout"]["title"]["text"]
    assert "from projecting or from their added parameters" in text_of(page)


def test_runs_that_cannot_be_averaged_have_parts_of_their_own(tmp_path):
    write_study(tmp_path, study="mixed")
    write_run(tmp_path, "plain-8", study="mixed", name="other", lr=0.01)
    page = page_of(store.read_study(tmp_path / "mixed"))
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:2] == [
        "digits, recipe paper-400 (steps 40), fp32",
        "digits, recipe paper-400 (steps 40, lr 0.01), fp32",
    ]
    assert page.count("<h3>Means</h3>") == 2
    assert "No single command makes this set of runs" in text_of(page)


def test_long_curves_are_thinned_and_keep_their_spikes(tmp_path):
    path = write_run(tmp_path, "plain-8", study="long", steps=4, planned=6_000)
    with (path / store.METRICS_FILE).open("a") as log:
        for step in range(5, 6000):
            error = 99.0 if step == 3333 else 50.0
            log.write(json.dumps({"step": step, "train_error": error, "test_error": error / 2}) + "\n")
    with (path / store.PROBES_FILE).open("a") as log:
        for step in range(5, 1000):
            log.write(json.dumps({"step": step, "kind": "gradient_norm", "values": [1.0] * 8}) + "\n")
    found = store.read_study(tmp_path / "long")
    page = page_of(found)
    curves = [t for t in figures_of(page)[0]["data"] if t["line"].get("dash") == "dash"]
    x, y = (values_of(curves[0][axis]) for axis in "xy")
    assert 900 < len(x) <= report.series.MOST_POINTS < 5999
    assert max(y) == 99.0
    assert {4, 3333, 5999} <= set(x)
    assert "of each 996 measured steps one in 7 is drawn" in text_of(page)


# --- nothing goes out, nothing comes in -------------------------------------------------------


def test_the_file_holds_all_it_needs(reference):
    assert reference.count("plotly.js v") == 1
    body = body_of(reference)
    assert re.findall(r"\b(?:src|href|action|srcset)\s*=[^>\s]*", body) == ['href="data:,"']
    assert not re.search(r"url\(|@import", body)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', reference)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    assert "connect-src" not in policy  # default: none
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    scripts = re.findall(r"<script>(.*?)</script>", reference.split("</main>")[1], re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert hashes == digests
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


@pytest.fixture
def hostile(tmp_path):
    """A study whose every name and text from disk is markup."""
    write_run(tmp_path, "plain-8", study="s", status="failed", steps=8, error=HOSTILE)
    write_run(
        tmp_path, "resnet-8", study="s", data=f"folder:/x/{HOSTILE.split('/')[0]}", status="running"
    )
    path = write_run(tmp_path, "plain-14", study="s")
    info = json.loads((path / store.RUN_FILE).read_text())
    info |= {"versions": {HOSTILE: HOSTILE}, "execution": [HOSTILE], "commit": HOSTILE, "created": 7}
    info["layers"] = {"gradient_norm": [HOSTILE] * 14}
    info["dataset"] = {"sha256": {HOSTILE: "\u202e"}, "train": HOSTILE}
    (path / store.RUN_FILE).write_text(json.dumps(info))
    (tmp_path / "s" / "plain-8-seed0").rename(tmp_path / "s" / HOSTILE.replace("/", "_"))
    bad = os.fsencode(tmp_path / "s") + b"/<b>\xff\xe2\x80\xae"
    os.mkdir(bad)
    (tmp_path / "s").rename(tmp_path / "<b onclick=alert(1)>")
    return tmp_path / "<b onclick=alert(1)>"


def test_hostile_names_are_text(hostile):
    page = page_of(store.read_study(hostile))
    body = body_of(page)
    assert "<img" not in body
    assert "<b onclick" not in body
    assert "<b>" not in re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    assert body.count("<script") == body.count("</script>") == len(figures_of(body))
    assert "\u202e" not in page
    said = text_of(page)
    assert HOSTILE.replace("/", "_") in said
    assert HOSTILE in said  # the error, as text
    assert "left out: no run.json" in said


# --- states of a study ------------------------------------------------------------------------


def test_a_study_without_a_finished_run_says_so(tmp_path):
    write_run(tmp_path, "plain-8", study="s", steps=8, status="running")
    write_run(tmp_path, "resnet-8", study="s", steps=8, status="interrupted")
    page = page_of(store.read_study(tmp_path / "s"))
    said = text_of(page)
    assert "2 runs (1 running, 1 interrupted)" in said
    assert "No finished run yet: nothing can be said." in said
    assert "2 runs of 2 did not finish and stand in no mean." in said
    assert "Error against depth" not in page.split("</main>")[0]
    assert [row[1] for row in table_after(page, "Every run")[1:]] == ["running", "interrupted"]


def test_a_run_that_has_logged_nothing_is_reported(tmp_path):
    write_run(tmp_path, "plain-8", study="s", steps=0, status="running")
    page = page_of(store.read_study(tmp_path / "s"))
    assert "0 of 40" in text_of(page)


def test_one_damaged_run_costs_only_itself(resnetlab, tmp_path):
    write_study(tmp_path, study="s")
    (tmp_path / "s" / "plain-14-seed0" / store.RUN_FILE).write_text("{")
    with (tmp_path / "s" / "plain-8-seed0" / store.METRICS_FILE).open("a") as log:
        log.write('{"step": 44, "train_l')
    code, out, error = resnetlab("report", "s", "--results", tmp_path)
    assert code == 0
    assert "skipped plain-14-seed0: run.json is torn" in error
    target = tmp_path / "s" / "report.html"
    assert str(target) in out
    rows = table_after(target.read_text(), "Problems")[1:]
    assert rows == [
        ["plain-8-seed0", "1 torn or damaged line left out of its metrics"],
        ["plain-14-seed0", "left out: run.json is torn or not JSON"],
    ]
    assert len(store.read_study(tmp_path / "s").skipped) == 1  # the report passes for no run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no study 'nothing'"),
        (["stuyd"], "did you mean 'study'?"),
        (["empty"], "holds no readable run"),
        (["broken"], "a-run: run.json is torn or not JSON"),
        (["study", "--out", "{there}"], "is a folder"),
        (["study", "--out", "{there}/no/x.html"], "does not exist"),
        (["study", "--out", "{there}/mine.html"], "is no report; give another file"),
    ],
)
def test_requests_that_cannot_be_met_exit_with_2_and_write_nothing(words, message, resnetlab, tmp_path):
    root, there = tmp_path / "results", tmp_path / "there"
    write_run(root, "plain-8", study="study")
    (root / "empty").mkdir()
    (root / "broken" / "a-run").mkdir(parents=True)
    (root / "broken" / "a-run" / store.RUN_FILE).write_text("{")
    there.mkdir()
    (there / "mine.html").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, out, error = resnetlab(
        "report", *(word.format(there=there) for word in words), "--results", root
    )
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before
    assert (there / "mine.html").read_text() == "mine"


def test_an_earlier_report_is_replaced_whole_or_not_at_all(resnetlab, tmp_path, monkeypatch):
    write_run(tmp_path / "r", "plain-8", study="s")
    target = tmp_path / "x.html"
    words = ("report", "s", "--results", tmp_path / "r", "--out", target)
    assert resnetlab(*words)[0] == 0
    before = target.read_text()
    write_run(tmp_path / "r", "resnet-8", study="s")
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        code, _, error = resnetlab(*words)
    assert code == 1
    assert "disk is full" in error
    assert target.read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["x.html"]
    assert resnetlab(*words)[0] == 0
    assert "resnet-8-seed0" in target.read_text()


# --- the command that makes it again ----------------------------------------------------------


def test_it_holds_the_command_of_the_study_or_one_of_each_run(tmp_path):
    write_study(tmp_path)
    found = store.read_study(tmp_path / "digits")
    command = commands.of_study("digits", {run.name: run.config for run in found.runs})
    assert command is not None
    assert command in text_of(page_of(found))
    write_run(tmp_path, "plain-8", study="s")
    write_run(tmp_path, "resnet-14", study="s")
    found = store.read_study(tmp_path / "s")
    assert commands.of_study("s", {run.name: run.config for run in found.runs}) is None
    said = text_of(page_of(found))
    for run in found.runs:
        assert commands.of_run(run.config, run.info["execution"]) in said


# --- in a browser -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor chrome is installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_in_a_browser_without_a_request_or_a_complaint(scheme, hostile, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pages = {
        "reference.html": page_of(store.read_study(REFERENCE / "digits")),
        "hostile.html": page_of(store.read_study(hostile)),
    }
    asked, errors = [], []
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        tab = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text))
        tab.on("dialog", lambda dialog: errors.append(dialog.message))
        for name, page in pages.items():
            (tmp_path / name).write_text(page)
            tab.goto((tmp_path / name).as_uri())
            count = len(figures_of(page))
            tab.wait_for_function(
                f"document.querySelectorAll('.plot .main-svg .xaxislayer-above').length >= {count}",
                timeout=90_000,
            )
            assert tab.locator(".js-plotly-plot").count() == count
            assert tab.locator("img, b[onclick]").count() == 0
            ink = tab.evaluate("getComputedStyle(document.body).color")
            inks = tab.evaluate(
                "[...new Set([...document.querySelectorAll('.plot svg text')]"
                ".map(text => getComputedStyle(text).fill))]"
            )
            assert inks == [ink]
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0
            titles = tab.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
            assert titles
            assert not [title for title in titles if re.search("cloud|edit|studio", title or "", re.I)]
        red = int(re.findall(r"\d+", ink)[0])
        assert (red > 128) == (scheme == "dark")
        printed = tab.pdf(format="A4")
        tab.emulate_media(media="print")
        assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert printed.startswith(b"%PDF")
        blocked = tab.evaluate(
            "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')"
        )  # the policy itself, not only good behaviour
        browser.close()
    assert blocked == "blocked"
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [line for line in errors if "127.0.0.1:9" not in line] == []
    assert any("Content Security Policy" in line for line in errors)
