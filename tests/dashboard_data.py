"""Small results folders for the dashboard's tests: made-up numbers through the real writer."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from resnetlab.config import run_from_parameters
from resnetlab.store import METRICS_FILE, PROBES_FILE, TIMING_FILE, RunWriter, Status

APP = Path(__file__).resolve().parent.parent / "dashboard" / "app.py"
FIRST = "app_pages/degradation.py"
# A server looks once, when it starts, at what every installed package says of itself. AppTest does at
# every drawing: 0.4 of its 0.6 seconds. What is installed stays as it is while tests run.
vars(manifest_scanner)["scan_component_manifests"] = cache(manifest_scanner.scan_component_manifests)
STEPS = 40
EVERY = 4


def error_at(depth: int, step: int, plain: bool, seed: int = 0) -> float:
    """Made up, in percent: falls with the steps and, for plain networks, rises with depth."""
    return 80 * math.exp(-step / 12) + plain * depth / 4 + seed / 10


def append_rows(writer: RunWriter, first: int, last: int) -> None:
    """The rows of steps first..last (one every EVERY), as the training loop writes them."""
    run = writer.run
    plain, depth = run.network.family == "plain", run.network.depth
    layers = writer.info["layers"]["gradient_norm"]
    for step in range(first, last + 1, EVERY):
        error = error_at(depth, step, plain, run.seed)
        row: dict[str, Any] = {"step": step, "epoch": step / 10, "lr": 0.1, "train_loss": error / 40}
        row |= {"train_error": error, "test_loss": error / 30, "test_error": error + 1}
        writer.append(METRICS_FILE, row)
        writer.append(TIMING_FILE, {"step": step, "seconds": step / 10, "images_per_second": 1280.0})
        values = [1.0 / (1 + index + step) for index in range(len(layers))]
        writer.append(PROBES_FILE, {"step": step, "kind": "gradient_norm", "values": values})


def write_run(
    root: Path,
    network: str = "plain-8",
    *,
    study: str = "digits",
    name: str | None = None,
    seed: int = 0,
    steps: int = STEPS,
    planned: int = STEPS,
    status: Status = "finished",
    error: str | None = None,
    images: str | None = None,
    **parameters: Any,
) -> Path:
    """A run with `steps` of its `planned` steps logged; a running one is written by this process.

    `images` is the SHA-256 of what it was trained on.
    """
    run = run_from_parameters(network=network, seed=seed, steps=planned, **parameters)
    names = [f"layer{index}" for index in range(run.network.depth)]
    with RunWriter(root, study, name or run.name_in_study, run) as writer:
        writer.begin(
            execution={"device": "cpu", "device_name": "test", "threads": 1, "engine": "eager"},
            versions={"python": "3", "torch": "2"},
            dataset={"name": "digits", "classes": 10, "sha256": images},
            layers={"gradient_norm": names},
            parameters=1000,
        )
        append_rows(writer, EVERY, steps)
        if status == "running":
            writer.beat(steps)
            return writer.folder
        last = error_at(run.network.depth, steps, run.network.family == "plain", seed)
        summary = {"steps": steps, "train_error": last, "train_error_clean": last - 0.5}
        summary |= {"test_error": last + 1, "seconds": steps / 10, "images_per_second": 1280.0}
        writer.finish(status, step=steps, error=error, summary=summary)
    return writer.folder


def write_study(root: Path, *, seeds: int = 1, study: str = "digits") -> None:
    """Finished plain and residual runs of two depths."""
    for seed in range(seeds):
        for network in ("plain-8", "plain-14", "resnet-8", "resnet-14"):
            write_run(root, network, study=study, seed=seed)


def opened(page: str = FIRST, /, **query: str | list[str]) -> AppTest:
    """A page as its address with these parameters shows it; no page may end in an exception."""
    app = AppTest.from_file(str(APP), default_timeout=120)
    for step in (FIRST, page) if page != FIRST else (FIRST,):
        if step != FIRST:
            app.switch_page(step)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
    assert not app.exception, app.exception
    return app


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The figures of a page, those that grow while a run trains last."""
    still = [json.loads(item.proto.spec) for item in app.get("plotly_chart")]
    growing = [
        json.loads(json.loads(item.proto.json)["figure"])
        for item in app.get("bidi_component")
        if item.proto.component_name == "resnetlab_live_chart"
    ]
    return still + growing
