"""Images are known by what they are: by their SHA-256, not by the name or spelling of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from dashboard_data import write_run

from resnetlab import store, verdict
from resnetlab.config import UsageError, images_named, run_from_parameters
from resnetlab.plots import lines
from resnetlab.store.writer import check_folder
from resnetlab.studies import collection

CATS, DOGS = "c" * 64, "d" * 64


def runs_of(root: Path, *places: tuple[str, str]) -> list[store.RunRecord]:
    """A run per (folder, SHA-256), seeds in turn."""
    for seed, (folder, images) in enumerate(places):
        write_run(root, study=f"s{seed}", seed=seed, data=f"folder:{folder}", images=images)
    return [run for path in store.find_studies(root) for run in store.read_study(path).runs]


def test_two_folders_of_one_name_are_no_seeds_of_one_another(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, ("/a/pets", CATS), ("/b/pets", DOGS), ("/a/pets", CATS))
    assert [who["data"] for who in store.identities(runs)] == [
        "pets [cccccc]",
        "pets [dddddd]",
        "pets [cccccc]",
    ]
    groups = verdict.by_condition(runs)
    assert [len(group) for group in groups.values()] == [2, 1]
    means = verdict.by_network(store.table_of(runs))
    assert dict(zip(means["data"], means["n"], strict=True)) == {"pets [cccccc]": 2, "pets [dddddd]": 1}
    for frame in (store.metrics_of(runs), store.probes_of(runs)):
        assert set(frame["data"]) == {"pets [cccccc]", "pets [dddddd]"}
    curves, members = lines.lines_of(
        {run.study: run for run in runs}, "train_error", "step", lines.SEEDS, "range", 0.0
    )
    assert [len(one) for one in members] == [2, 1]
    assert [curve.name for curve in curves] == ["pets [cccccc]", "pets [dddddd]"]


def test_one_folder_whose_images_changed_is_two_sets(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, ("/a/pets", CATS), ("/a/pets", DOGS))
    assert len(verdict.by_condition(runs)) == 2
    chosen = {run.study: run for run in runs}
    assert len(lines.lines_of(chosen, "train_error", "step", lines.SEEDS, "range", 0.0)[0]) == 2


def test_the_same_images_in_two_places_are_one_set(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, ("/a/pets", CATS), ("/mnt/copy/pets", CATS))
    assert [who["data"] for who in store.identities(runs)] == ["pets", "pets"]
    chosen = {run.study: run for run in runs}
    assert len(lines.lines_of(chosen, "train_error", "step", lines.SEEDS, "range", 0.0)[0]) == 1


SPELT = ["folder:data/pets", "folder:./data/pets/", "folder:data//x/../pets", "folder:{here}/data/pets"]


@pytest.mark.parametrize("spelling", SPELT)
def test_a_folder_has_one_spelling(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert images_named(spelling.format(here=tmp_path)).name == "folder:data/pets"
    assert images_named("folder:/elsewhere/./pets").name == "folder:/elsewhere/pets"
    assert images_named("folder:.").name == f"folder:{tmp_path}"
    assert images_named("digits").name == "digits"
    with pytest.raises(UsageError, match="no such user's home"):
        images_named("folder:~nobody-of-that-name/x")


@pytest.mark.parametrize("spelling", SPELT)
def test_a_run_goes_on_however_its_folder_was_spelt_then(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of before, which says what was typed: no other configuration, and not trained twice."""
    monkeypatch.chdir(tmp_path)
    asked = run_from_parameters(network="plain-8", data="folder:data/pets", steps=40)
    images = asked.data.model_copy(update={"name": spelling.format(here=tmp_path)})
    typed = asked.model_copy(update={"data": images})
    with store.RunWriter(tmp_path, "s", "r", typed) as writer:
        writer.begin(execution={}, versions={}, dataset={}, layers={}, parameters=1)
        writer.save_checkpoint(20, b"weights", 1.0)
        writer.finish("finished", step=40, error=None, summary={"steps": 40})
    record = check_folder(tmp_path / "s" / "r", asked)
    assert record is not None
    with store.RunWriter(tmp_path, "s", "r", asked) as writer:
        assert writer.ended
        assert [one.step for one in writer.checkpoints() if not isinstance(one, str)] == [20]
    found = collection._ended({"wanted": asked}, "s", tmp_path, weights=False)
    assert list(found) == ["wanted"]
    other = run_from_parameters(network="plain-8", data="folder:data/dogs", steps=40)
    with pytest.raises(UsageError, match="another configuration"):
        check_folder(tmp_path / "s" / "r", other)
