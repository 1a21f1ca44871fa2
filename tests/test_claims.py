"""The paper's claims about depth: what settles one, and that every page has the same numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dashboard_data import opened
from typer.testing import CliRunner

from resnetlab import cli, config, store
from resnetlab.pages import executed, report
from resnetlab.verdict import claims, means, order

PROJECT = Path(__file__).parents[1]
REFERENCE = PROJECT / "results" / "reference"
PLAIN, RESIDUAL, BOTH = claims.CLAIMS


def row(*differences, claim=PLAIN, announced=False, highest=(50.0, 40.0), **more):
    gap = means.Contrast("deep", "shallow", tuple(map(float, differences)), highest)
    study, deep = ("depth-real", 44) if announced else ("digits", 56)
    asked = claims.Asked(study, (20, deep), "images")
    return claims.Row(claim, asked, study, "train_error", gap, more.pop("learnt", gap), **more)


@pytest.mark.parametrize(
    ("given", "settles"),
    [
        (row(3, 4, 5), claims.SHOWN),
        (row(-3, -4, -5), claims.REVERSED),
        (row(-3, -4, -5, claim=RESIDUAL), claims.SHOWN),
        (row(3, 4, 5, claim=RESIDUAL), claims.REVERSED),
        (row(3, -4, 5), claims.OPEN),
        (row(1, 4, 30), claims.OPEN),  # all above 0, and the interval is not
        (row(0.1, -0.1, 0.0), claims.NEAR),
        (row(0, 0, 0, highest=(0.0, 0.0)), "cannot show: shallow at 0.0 %"),
        (row(0, 3, 1, claim=RESIDUAL, highest=(3.0, 0.0)), "cannot show: shallow at 0.0 %"),
        (row(9, 8, 9, claim=RESIDUAL, highest=(9.0, 0.0)), claims.REVERSED),
        (row(9, 8, 9, highest=(9.0, 0.0)), claims.SHOWN),
        (row(3, 4), "too few seeds"),
        # however clear: what was announced has not ended
        (row(-3, -4, -5, claim=RESIDUAL, announced=True), claims.MISSING),
        # ... and then all can no longer agree
        (row(3, 4, 5, claim=RESIDUAL, announced=True), f"{claims.LOST}: against it in 3 of 3 seeds"),
        (row(-3, 0, -5, claim=RESIDUAL, announced=True), f"{claims.LOST}: against it in 1 of 3 seeds"),
        (row(2, claim=RESIDUAL, announced=True), f"{claims.LOST}: against it in 1 of 1 seed"),
        # less than a point is that, the other way too, but a claim that is shown is shown
        (row(0.6, 0.5, 0.55, claim=RESIDUAL), claims.NEAR),
        (row(0.67, 0.33, 0.69, 0.5, 0.5, claim=RESIDUAL, announced=True), claims.NEAR),
        (row(0.6, 0.5, 0.55), claims.SHOWN),
        (row(3, 4, 5, announced=True), claims.SHOWN),
        (row(3, 4, 5, diverged=("plain-56-seed3",)), "not shown: 1 diverged"),
        (row(3, 4, 5, mixed=True), claims.MIXED),
    ],
)
def test_a_claim_is_shown_by_all_seeds_and_their_interval(given, settles):
    assert given.settles == settles
    assert given.verdict == settles


def test_of_what_has_not_learnt_nothing_is_concluded_but_where_that_was_announced():
    one = row(48).gap
    settled = "too few of these seeds have learnt"
    at_chance = row(48, 50, 51, learnt=one, stuck={"plain-56": 2})
    without = "; without them +48.0, n = 1"
    assert at_chance.verdict == f"{settled}; not learnt: plain-56 (2 seeds){without}"
    assert row(48, 50, 51, learnt=None).settles == settled
    assert row(48, 50, 51, learnt=one, announced=True).settles == claims.SHOWN


def test_a_page_that_compares_concludes_the_same():
    """`order.claims`, which reports and *Compare* have, on every pair of every committed study."""
    says = {order.PAPERS: 1, order.REVERSED: -1}
    compared = 0
    for one in claims.in_results(REFERENCE):
        if one.gap is None or one.asked.shallow_from:
            continue
        table = store.read_study(REFERENCE / one.study).table()
        for other in order.claims(table, *one.pair, {1: "", -1: ""}, [one.error]):
            settled = {claims.SHOWN: 1, claims.REVERSED: -1}.get(one.settles, 0)
            assert (other.order == order.MISSING) == (one.settles == claims.MISSING)
            assert (other.order == order.LOST) == one.settles.startswith(claims.LOST)
            if other.order in says and one.paper[1]:
                assert says[other.order] == settled, (one.study, one.pair, one.error)
                compared += 1
            assert (other.sign == 0) == (settled == 0), (one.study, one.pair, one.error)
    assert compared >= 9


@pytest.mark.parametrize(("study", "sign"), [("depth-real", 1), ("digits", 0)])
def test_seeds_that_have_not_learnt_count_on_a_page_where_they_were_announced(study, sign):
    rows = [
        {"study": study, "network": network, "seed": seed, "status": "finished", "classes": 10}
        | {"train_error": error + seed, "train_error_clean": error + seed}
        for network, error in (("plain-44", 86.0), ("plain-20", 12.0))
        for seed in (1, 2, 3)
    ]
    (found,) = order.claims(
        pd.DataFrame(rows), "plain-44", "plain-20", {1: "", -1: ""}, ["train_error"]
    )
    assert found.sign == sign


def test_every_committed_study_with_two_depths_asks_the_claims():
    asked = {study.name for study in claims.asked()}
    for path in store.find_studies(REFERENCE):
        table = means.ordinary(store.read_study(path).table())
        if (table.groupby("family")["depth"].nunique() > 1).any():
            assert path.name in asked


@pytest.fixture(scope="module")
def committed():
    return claims.in_results(REFERENCE)


def test_every_difference_is_that_of_the_logged_errors(committed):
    """By hand from the last lines of the logs, without the code that pairs."""
    checked = 0
    for one in committed:
        if one.gap is None:
            continue
        finals = {}
        places = [REFERENCE / name for name in (one.asked.shallow_from, one.study) if name]
        for folder in sorted(folder for place in places for folder in place.iterdir()):
            if not (folder / "summary.json").is_file():
                continue
            about = json.loads((folder / "run.json").read_text())["config"]
            name = config.Run.parse(about).network_name
            if folder.parent.name != one.study and name != one.pair[1]:
                continue  # only the shallow network of another study
            finals[name, about["seed"]] = json.loads((folder / "summary.json").read_text())[one.error]
        seeds = [seed for name, seed in finals if name == one.pair[0] and (one.pair[1], seed) in finals]
        by_hand = [finals[one.pair[0], seed] - finals[one.pair[1], seed] for seed in seeds]
        assert sorted(by_hand) == pytest.approx(sorted(one.gap.differences))
        assert one.ours.startswith(f"{np.mean(by_hand):+.{2 if abs(np.mean(by_hand)) < 10 else 1}f}")
        checked += 1
    assert checked >= 9


def test_announced_studies_stand_there_before_they_have_run(tmp_path):
    none = claims.table(claims.in_results(tmp_path / "nowhere"))
    announced = {study.name for study in claims.asked() if study.announced}
    assert announced <= set(none["study"])
    waiting = none[none["study"].isin(announced)]
    shortcuts = waiting["claim"] == BOTH.words  # compared there too, and announced as no hypothesis
    assert set(waiting[~shortcuts]["verdict"]) == {"not run yet"}
    assert set(waiting[shortcuts]["verdict"]) == {"not run yet; not among the announced hypotheses"}
    assert set(waiting["ours"]) == {""}
    assert set(waiting[~shortcuts]["n"]) == {"0 of 3", "0 of 5"}
    assert set(waiting[shortcuts]["n"]) == {"0"}, "no hypothesis: no seed was announced for it"


def test_the_seeds_waited_for_are_those_of_the_plan():
    """The table of results/reference/README.md and the presets say the same."""
    depth = next(study for study in claims.asked() if study.name == "depth-real")
    assert [depth.planned(depth.pair(claim.kind)) for claim in claims.CLAIMS] == [3, 5, 3]
    plan = (REFERENCE / "README.md").read_text()
    assert "| 8,000 | plain 1 to 3, residual 1 to 5 |" in plan
    for study in claims.asked():
        if study.announced:
            assert f"| `{study.name}` |" in plan


def test_readme_notebooks_report_page_and_command_have_the_same_numbers(committed, monkeypatch):
    first = [one for one in committed if one.error == "train_error_clean"]
    sys.path.insert(0, str(PROJECT / "results"))
    try:
        import told
    finally:
        sys.path.pop(0)
    for name in told.PAGES:
        page = (PROJECT / name).read_text()
        assert told.written(name) == page, "python results/told.py writes the table again"
    readme = (PROJECT / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if f"<br>`{told.STUDIES[0]}` |" in line]
    for one in first:
        if one.study == told.STUDIES[0]:
            assert f"**{one.settles}**<br>{one.ours}, n = {one.n}<br>" in line

    for name, wanted in (
        ("10_ours_and_the_paper", first),
        ("12_first_step", [one for one in committed if one.study.startswith("depth-real")]),
    ):
        copy = executed.parse((REFERENCE / "digits" / f"{name}.ipynb").read_bytes())
        said = "".join(
            "".join(output.get("data", {}).get("text/html", ""))
            for cell in executed.cells(copy)
            for output in cell.get("outputs", ())
        )
        for one in wanted:
            if name.startswith("12") and one.claim is not PLAIN:
                continue
            for cell in (one.ours, one.verdict, one.n):
                assert f"<td>{cell}</td>" in said, (name, one.study, one.pair)

    page = report.page(store.read_study(REFERENCE / "digits")).decode()
    for one in committed:
        if one.study == "digits":
            assert one.ours in page
            assert one.verdict in page

    monkeypatch.setenv("RESNETLAB_RESULTS", str(REFERENCE))
    shown = opened("app_pages/paper.py")
    (line,) = [name for name in shown.table[0].value.index if name.endswith("`digits`")]
    cells = shown.table[0].value.loc[line].str.replace("\N{NO-BREAK SPACE}", " ")
    asked = [one for one in first if one.study == "digits"]
    ours = [cells[one.claim.words].splitlines()[1].strip() for one in asked]
    assert ours == [f"{one.ours}, n = {one.n}" for one in asked]
    table = next(frame.value for frame in shown.dataframe if "verdict" in frame.value)
    assert table["mean"].tolist() == pytest.approx(
        [one.numbers()["mean"] for one in first], nan_ok=True
    )
    assert all(one.ours.endswith(cell) for one, cell in zip(first, table["interval"], strict=True))
    assert table["verdict"].tolist() == [one.verdict for one in first]


def command(*words):
    return CliRunner().invoke(cli.app.app, ["claims", "--results", str(REFERENCE), *words])


def test_the_command_prints_them():
    rows = json.loads(command("digits", "--error", "test_error", "--json").stdout)
    assert [r["verdict"].partition(";")[0] for r in rows] == ["shown", "not settled", "shown"]
    assert pd.DataFrame(rows)[["low", "mean", "high"]].notna().all(axis=None)
    said = command("digits", "depth-real").stdout
    for words in claims.ERRORS.values():
        assert f"On the final {words} error" in said
    assert "not run yet" in said or "seeds are missing" in said or "of 3" in said
    assert " ".join(claims.RULE.split()) in " ".join(said.split())


def test_a_study_that_asks_none_of_them_is_refused():
    done = command("shortcuts")
    assert done.exit_code != 0
    assert "'shortcuts' asks none of the claims; these do: digits," in str(done.exception)
