"""The engine changes how a step is executed, never what a run is: same numbers, alone or not."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from resnetlab import config, fit, training
from resnetlab.config import UsageError
from resnetlab.images import datasets, feeds
from resnetlab.training import engine
from resnetlab.training.captured import CapturedTraining
from resnetlab.training.engine import EAGER, Engine
from resnetlab.training.memory import OutOfMemoryError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def tiny(network: str = "plain-8", steps: int = 12, **changes: Any) -> config.Run:
    changes = {"batch_size": 32, "log_every": 5, "test_every": 12, "probe_every": 6} | changes
    return config.run_from_parameters(network=network, steps=steps, **changes)


def on_cifar(network: str = "plain-20", steps: int = 3_200, precision: str = "fp32") -> config.Run:
    return config.run_from_parameters(network=network, data="cifar10", steps=steps, precision=precision)


# --- names and the rule -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eager", "compiled", "compiled+channels_last", "graph+channels_last"])
def test_a_name_says_which_switches_are_on(name: str) -> None:
    assert engine.parse(name).name == name


@pytest.mark.parametrize("name", ["", "eger", "compiled+", "Graph", "compiled,graph"])
def test_an_unknown_engine_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="engine"):
        engine.parse(name)


@pytest.mark.parametrize(
    ("run", "device", "size", "expected"),
    [
        (tiny(), CPU, 8, EAGER),  # 400 steps on 8x8 are over before a compiler is
        (on_cifar(), CPU, 32, Engine(compiled=True)),
        (on_cifar(steps=200), CPU, 32, EAGER),
        (on_cifar(precision="bf16"), CPU, 32, Engine(compiled=True, channels_last=True)),
        (on_cifar(precision="bf16", steps=100), CPU, 32, Engine(channels_last=True)),
        (on_cifar(precision="fp64"), CPU, 32, EAGER),
        (on_cifar("resnet-1202"), CPU, 32, EAGER),
        (on_cifar(), CUDA, 32, Engine(graph=True)),
        (on_cifar(precision="bf16"), CUDA, 32, Engine(graph=True, channels_last=True)),
        (on_cifar(precision="fp64"), CUDA, 32, EAGER),
    ],
)
def test_the_rule(run: config.Run, device: torch.device, size: int, expected: Engine) -> None:
    assert engine.choose(run, device, size, resident=True, alone=True) == expected


def test_several_processes_and_images_from_files_are_not_captured() -> None:
    assert engine.choose(on_cifar(), CUDA, 32, resident=False, alone=True) == EAGER
    assert engine.choose(on_cifar(), CUDA, 32, resident=True, alone=False) == EAGER


def test_a_graph_on_a_cpu_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="CUDA GPU"):
        fit(tiny(), name="a", results_folder=tmp_path, device="cpu", engine="graph")
    assert not list(tmp_path.glob("runs/a/*.json*"))


# --- recorded, kept, and falling back -----------------------------------------------------------


def test_the_engine_is_recorded_and_kept(tmp_path: Path) -> None:
    how = {"name": "a", "results_folder": tmp_path, "device": "cpu", "threads": 1}

    def stop(row: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), engine="channels_last", on_row=stop, **how)
    with pytest.raises(UsageError, match="began with engine channels_last"):
        fit(tiny(), engine="eager", **how)
    record = fit(tiny(), **how)
    assert record.info["execution"]["engine"] == "channels_last"
    assert record.status == "finished"


def test_without_a_compiler_it_is_eager_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        engine, "why_not_compile", lambda: "InvalidCxxCompiler: No working C++ compiler"
    )
    record = fit(tiny(), results_folder=tmp_path, device="cpu", engine="compiled", threads=1)
    said = capsys.readouterr().err
    assert "No working C++ compiler" in said
    assert len([line for line in said.splitlines() if "compile" in line]) == 1
    assert record.info["execution"]["engine"] == "eager"
    assert record.status == "finished"


def test_memory_format_moves_numbers_by_rounding_only(tmp_path: Path) -> None:
    how = {"results_folder": tmp_path, "device": "cpu", "threads": 1}
    run = tiny("resnet-8", steps=5)
    one = fit(run, name="contiguous", engine="eager", **how)
    two = fit(run, name="last", engine="channels_last", **how)
    assert one.metrics["train_loss"].iloc[-1] == pytest.approx(
        two.metrics["train_loss"].iloc[-1], rel=1e-4
    )


@pytest.mark.slow
def test_a_compiled_run_differs_by_rounding_and_resumes_to_the_last_bit(tmp_path: Path) -> None:
    if reason := engine.why_not_compile():
        pytest.skip(reason)
    how = {"results_folder": tmp_path, "device": "cpu", "threads": 1}
    run = tiny("resnet-8", checkpoint_every=4, clip=1.0)
    eager = fit(run, name="eager", engine="eager", **how)
    whole = fit(run, name="whole", engine="compiled", **how)
    assert whole.info["execution"]["engine"] == "compiled"
    first = [record.metrics["train_loss"].iloc[0] for record in (eager, whole)]
    assert first[0] == pytest.approx(first[1], rel=1e-3)

    def stop(row: Any) -> None:
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run, name="parts", engine="compiled", on_row=stop, **how)
    parts = fit(run, name="parts", **how)
    assert parts.summary["weights_sha256"] == whole.summary["weights_sha256"]


# --- the step on fixed memory, which a GPU captures ---------------------------------------------


def trained(run: config.Run, how: Engine, steps: int, start: bytes = b"") -> training.Training:
    """A training after `steps` steps, with the optimizer that a graph needs (fused) for both."""
    session = training.make_training(run, datasets.load(run.data), CPU, how=how)
    for group in session.optimizer.param_groups:
        group |= {"fused": True, "foreach": False}
    session.optimizer._step_supports_amp_scaling = True
    if start:
        session.restore(start)
    session.network.train()
    while session.step < steps:
        session.advance()
    return session


@pytest.mark.parametrize(
    "changes",
    [
        {"milestones": (4, 9)},
        {"warmup_lr": 0.01, "warmup_window": 3, "warmup_error": 95.0, "milestones": ()},
        {"pad": 1, "flip": True},
        {"clip": 0.5},
    ],
)
def test_a_step_from_fixed_memory_is_the_eager_step(changes: dict[str, Any]) -> None:
    """The code that a GPU captures, done directly: draws, rates and counters lie on the device."""
    run = tiny(**changes)
    one, two = trained(run, EAGER, 12), trained(run, Engine(graph=True), 12)
    assert training.weights_sha256(one.network) == training.weights_sha256(two.network)
    assert one.schedule.state() == two.schedule.state()
    assert one.close_window() == two.close_window()


def test_it_goes_on_from_a_checkpoint_to_the_last_bit() -> None:
    run = tiny(milestones=(4, 9), clip=0.5)
    whole = trained(run, Engine(graph=True), 12)
    half = trained(run, Engine(graph=True), 7)
    resumed = trained(run, Engine(graph=True), 12, half.save())
    assert training.weights_sha256(whole.network) == training.weights_sha256(resumed.network)
    state = torch.load(io.BytesIO(half.save()), weights_only=True)
    assert state["step"] == 7


def test_fixed_memory_stays_where_it_is_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured graph reads addresses: a block that moved would be read no more."""
    monkeypatch.setattr(feeds.Resident, "BLOCK", 3)
    session = trained(tiny(), Engine(graph=True), 1)
    assert isinstance(session, CapturedTraining)

    def places() -> list[int]:
        draws = session._draws
        parts = (draws.which, draws.dy, draws.flip, session._rates, session._lr, session._row)
        counted = (session.loss_sum, session.wrong_sum, session.steps_counted, session.diverged_at)
        return [part.data_ptr() for part in (*parts, *counted)]

    before = places()
    for _ in range(8):
        session.advance()
    session.close_window()
    assert places() == before
    eager = trained(tiny(), EAGER, 9)
    assert training.weights_sha256(session.network) == training.weights_sha256(eager.network)


def test_the_first_bad_step_is_counted_on_the_device() -> None:
    run = tiny(lr=1e30)
    one, two = trained(run, EAGER, 6), trained(run, Engine(graph=True), 6)
    assert one.first_bad_step is not None
    assert one.first_bad_step == two.first_bad_step > 0


# --- several on one device ----------------------------------------------------------------------


def test_a_run_in_company_is_the_run_alone(tmp_path: Path) -> None:
    runs = {
        "a": tiny("plain-8"),
        "b": tiny("resnet-8", steps=7, seed=3),
        "c": tiny("resnet-14", steps=5),
    }
    how = {"device": "cpu", "threads": 1}
    together = training.fit_together(runs, results_folder=tmp_path / "company", **how)
    assert list(together) == ["c", "b", "a"]  # in the order in which they ended
    for name, run in runs.items():
        alone = fit(run, name=name, results_folder=tmp_path / "alone", **how)
        company = together[name]
        assert not isinstance(company, Exception)
        assert company.summary["weights_sha256"] == alone.summary["weights_sha256"]
        for file in ("metrics.jsonl", "probes.jsonl"):
            assert (company.path / file).read_bytes() == (alone.path / file).read_bytes()


def test_what_goes_wrong_with_one_leaves_the_others(tmp_path: Path) -> None:
    runs = {"good": tiny(steps=6), "bad": tiny("resnet-8", steps=6), "also-good": tiny(steps=4, seed=1)}

    def fail(name: str, row: Any) -> None:
        if name == "bad":
            raise torch.OutOfMemoryError("CUDA out of memory")

    out = training.fit_together(runs, results_folder=tmp_path, device="cpu", threads=1, on_row=fail)
    said = str(out["bad"])
    assert isinstance(out["bad"], OutOfMemoryError)
    assert "resnet-8 does not fit" in said
    assert "--batch-size" in said
    for name in ("good", "also-good"):
        record = out[name]
        assert not isinstance(record, Exception)
        assert record.status == "finished"
    from resnetlab import store

    failed = store.read_run(tmp_path / "runs" / "bad")
    assert failed.status == "failed"
    assert "does not fit" in failed.info["error"]


def test_what_does_not_fit_beside_the_others_waits(tmp_path: Path) -> None:
    runs = {"first": tiny(steps=6), "second": tiny("resnet-8", steps=6)}
    rows: list[str] = []
    need = max(training.bytes_needed(run) for run in runs.values())
    training.fit_together(
        runs,
        results_folder=tmp_path,
        device="cpu",
        threads=1,
        memory=need + 1,
        on_row=lambda name, row: rows.append(name),
    )
    assert rows == ["first", "first", "second", "second"]


def test_runs_of_two_precisions_are_not_put_into_one_process(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one precision"):
        training.fit_together(
            {"a": tiny(), "b": tiny(precision="bf16")}, results_folder=tmp_path, device="cpu"
        )


def test_the_memory_needed_grows_with_batch_and_depth() -> None:
    small = training.bytes_needed(on_cifar("plain-20"))
    assert training.bytes_needed(on_cifar("plain-56")) > 2 * small
    # Fourteen maps of 16 channels, 32 x 32, 4 bytes, batch 128 are 0.1 GB: the order of magnitude.
    assert 0.1e9 < small < 3e9


def test_a_process_that_keeps_freed_memory_does_so() -> None:
    """Without it glibc gives 200 MB back at once; a C library that cannot says so."""
    script = """
import psutil
from resnetlab import machine
kept = machine.keep_freed_memory()
block = bytearray(200_000_000)
del block
print(kept, psutil.Process().memory_info().rss > 200_000_000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    glibc = platform.libc_ver()[0] == "glibc"
    assert done.stdout.split() == (["True", "True"] if glibc else ["False", "False"])
