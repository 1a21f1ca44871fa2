"""The trained weights that come along: a run's own, unharmed, and used by what needs weights."""

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from resnetlab import config, pretrained, store, studies, training
from resnetlab.config import UsageError
from resnetlab.images import datasets
from resnetlab.training import evaluate, trained

PROJECT = Path(__file__).parents[1]
NAMES = ["plain-20-digits", "plain-56-digits", "resnet-20-digits", "resnet-56-digits"]
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_run_of_its_name_and_scores_what_the_run_did(name):
    network = pretrained(name)
    assert not network.training
    assert f"{network.spec.name}-digits" == name
    assert network.run.network == network.spec
    assert (network.run.data.name, network.run.seed) == ("digits", 0)
    assert network.run.recipe == config.default_recipe("digits")
    part = datasets.load(network.run.data)
    for split, quantity in ((part.train, "train_error_clean"), (part.test, "test_error")):
        with torch.no_grad():
            wrong = network(network.normalise(split.images)).argmax(1) != split.labels
        assert 100 * wrong.double().mean().item() == pytest.approx(network.scored[quantity], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_its_run_is_the_committed_one(name):
    mine = store.pretrained_run(name)
    committed = store.read_run(PROJECT / "results" / store.REFERENCE / mine.study / mine.name)
    assert committed.config == mine.config
    assert committed.weights_sha256 == mine.weights_sha256
    assert committed.has_weights
    assert committed.final("test_error") == mine.final("test_error")


def test_test_images_were_no_training_images():
    for name in NAMES:
        images = store.pretrained_run(name).info["dataset"]
        assert (images["train"], images["test"], images["in_both"]) == (1442, 355, 0)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"no weights 'plain-65-digits' .*did you mean 'plain-56-digi"):
        pretrained("plain-65-digits")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of one file, the only one that comes along now."""
    shutil.copy(next(p for p in store.shipped().values() if p.stem == NAMES[0]), tmp_path)
    monkeypatch.setattr("resnetlab.store.pretrained.FOLDER", tmp_path)
    store.shipped.cache_clear()
    yield tmp_path
    store.shipped.cache_clear()


def test_a_changed_weight_is_found_at_load(folder):
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[-4:] = struct.pack("<f", 1.25)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is damaged: its weights have another SHA-256"):
        pretrained(NAMES[0])


def test_a_torn_file_is_named(folder):
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"plain-20-digits.safetensors is no whole file of weights"):
        pretrained(NAMES[0])


def test_a_run_without_a_checkpoint_has_them_and_another_seed_has_not(tmp_path):
    """What notebooks call: weights of the default study are there in any results folder."""
    grid = config.Grid("responses", "digits", depths=[20, 56], seeds=[0])
    records = studies.collect(grid, root=tmp_path, weights=True)
    assert sorted(f"{run.config.network_name}-digits" for run in records) == NAMES
    assert not any(tmp_path.iterdir()), "nothing was trained"
    subject = training.load_trained(records[0], CPU)
    assert subject.network.spec == records[0].network
    error = evaluate.evaluate(subject, records[0].config.data, "single", crop=None)["top1_error"]
    assert error == pytest.approx(records[0].final("test_error"), abs=1e-3)
    other = config.Grid("responses", "digits", depths=[20], seeds=[1]).runs().values()
    assert not {run.hash() for run in other} & {run.config.hash() for run in records}


def test_a_run_begins_with_them(tmp_path):
    """The constructed solution: plain-20 as it came along, made deeper, in an empty results folder."""
    start = store.start_of(store.pretrained_run("plain-20-digits"))
    run = config.run_from_parameters(network="plain-26", start_from=start, steps=1, milestones=[])
    network, images, _ = training.beginning(run, CPU, tmp_path)
    shallow = pretrained("plain-20-digits")
    with torch.no_grad():
        assert torch.allclose(network.eval()(images), shallow(images), atol=1e-4)


@pytest.mark.slow
def test_the_command_writes_a_runs_weights_and_they_come_back(tmp_path, resnetlab, folder):
    root, out = tmp_path / "results", folder / "out"
    run = config.run_from_parameters(network="plain-8", steps=3, seed=5)
    record = training.fit(run, study="mine", results_folder=root, device="cpu")
    code, said, _ = resnetlab("weights", record.name, "--results", root, "--out", out)
    (path,) = out.iterdir()
    assert (code, said.strip()) == (0, str(path))
    assert path.name == "plain-8-digits.safetensors"
    content = path.read_bytes()
    resnetlab("weights", record.name, "--results", root, "--out", out)
    assert path.read_bytes() == content, "the same run gives the same bytes"
    shutil.copy(path, folder)
    store.shipped.cache_clear()
    shutil.rmtree(record.path / store.CHECKPOINTS)
    came = training.load_trained(store.read_run(record.path), CPU)
    assert training.weights_sha256(came.network) == record.weights_sha256
    assert came.step == 3


def test_the_command_refuses_a_run_that_has_none(tmp_path, resnetlab):
    root = tmp_path / "results"
    shutil.copytree(PROJECT / "results" / store.REFERENCE / "digits-fp64", root / "digits-fp64")
    code, _, error = resnetlab("weights", "digits-fp64/plain-56-seed0-fp64", "--results", root)
    assert code == 2
    assert "has no weights to test: most committed runs come without" in error


def test_the_command_lists_what_comes_along(resnetlab):
    code, said, _ = resnetlab("weights")
    assert code == 0
    for name in NAMES:
        (line,) = (line for line in said.splitlines() if name in line)
        record = store.pretrained_run(name)
        assert f"{record.final('test_error'):.2f}" in line
        assert record.weights_sha256 in line


def test_the_kept_weights_of_long_runs_are_those_of_committed_runs():
    """Every file that `make keep` kept is found from its run, and holds what its summary says."""
    place = PROJECT / "results" / store.REFERENCE
    known = {
        run.weights_sha256: run for study in place.iterdir() for run in store.read_study(study).runs
    }
    for sha256, path in store.kept().items():
        record = known[sha256]
        assert path.parent.relative_to(PROJECT / "results" / ".weights") == record.path.relative_to(
            place
        )
        assert record.has_weights
        came = training.load_trained(record, CPU)
        assert training.weights_sha256(came.network) == sha256


def test_every_file_of_weights_is_known_and_small():
    files = list(store.shipped().values())
    assert sorted(path.stem for path in files) == NAMES
    assert sum(path.stat().st_size for path in files) < 10e6
    assert trained.weights_sha256 is training.weights_sha256


@pytest.mark.slow
def test_a_wheel_has_them(tmp_path):
    """As pip builds it from the files that git knows."""
    pytest.importorskip("setuptools")
    code = "from setuptools import build_meta as b; import sys; b.build_wheel(sys.argv[1])"
    tree = tmp_path / "tree"
    shutil.copytree(PROJECT / "resnetlab", tree / "resnetlab")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, tree)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tree,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"resnetlab/store/weights/{name}.safetensors" for name in NAMES} <= inside
