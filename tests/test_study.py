"""The study runner: the grid, and what happens when runs end, fail, are killed and are stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from dashboard import lab
from resnetlab import config, files, machine, store, studies
from resnetlab.config import UsageError
from resnetlab.images.pixels import DataError
from resnetlab.studies import notebook, processes, runner, worker

PROJECT = Path(__file__).parents[1]


# --- the grid ---------------------------------------------------------------------------------


def test_default_study_is_the_depth_question_on_digits():
    grid = config.grid_named("digits")
    names = set(grid.runs())
    assert names == {f"{f}-{d}-seed0" for f in ("plain", "resnet") for d in (20, 32, 44, 56)}
    assert next(iter(grid.runs())).split("-")[1] == "56"  # the longest first


def test_on_other_data_the_folder_says_so():
    grid = config.grid_named("digits", data="folder:some/where/pictures", steps=None)
    assert grid.name == "digits-pictures"
    assert {run.data.name for run in grid.runs().values()} == {"folder:some/where/pictures"}
    assert config.grid_named("digits", data="digits").name == "digits"
    assert config.grid_named("digits", precision="fp64").name == "digits-fp64"
    assert config.grid_named("short", data="cifar100", name_of_folder="mine").name == "mine"


def test_figure_6_is_the_papers_nine_networks_and_110_layers_warm_up():
    """Figure 6: plain 20, 32, 44, 56; ResNets of the same depths and 110, which Sec. 4.2 warms up."""
    asked = config.grid_named("figure-6").runs()
    assert len(asked) == 9
    assert asked.pop("resnet-110-seed0").recipe == config.RECIPES["paper-110"]
    assert {run.recipe for run in asked.values()} == {config.PAPER}
    assert {run.data.name for run in asked.values()} == {"cifar10"}
    assert config.grid_named("figure-6").question_parameters()["recipe"] == "paper"
    shorter = config.grid_named("figure-6", recipe="paper-400").runs()
    assert {run.recipe.name for run in shorter.values()} == {"paper-400"}


def test_a_study_goes_seed_by_seed_and_the_deepest_first_within_one():
    """Whatever has ended when it is stopped is balanced: all networks of a seed before the next."""
    names = list(config.grid_named("digits", depths=(20, 56), seeds=(3, 1)).runs())
    assert names == [
        *("plain-56-seed3", "resnet-56-seed3", "plain-20-seed3", "resnet-20-seed3"),
        *("plain-56-seed1", "resnet-56-seed1", "plain-20-seed1", "resnet-20-seed1"),
    ]


def test_the_studies_on_photographs_are_those_of_their_plan():
    """results/reference/README.md, committed before the first of these runs."""
    (longer,) = {run.recipe for run in config.grid_named("depth-real-16k").runs().values()}
    plan = config.RECIPES["paper-8k"]
    every = ("steps", "log_every", "test_every", "probe_every")
    doubled = {name: 2 * getattr(plan, name) for name in every}
    doubled["milestones"] = tuple(2 * step for step in plan.milestones)
    assert longer == plan.replace(name="paper-16k", **doubled)
    runs = config.grid_named("depth-real-16k").runs().values()
    assert {(run.network.name, run.seed) for run in runs} == {
        (name, seed) for name in ("resnet-20", "resnet-56") for seed in (1, 2, 3)
    }
    assert {run.data.name for run in runs} == {"cifar10"}
    kinds = {"depth-real": "cifar10", "imagenet-tiny": "tiny-imagenet"}
    networks = {}
    for name in ("depth-real", "depth-real-clip", "imagenet-tiny", "imagenet-tiny-unclipped"):
        runs = config.grid_named(name).runs().values()
        networks[name] = [(run.network.name, run.seed) for run in runs]
        kind = "-".join(name.split("-")[:2])
        assert {run.data.name for run in runs} == {kinds[kind]}
        preset = config.RECIPES[{"depth-real": "paper-8k", "imagenet-tiny": "imagenet-tiny"}[kind]]
        clip = 1.0 if name in ("depth-real-clip", "imagenet-tiny") else None
        assert {run.recipe for run in runs} == {preset.replace(clip=clip)}
        assert {run.precision for run in runs} == {"fp32"}
    deep = [44, 20, 8]
    assert networks["depth-real"] == [
        *((f"{kind}-{d}", seed) for seed in (1, 2, 3) for d in deep for kind in ("plain", "resnet")),
        *((f"resnet-{d}", seed) for seed in (4, 5) for d in deep),
    ]
    assert networks["depth-real-clip"] == [(f"plain-{d}", s) for s in (1, 2, 3) for d in (44, 20)]
    assert networks["imagenet-tiny"] == [
        (f"{kind}-{d}", seed) for seed in (1, 2, 3) for d in (34, 18) for kind in ("plain", "resnet")
    ]
    assert networks["imagenet-tiny-unclipped"] == [("plain-34", 1), ("plain-18", 1)]


def test_the_table_of_the_plan_names_those_networks_and_seeds():
    """Row by row: what it says in words is what `make long-runs` trains."""
    text = (Path(__file__).parents[1] / "results" / "reference" / "README.md").read_text()
    plan = text[text.index("## Under way") :]
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in plan.splitlines()
        if line.startswith("| `")
        and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
    }
    assert len(rows) == 5
    for name, (images, networks, steps, seeds) in rows.items():
        asked = config.grid_named(name).runs().values()
        assert {f"{run.recipe.steps:,}" for run in asked} == {steps}
        for run in asked:
            depth, clip = str(run.network.depth), run.recipe.clip
            assert run.network.name in networks or depth in re.findall(r"\d+", networks)
            assert ("clipped at 1.0" in networks) == (clip == 1.0)
            assert run.data.name.split("10")[0] in images
        for family, word in (("plain", "plain"), ("residual", "residual")):
            own = sorted({run.seed for run in asked if run.network.family == family})
            said = f"{own[0]} to {own[-1]}" if len(own) > 1 else str(*own)
            assert not own or said in seeds or f"{word} {said}" in seeds
        counted = {(run.network.name, run.seed) for run in asked}
        assert len(counted) == len(asked)


def test_the_four_networks_on_other_photographs_keep_their_recipe():
    for name in ("imagenet-tiny", "imagenet-tiny-unclipped"):
        runs = config.grid_named(name, data="folder:some/photographs").runs().values()
        assert {run.recipe.name for run in runs} == {"imagenet-tiny"}
    runs = config.grid_named("imagenet", data="folder:some/photographs").runs().values()
    assert {run.recipe.name for run in runs} == {"imagenet-small"}


def make(*words, cwd):
    return subprocess.run(["make", *words], cwd=cwd, capture_output=True, text=True, check=False)


def stand_in(project, command, code="0"):
    """A project of the Makefile alone, with `command` in its environment: it logs its arguments."""
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / "Makefile").write_text((Path(__file__).parents[1] / "Makefile").read_text())
    program = project / ".venv" / "bin" / command
    program.write_text(f'#!/bin/sh\necho "$@" >> {project / "log"}\nexit {code}\n')
    program.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.ready"):  # in the order of making
        (project / name).touch()


def test_what_has_ended_in_the_other_clone_is_kept_without_weights_and_notebooks(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    stand_in(here, "python")
    (here / ".venv" / "bin" / "resnetlab").symlink_to("python")  # both log what they are asked
    for run, ended in (("plain-8-seed1", True), ("plain-8-seed2", False)):
        folder = there / "results" / "depth-real" / run
        (folder / "checkpoints").mkdir(parents=True)
        for name in (
            "run.json",
            "metrics.jsonl",
            "probes.jsonl",
            "timing.jsonl",
            "train.ipynb",
            "run.lock",
        ):
            (folder / name).write_text(name)
        (folder / "run.json").write_text('{"data": {"name": "folder:x"}}')
        for step in (1, 2):
            for kind in ("pt", "json"):
                (folder / "checkpoints" / f"step-0000000{step}.{kind}").write_text(f"{kind} {step}")
        if ended:
            (folder / "summary.json").write_text("{}")
    done = make("keep", f"FROM={there}", cwd=here)
    assert done.returncode == 0, done.stderr
    kept = here / "results" / "reference" / "depth-real"
    assert [path.name for path in kept.iterdir()] == ["plain-8-seed1"]
    assert sorted(path.name for path in (kept / "plain-8-seed1").iterdir()) == sorted(
        ["run.json", "metrics.jsonl", "probes.jsonl", "timing.jsonl", "summary.json"]
    )
    rewritten = "results/rewrite.py results/reference/depth-real/plain-8-seed1.new"
    ended = there / "results" / "depth-real" / "plain-8-seed1"
    weights = f"weights {ended}/ --out results/.weights/depth-real/plain-8-seed1/"
    assert (here / "log").read_text().splitlines() == [
        rewritten,
        weights,
        "results/told.py",
        "-m dashboard.inside write",
    ]

    # What has not ended goes on elsewhere from its newest checkpoint, and is nothing that pages show.
    way = here / "results" / ".under-way"
    logs = ["run.json", "metrics.jsonl", "probes.jsonl", "timing.jsonl"]
    newest = [f"checkpoints/step-00000002.{kind}" for kind in ("json", "pt")]
    run = "depth-real/plain-8-seed2"
    there_now = {str(path.relative_to(way)) for path in way.rglob("*") if path.is_file()}
    assert there_now == {f"{run}/{name}" for name in [*logs, *newest]}
    assert not [path for path in store.find_studies(here / "results") if way in path.parents]
    stand_in(elsewhere := tmp_path / "elsewhere", "resnetlab")
    shutil.copytree(way, elsewhere / "results" / ".under-way")
    shutil.copytree(kept, elsewhere / "results" / "reference" / "depth-real")
    (own := elsewhere / "results" / "depth-real" / "plain-8-seed9").mkdir(parents=True)
    assert "goes on" not in make("long-runs", cwd=elsewhere).stdout, (
        "runs on other images are not these"
    )
    for goes_on in (True, False):
        done = make("long-runs", "IMAGES=folder:x", cwd=elsewhere)
        assert done.returncode == 0, done.stderr
        for name in (run, "depth-real/plain-8-seed1"):  # what has ended is not trained again either
            assert (f"goes on: results/{name}/" in done.stdout) == goes_on, "never over what is there"
        copied = elsewhere / "results" / run
        assert (copied / newest[1]).read_text() == "pt 2"
        (copied / newest[1]).write_text("pt 2")
    assert own.is_dir()

    (there / "results" / run / "summary.json").write_text("{}")
    assert make("keep", f"FROM={there}", cwd=here).returncode == 0
    assert not way.exists(), "it has ended"


@pytest.mark.parametrize(("codes", "code", "began"), [("0", 0, 17), ("1", 2, 17), ("130", 2, 1)])
def test_the_long_runs_go_on_after_a_failure_stop_when_interrupted_and_tell(
    codes, code, began, tmp_path
):
    stand_in(tmp_path, "resnetlab", codes)
    done = make("long-runs", "IMAGES=folder:x", "TINY=tiny-imagenet:y", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    asked = (tmp_path / "log").read_text().splitlines()
    assert len(asked) == began
    assert asked[0] == (
        "study depth-real --no-report --seeds 1 --depths 8,20 --data folder:x "
        "--jobs 2 --name depth-real"
    )
    assert began == 1 or [line.split()[1] for line in asked] == [
        *["depth-real"] * 6,
        *("depth-real-clip", "depth-real", *["imagenet-tiny"] * 7),
        *("imagenet-tiny-unclipped", "depth-real-16k"),
    ]
    whole = [line.split()[1] for line in asked if "--no-report" not in line]
    assert sorted(whole) == sorted({line.split()[1] for line in asked} if began > 1 else []), (
        "each study ends with its notebook, once"
    )


def test_large_networks_are_tested_by_every_protocol_where_their_weights_are(tmp_path):
    """Their checkpoints do not travel: what has ended is tested before its machine goes, once."""
    stand_in(tmp_path, "resnetlab")
    ended, tested, bare, training = (
        tmp_path / "results" / "imagenet-tiny" / f"plain-18-seed{seed}" for seed in range(4)
    )
    for run in (ended, tested, training):
        (run / "checkpoints").mkdir(parents=True)
        with (run / "checkpoints" / "step-00000009.pt").open("wb") as file:
            file.truncate(20_000_001)
        (run / "checkpoints" / "step-00000009.json").touch()
    bare.mkdir()
    for run in (ended, tested, bare):
        for name in ("run.json", "metrics.jsonl", "probes.jsonl", "timing.jsonl", "summary.json"):
            (run / name).touch()
    (tested / "evaluations.jsonl").write_text("{}")
    assert make("long-runs", cwd=tmp_path).returncode == 0
    asked = (tmp_path / "log").read_text().splitlines()
    place = "results/imagenet-tiny/plain-18-seed0/"
    assert {line for line in asked if "evaluate" in line} == {f"evaluate {place} --protocol all"}
    assert asked[1] == f"evaluate {place} --protocol all", "right after the study, not at the end"

    (here := tmp_path / "here").mkdir()
    stand_in(here, "python")
    (here / ".venv" / "bin" / "resnetlab").symlink_to("python")
    assert make("keep", f"FROM={tmp_path}", cwd=here).returncode == 0
    kept = here / "results" / "reference" / "imagenet-tiny"
    assert {run.name for run in kept.iterdir()} == {run.name for run in (ended, tested, bare)}
    assert (kept / tested.name / "evaluations.jsonl").read_text() == "{}"
    assert not (here / "results" / ".under-way").exists(), "a large checkpoint does not travel"
    assert "weights" not in (here / "log").read_text()


def test_what_is_asked_of_a_preset_goes_for_all_its_networks():
    """No seed beside those asked for; and a preset's clipping stays when something else is changed."""
    assert list(config.grid_named("depth-real", seeds=(1,), depths=(8,)).runs()) == [
        "plain-8-seed1",
        "resnet-8-seed1",
    ]
    shorter = config.grid_named("depth-real-clip", overrides={"steps": 80, "clip": None})
    assert {run.recipe.clip for run in shorter.runs().values()} == {1.0}
    assert {run.recipe.steps for run in shorter.runs().values()} == {80}
    tighter = config.grid_named("depth-real-clip", overrides={"clip": 0.5})
    assert {run.recipe.clip for run in tighter.runs().values()} == {0.5}


def test_an_unknown_engine_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(config.UsageError, match="unknown engine 'egaer'; did you mean 'eager'"):
        studies.run(config.grid_named("digits"), root=tmp_path, engine="egaer")
    assert not list(tmp_path.glob("*/*"))


def test_the_notebook_knows_every_parameter_of_the_grid():
    import papermill

    grid = config.grid_named("digits", overrides={"steps": 5, "lr": 0.1, "batch_size": 8})
    known = papermill.inspect_notebook(str(notebook.find("train")))
    for run in grid.runs().values():
        assert set(config.parameters_of(run)) <= set(known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (20, 21)}, "20 and 26"),
        ({"seeds": ()}, "seeds must name each value once"),
        ({"seeds": (1, 1)}, "seeds must name each value once"),
        ({"overrides": {"stpes": 3}}, "did you mean 'steps'"),
    ],
)
def test_a_bad_grid_is_refused_whole(changes, message, tmp_path):
    grid = config.grid_named("digits", **changes)
    with pytest.raises(UsageError, match=message):
        studies.run(grid, root=tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "device", "error", "message"),
    [
        ({}, "cuda", UsageError, "no CUDA GPU"),
        ({"precision": "tf32"}, "cpu", UsageError, "needs a CUDA GPU"),
        ({"data": "cifar10"}, "cpu", DataError, "resnetlab data download cifar10"),
        ({"validation": 5000}, "cpu", UsageError, "leaves no training image"),
    ],
)
def test_what_every_run_would_trip_over_is_said_once_before_any_starts(
    changes, device, error, message, tmp_path, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("resnetlab.images.datasets.data_root", lambda: tmp_path / "no data")
    monkeypatch.setattr(processes.Local, "start", lambda *words: pytest.fail("a process started"))
    with pytest.raises(error, match=message):
        studies.run(config.grid_named("digits", **changes), root=tmp_path / "results", device=device)
    written = [path.name for path in (tmp_path / "results").rglob("*")]
    assert written in ([], [files.MARKER]), "of a study nothing"


# --- processes --------------------------------------------------------------------------------

SLEEP = [sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(60)"]


def ended(work: processes.Local) -> str:
    deadline = time.monotonic() + 60
    while (said := work.ended()) is None:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.05)
    return said


def test_a_process_is_started_asked_and_stopped(tmp_path):
    work = processes.Local(SLEEP, log=tmp_path / "log.txt", niceness=3)
    work.start()
    assert work.ended() is None
    other = processes.Local(SLEEP, log=work.log, pid=work.pid, created=work.created)
    assert other.ended() is None, "whoever knows its number and start can ask about it"
    unnumbered = processes.Local([*SLEEP, "no such word"])
    assert unnumbered.ended() == "", "other words are another process's"
    while not processes.last_line(work.log):
        time.sleep(0.02)
    other.stop()
    assert ended(work) == ended(other) == "asleep"
    work.close()


def test_a_process_that_fails_says_its_last_line_or_its_exit_code():
    for code, said in (
        ("", ""),
        ("raise SystemExit('why\\n\\n')", "why"),
        ("raise SystemExit(7)", "its process ended with exit code 7"),
    ):
        work = processes.Local([sys.executable, "-c", code])
        work.start()
        assert ended(work) == said
        work.close()


def test_a_process_with_an_order_reads_it_and_ends_with_its_parent():
    code = "import sys; print(sys.stdin.readline()); sys.stdin.read(); sys.exit('the end')"
    work = processes.Local([sys.executable, "-c", code], order="do it")
    work.start()
    assert work.ended() is None
    work._child.stdin.close()  # as when this process dies
    assert ended(work) == "the end"
    work.close()


def test_a_run_of_another_process_is_watched_and_left_when_one_stops(tmp_path, monkeypatch):
    lives = [True, True, False]
    monkeypatch.setattr(processes, "LOOK_SECONDS", 0)
    monkeypatch.setattr(store, "being_written", lambda folder: lives.pop(0))
    work = processes.Elsewhere(tmp_path)
    work.start()
    assert [work.ended() for _ in range(3)] == [None, None, ""]
    for ends in ("stop", "kill"):
        lives[:] = [True]
        work = processes.Elsewhere(tmp_path)
        getattr(work, ends)()
        assert work.ended() == ""
        work.close()


def test_every_watcher_knows_all_that_can_happen():
    """The notebooks' cannot be a kind of the runner's, which stands above it."""
    verbs = {name for name in vars(runner.Watcher) if not name.startswith("_")}
    assert verbs == {name for name in vars(notebook.Lines) if not name.startswith("_")}


def test_a_number_that_another_process_has_got_since_is_left_alone(monkeypatch):
    monkeypatch.setattr("psutil.Process.send_signal", lambda *words: pytest.fail("signalled"))
    created = psutil.Process().create_time()
    for pid, start in ((os.getpid(), None), (os.getpid(), created - 1000), (2**40, created)):
        work = processes.Local(
            ["python", *sys.orig_argv[1:], *([] if start else ["x"])], pid=pid, created=start
        )
        work.stop()
        work.kill()
        assert work.ended() == ""


def test_a_worker_without_a_kernel_ends_when_it_is_stopped(tmp_path):
    """Its notebook has not begun: nothing is trained, and nothing has to be saved."""
    order = {"source": str(notebook.find("train")), "target": str(tmp_path / "x.ipynb")}
    work = studies.Execution("r", Path(order["source"]), Path(order["target"]), {}).work()
    work.start()
    work.stop()
    assert ended(work) != ""
    work.close()
    assert not list(tmp_path.iterdir())


def test_a_child_that_is_no_kernel_keeps_no_stopped_worker():
    code = "import signal, subprocess; from resnetlab.studies import worker; "
    code += "subprocess.Popen(['sleep', '3']); worker._pass_on(signal.SIGTERM, None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.DEVNULL)
    assert done.returncode == worker.STOPPED


# --- whole studies ----------------------------------------------------------------------------

GRID = ["--depths", "8", "--shortcuts", "none,A", "--steps", "30", "--jobs", "2"]


def command(root, *words):
    return [sys.executable, "-m", "resnetlab", "study", "digits", *words, "--results", str(root)]


def run_study(root, *words):
    return subprocess.run(command(root, *words), capture_output=True, text=True, cwd=PROJECT)


def logs(root, run):
    folder = root / "digits" / run
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "probes.jsonl")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small study from its command, once for all tests below."""
    root = tmp_path_factory.mktemp("finished")
    done = run_study(root, *GRID)
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout


@pytest.mark.slow
def test_a_study_ends_with_runs_report_and_table(finished):
    root, said = finished
    assert "plain-8" in said
    assert "points, n = 1" in said or "Fewer than two depths" in said
    table = store.read_study(root / "digits").table()
    assert table["status"].tolist() == ["finished", "finished"]
    assert table["steps"].tolist() == [30, 30]
    report = nbformat.read(root / "digits" / "01_degradation.ipynb", as_version=4)
    for run in ("plain-8-seed0", "resnet-8-seed0"):
        executed = nbformat.read(root / "digits" / run / "train.ipynb", as_version=4)
        assert executed.metadata["papermill"]["input_path"] == "train.ipynb"
        kinds = [kind for cell in executed.cells for out in cell.get("outputs", ())
                 for kind in out.get("data", {})]  # fmt: skip
        assert kinds.count("application/vnd.plotly.v1+json") == 3
        assert (root / "digits" / run / "train.ipynb").stat().st_size < 400_000
    assert not list(root.rglob(".*tmp*"))
    assert "plain-8-seed0" in json.dumps(report)


@pytest.mark.slow
def test_a_second_call_skips_what_has_ended(finished):
    root, _ = finished
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")}
    again = run_study(root, *GRID)
    assert again.returncode == 0
    assert "0 runs to do, 2 ended before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")} == before


@pytest.mark.slow
def test_another_configuration_in_the_folder_is_refused_before_anything_starts(finished):
    root, _ = finished
    refused = run_study(root, *GRID[:-3], "31", "--seeds", "0,1")
    assert refused.returncode == 2
    assert "recipe.steps: 30 != 31" in refused.stderr
    assert not (root / "digits" / "plain-8-seed1").exists()


@pytest.mark.deep
def test_one_failing_run_does_not_stop_the_others_and_the_next_call_finishes_it(finished, tmp_path):
    root, _ = finished
    obstacle = tmp_path / "digits" / "plain-8-seed0" / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()  # no folder: no checkpoint can be written
    done = run_study(tmp_path, *GRID)
    assert done.returncode == 1
    assert "failed: plain-8-seed0" in done.stdout
    assert store.read_run(tmp_path / "digits" / "resnet-8-seed0").status == "finished"
    obstacle.unlink()
    assert run_study(tmp_path, *GRID).returncode == 0
    assert logs(tmp_path, "plain-8-seed0") == logs(root, "plain-8-seed0")


def wait_for_rows(root, run, rows=1):
    deadline = time.monotonic() + 300
    path = root / "digits" / run / "metrics.jsonl"
    while not (path.exists() and path.read_bytes().count(b"\n") >= rows):
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory):
    root = tmp_path_factory.mktemp("long")
    assert run_study(root, *LONG).returncode == 0
    return root


LONG = ["--depths", "14", "--shortcuts", "none", "--steps", "600", "--jobs", "2"]


@pytest.mark.deep
def test_a_killed_study_leaves_no_process_and_resumes_to_the_same_bits(tmp_path, undisturbed_long):
    process = subprocess.Popen(
        command(tmp_path, *LONG), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=PROJECT
    )
    wait_for_rows(tmp_path, "plain-14-seed0", rows=11)  # past the checkpoint at 100
    trainer = store.read_run(tmp_path / "digits" / "plain-14-seed0").info["pid"]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while store.is_alive({"heartbeat": store.now(), "host": os.uname().nodename, "pid": trainer}):
        assert time.monotonic() < deadline, "the training process outlived its study"
        time.sleep(0.1)
    assert store.read_run(tmp_path / "digits" / "plain-14-seed0").status == "interrupted"
    done = run_study(tmp_path, *LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert logs(tmp_path, "plain-14-seed0") == logs(undisturbed_long, "plain-14-seed0")
    ours, theirs = (
        store.read_run(root / "digits" / "plain-14-seed0").summary["weights_sha256"]
        for root in (tmp_path, undisturbed_long)
    )
    assert ours == theirs


@pytest.mark.deep
def test_ctrl_c_stops_runs_after_their_step_and_the_same_command_goes_on(tmp_path, undisturbed_long):
    process = subprocess.Popen(
        command(tmp_path, *LONG), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT
    )
    wait_for_rows(tmp_path, "plain-14-seed0", rows=3)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=120)
    assert process.returncode == 130, said + error
    assert "the same command goes on" in said
    record = store.read_run(tmp_path / "digits" / "plain-14-seed0")
    assert record.status == "interrupted"
    assert list((record.path / "checkpoints").glob("step-*.pt"))
    assert run_study(tmp_path, *LONG).returncode == 0
    assert logs(tmp_path, "plain-14-seed0") == logs(undisturbed_long, "plain-14-seed0")


def weights(root, run):
    return store.read_run(root / "digits" / run).summary["weights_sha256"]


PAIR = ["--depths", "8", "--steps", "800", "--jobs", "2"]
PAIR_RUNS = ("plain-8-seed0", "resnet-8-seed0")


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    assert run_study(root, *PAIR).returncode == 0
    return root


@pytest.mark.deep
@pytest.mark.parametrize(
    "every",
    [pytest.param(False, id="group"), pytest.param(True, id="every process")],
)
def test_sigterm_to_all_ends_each_run_with_a_checkpoint_of_that_second(
    tmp_path, undisturbed_pair, every
):
    """A shell signals a process group, a scheduler every process of a job, the kernels among them."""
    process = subprocess.Popen(
        command(tmp_path, *PAIR),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        start_new_session=True,
    )
    for run in PAIR_RUNS:
        wait_for_rows(tmp_path, run, rows=4)
    started = psutil.Process(process.pid).children(recursive=True)
    sent = time.time()
    for child in started if every else ():
        child.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
    for run in PAIR_RUNS:
        record = store.read_run(tmp_path / "digits" / run)
        assert record.status == "interrupted"
        assert record.info["error"] == "stopped by SIGTERM"
        newest = max((record.path / "checkpoints").glob("step-*.pt"))
        assert newest.name == f"step-{record.info['step']:08d}.pt"
        assert newest.stat().st_mtime >= sent - 1
    done = run_study(tmp_path, *PAIR)
    assert done.returncode == 0, done.stdout + done.stderr
    for run in PAIR_RUNS:
        assert logs(tmp_path, run) == logs(undisturbed_pair, run)
        assert weights(tmp_path, run) == weights(undisturbed_pair, run)
        assert len(store.read_run(tmp_path / "digits" / run).info["starts"]) == 2


@pytest.mark.deep
def test_a_second_call_watches_what_runs_and_goes_on_with_it_if_the_first_is_killed(
    tmp_path, undisturbed_pair
):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": PROJECT}
    first = subprocess.Popen(command(tmp_path, *PAIR), **how)
    for run in PAIR_RUNS:
        wait_for_rows(tmp_path, run, rows=4)
    only = [*PAIR, "--only", PAIR_RUNS[0], "--no-report"]
    cell = run_study(tmp_path, *only)
    assert cell.returncode == 75, cell.stdout + cell.stderr
    second = subprocess.Popen(command(tmp_path, *PAIR), **how)
    lines = []
    while sum("trained by another process" in line for line in lines) < 2:
        lines.append(second.stdout.readline())
        assert lines[-1], lines
    first.kill()
    first.communicate()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    for run in PAIR_RUNS:
        assert weights(tmp_path, run) == weights(undisturbed_pair, run)
        assert len(store.read_run(tmp_path / "digits" / run).info["starts"]) == 2


@pytest.mark.deep
def test_two_calls_at_once_share_a_study_and_the_winners_notebooks_stay(tmp_path, undisturbed_pair):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": PROJECT}
    calls = [subprocess.Popen(command(tmp_path, *PAIR), **how) for _ in range(2)]
    said = [call.communicate(timeout=300)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], said
    for run in PAIR_RUNS:
        assert weights(tmp_path, run) == weights(undisturbed_pair, run)
        record = store.read_run(tmp_path / "digits" / run)
        assert len(record.info["starts"]) == 1
        executed = nbformat.read(record.path / "train.ipynb", as_version=4)
        texts = [out.get("text", "") for cell in executed.cells for out in cell.get("outputs", ())]
        assert any("finished at step 800" in text for text in texts)
        assert not any(
            out.get("output_type") == "error" for c in executed.cells for out in c.get("outputs", ())
        )
    assert not list(tmp_path.rglob(".*tmp*"))


def test_a_notebook_whose_run_another_process_trains_replaces_none(tmp_path, monkeypatch):
    import papermill
    from papermill.exceptions import PapermillExecutionError

    target = tmp_path / "train.ipynb"
    source = notebook.find("train")

    def execute(name, writes=None):
        def papermills(source, temporary, *words, **how):
            Path(temporary).write_text(Path(source).read_text())
            if writes is not None:
                target.write_text(writes)
            if name is not None:
                raise PapermillExecutionError(0, 1, "", name, "why", [])

        monkeypatch.setattr(papermill, "execute_notebook", papermills)
        try:
            notebook.execute(source, target, {})
        except PapermillExecutionError:
            assert name is not None
        assert not list(tmp_path.glob(".*"))

    execute("AnotherWriterError")
    assert not target.exists()
    execute(None, writes="the winner's")
    assert target.read_text() == "the winner's"
    execute("AnotherWriterError")
    assert target.read_text() == "the winner's"
    execute("ValueError")  # the run's own error is shown
    assert target.read_text() != "the winner's"


@pytest.mark.slow
def test_success_is_what_the_library_wrote_not_what_the_cells_say(tmp_path, monkeypatch):
    """papermill reports success for a notebook whose cell leaves with sys.exit(0)."""
    source = nbformat.read(PROJECT / "notebooks" / "train.ipynb", as_version=4)
    for cell in source.cells:
        if "on_row=" in cell.source:
            cell.source = "import sys\nsys.exit(0)"
    for name in ("notebooks", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "results" / files.MARKER).touch()
    monkeypatch.setattr(files, "project", lambda: tmp_path)
    nbformat.write(source, tmp_path / "notebooks" / "train.ipynb")
    empty = nbformat.read(PROJECT / "notebooks" / "01_degradation.ipynb", as_version=4)
    nbformat.write(empty, tmp_path / "notebooks" / "01_degradation.ipynb")
    monkeypatch.chdir(tmp_path)
    grid = config.grid_named("digits", depths=(8,), shortcuts=("none",))
    outcome = studies.run(grid, root=tmp_path / "results", report=False)
    assert len(outcome.failed) == 1
    assert outcome.failed[0].startswith("plain-8-seed0: ")


def test_a_notebooks_folder_says_what_is_not_usual():
    assert studies.folder_name("digits", "digits") == "digits"
    assert studies.folder_name("digits", "cifar10", 200) == "digits-cifar10-200-steps"
    assert studies.folder_name("mine", "cifar10", recipe="paper-8k") == "mine-cifar10-paper-8k"
    with pytest.raises(UsageError, match="unknown recipe"):
        studies.folder_name("mine", "cifar10", recipe="paper-9k")
    with pytest.raises(UsageError, match="unknown data set"):
        studies.folder_name("digits", "cifar11")
    with pytest.raises(UsageError, match="cannot be used"):
        studies.folder_name("../digits", "digits")


@pytest.mark.slow
def test_collect_with_weights_takes_only_runs_that_have_them(tmp_path):
    """As a committed run, which comes without: it serves where weights are not asked for."""
    import shutil

    grid = config.Grid("s", depths=(8,), shortcuts=("none",), overrides={"steps": 4})
    (first,) = studies.collect(grid, root=tmp_path)
    assert first.has_weights
    committed = tmp_path / store.REFERENCE / "s" / first.name
    shutil.copytree(first.path, committed, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.rmtree(first.path)
    (found,) = studies.collect(grid, root=tmp_path)
    assert found.path == committed
    (found,) = studies.collect(grid, root=tmp_path, weights=True)
    assert found.path == first.path
    elsewhere = config.Grid("t", depths=(8,), shortcuts=("none", "A"), overrides={"steps": 4})
    plain, residual = studies.collect(elsewhere, root=tmp_path, weights=True)
    assert plain.path == first.path, "the same run of another study serves"
    assert residual.study == "t"
    shutil.rmtree(found.path / "checkpoints")
    with pytest.raises(UsageError, match="its checkpoints are gone: remove the folder"):
        studies.collect(grid, root=tmp_path, weights=True)


@pytest.mark.deep
def test_runs_that_share_a_process_are_the_runs_alone(tmp_path):
    """What `--together` does on a GPU, here on the CPU: one notebook, the same logs and weights."""
    grid = config.grid_named("digits", depths=(8,), overrides={"steps": 12})
    one = studies.run(grid, root=tmp_path / "together", device="cpu", together=True)
    assert not one.failed
    assert (one.folder / "train_together.ipynb").is_file()
    two = studies.run(grid, root=tmp_path / "apart", device="cpu", jobs=1, report=False)
    for name in grid.runs():
        a, b = (store.read_run(outcome.folder / name) for outcome in (one, two))
        assert a.status == b.status == "finished"
        assert a.summary["weights_sha256"] == b.summary["weights_sha256"]
        assert (a.path / "metrics.jsonl").read_bytes() == (b.path / "metrics.jsonl").read_bytes()


def test_brief_runs_are_collected_without_a_process_each(tmp_path, monkeypatch):
    grid = config.Grid("s", depths=(8,), overrides={"steps": 3})
    monkeypatch.setattr(processes.Local, "start", None)  # no process can be started
    runs = studies.collect(grid, root=tmp_path, device="cpu")
    assert [(run.name, run.status) for run in runs] == [
        ("plain-8-seed0", "finished"),
        ("resnet-8-seed0", "finished"),
    ]
    missing = config.Grid("t", f"folder:{tmp_path / 'none'}", depths=(8,), overrides={"steps": 3})
    with pytest.raises(RuntimeError, match=r"plain-8-seed0: .*none"):
        studies.collect(missing, root=tmp_path, device="cpu")


def test_collecting_brief_runs_can_be_interrupted(tmp_path, monkeypatch):
    from resnetlab import training

    grid = config.Grid("s", depths=(8,), shortcuts=("A",), overrides={"steps": 4, "log_every": 2})
    whole = training.fit_together

    def stopped(*args, **kwargs):
        stop = lambda name, row: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        return whole(*args, **kwargs, on_row=stop)

    monkeypatch.setattr(training, "fit_together", stopped)
    with pytest.raises(KeyboardInterrupt):
        studies.collect(grid, root=tmp_path, device="cpu")
    monkeypatch.setattr(training, "fit_together", whole)
    (run,) = studies.collect(grid, root=tmp_path, device="cpu")
    assert (run.status, len(run.info["starts"])) == ("finished", 2)


def test_together_and_jobs_exclude_each_other(tmp_path):
    with pytest.raises(config.UsageError, match="exclude each other"):
        studies.run(config.grid_named("digits"), root=tmp_path, jobs=2, together=True)


# --- on which machine -------------------------------------------------------------------------


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """A stand-in for nvidia-smi, first on the path, that runs these lines of shell."""

    def install(*lines):
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text("\n".join(("#!/bin/sh", *lines)))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    def forget():
        machine.has_gpu.cache_clear()
        machine.torch_sees_gpu.cache_clear()

    forget()
    yield install
    forget()


LISTED = "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d1f)'"
LISTS_NONE = "nvidia-smi lists no GPU"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (("echo 'NVIDIA-SMI has failed: no communication with the driver'", "exit 9"), LISTS_NONE),
        (("echo 'No devices were found'",), LISTS_NONE),
        ((LISTED, "exit 9"), LISTS_NONE),
        ((LISTED,), "torch sees no GPU"),
    ],
    ids=["no driver", "no device", "fails", "torch sees none"],
)
def test_a_driver_without_a_gpu_for_torch_trains_on_the_cpu_and_says_so(
    nvidia, monkeypatch, capsys, answer, why
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine with a GPU too, torch sees none
    nvidia(*answer)
    cores = machine.usable_cores()
    assert runner._side_by_side(100, None, None, "auto") == (cores, False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("note: an NVIDIA driver is installed, but ")
    assert f"{why}: the study trains on the CPU" in said
    for asked in ((100, 2, None, "auto"), (100, None, None, "cpu"), (100, None, True, "auto")):
        runner._side_by_side(*asked)
    assert capsys.readouterr().err == ""  # where nothing depends on it, nothing is said
    assert lab.slots() == cores


def test_with_a_gpu_that_torch_sees_a_study_is_one_process(nvidia, tmp_path, monkeypatch, capsys):
    nvidia(LISTED)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho a library greets\necho True")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert runner._side_by_side(100, None, None, "auto") == (1, True)
    assert runner._side_by_side(100, None, False, "auto") == (1, False)
    assert runner._side_by_side(100, 3, None, "auto") == (3, False)
    assert runner._side_by_side(100, None, None, "cpu") == (machine.usable_cores(), False)
    assert lab.slots() == min(machine.usable_cores(), lab.MOST_ON_A_GPU)
    assert capsys.readouterr().err == ""


def test_an_nvidia_smi_that_hangs_is_no_gpu(nvidia, monkeypatch):
    nvidia("exec sleep 60")
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.1)
    assert not machine.has_gpu()


def test_whether_there_is_a_gpu_is_asked_without_torch(nvidia):
    nvidia(LISTED)
    code = "import sys; from resnetlab import machine; machine.torch_sees_gpu(); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)
