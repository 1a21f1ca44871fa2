"""The GPU path on a simulated device (`simulated_cuda`): every rule of CUDA that it could break."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from simulated_cuda import Device, Stream, simulated_cuda

from resnetlab import config, fit, nets, store, studies, training
from resnetlab.images import datasets, feeds
from resnetlab.studies import notebook, processes
from resnetlab.training import captured, engine, evaluate
from resnetlab.training.captured import CapturedTraining
from resnetlab.training.state import Training

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GRAPH = engine.Engine(graph=True)
ON_IT = {"device": "cuda", "threads": 1}


def tiny(network: str = "plain-8", steps: int = 12, **changes: Any) -> config.Run:
    changes = {"batch_size": 32, "log_every": 5, "test_every": 12, "probe_every": 6} | changes
    return config.run_from_parameters(network=network, steps=steps, **changes)


def trained(run: config.Run, device: torch.device, how: engine.Engine = GRAPH, steps: int = 12) -> Any:
    """Hash of the weights after some steps, and the row of a log over them."""
    subject = training.make_training(run, datasets.load(run.data), device, how=how)
    subject.spread()
    subject.network.train()
    with subject.on_its_stream():
        for _ in range(steps):
            subject.advance()
        out = training.weights_sha256(subject.network), subject.close_window()
        subject.wait()
    return out


@pytest.fixture(autouse=True)
def small_and_fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of five steps, so that twelve need three; one thread; a process that can capture."""
    monkeypatch.setattr(feeds.Resident, "BLOCK", 5)
    monkeypatch.setattr(CapturedTraining, "process_spoilt", False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def gpu() -> Iterator[Device]:
    with simulated_cuda() as device:
        yield device


# --- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"milestones": (6, 9)},
        {"pad": 1, "flip": True},
        {"warmup_lr": 0.01, "warmup_window": 3, "warmup_error": 95.0, "milestones": ()},
        {"ghost_batch": 16},
        {"clip": 0.5},
    ],
)
def test_replayed_steps_are_the_steps(changes: dict[str, Any]) -> None:
    run = tiny(**changes)
    with simulated_cuda() as gpu:
        on_gpu, eager = trained(run, CUDA), trained(run, CUDA, engine.EAGER)
    assert gpu.graphs == 1
    assert on_gpu == eager == trained(run, CPU)
    assert not gpu.problems


def test_eager_and_captured_steps_get_the_same_rate(gpu: Device) -> None:
    """0.1 is another number in float32: as a double it would give eager steps other bits on CUDA."""
    run = tiny(lr=0.1)
    subject = training.make_training(run, datasets.load(run.data), CUDA)
    subject.network.train()
    subject.advance()
    lr = subject.optimizer.param_groups[0]["lr"]
    assert lr == float(np.float32(0.1)) != 0.1


def test_fp64_keeps_its_rate() -> None:
    subject = training.make_training(tiny(lr=0.1, precision="fp64"), datasets.load(config.Data()), CPU)
    subject.network.train()
    subject.advance()
    assert subject.optimizer.param_groups[0]["lr"] == 0.1


# --- fp32 means fp32 ----------------------------------------------------------------------------


def test_whoever_imports_the_networks_has_fp32() -> None:
    script = "import torch, resnetlab.nets; print(torch.backends.cudnn.conv.fp32_precision)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ieee"


def test_after_a_run_in_tf32_a_test_is_in_fp32(tmp_path: Path, gpu: Device) -> None:
    run = tiny(precision="tf32")
    record = fit(run, results_folder=tmp_path, **ON_IT)
    assert gpu.tf32, "the run itself is in TF32"
    gpu.tf32.clear()
    subject = training.load_trained(record, CUDA)
    with torch.no_grad():
        subject.network.eval()(torch.zeros(2, 1, 8, 8, device="cuda"))
    training.fit_together({"a": run}, study="b", results_folder=tmp_path, **ON_IT)
    gpu.tf32.clear()
    subject.network(torch.zeros(2, 1, 8, 8, device="cuda"))
    assert not gpu.tf32


# --- a capture that fails -----------------------------------------------------------------------


def waiting_step(monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    """From now on that network's steps ask for their loss, which a capture forbids."""
    count = Training._count

    def counted(self: Training, step: Any) -> None:
        count(self, step)
        if self.run.network_name == network:
            float(self.loss_sum)

    monkeypatch.setattr(Training, "_count", counted)


def test_a_failed_capture_names_the_first_cause_and_the_run_goes_on_without_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: Device
) -> None:
    run = tiny()
    waiting_step(monkeypatch, "plain-8")
    with pytest.raises(captured.CaptureError, match="_local_scalar_dense"):
        fit(run, name="a", results_folder=tmp_path, **ON_IT)
    failed = store.read_run(tmp_path / "runs" / "a")
    assert failed.status == "failed"
    assert "_local_scalar_dense" in failed.info["error"]
    again = fit(run, name="a", results_folder=tmp_path, **ON_IT)
    assert again.status == "finished"
    assert again.info["execution"]["engine"] == "eager"
    assert again.info["execution"]["not_captured"] == failed.info["error"]
    assert again.summary["weights_sha256"] == trained(run, CPU)[0]


def test_after_a_failed_capture_no_other_is_tried_in_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: Device
) -> None:
    waiting_step(monkeypatch, "plain-8")
    runs = {"a": tiny(), "b": tiny("resnet-8"), "c": tiny("resnet-14")}
    ended = training.fit_together(runs, results_folder=tmp_path, **ON_IT)
    assert isinstance(ended["a"], captured.CaptureError)
    assert isinstance(ended["b"], captured.SpoiltProcessError)
    assert isinstance(ended["c"], captured.SpoiltProcessError)
    assert gpu.graphs == 0


class HereWork:
    """A notebook executed in this process, where the simulated device is; else as `processes.Local`."""

    def __init__(self, order: str) -> None:
        self.order, self.error = order, ""

    def start(self) -> None:
        CapturedTraining.process_spoilt = Stream.device_of.allocator_stuck = False  # a fresh process
        order = json.loads(self.order)
        book = nbformat.read(order["source"], as_version=4)
        names: dict[str, Any] = {"display": lambda *_: None}
        try:
            for cell in book.cells:
                if cell.cell_type == "code":
                    exec(compile(cell.source, order["source"], "exec"), names)
                    if "parameters" in cell.metadata.get("tags", ()):
                        names |= order["parameters"]
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        Path(order["target"]).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(book, order["target"])

    def ended(self) -> str | None:
        return self.error

    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


@pytest.mark.deep
def test_a_study_in_company_goes_on_to_its_report_though_one_cannot_be_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: Device
) -> None:
    monkeypatch.setattr(processes, "Local", lambda words, order, environment: HereWork(order))
    monkeypatch.setattr("resnetlab.machine.has_gpu", lambda: True)
    waiting_step(monkeypatch, "plain-8")
    said = []

    class Watcher(studies.Watcher):
        def again(self, execution: studies.Execution, why: str) -> None:
            said.append((execution.name, why.partition(":")[0]))

    overrides = {"steps": 12, "batch_size": 32, "log_every": 5, "test_every": 12, "probe_every": 6}
    grid = config.Grid(name="three", depths=[8], shortcuts=["none", "A", "B"], overrides=overrides)
    outcome = studies.run(grid, root=tmp_path, device="cuda", watcher=Watcher())
    assert not outcome.failed
    assert outcome.report is not None
    assert ("plain-8-seed0", "CaptureError") in said
    records = {run.name: run for run in store.read_study(tmp_path / "three").runs}
    assert {run.status for run in records.values()} == {"finished"}
    engines = {name: run.info["execution"]["engine"] for name, run in records.items()}
    assert engines == {"plain-8-seed0": "eager", "resnet-8-seed0": "graph", "resnet-8-B-seed0": "graph"}
    assert (tmp_path / "three" / notebook.find("train_together").name).exists()


# --- memory, and the order of streams -----------------------------------------------------------


@contextlib.contextmanager
def followed() -> Iterator[list[weakref.ref[Training]]]:
    """Weak references to all trainings of the block, in which nothing is collected."""
    made: list[weakref.ref[Training]] = []
    begin = Training.__init__

    def begun(self: Training, *parts: Any, **more: Any) -> None:
        begin(self, *parts, **more)
        made.append(weakref.ref(self))

    gc.collect()
    gc.disable()
    Training.__init__ = begun  # type: ignore[method-assign]
    try:
        yield made
    finally:
        Training.__init__ = begin  # type: ignore[method-assign]
        gc.enable()


def test_a_run_that_ended_or_failed_holds_no_memory(tmp_path: Path, gpu: Device) -> None:
    def fail(name: str, row: Any) -> None:
        if name == "b":
            raise ValueError("no more")

    runs = {"a": tiny(), "b": tiny("resnet-8")}
    with followed() as made:
        ended = training.fit_together(runs, results_folder=tmp_path, on_row=fail, **ON_IT)
        assert len(made) == 2
        assert not [one for one in made if one() is not None]
    assert isinstance(ended["b"], ValueError)
    assert "in fail" in "".join(ended["b"].__notes__), "where it happened is still told"
    assert not gpu.problems, "memory was freed that a stream may still use"


def test_what_a_run_computes_does_not_depend_on_its_company(tmp_path: Path, gpu: Device) -> None:
    runs = {"a": tiny(), "b": tiny("resnet-8", steps=7, seed=3)}
    ended = training.fit_together(runs, study="company", results_folder=tmp_path, **ON_IT)
    assert gpu.graphs == 2
    for name, run in runs.items():
        alone = fit(run, study="alone", name=name, results_folder=tmp_path, **ON_IT)
        eager = fit(run, study="eager", name=name, engine="eager", results_folder=tmp_path, **ON_IT)
        company = ended[name]
        assert isinstance(company, store.RunRecord)
        hashes = {run.summary["weights_sha256"] for run in (company, alone, eager)}
        assert len(hashes) == 1
    assert not gpu.problems


def test_the_deepest_network_has_the_first_stream(gpu: Device) -> None:
    data = datasets.load(config.Data())
    streams = [
        training.make_training(tiny(name), data, CUDA, how=GRAPH)._stream  # type: ignore[attr-defined]
        for name in ("plain-20", "plain-44", "resnet-110")
    ]
    assert [stream.priority for stream in streams] == [-1, -2, -5]
    assert int(os.environ["CUDA_DEVICE_MAX_CONNECTIONS"]) >= 9


# --- waiting ------------------------------------------------------------------------------------


def test_no_step_waits_for_the_device(gpu: Device) -> None:
    run = tiny(milestones=(), pad=1, flip=True)
    subject = training.make_training(run, datasets.load(run.data), CUDA, how=GRAPH)
    subject.spread()
    subject.network.train()
    with subject.on_its_stream():
        for _ in range(4):
            subject.advance()
        before = gpu.waits.copy()
        for _ in range(8):  # two new blocks among them
            subject.advance()
        assert gpu.waits - before == {}
        subject.wait()


def test_a_checkpoint_is_one_copy_for_each_type_of_number(gpu: Device, tmp_path: Path) -> None:
    run = tiny()
    how = engine.Engine(graph=True, channels_last=True)
    subject = training.make_training(run, datasets.load(run.data), CUDA, how=how)
    subject.spread()
    with subject.on_its_stream():
        for _ in range(4):
            subject.advance()
        before = gpu.waits.total()
        payload = subject.save()
        assert gpu.waits.total() - before <= 3  # float32, float64, int64
        fresh = training.make_training(run, datasets.load(run.data), CUDA, how=how)
        fresh.restore(payload)
        hashes = {training.weights_sha256(one.network) for one in (subject, fresh)}
        subject.wait()
    assert len(hashes) == 1
    moments = [one.optimizer.state_dict()["state"] for one in (subject, fresh)]
    for number, state in moments[0].items():
        assert torch.equal(state["momentum_buffer"].cpu(), moments[1][number]["momentum_buffer"].cpu())


# --- would it be noticed? -----------------------------------------------------------------------


def _item(patch: pytest.MonkeyPatch) -> None:
    waiting_step(patch, "plain-8")


def _rate_baked_in(patch: pytest.MonkeyPatch) -> None:
    fill = CapturedTraining._fill

    def filled(self: CapturedTraining) -> None:
        fill(self)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(self.step)

    patch.setattr(CapturedTraining, "_fill", filled)


def _block_moves(patch: pytest.MonkeyPatch) -> None:
    fill = CapturedTraining._fill

    def filled(self: CapturedTraining) -> None:
        self._draws = feeds.Draws(*(kept.clone() for kept in self._draws))
        fill(self)

    patch.setattr(CapturedTraining, "_fill", filled)


def _blocking_block(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.Tensor, "pin_memory", lambda self: self)


def _index_on_the_cpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(feeds.Draws, "at", lambda self, row: feeds.Draws(*(t[int(row)] for t in self)))


def _mean_on_the_cpu(patch: pytest.MonkeyPatch) -> None:
    cpu_only = lambda self, device, dtype: feeds.Normalise(self.mean.to(dtype), self.divisor.to(dtype))  # noqa: E731
    patch.setattr(feeds.Normalise, "to", cpu_only)


def _stream_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CapturedTraining, "spread", Training.spread)


def _freed_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CapturedTraining, "wait", Training.wait)


@functools.cache
def sound(run: config.Run) -> tuple[Any, int]:
    """What comes out without a defect, and how often the host waits."""
    with simulated_cuda() as gpu:
        trained(run, CUDA)
    return trained(run, CPU), gpu.waits.total()


@pytest.mark.parametrize(
    "defect",
    [
        _item,
        _rate_baked_in,
        _block_moves,
        _blocking_block,
        _index_on_the_cpu,
        _mean_on_the_cpu,
        _stream_does_not_wait,
        _freed_too_early,
    ],
)
def test_a_defect_is_noticed(defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would spoil a GPU's results or speed and is seen by no test on a CPU."""
    run = tiny(milestones=(6, 9))
    expected, waits = sound(run)
    defect(monkeypatch)
    with simulated_cuda() as gpu:
        raised = ""
        try:
            got = trained(run, CUDA)
        except RuntimeError as error:
            raised, got = str(error), expected
        gc.collect()
        more_waits = gpu.waits.total() > waits
    if raised:
        assert re.search("cannot be captured|on the same device", raised)
    else:
        assert got != expected or gpu.graphs != 1 or gpu.problems or more_waits


def test_what_only_the_graph_knows_is_spoilt_after_a_replay(gpu: Device) -> None:
    """As torch's pool gives that memory to other graphs; else the tests above could not tell."""
    x, y = torch.ones(3, device="cuda"), torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y.copy_(x * 2 + 1)
    graph.replay()
    assert y.tolist() == [3, 3, 3]
    spoilt = [out for *_, out in graph.operations if isinstance(out, torch.Tensor)]
    assert len(spoilt) == 2
    assert all(out.isnan().all() for out in spoilt)


def test_testing_and_probing_run_there(gpu: Device, tmp_path: Path) -> None:
    record = fit(tiny("resnet-8"), results_folder=tmp_path, **ON_IT)
    subject = training.load_trained(record, CUDA)
    dataset = datasets.load(record.config.data)
    setting = feeds.Setting(record.config.recipe, 0, CUDA, torch.float32)
    error, _ = evaluate.single_view(subject.network, feeds.Resident(dataset, setting).plain("test"))
    assert error == pytest.approx(record.summary["test_error"], abs=1e-4)
    network, images, labels = training.beginning(record.config, CUDA)
    norms = nets.probes.batch_gradient_norms(network, images, labels)
    assert norms.device.type == "cuda"
