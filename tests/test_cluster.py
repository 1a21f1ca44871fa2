"""A study's plan, one cell of it, and what Slurm is given: with stand-ins for Slurm's commands."""

import json
import subprocess
import sys

import pytest

from resnetlab import cli, config, store
from resnetlab.studies import cluster, runner

STUDY = ("study", "digits", "--depths", "8", "--steps", "4")
RUNS = ["plain-8-seed0", "resnet-8-seed0"]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """sbatch, squeue and scancel that note how they were called; `queue` is what squeue answers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log, queue = tmp_path / "called", tmp_path / "queue"
    log.touch()
    for name, does in (
        ("sbatch", f"echo $(( $(grep -c ^sbatch {log}) + 40 ))"),
        ("squeue", f"cat {queue} 2>/dev/null || {{ echo 'Invalid job id specified' >&2; exit 1; }}"),
        ("scancel", "true"),
    ):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\n{does}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def called():
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    called.queue = queue
    return called


def test_the_plan_names_each_run_its_status_and_a_command_that_is_taken(tmp_path, resnetlab):
    words = [*STUDY, "--jobs=2", "--results", tmp_path, "--plan", "--json", "--no-report"]
    code, said, _ = resnetlab(*words)
    assert code == 0
    plan = json.loads(said)
    assert list(plan["runs"]) == RUNS
    assert {cell["status"] for cell in plan["runs"].values()} == {"queued"}
    begins = [sys.executable, "-m", "resnetlab", *STUDY, "--results", str(tmp_path)]
    for name, cell in plan["runs"].items():
        assert cell["command"] == [*begins, "--jobs", "1", "--no-report", "--only", name]
    assert plan["report"]["command"] == [*begins, "--only", ""]
    assert not list(tmp_path.iterdir())
    code, said, _ = resnetlab(*words[:-2], "--plan")
    assert [line.split()[:2] for line in said.splitlines()[:2]] == [[name, "queued"] for name in RUNS]


def test_only_runs_of_the_study_are_taken(tmp_path, resnetlab):
    code, _, error = resnetlab(*STUDY, "--results", tmp_path, "--only", "plain-9-seed0", "--no-report")
    assert code == 2
    assert "digits has no run 'plain-9-seed0'; did you mean 'plain-8-seed0'" in error
    code, _, error = resnetlab(*STUDY, "--results", tmp_path, "--on", "moon")
    assert code == 2
    assert "--on: here or slurm" in error


def test_words_of_drops_options_with_their_values():
    dropped = {"--on": True, "--json": False}
    words = ["study", "--on", "slurm", "--json", "--depths", "8", "--on=slurm", "x"]
    assert cluster.words_of(words, dropped) == ["study", "--depths", "8", "x"]


def test_without_slurm_one_is_told(tmp_path, resnetlab, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = resnetlab(*STUDY, "--results", tmp_path, "--on", "slurm")
    assert code == 2
    assert "no sbatch on this machine" in error
    assert not list(tmp_path.rglob("plan.json"))


def test_a_study_is_an_array_and_a_report_after_it(tmp_path, slurm, resnetlab):
    root = tmp_path / "results"
    words = [*STUDY, "--results", root, "--on", "slurm"]
    code, said, error = resnetlab(
        *words, "--at-once", "1", "--slurm=--partition=p", "--slurm=--gres=x:1"
    )
    assert code == 0, error
    assert "2 of 2 runs handed to Slurm as job 41" in said
    assert "scancel 41 42" in said
    array, report = slurm()
    assert "--partition=p --gres=x:1" in array
    assert "--dependency=afterany:41" in report
    assert "--partition=p" in report
    assert "--gres" not in report
    assert "--only ''" in report
    script = (root / "digits" / ".slurm" / "array.sh").read_text()
    assert "#SBATCH --array=0-1%1\n" in script
    assert f"runs=({' '.join(RUNS)})\n" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0

    plan = store.read_plan(root / "digits")
    assert (list(plan.runs), plan.job) == (RUNS, "41")
    slurm.queue.write_text("41\n")
    code, said, _ = resnetlab("list", "digits", "--results", root, "--json")
    rows = json.loads(said)
    assert [(row["run"], row["status"], row["steps_planned"]) for row in rows] == [
        (name, "queued", 4) for name in RUNS
    ]
    code, _, error = resnetlab(*words)
    assert code == 2
    assert "in Slurm's queue already, as job 41" in error
    slurm.queue.unlink()
    code, said, _ = resnetlab("list", "digits", "--results", root)
    assert said.count("not begun") == 2


def test_what_has_ended_is_not_handed_over_again(tmp_path, slurm, resnetlab):
    grid = config.grid_named("digits", depths=(8,), overrides={"steps": 4})
    from resnetlab import training

    first = {RUNS[0]: grid.runs()[RUNS[0]]}
    training.fit_together(first, study="digits", results_folder=tmp_path, device="cpu")
    given = cluster.submit(grid, tmp_path, ["resnetlab", *STUDY], report=False)
    assert given.runs == (RUNS[1],)
    assert given.report is None
    assert store.read_study(tmp_path / "digits").queued()[0]["run"] == RUNS[1]
    slurm.queue.write_text("41\n")
    assert given.array.ended() is None
    given.array.stop()
    given.array.kill()
    given.array.close()
    slurm.queue.write_text("")
    assert given.array.ended() == ""
    assert [line for line in slurm() if "scancel" in line] == [
        "scancel 41",
        "scancel --full --signal=KILL 41",
        "scancel 41",
    ]
    training.fit_together(grid.runs(), study="digits", results_folder=tmp_path, device="cpu")
    slurm.queue.unlink()
    given = cluster.submit(grid, tmp_path, ["resnetlab", *STUDY])
    assert (given.runs, given.array) == ((), None)
    (report,) = (line for line in slurm() if line.startswith("sbatch"))
    assert "--dependency" not in report


def test_images_and_devices_are_looked_at_where_a_cell_runs(tmp_path, slurm, monkeypatch):
    """The login node may have neither."""
    monkeypatch.setattr(runner, "_check_machine_and_data", lambda *words: pytest.fail("looked"))
    grid = config.grid_named("digits", data="cifar10", depths=(8,))
    assert len(cluster.submit(grid, tmp_path, ["resnetlab"]).runs) == 2


def test_a_damaged_plan_is_none(tmp_path):
    for text in ("", "[]", '{"schema": 99}', '{"schema": 1, "runs": 3}'):
        (tmp_path / "plan.json").write_text(text)
        assert store.read_plan(tmp_path) is None
    (tmp_path / "plan.json").write_text('{"schema": 1, "job": 7, "runs": {"a": 1, "b": {}}}')
    assert store.read_plan(tmp_path) == store.Plan({}, None)


def test_the_script_says_the_commands_exit_code():
    assert cluster.INTERRUPTED == cli.options.INTERRUPTED
