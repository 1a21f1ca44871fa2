"""A sample of the campaign: what it tries is survived, and what it writes is what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import campaign
import pytest

from resnetlab import store


@pytest.mark.slow
def test_a_sample_of_all_faults_is_survived() -> None:
    words = [sys.executable, campaign.__file__, "--sample"]  # it forks: a process without threads
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    outcomes = {kind: Counter(what) for kind, what in json.loads(done.stdout.splitlines()[-1]).items()}
    for kind in ("kills", "full disks"):
        assert outcomes[kind].total() > 20
        assert set(outcomes[kind]) == {"identical"}
    for kind in ("flips", "cuts"):
        assert outcomes[kind]["identical"] > outcomes[kind].total() / 2
    assert set(outcomes.get(campaign.UNNOTICED, {})) <= set(store.LOGS), "but in the rows of logs"
    assert outcomes["names"].total() >= 100
    assert set(outcomes["names"]) == {"taken", "refused"}


def test_the_campaign_can_fail(tmp_path: Path) -> None:
    """Without the writer's care its figures would say so: a run whose log lost a row is no survivor."""
    campaign.train(tmp_path)
    before = campaign.results(tmp_path / "s" / "r")
    log = tmp_path / "s" / "r" / store.METRICS_FILE
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[1:]))
    assert campaign.results(tmp_path / "s" / "r") != before

    def broken(name: str, root: Path) -> None:
        raise KeyError(name)

    assert campaign.through(broken, "x", tmp_path / "names") == "unnoticed"
    raw = lambda name, root: print(name)  # noqa: E731
    assert campaign.through(raw, "a\x1b[31m", tmp_path / "raw") == "unnoticed"
    assert campaign.through(raw, "a b", tmp_path / "fine") == "taken"


def test_the_page_has_the_figures_of_the_whole_campaign() -> None:
    page = campaign.PAGE.read_text("utf-8")
    shown = page.partition("<!-- faults -->")[2].partition("<!-- /faults -->")[0]
    for kind, words in campaign.MEANINGS.items():
        (line,) = [line for line in shown.splitlines() if line.startswith(f"| {kind}: {words} |")]
        tried, good, said, unnoticed = map(int, line.strip("| ").split(" | ")[1:])
        assert tried == good + said + unnoticed >= 100
    assert campaign.fill(page, shown.strip()) == page
