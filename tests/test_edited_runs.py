"""Runs of edited networks, all the way: configuration, training, resuming, names, tables, commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from resnetlab import config, nets, plots, store, studies, training, verdict
from resnetlab.config import Run, UsageError, commands
from resnetlab.images import datasets, feeds
from resnetlab.nets import surgery
from resnetlab.pages import export, report
from resnetlab.plots import series
from resnetlab.studies import notebook
from resnetlab.training import evaluate

CPU = torch.device("cpu")
OFTEN = {"steps": 12, "log_every": 3, "test_every": 6, "probe_every": 6, "checkpoint_every": 4}
SOURCE = {"study": "s", "run": "source", "network": "plain-8", "sha256": "0" * 64}
DIAL: dict[str, Any] = {"network": "resnet-8", "shortcut_scale": 0.25}


def make(**changes: Any) -> Run:
    return config.run_from_parameters(**(OFTEN | changes))


def fit(run: Run, root: Path, name: str | None = None, **kwargs: Any) -> store.RunRecord:
    name = name or run.name_in_study
    return training.fit(run, study="s", name=name, results_folder=root, threads=1, **kwargs)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with trained sources, plain-8 and resnet-8."""
    place = tmp_path_factory.mktemp("results")
    for name in ("plain-8", "resnet-8"):
        fit(make(network=name, steps=40), place, f"{name}-source")
    return place


def grown(root: Path, network: str = "plain-14", **changes: Any) -> Run:
    source = f"s/{'plain' if network.startswith('plain') else 'resnet'}-8-source"
    start = store.weights_named(source, root)
    return make(network=network, start_from=start, **({"lr": 0.001, "milestones": []} | changes))


# --- configuration ----------------------------------------------------------------------------


def test_an_edit_is_part_of_the_run_and_round_trips() -> None:
    for run in (make(**DIAL), make(network="plain-14", start_from=SOURCE, lr=0.01)):
        assert Run.parse(json.loads(json.dumps(run.model_dump(mode="json")))) == run
        assert run.hash() != run.model_copy(update={"surgery": None}).hash()
    assert make(**DIAL).hash() != make(**DIAL | {"shortcut_scale": 0.5}).hash()


def test_a_run_without_an_edit_is_written_as_before() -> None:
    assert "surgery" not in make(network="resnet-8").model_dump(mode="json")
    committed = store.find_run("reference/digits/plain-56-seed0")
    assert committed.config.hash() == committed.info["config_hash"]


def test_names_and_labels_tell_edited_networks_apart() -> None:
    dial, start = make(**DIAL), make(network="plain-14", start_from=SOURCE, lr=0.01, seed=2)
    assert dial.name_in_study == "resnet-8-scale0.25-seed0"
    assert dial.label == "resnet-8-scale0.25 · seed 0"
    assert start.name_in_study == "plain-14-from-plain-8-lr0.01-seed2"
    assert store.identity_of(start)["network"] == "plain-14-from-plain-8-lr0.01"
    other = SOURCE | {"sha256": "1" * 64}
    again = make(network="plain-14", start_from=other, lr=0.01, seed=2)
    assert start.default_name != again.default_name, "outside a study the weights are in the name"
    assert [config.edit_of(run.network_name) for run in (dial, start, make(network="resnet-8-B"))] == [
        "scale 0.25",
        "from 8 layers, lr 0.01",
        "",
    ]
    for run in (dial, start):
        store.check_name("run", run.default_name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "plain-8", "shortcut_scale": 0.5}, "plain-8 has no shortcuts to scale"),
        ({"network": "resnet-8", "shortcut_scale": 0.0}, "greater than 0"),
        ({"network": "resnet-8", "shortcut_scale": 1.0}, "less than 1"),
        ({"network": "resnet-8", "shortcut_scale": float("nan")}, "surgery.shortcut_scale"),
        ({"network": "resnet-8", "shortcut_scale": "0.5"}, r"got '0\.5' \(str\)"),
        (
            {"network": "plain-8", "start_from": SOURCE | {"network": "plain-14"}},
            "plain-8 must not be shallower than plain-14",
        ),
        ({"network": "resnet-14", "start_from": SOURCE}, "only the depth may differ"),
        ({"network": "resnet-50", "start_from": SOURCE}, "not to resnet-50"),
        ({"network": "plain-14", "start_from": SOURCE | {"sha256": "abc"}}, "surgery.start.sha256"),
        (
            {"network": "plain-14", "start_from": SOURCE | {"sha": "abc"}},
            "unknown parameter 'surgery.start.sha'; did you mean 'sha256'",
        ),
        ({"network": "plain-14", "start_from": SOURCE | {"network": "plane-8"}}, "unknown network"),
        ({"network": "plain-14", "start_from": "s/source"}, "got the text 's/source'"),
        (DIAL | {"start_from": SOURCE | {"network": "resnet-8"}}, "and not both"),
    ],
)
def test_impossible_edits_are_refused(values: dict[str, Any], message: str) -> None:
    if values["network"] == "resnet-50":
        values = values | {"data": "digits-large"}
        with pytest.raises(UsageError, match=message):
            config.run_from_parameters(**values)
        return
    with pytest.raises(UsageError, match=message):
        make(**values)


# --- training ---------------------------------------------------------------------------------


def test_the_dial_is_trained_and_tested_as_it_is_scaled(tmp_path: Path) -> None:
    record = fit(make(**DIAL), tmp_path)
    assert record.status == "finished"
    trained = training.load_trained(record, CPU)
    scales = {m.scale for m in trained.network.modules() if isinstance(m, surgery.ScaledShortcut)}
    assert scales == {0.25}
    row = evaluate.evaluate(trained, record.config.data, "single", crop=None)
    assert row["top1_error"] == pytest.approx(record.final("test_error"), abs=1e-4)


@pytest.mark.parametrize(("scale", "name"), [(0.0, "plain-8"), (1.0, "resnet-8")])
def test_the_ends_of_the_dial_are_the_networks_with_names_of_their_own(scale: float, name: str) -> None:
    """Which is why 0 and 1 are no runs of their own: one step from one seed gives equal weights."""
    run, images = make(network=name), torch.rand(16, 1, 8, 8, generator=feeds.generator(0, "images"))
    networks = []
    for spec in (name, "resnet-8"):
        network: Any = nets.build(spec, in_channels=1, generator=feeds.generator(0, "weights"))
        networks.append(network)
    networks[1] = surgery.scale_shortcuts(networks[1], scale)
    for network in networks:
        optimizer = torch.optim.SGD(network.parameters(), lr=run.recipe.lr)
        training.train_step(network.train(), optimizer, images, torch.arange(16) % 10)
    assert training.weights_sha256(networks[0]) == training.weights_sha256(networks[1])


@pytest.mark.parametrize("network", ["plain-14", "resnet-20"])
def test_a_grown_run_begins_as_the_function_it_starts_from(root: Path, network: str) -> None:
    run = grown(root, network)
    source = store.read_run(root / "s" / run.surgery.start.run)  # type: ignore[union-attr]
    trained = training.load_trained(source, CPU)
    begun, images, _ = training.beginning(run, CPU, root)
    assert begun.training
    test = trained.normalise(datasets.load(run.data).test.images)
    with torch.no_grad():
        assert torch.allclose(begun.eval()(test), trained.network.eval()(test), rtol=0, atol=1e-4)
    assert begun.spec == run.network
    drawn, _, _ = training.beginning(run.model_copy(update={"surgery": None}), CPU)
    with torch.no_grad():
        assert not torch.allclose(drawn.eval()(images), begun(images), atol=1e-2)


def test_a_grown_run_logs_ends_and_keeps_what_it_was_given_at_a_small_rate(root: Path) -> None:
    run = grown(root)
    source = store.read_run(root / "s" / "plain-8-source")
    record = fit(run, root)
    assert record.status == "finished"
    assert record.info["config"]["surgery"]["start"]["sha256"] == source.summary["weights_sha256"]  # type: ignore[index]
    first, cold = record.metrics["train_error"].iloc[0], source.metrics["train_error"].iloc[0]
    assert first < cold - 20, "it begins where the source ended, not where the source began"
    assert set(record.metrics["lr"]) == {0.001}
    assert training.load_trained(record, CPU).network.spec.name == "plain-14"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dial", "grown"])
def test_killed_and_resumed_equals_undisturbed_and_needs_its_source_no_more(
    kind: str, root: Path, tmp_path: Path
) -> None:
    """Killed after a checkpoint at step 8; the source's weights are gone by the time it goes on."""
    run = make(**DIAL) if kind == "dial" else grown(root)
    undisturbed = fit(run, root, f"whole-{kind}")
    shutil.copytree(root / "s" / "plain-8-source", tmp_path / "s" / "plain-8-source")
    code = """
        import json, os, sys
        from resnetlab import config
        from resnetlab import training
        run = config.Run.parse(json.loads(sys.argv[1]))
        die = lambda row: row["step"] >= 9 and os._exit(9)
        training.fit(run, study="s", name="r", results_folder=sys.argv[2], threads=1, on_row=die)
    """
    words = [json.dumps(run.model_dump(mode="json")), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *words], capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    shutil.rmtree(tmp_path / "s" / "plain-8-source")
    record = fit(run, tmp_path, "r")
    assert record.status == "finished"
    assert len(record.info["starts"]) == 2
    for name in ("metrics.jsonl", "probes.jsonl"):
        assert (record.path / name).read_bytes() == (undisturbed.path / name).read_bytes()
    assert record.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]  # type: ignore[index]


# --- finding the weights ----------------------------------------------------------------------


def test_the_source_may_lie_among_the_reference_runs(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "reference" / "s"
    shutil.copytree(root / "s" / "plain-8-source", place / "plain-8-source")
    start = store.weights_named("s/plain-8-source", tmp_path)
    record = fit(make(network="plain-14", start_from=start, lr=0.01), tmp_path)
    assert record.status == "finished"


def spoiled(root: Path, tmp_path: Path, damage: str) -> Path:
    folder = tmp_path / "s" / "plain-8-source"
    shutil.copytree(root / "s" / "plain-8-source", folder)
    if damage == "no weights":
        shutil.rmtree(folder / "checkpoints")
    elif damage == "gone":
        shutil.rmtree(folder)
    elif damage == "other weights":
        shutil.rmtree(folder)
        fit(make(network="plain-8", steps=40, seed=1), tmp_path, "plain-8-source")
    elif damage == "other network":
        shutil.rmtree(folder)
        fit(make(network="resnet-8"), tmp_path, "plain-8-source")
    elif damage == "other checkpoint":  # the summary still says what was asked for
        shutil.rmtree(folder / "checkpoints")
        other = fit(make(network="plain-8", steps=40, seed=1), tmp_path, "other")
        shutil.copytree(other.path / "checkpoints", folder / "checkpoints")
        label = next((folder / "checkpoints").glob("*40.json"))
        info = json.loads(label.read_text())
        info["config"]["seed"] = 0
        label.write_text(json.dumps(store.checkpoints.sealed(info)))
        for name in ("metrics.jsonl", "probes.jsonl", "timing.jsonl"):
            shutil.copy(other.path / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", "has them, but no checkpoint: train it again"),
        ("gone", "no run.json"),
        ("other weights", "has other weights"),
        ("other network", "is of resnet-8, not of plain-8"),
        ("other checkpoint", "has not the weights that plain-14-from-plain-8-lr0.001 · seed 0 begins"),
    ],
)
def test_other_weights_than_those_named_are_refused(
    damage: str, message: str, root: Path, tmp_path: Path
) -> None:
    run = grown(root)
    spoiled(root, tmp_path, damage)
    with pytest.raises(UsageError, match=message):
        fit(run, tmp_path, "grown")
    assert not (tmp_path / "s" / "grown" / "run.json").exists(), "nothing is written before"


def test_other_images_and_another_normalisation_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"was trained on digits, not digits \(100 held out\)"):
        fit(grown(root, validation=100), root, "held-out")
    with pytest.raises(UsageError, match="normalised otherwise"):
        fit(grown(root, mean="channel"), root, "channel")


def test_only_whole_ordinary_runs_can_be_started_from(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="most committed runs come without"):
        store.weights_named("reference/digits/plain-32-seed0")
    fit(make(**DIAL), root, "dialled")
    with pytest.raises(UsageError, match="has scaled shortcuts"):
        store.weights_named("s/dialled", root)
    folder = spoiled(root, tmp_path, "whole")
    (folder / "summary.json").unlink()
    with pytest.raises(UsageError, match="only a run that has ended"):
        store.weights_named("s/plain-8-source", tmp_path)


# --- around them ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> store.Study:
    """A study of ordinary and edited networks of one depth, two seeds."""
    place = tmp_path_factory.mktemp("mixed")
    for seed in (0, 1):
        for values in ({"network": "resnet-8"}, DIAL, {"network": "plain-8"}):
            fit(make(**values, seed=seed), place)
    shutil.copytree(root / "s" / "plain-8-source", place / "t" / "plain-8-source")
    start = store.weights_named("t/plain-8-source", place)
    fit(make(network="plain-14", start_from=start), place)
    return store.read_study(place / "s")


def test_edited_networks_are_not_mixed_with_ordinary_ones(mixed: store.Study) -> None:
    table = mixed.table()
    means = verdict.by_network(table).set_index("network")
    assert means["n"].to_dict() == {
        "plain-8": 2,
        "plain-14-from-plain-8-lr0.1": 1,
        "resnet-8": 2,
        "resnet-8-scale0.25": 2,
    }
    assert means.loc["resnet-8-scale0.25", "paper_source"] == ""
    assert verdict.deepest_pair(table, "none") is None, "plain-14 began with a learnt network"
    assert not any("scale" in sentence for sentence in verdict.answers(table))
    groups = series.groups([run.config for run in mixed.runs])
    assert sorted(map(len, groups)) == [1, 2, 2, 2]


def test_figures_draw_each_edit_by_itself(mixed: store.Study) -> None:
    curves = plots.error_curves(store.metrics_of(mixed.runs))
    names = {trace.name for trace in curves.data if trace.name}
    assert names == {"8 layers", "8 layers, scale 0.25", "14 layers, from 8 layers, lr 0.1"}
    depths = plots.error_against_depth(mixed.table())
    assert {x for trace in depths.data for x in trace.x} == {8}
    drawn = [trace for trace in depths.data if trace.mode == "markers" and len(trace.x)]
    assert sum(len(trace.x) for trace in drawn) == 8, "two networks, two seeds, two panels"
    probes = store.probes_of(mixed.runs)
    profile = {trace.name for trace in plots.layer_profile(probes, [0]).data}
    assert "resnet-8-scale0.25, step 0" in profile
    ratios = {trace.name: trace.line.color for trace in plots.gradient_ratio(probes).data if trace.name}
    assert len({ratios["resnet-8"], ratios["resnet-8-scale0.25"]}) == 2


def test_report_and_export_take_them(mixed: store.Study, tmp_path: Path) -> None:
    page = report.page(mixed).decode()
    assert "resnet-8-scale0.25" in page
    export.write(mixed, tmp_path, ("csv",), lambda path: None)
    runs = next(path for path in tmp_path.rglob("*.csv") if "runs" in path.name)
    assert "plain-14-from-plain-8-lr0.1-seed0" in runs.read_text()


def test_a_grid_describes_edited_networks_by_flat_parameters() -> None:
    dial = tuple({"depth": 8, "shortcut": "A", "shortcut_scale": a} for a in (0.1, 0.5))
    grid = config.Grid("dial", depths=(8,), seeds=(0, 1), edited=dial)
    assert len(grid.runs()) == 2 * 4
    assert "resnet-8-scale0.1-seed1" in grid.runs()
    one = {"network": "plain-14", "start_from": SOURCE, "lr": 0.01, "seed": 1}
    only = config.Grid("on", depths=(), shortcuts=(), seeds=(0, 1), edited=(one,))
    assert list(only.runs()) == ["plain-14-from-plain-8-lr0.01-seed1"]
    with pytest.raises(UsageError, match=r"resnet-8-scale0\.1 is asked for twice"):
        config.Grid("dial", edited=(dial[0], dial[0])).runs()
    with pytest.raises(UsageError, match="depths must name each value once"):
        config.Grid("nothing", depths=()).runs()


@pytest.mark.deep
def test_a_study_trains_them_through_the_notebook(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "s", tmp_path / "s")
    start = store.weights_named("s/plain-8-source", tmp_path)
    common = {"steps": 4, "milestones": []}
    edited = ({"network": "plain-14", "start_from": start, "lr": 0.01, "seed": 0}, DIAL)
    grid = config.Grid("mine", depths=(), shortcuts=(), edited=edited, overrides=common)
    runs = studies.collect(grid, root=tmp_path, jobs=2, device="cpu")
    assert [run.name for run in runs] == [
        "resnet-8-scale0.25-seed0",
        "plain-14-from-plain-8-lr0.01-seed0",  # has a seed of its own: those come last
    ]
    assert {run.status for run in runs} == {"finished"}
    assert "start=Start(study=" in (runs[1].path / "train.ipynb").read_text()

    # By hand, several in one process: weights named by their run.
    values = edited[0] | common | {"start_from": "s/plain-8-source"}
    where = {"study": "by-hand", "results": str(tmp_path), "device": "cpu", "threads": 1}
    source, copy = notebook.find("train_together"), tmp_path / "copy.ipynb"
    notebook.execute(source, copy, {"runs": {"grown": values}} | where)
    grown = store.read_run(tmp_path / "by-hand/grown")
    assert grown.config == runs[1].config


def test_the_command_trains_shows_and_tests_them(root: Path, tmp_path: Path, resnetlab: Any) -> None:
    shutil.copytree(root / "s", tmp_path / "s")
    place = ["--results", tmp_path]
    words = ["--steps", 5, "--threads", 1, "--study", "t", *place]
    code, out, error = resnetlab("train", "plain-14", "--start-from", "s/plain-8-source", *words)
    assert code == 0, error
    assert "t/plain-14-from-plain-8-lr0.1-seed0-digits-paper-400-" in out
    code, _, error = resnetlab("train", "resnet-8", "--shortcut-scale", 0.5, "--run", "dial", *words)
    assert code == 0, error
    code, out, _ = resnetlab("show", "t/dial", "--json", *place)
    shown = json.loads(out)
    assert shown["row"]["network"] == "resnet-8-scale0.5"
    assert "--shortcut-scale 0.5" in shown["command"]
    assert shown["command"].startswith("resnetlab train resnet-8 ")
    code, out, _ = resnetlab("show", "t/dial", *place)
    assert "shortcut_scale 0.5" in out
    code, out, error = resnetlab("evaluate", "t/dial", *place)
    assert code == 0, error
    code, out, _ = resnetlab("list", "t", *place)
    assert code == 0
    assert "dial" in out
    code, out, _ = resnetlab("compare", "t", *place)
    assert code == 0
    assert "resnet-8-scale0.5" in out
    code, _, error = resnetlab("train", "plain-20", "--start-from", "s/nobody", *words)
    assert code != 0
    assert "no run 's/nobody'" in error


def test_a_command_makes_a_grown_run_again(root: Path) -> None:

    record = fit(grown(root), root)
    command = commands.of_run(record.config, record.info["execution"])
    assert "-p start_from s/plain-8-source" in command
    assert "-y 'milestones: []'" in command
