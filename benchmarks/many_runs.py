"""The dashboard over many runs: seconds to the first chart, and from a click to the new picture.

    python benchmarks/many_runs.py [RUNS]    # needs Chromium; writes many_runs.json and README.md

RUNS runs of 640 logged steps, written by the real writer (the numbers are made up: only their amount
matters), one study of 8 networks. A server is started and warmed by one visit; then, `ROUNDS` times, a
fresh browser tab opens each page (until a chart of its runs is drawn) and changes one thing after
another on it (until a chart differs). Memory is the server's peak (VmHWM). Beside it, *Inside the
networks* of the committed studies, cold: the first page that a server just started is asked for. The
baseline is a page of Streamlit with a title and one line: what its own scripts and Plotly's take here.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tables

from resnetlab import config, store

Change = Callable[[Any], Callable[[], None]]  # prepares a change in a tab and gives what is timed

RUNS, POINTS, ROUNDS = 1_000, 640, 5
NETWORKS = [f"{family}-{depth}" for family in ("plain", "resnet") for depth in (20, 32, 44, 56)]
STUDY = "many"
CHART = ".js-plotly-plot .main-svg"
# A chart of runs: the first page begins with drawn blocks, which have none.
FIRST = {"": f".st-key-figure-depth {CHART}"}
BARE = """import streamlit as st, plotly.graph_objects as go
st.title("One line")
st.plotly_chart(go.Figure(go.Scatter(y=[1, 2, 3])))
"""
COMMITTED = tables.HERE.parent / "results" / store.REFERENCE


def write_runs(root: Path, count: int) -> None:
    """`count` finished runs of POINTS rows each, gradient norms every tenth row."""
    chance = random.Random(0)
    for index in range(count):
        network = NETWORKS[index % len(NETWORKS)]
        run = config.run_from_parameters(
            network=network, seed=index // len(NETWORKS), data="cifar10", recipe="paper"
        )
        layers = [f"layer{i}" for i in range(run.network.depth)]
        with store.RunWriter(root, STUDY, run.name_in_study, run) as writer:
            writer.begin(
                execution={"device": "cpu", "device_name": "", "threads": 1, "engine": "eager"},
                versions={},
                dataset={"name": "cifar10", "classes": 10},
                layers={"gradient_norm": layers},
                parameters=1,
            )
            metrics, timing, probes = [], [], []
            for row in range(1, POINTS + 1):
                step = 100 * row
                error = 10 + 80 * math.exp(-row / 80) + chance.gauss(0, 1)
                line: dict[str, Any] = {"step": step, "epoch": step / 391, "lr": 0.1}
                line |= {"train_loss": error / 40, "train_error": error}
                if row % 5 == 0:
                    line |= {"test_loss": error / 30, "test_error": error + 2}
                metrics.append(line)
                timing.append({"step": step, "seconds": step / 50, "images_per_second": 6400.0})
                if row % 10 == 0:
                    norms = [chance.random() for _ in layers]
                    probes.append({"step": step, "kind": "gradient_norm", "values": norms})
            for name, rows in (
                (store.METRICS_FILE, metrics),
                (store.TIMING_FILE, timing),
                (store.PROBES_FILE, probes),
            ):
                for entry in rows:
                    writer.append(name, entry)
            summary = {"steps": 64_000, "train_error": error, "train_error_clean": error}
            summary |= {"test_error": error + 2, "seconds": 1280.0, "images_per_second": 6400.0}
            writer.finish("finished", step=64_000, error=None, summary=summary)


@contextmanager
def server(root: Path, script: str | Path = "dashboard/app.py") -> Iterator[tuple[str, int]]:
    """Address and process of a dashboard over `root`, or of another script."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "streamlit", "run", str(script), "--server.headless", "true"]
    process = subprocess.Popen(
        [sys.executable, *words, "--server.port", str(port)],
        cwd=tables.HERE.parent,
        env=os.environ | {"RESNETLAB_RESULTS": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def peak_memory_mb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise SystemExit("error: this system does not tell a process's peak memory")


def first_chart(browser: Any, url: str, chart: str = CHART) -> tuple[float, Any]:
    """Seconds until a chart is drawn, and the tab."""
    tab = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    tab.set_default_timeout(60_000)
    began = time.perf_counter()
    tab.goto(url)
    tab.wait_for_selector(chart)
    return time.perf_counter() - began, tab


FINGERPRINT = """Array.from(document.querySelectorAll('.js-plotly-plot')).map(p => {
    const drawn = p._fullLayout;
    return drawn && [drawn.title.text, JSON.stringify(drawn.font), drawn.yaxis?.type,
        ...p._fullData.map(t => (t.y || [])[7])].join();
}).join('|')"""


def after(tab: Any, act: Any) -> float:
    """Seconds from an action to another picture."""
    before = tab.evaluate(FINGERPRINT)
    began = time.perf_counter()
    act()
    tab.wait_for_function(
        f"before => {{ const now = {FINGERPRINT}; return now !== before; }}", arg=before
    )
    return time.perf_counter() - began


def click(text: str) -> Change:
    return lambda tab: tab.get_by_text(text, exact=True).click


def displayed(change: Change) -> Change:
    """One of what folds out on *Compare runs*."""

    def prepare(tab: Any) -> Callable[[], None]:
        tab.get_by_role("button", name="Display").click()
        return change(tab)

    return prepare


def slide(label: str, key: str) -> Change:
    """One place of a slider."""

    def prepare(tab: Any) -> Callable[[], None]:
        tab.get_by_role("slider", name=label).focus()
        return lambda: tab.keyboard.press(key)

    return prepare


def another(label: str) -> Change:
    """The next entry of a list."""

    def prepare(tab: Any) -> Callable[[], None]:
        tab.get_by_role("combobox", name=label, exact=True).click()
        tab.keyboard.press("ArrowDown")
        return lambda: tab.keyboard.press("Enter")

    return prepare


def without_last(tab: Any) -> Callable[[], None]:
    """One run less among those chosen; whatever is unfolded is closed before."""
    tab.keyboard.press("Escape")
    tab.get_by_role("combobox", name="Runs").first.click()
    return lambda: tab.keyboard.press("Backspace")


# What a reader changes on a page; each makes its charts anew.
CHANGES: dict[str, dict[str, Change]] = {
    "": {"the paper's curves beneath": click("The paper's curves"), "projector": click("Projector")},
    "gradients": {
        "another step": slide("Optimizer step", "ArrowLeft"),
        "one run less": without_last,
        "projector": click("Projector"),
    },
    "compare": {
        "smoothing": displayed(slide("Smoothing", "ArrowRight")),
        "log axis": click("Log y"),
        "one run less": without_last,
    },
    "runs": {"another run": another("Run")},
}


def main() -> None:
    from playwright.sync_api import sync_playwright

    count = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder) / "results"
        write_runs(root, count)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        with server(root) as (url, pid), server(root, script) as (bare, _):
            cold, _ = first_chart(browser, f"{url}/?study={STUDY}", FIRST[""])
            first_chart(browser, bare)
            for _ in range(ROUNDS):
                seconds, tab = first_chart(browser, bare)
                times.setdefault("baseline: one line, nothing else", []).append(seconds)
                tab.context.close()
                for page, changes in CHANGES.items():
                    seconds, tab = first_chart(
                        browser, f"{url}/{page}?study={STUDY}", FIRST.get(page, CHART)
                    )
                    times.setdefault(f"/{page}: first chart", []).append(seconds)
                    for what, change in changes.items():
                        tab.wait_for_timeout(3_000)
                        times.setdefault(f"/{page}: {what}", []).append(after(tab, change(tab)))
                    tab.context.close()
            memory = peak_memory_mb(pid)
        inside = []
        for _ in range(ROUNDS):
            with server(COMMITTED) as (url, _):
                inside.append(first_chart(browser, f"{url}/networks?study=digits")[0])
        times["/networks of the committed studies, cold"] = inside
        browser.close()
    rows = [[name, f"{statistics.median(seconds):.2f}"] for name, seconds in times.items()]
    report = {
        **tables.conditions(),
        "runs": count,
        "points": POINTS,
        "rounds": ROUNDS,
        "cold_seconds": cold,
        "peak_memory_mb": memory,
        "seconds": {name: statistics.median(seconds) for name, seconds in times.items()},
    }
    remark = (
        f"{count:,} runs of {POINTS} rows; medians of {ROUNDS} rounds. The very first page after the "
        f"server's start took {cold:.1f} s; peak memory {memory:,} MB."
    )
    tables.publish("many_runs", report, remark, tables.markdown(["page", "seconds"], rows))


if __name__ == "__main__":
    main()
