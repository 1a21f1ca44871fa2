"""The loop: what it computes, what it logs, how it ends, and that resuming changes nothing."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab import config, nets, store, training
from resnetlab.config import UsageError
from resnetlab.images import datasets, feeds
from resnetlab.images.pixels import DataError

OFTEN = {"steps": 24, "log_every": 4, "test_every": 8, "probe_every": 6, "checkpoint_every": 8}


def make_run(**changes):
    return config.run_from_parameters(**({"network": "plain-8"} | OFTEN | changes))


def fit(run, root, **kwargs):
    return training.fit(run, study="s", name="r", results_folder=root, threads=1, **kwargs)


def log_bytes(folder):
    """The logs that must not depend on when the run was stopped; timing.jsonl holds clock times."""
    return {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "probes.jsonl")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return fit(make_run(), tmp_path_factory.mktemp("undisturbed"))


# --- what it computes -------------------------------------------------------------------------


def test_fit_equals_a_plain_loop_written_out(undisturbed):
    """SGD by hand (v = mv + g + wd w; w -= lr v) on the same draws gives the same weights."""
    run = make_run()
    digits = datasets.load(run.data)
    network = nets.build("plain-8", in_channels=1, generator=feeds.generator(0, "weights"))
    mean = digits.train.images.double().mean(0)
    velocity, wrong = {}, []
    for step in range(run.recipe.steps):
        index = feeds.Order(len(digits.train), run.recipe, run.seed).draws(step, step + 1).which[0]
        images = ((digits.train.images[index].float() - mean.float()) / 255).float()
        network.zero_grad()
        logits = network(images)
        torch.nn.functional.cross_entropy(logits, digits.train.labels[index]).backward()
        wrong.append(int((logits.argmax(1) != digits.train.labels[index]).sum()))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                gradient = weight.grad + 1e-4 * weight
                velocity[name] = 0.9 * velocity[name] + gradient if name in velocity else gradient
                weight -= config.lr_at(step, run.recipe) * velocity[name]
    state = torch.load(sorted((undisturbed.path / "checkpoints").glob("*.pt"))[-1], weights_only=True)[
        "network"
    ]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4, msg=name)
    # train_error is running: over the four batches of a row, not over the last one
    rows = [100 * sum(wrong[step : step + 4]) / 512 for step in range(0, 24, 4)]
    assert len(set(wrong)) > 6
    assert undisturbed.metrics["train_error"].tolist() == pytest.approx(rows, abs=100 * 2 / 512)


def test_the_log_says_what_happened(undisturbed):
    rows = undisturbed.metrics
    assert rows["step"].tolist() == [4, 8, 12, 16, 20, 24]
    assert rows["test_error"].notna().tolist() == [False, True, False, True, False, True]
    assert rows["lr"].tolist() == [config.lr_at(step - 1, make_run().recipe) for step in rows["step"]]
    assert rows["images_per_second"].gt(0).all()
    images = len(datasets.load(config.Data()).train)
    assert rows["epoch"].iloc[-1] == pytest.approx(24 * 128 / images, rel=1e-5)
    norms = undisturbed.probe("gradient_norm")
    assert sorted(norms["step"].unique()) == [0, 6, 12, 18, 23]
    assert norms.groupby("step").size().eq(8).all()
    assert norms["value"].gt(0).all()
    assert list(norms["name"][:2]) == ["conv", "stage1.0.residual.conv1"]


def by_step(record, kind):
    """Step -> the values of that probe, one per layer."""
    rows = record.probe(kind)
    return {step: own["value"].to_numpy() for step, own in rows.groupby("step")}


def test_the_length_of_the_weights_and_of_each_step_are_logged(undisturbed):
    """Against the same 13 steps by torch alone, weights compared before and after steps 0 and 12."""
    run = make_run()
    session = training.Training(run, datasets.load(run.data), torch.device("cpu"))
    session.network.train()
    layers = nets.weighted_layers(session.network)
    norms, changes, gradients = (
        by_step(undisturbed, kind) for kind in ("weight_norm", "relative_update", "gradient_norm")
    )
    totals = by_step(undisturbed, "total_gradient_norm")
    assert sorted(norms) == sorted(changes) == sorted(totals) == [0, 6, 12, 18, 23]
    assert undisturbed.info["layers"]["total_gradient_norm"] == ["all parameters"]
    for step in range(13):
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        session.advance()
        if step not in (0, 12):
            continue
        assert norms[step] == pytest.approx([float(w.norm()) for w in before.values()], rel=1e-5)
        moved = [
            float((layers[name].weight.detach() - w).norm() / w.norm()) for name, w in before.items()
        ]
        assert changes[step] == pytest.approx(moved, rel=1e-4)
        own = [float(layer.weight.grad.norm()) for layer in layers.values()]
        assert gradients[step] == pytest.approx(own, rel=1e-5)
        whole = torch.cat([p.grad.flatten() for p in session.network.parameters()]).norm()
        assert totals[step] == pytest.approx([float(whole)], rel=1e-5)
    # The first step of plain SGD at 0.1 is lr (g + wd w): its relative length is known by hand.
    first = 0.1 * gradients[0] / norms[0]
    assert changes[0] == pytest.approx(first, rel=2e-3)


# --- clipping ---------------------------------------------------------------------------------


def one_clipped_step(clip):
    """(network after one step, total norm, step) of resnet-8 on random images, by `train_step`."""
    network = nets.build("resnet-8", generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    step = training.train_step(network, optimizer, images, torch.arange(16) % 10, clip=clip)
    return network, step


def test_clipping_is_torchs_own_and_off_by_default():
    bare, step = one_clipped_step(None)
    assert step.norm is None
    total = float(torch.cat([p.grad.flatten() for p in bare.parameters()]).norm())
    for clip in (total / 3, total * 3):
        clipped, step = one_clipped_step(clip)
        assert float(step.norm) == pytest.approx(total, rel=1e-5)
        by_torch, _ = one_clipped_step(None)
        torch.nn.utils.clip_grad_norm_(by_torch.parameters(), clip)
        for ours, theirs in zip(clipped.parameters(), by_torch.parameters(), strict=True):
            assert torch.equal(ours.grad, theirs.grad)
        shrunk = float(torch.cat([p.grad.flatten() for p in clipped.parameters()]).norm())
        assert shrunk == pytest.approx(min(clip, total), rel=1e-4)
    assert not any("clip" in recipe.model_dump() for recipe in config.RECIPES.values())


def test_a_limit_that_is_never_reached_does_not_move_a_bit(undisturbed, tmp_path):
    """The coefficient is then exactly 1."""
    record = fit(make_run(clip=1e6), tmp_path)
    assert record.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]
    assert record.metrics["clipped"].tolist() == [0.0] * 6
    assert "clipped" not in (undisturbed.path / "metrics.jsonl").read_text()
    assert "clip 1000000.0" in record.config.recipe.label
    assert record.config.label == "plain-8 · seed 0 · clip 1e+06"


def test_logged_norms_are_those_before_clipping(undisturbed, tmp_path):
    """The first gradient of both is one and the same; the first step is shorter in proportion."""
    totals = by_step(undisturbed, "total_gradient_norm")
    clip = float(totals[0][0]) / 4
    record = fit(make_run(clip=clip), tmp_path)
    assert by_step(record, "total_gradient_norm")[0] == pytest.approx(totals[0], rel=1e-5)
    ours, theirs = (by_step(run, "gradient_norm")[0] for run in (record, undisturbed))
    assert ours == pytest.approx(theirs, rel=1e-4)
    shorter, whole = (by_step(run, "relative_update")[0] for run in (record, undisturbed))
    assert shorter == pytest.approx(whole / 4, rel=2e-2)  # not exactly: weight decay is not clipped
    assert record.summary["weights_sha256"] != undisturbed.summary["weights_sha256"]
    share = record.metrics["clipped"]
    assert share.iloc[0] > 0
    assert set(share) <= {0.0, 25.0, 50.0, 75.0, 100.0}  # of the four steps of a row


def test_a_clipped_run_resumes_to_the_same_bits(tmp_path):
    asked = make_run(clip=0.5)
    whole = fit(asked, tmp_path / "whole")

    def stop(row):
        if row["step"] == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = fit(asked, tmp_path / "two", on_row=stop)
    assert stopped.status == "interrupted"
    assert 12 <= stopped.steps_done < 24
    resumed = fit(asked, tmp_path / "two")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert log_bytes(resumed.path) == log_bytes(whole.path)
    assert whole.metrics["clipped"].mean() > 0


def test_what_is_measured_does_not_change_what_is_trained(undisturbed, tmp_path):
    rare = make_run(log_every=24, test_every=24, probe_every=24, checkpoint_every=24)
    again = fit(rare, tmp_path)
    assert again.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]
    other_seed = fit(make_run(seed=1), tmp_path / "other")
    assert other_seed.summary["weights_sha256"] != undisturbed.summary["weights_sha256"]


def test_summary_repeats_the_log_and_the_weights(undisturbed):
    summary, last = undisturbed.summary, undisturbed.metrics.iloc[-1]
    assert summary["steps"] == 24
    for name in ("train_error", "test_error", "train_loss", "test_loss"):
        assert summary[name] == last[name]
    session = training.Training(make_run(), datasets.load(config.Data()), torch.device("cpu"))
    path = sorted((undisturbed.path / "checkpoints").glob("*.pt"))[-1]
    session.restore(path.read_bytes())
    assert training.weights_sha256(session.network) == summary["weights_sha256"]
    # the clean training error, recomputed image by image
    session.network.eval()
    digits = datasets.load(config.Data())
    mean = digits.train.images.double().mean(0).float()
    wrong = 0
    with torch.no_grad():
        for image, label in zip(*(digits.train.images, digits.train.labels), strict=True):
            wrong += int(session.network((image.float() - mean)[None] / 255).argmax() != label)
    expected = 100 * wrong / len(digits.train)
    one_image = 100 / len(digits.train)
    assert summary["train_error_clean"] == pytest.approx(expected, abs=1.5 * one_image)


def test_held_out_images_are_followed_and_the_test_set_waits(tmp_path):
    rows = fit(make_run(validation=300), tmp_path).metrics
    assert rows["validation_error"].notna().tolist() == [False, True, False, True, False, True]
    assert rows["test_error"].notna().tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_other_precisions_run_and_are_labelled(precision, tmp_path, undisturbed):
    record = fit(make_run(precision=precision), tmp_path)
    assert record.status == "finished"
    assert record.summary["weights_sha256"] != undisturbed.summary["weights_sha256"]
    assert record.as_row()["precision"] == precision
    assert precision in record.config.label
    assert precision in record.config.name_in_study


# --- how it ends ------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_data(tmp_path):
    record = fit(make_run(lr=1e30), tmp_path)
    assert record.status == "diverged"
    assert 1 <= record.summary["diverged_at"] <= 4
    assert record.steps_done == 4  # it ends at the row that shows it
    assert len(record.metrics) == 1
    assert record.metrics["train_loss"].isna().all()
    assert json.loads((record.path / "metrics.jsonl").read_text())["nonfinite"] == ["train_loss"]
    assert "not finite" in " ".join(record.problems)
    assert fit(make_run(lr=1e30), tmp_path).status == "diverged"  # ended: not trained again


def test_a_diverged_run_killed_before_its_summary_is_not_trained_on(tmp_path):
    record = fit(make_run(lr=1e30), tmp_path)
    before = log_bytes(record.path)
    (record.path / "summary.json").unlink()
    assert store.read_run(record.path).status == "interrupted"  # something is left to do
    again = fit(make_run(lr=1e30), tmp_path)
    assert again.status == "diverged"
    assert again.summary == record.summary
    assert log_bytes(record.path) == before


def test_an_ended_run_is_returned_at_once(undisturbed):
    before = log_bytes(undisturbed.path)
    again = fit(make_run(), undisturbed.path.parent.parent, on_row=lambda row: pytest.fail("trained"))
    assert again.status == "finished"
    assert log_bytes(undisturbed.path) == before


def test_full_disk_marks_the_run_failed_and_the_next_call_finishes_it(
    tmp_path, monkeypatch, undisturbed
):
    append, calls = store.RunWriter.append, []

    def full(self, file, *rows):
        calls.append(file)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, file, *rows)

    monkeypatch.setattr(store.RunWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        fit(make_run(), tmp_path)
    record = store.read_run(tmp_path / "s" / "r")
    assert record.status == "failed"
    assert "No space left" in " ".join(record.problems)
    monkeypatch.undo()
    again = fit(make_run(), tmp_path)
    assert again.status == "finished"
    assert log_bytes(again.path) == log_bytes(undisturbed.path)


# --- resuming ---------------------------------------------------------------------------------

CHILD = """
    import sys, time
    from resnetlab import config
    from resnetlab import training
    values, root, slow = {values!r}, {root!r}, {slow!r}
    def on_row(row):
        print(row["step"], flush=True)
        time.sleep(slow)
    record = training.fit(config.run_from_parameters(**values), study="s", name="r",
                          results_folder=root, threads=1, on_row=on_row)
    print(record.status)
"""


def child(root, values, slow=0.0):
    code = textwrap.dedent(CHILD.format(values=values, root=str(root), slow=slow))
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(process, step):
    for line in process.stdout:
        if line.strip() == str(step):
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 12, 20])
def test_killed_with_9_and_resumed_equals_undisturbed(step, tmp_path, undisturbed):
    values = {"network": "plain-8"} | OFTEN
    process = child(tmp_path, values, slow=0.3)
    wait_for_step(process, step)
    process.kill()
    process.communicate()
    torn = store.read_run(tmp_path / "s" / "r")
    assert torn.status == "interrupted"
    assert "process is gone" in torn.problems[0]
    with (torn.path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 23, "tr')  # what a kill in the middle of a write leaves
    record = fit(make_run(), tmp_path)
    assert record.status == "finished"
    assert log_bytes(record.path) == log_bytes(undisturbed.path)
    assert record.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_after_the_step_with_a_checkpoint(kind, tmp_path, undisturbed):
    process = child(tmp_path, {"network": "plain-8"} | OFTEN, slow=0.3)
    wait_for_step(process, 12)
    process.send_signal(kind)
    out, error = process.communicate(timeout=60)
    assert out.strip().endswith("interrupted"), error
    record = store.read_run(tmp_path / "s" / "r")
    assert record.status == "interrupted"
    assert kind.name in " ".join(record.problems)
    assert list((record.path / "checkpoints").glob("step-*.pt"))
    again = fit(make_run(), tmp_path)
    assert again.status == "finished"
    assert log_bytes(again.path) == log_bytes(undisturbed.path)
    assert again.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]


def stopped_at(root, step):
    """A run that was interrupted in this process right after the row of that step."""

    def on_row(row):
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    record = fit(make_run(), root, on_row=on_row)
    assert record.status == "interrupted"
    return record


def relabel(path, payload):
    """Put `payload` in a checkpoint's place with a label that matches it, as an attacker would."""
    path.write_bytes(payload)
    label = json.loads(path.with_suffix(".json").read_text())
    label["sha256"] = hashlib.sha256(payload).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(store.checkpoints.sealed(label)))


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "hostile", "unlabelled", "half a state", "all gone"]
)
def test_a_bad_checkpoint_is_said_and_the_one_before_serves(damage, tmp_path, capsys, undisturbed):
    record = stopped_at(tmp_path, 20)
    newest = sorted((record.path / "checkpoints").glob("step-*.pt"))[-1]
    content = newest.read_bytes()
    touched = tmp_path / "executed"
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        newest.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "hostile":
        relabel(newest, pickle.dumps(Hostile(str(touched))))
    elif damage == "unlabelled":
        newest.with_suffix(".json").unlink()
    elif damage == "half a state":
        state = torch.load(newest, weights_only=True)
        for weight in state["network"].values():
            weight.add_(1)  # must not survive into the run
        del state["diverged_at"]
        buffer = io.BytesIO()
        torch.save(state, buffer)
        for path in (record.path / "checkpoints").glob("step-*.pt"):
            relabel(path, buffer.getvalue())
    else:
        for path in (record.path / "checkpoints").glob("step-*.pt"):
            path.write_bytes(b"")
    again = fit(make_run(), tmp_path)
    said = capsys.readouterr().err
    assert newest.name in said
    assert not touched.exists()
    assert ("resumed at step 16" in said) == (damage not in ("half a state", "all gone"))
    assert again.status == "finished"
    assert log_bytes(again.path) == log_bytes(undisturbed.path)
    assert again.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    record = stopped_at(tmp_path, 8)
    before = {path: path.read_bytes() for path in record.path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"recipe.lr: 0.1 != 0.2"):
        fit(make_run(lr=0.2), tmp_path)
    assert {path: path.read_bytes() for path in record.path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(tmp_path):
    record = stopped_at(tmp_path, 8)
    newest = sorted((record.path / "checkpoints").glob("step-*.pt"))[-1]
    label = json.loads(newest.with_suffix(".json").read_text())
    label["config"]["seed"] = 7
    newest.with_suffix(".json").write_text(json.dumps(store.checkpoints.sealed(label)))
    with pytest.raises(UsageError, match=r"seed: 7 != 0"):
        fit(make_run(), tmp_path)


def test_changed_images_are_not_trained_on_in_silence(tmp_path, monkeypatch):
    stopped_at(tmp_path, 8)
    load = datasets.load

    def changed(spec, root=None):
        digits = load(spec, root)
        digits.train.images[0, 0, 0, 0] += 1
        return digits

    monkeypatch.setattr(datasets, "load", changed)
    with pytest.raises(UsageError, match="the images of digits have changed"):
        fit(make_run(), tmp_path)


def test_threads_and_device_of_the_first_start_are_kept_and_every_start_noted(tmp_path, monkeypatch):
    first = stopped_at(tmp_path, 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a GPU has come since
    run = make_run()
    record = training.fit(run, study="s", name="r", results_folder=tmp_path, threads=2)
    assert record.info["execution"] == first.info["execution"]
    assert (record.info["execution"]["threads"], record.info["execution"]["device"]) == (1, "cpu")
    assert len(record.info["starts"]) == 2
    assert record.info["starts"][0] == first.info["starts"][0]


def test_speed_after_a_resume_counts_the_window_from_its_beginning(tmp_path, monkeypatch):
    """Stopped late in a window, the first row after the resume must not claim a burst of speed."""
    monkeypatch.setattr(store.RunWriter, "beat", lambda self, step: stop_at(step))

    def stop_at(step):
        if step == 7 and not stopped:
            stopped.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    stopped = []
    run = make_run(log_every=8)
    assert fit(run, tmp_path).status == "interrupted"
    record = fit(run, tmp_path)
    timing = record.metrics.dropna(subset=["seconds"])
    speeds = 8 * 128 / timing["seconds"].diff().fillna(timing["seconds"])
    assert timing["images_per_second"].tolist() == pytest.approx(speeds.tolist(), rel=1e-3)


def test_threads_that_a_resumed_run_does_not_take_are_said(tmp_path, capsys):
    stopped_at(tmp_path, 12)
    how = {"study": "s", "name": "r", "results_folder": tmp_path}
    record = training.fit(make_run(), threads=2, **how)
    assert record.info["execution"]["threads"] == 1
    said = "s/r keeps the 1 thread(s) that it began with, not 2: another number gives other bits"
    assert said in capsys.readouterr().err


# --- rules that follow the run's own errors ---------------------------------------------------

WARM = {"warmup_lr": 0.01, "warmup_window": 3, "warmup_error": 80.0, "log_every": 1}
WARM |= {"milestones": [21, 23]}  # after it has ended


def weights_of(record):
    path = sorted((record.path / "checkpoints").glob("*.pt"))[-1]
    return torch.load(path, weights_only=True)["network"]


def interrupted_after(run, root, step):
    def on_row(row):
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    record = fit(run, root, on_row=on_row)
    assert record.status == "interrupted"
    return record


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    return fit(make_run(**WARM), tmp_path_factory.mktemp("warmed"))


def test_the_warm_up_ends_by_the_training_error_and_is_recorded(warmed):
    errors = warmed.metrics["train_error"].tolist()  # of each step
    ends = next(n for n in range(3, 25) if sum(errors[n - 3 : n]) / 3 < 80)
    assert 4 < ends < 20  # else this run shows nothing
    rates = warmed.metrics["lr"].tolist()
    assert rates[:ends] == [0.01] * ends
    assert rates[ends:21] == [0.1] * (21 - ends)
    assert rates[21:] == pytest.approx([0.01] * 2 + [0.001])
    assert warmed.summary["warm_until"] == ends
    assert warmed.summary["drops"] == []
    assert warmed.info["events"] == {"warm_until": ends, "drops": []}


@pytest.mark.parametrize("before", [1, 2])
def test_a_warm_up_interrupted_inside_its_window_resumes_to_the_same_bits(before, warmed, tmp_path):
    run = make_run(**WARM)
    interrupted_after(run, tmp_path, warmed.summary["warm_until"] - before)
    record = fit(run, tmp_path)
    assert log_bytes(record.path) == log_bytes(warmed.path)
    for name in ("weights_sha256", "warm_until"):
        assert record.summary[name] == warmed.summary[name]
    assert record.info["events"] == warmed.info["events"]


def test_a_plateau_drops_the_rate_and_resumes_to_the_same_bits(tmp_path):
    """A margin of 100 points that no test reaches: the first is a best, two more are a plateau."""
    often = {"log_every": 2, "test_every": 2, "checkpoint_every": 6}
    run = make_run(milestones=[], plateau_patience=2, plateau_margin=100.0, **often)
    whole = fit(run, tmp_path / "whole")
    assert whole.summary["drops"] == [6, 12]
    assert whole.info["events"] == {"warm_until": None, "drops": [6, 12]}
    rates = [0.1] * 3 + [0.01] * 3 + [0.001] * 6
    assert whole.metrics["lr"].tolist() == pytest.approx(rates)
    interrupted_after(run, tmp_path / "parts", 10)
    parts = fit(run, tmp_path / "parts")
    assert log_bytes(parts.path) == log_bytes(whole.path)
    assert parts.summary["weights_sha256"] == whole.summary["weights_sha256"]


# --- what the paper leaves open ---------------------------------------------------------------


def one_step(**changes):
    """A training before and after its first step: (training, parameters before, images)."""
    run = make_run(**changes)
    session = training.Training(run, datasets.load(run.data), torch.device("cpu"))
    images, _ = next(session.feed.batches(0, 1))
    before = {name: value.detach().clone() for name, value in session.network.named_parameters()}
    session.network.train()
    session.advance()
    return session, before, images


@pytest.mark.parametrize("decay_norm", [True, False])
def test_weight_decay_of_batch_norm_is_a_choice(decay_norm):
    """The first step by hand, w - lr (g + wd w), with a decay that is not to be overlooked."""
    session, before, _ = one_step(decay_norm=decay_norm, weight_decay=0.5)
    norms = {name for name in before if "bn" in name}
    assert len(norms) == 2 * 7  # scale and shift of each convolution's
    for name, value in session.network.named_parameters():
        decay = 0.5 if decay_norm or name not in norms else 0.0
        expected = before[name] - 0.1 * (value.grad + decay * before[name])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_ghost_batches_have_statistics_of_their_own():
    """Two groups of 64 of a batch of 128: each is normalised by itself and moves the running mean."""
    session, before, images = one_step(ghost_batch=64)
    out = torch.nn.functional.conv2d(images, before["conv.weight"], padding=1)
    running = torch.zeros(16)
    for part in out.split(64):
        running = 0.9 * running + 0.1 * part.mean(dim=(0, 2, 3))
    torch.testing.assert_close(session.network.bn.running_mean, running, rtol=1e-4, atol=1e-6)
    whole, _, _ = one_step()
    assert not torch.equal(whole.network.conv.weight, session.network.conv.weight)


def test_recomputed_statistics_are_averages_over_the_training_images(tmp_path):
    run = make_run(recompute_norm=True)
    record = fit(run, tmp_path)
    state = weights_of(record)
    network = nets.build("plain-8", in_channels=1)
    network.load_state_dict(state)
    seen = {}

    def look(name):
        def hook(module, inputs):
            values = inputs[0].transpose(0, 1).flatten(1).double()  # (C, B H W)
            seen.setdefault(name, []).append((values.mean(dim=1), values.var(dim=1)))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(look(name))
    digits = datasets.load(run.data)
    mean = digits.train.images.double().mean(0).float()
    network.train()
    with torch.no_grad():
        for part in digits.train.images.split(500):
            network((part.float() - mean) / 255)
    assert len(seen) == 7
    for name, parts in seen.items():
        for index, statistic in enumerate(("running_mean", "running_var")):
            expected = torch.stack([part[index] for part in parts]).mean(dim=0).float()
            torch.testing.assert_close(state[f"{name}.{statistic}"], expected, rtol=1e-3, atol=1e-5)
    # and the test of the last step is made with them
    network.load_state_dict(state)
    network.eval()
    with torch.no_grad():
        found = network((digits.test.images.float() - mean) / 255).argmax(1)
    wrong = 100 * float((found != digits.test.labels).float().mean())
    assert record.summary["test_error"] == pytest.approx(wrong, abs=1.5 * 100 / len(digits.test))
    assert "recompute_norm True" in record.config.recipe.label


def test_channel_mean_against_numpy():
    run = make_run(mean="channel")
    digits = datasets.load(run.data)
    session = training.Training(run, digits, torch.device("cpu"))
    images = digits.train.images.numpy().astype("float64")
    mean, deviation = images.mean(axis=(0, 2, 3)), images.std(axis=(0, 2, 3))
    batch, _ = next(session.feed.plain("test"))
    raw = digits.test.images[: len(batch)].numpy()
    expected = (raw - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(batch, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", ["plain-8", "resnet-8"])
def test_recomputed_activations_change_no_bit(network, tmp_path, monkeypatch):
    """What 1,202 layers do to fit into memory."""
    run = make_run(network=network, steps=8)
    kept = fit(run, tmp_path / "kept")
    monkeypatch.setattr(training.state, "RECOMPUTE_LAYERS", 0)
    again = fit(run, tmp_path / "again")
    assert kept.info["execution"]["activations"] == "kept"
    assert again.info["execution"]["activations"] == "recomputed"
    assert log_bytes(again.path) == log_bytes(kept.path)
    assert again.summary["weights_sha256"] == kept.summary["weights_sha256"]


# --- larger images ----------------------------------------------------------------------------

LARGE = {"recipe": "imagenet-small", "batch_size": 16, "steps": 12, "log_every": 2, "test_every": 4}


@pytest.mark.slow
def test_larger_images_end_to_end_and_resumed_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "data_root", lambda: tmp_path / "data")
    run = make_run(data="digits-large", **LARGE)
    whole = fit(run, tmp_path / "whole")
    assert whole.status == "finished"
    interrupted_after(run, tmp_path / "parts", 6)
    parts = fit(run, tmp_path / "parts")
    assert log_bytes(parts.path) == log_bytes(whole.path)
    assert parts.summary["weights_sha256"] == whole.summary["weights_sha256"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two classes, one training file of which is no image."""
    monkeypatch.setattr(datasets, "data_root", lambda: tmp_path / "data")
    random = np.random.default_rng(0)
    for split, count in (("train", 9), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(random.integers(0, 256, (40, 44, 3), dtype=np.uint8))
                image.save(tmp_path / "photos" / split / name / f"{index}.jpg")
    bad = tmp_path / "photos" / "train" / "cat" / "4.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    return tmp_path / "photos", bad


def test_a_damaged_file_is_named(photos, tmp_path):
    folder, bad = photos
    values = {"data": f"folder:{folder}"} | LARGE | {"batch_size": 4}
    with pytest.raises(DataError, match=re.escape(str(bad))):
        fit(make_run(**values), tmp_path / "strict")


# --- refused before anything is written -------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device": "cuda"}, "no CUDA GPU"),
        ({"device": "tpu"}, "unknown device"),
        ({"device": 0}, "device: should be text"),
        ({"threads": 0}, "threads"),
        ({"name": "../up"}, "run name"),
        ({"study": "a/b"}, "study name"),
    ],
)
def test_bad_requests_leave_nothing(kwargs, message, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = tmp_path / "results"
    with pytest.raises(UsageError, match=message):
        training.fit(make_run(), results_folder=root, **({"study": "s", "name": "r"} | kwargs))
    assert not root.exists() or not any(root.iterdir())


def test_tf32_needs_a_gpu(tmp_path):
    with pytest.raises(UsageError, match="tf32 needs a CUDA GPU"):
        fit(make_run(precision="tf32"), tmp_path, device="cpu")
    assert not (tmp_path / "s").exists()


def test_fp32_means_fp32():
    """TF32 is off by default, on a GPU too: a setting, so it can be checked without one."""
    training.set_precision("fp32")
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_the_beginning_is_what_the_first_step_sees(undisturbed):
    from resnetlab.nets import probes

    record = undisturbed[0] if isinstance(undisturbed, tuple) else undisturbed
    network, images, labels = training.beginning(record.config, torch.device("cpu"))
    assert network.training
    assert images.shape[0] == labels.shape[0] == record.config.recipe.batch_size
    logged = record.probe("gradient_norm")
    logged = logged[logged["step"] == 0]["value"].tolist()
    norms = probes.batch_gradient_norms(network, images, labels).tolist()
    assert norms == pytest.approx(logged, rel=1e-4)
