"""The checks of `gpu.py smoke`: each proves one promise of the GPU path, in a process of its own.

A check gets the device's name and an empty folder, prints what it saw, and raises where it is amiss.
On a CPU (`--dry`) the same lines run, as far as they mean anything there.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from clocks import wait
from overhead import images_32
from torch.nn.functional import conv2d

from resnetlab import config, nets, store, training
from resnetlab.images import feeds
from resnetlab.training import captured, engine, state

Step = Callable[[], None]
fit = functools.partial(training.fit, threads=1)  # as the others beside it
fit_together = functools.partial(training.fit_together, threads=1)
TRAIN = [sys.executable, "-m", "resnetlab"]


def tiny(network: str = "plain-8", steps: int = 40, **changes: Any) -> config.Run:
    """A run on the digits that logs, tests, probes and saves several times."""
    often = {
        "batch_size": 64,
        "log_every": 10,
        "test_every": 20,
        "probe_every": 10,
        "checkpoint_every": 15,
    }
    return config.run_from_parameters(network=network, steps=steps, **(often | changes))


def session(
    network: str, images: feeds.Dataset, precision: str, how: str, place: str
) -> tuple[training.Training, Step]:
    """A training as `fit` makes it, and a function that makes one step of it on its stream."""
    run = config.run_from_parameters(
        network=network, data="cifar10", recipe="paper", precision=precision
    )
    training.set_precision(run.precision)
    one = training.make_training(run, images, torch.device(place), how=engine.parse(how))
    one.spread()
    one.network.train()

    def step() -> None:
        with one.on_its_stream():
            one.advance()

    return one, step


def machine(place: str, folder: Path) -> None:
    """The card; and that fp32 is fp32: cuDNN's own default is TF32."""
    print(torch.__version__, training.device_name(torch.device(place)))
    if place == "cuda":
        card = torch.cuda.get_device_properties(0)
        print(card.multi_processor_count, "SMs,", card.total_memory >> 30, "GiB, cuDNN",
              torch.backends.cudnn.version())  # fmt: skip
    x, w = torch.randn(32, 64, 16, 16, device=place), torch.randn(64, 64, 3, 3, device=place)
    exact = conv2d(x.double(), w.double())

    def error() -> float:
        return float((conv2d(x, w).double() - exact).norm() / exact.norm())

    training.resolve_device(place)
    asked_for_nothing = error()
    training.set_precision("fp32")
    fp32 = error()
    training.set_precision("tf32")
    tf32 = error()
    training.set_precision("fp32")  # as this process began
    fit(tiny(steps=5, precision="tf32" if place == "cuda" else "fp32"),
                 results_folder=folder, device=place)  # fmt: skip
    after = error()
    print(f"error of a convolution: unasked {asked_for_nothing:.1e}, fp32 {fp32:.1e}, tf32 {tf32:.1e}, "
          f"after a run in tf32 {after:.1e}")  # fmt: skip
    assert fp32 < 1e-6, "fp32 is not fp32"
    assert place == "cpu" or tf32 > 1e-5, "TF32 was asked for and is not there"
    assert asked_for_nothing < 1e-6, "TF32 is on for whoever tests or probes without training"
    assert after < 1e-6, "a run in tf32 leaves TF32 on"


def engines(place: str, folder: Path) -> None:
    """Every engine in every precision; all of one precision learn about the same."""
    for precision in ("fp32", "bf16", "fp64", *(["tf32"] if place == "cuda" else [])):
        ways = ["eager", "channels_last"]
        if place == "cuda" and precision != "fp64":
            ways += ["graph", "graph+channels_last"]
        losses = []
        for how in ways:
            run = tiny("resnet-8", precision=precision)
            name = f"{precision}-{how.replace('+', '-')}"
            record = fit(run, name=name, results_folder=folder, device=place,
                                  engine=how)  # fmt: skip
            losses.append(record.final("train_loss") or 0.0)
            print(f"{precision:5} {how:20} {record.status} loss {losses[-1]}")
            assert record.status == "finished"
            assert record.info["execution"]["engine"] == how, "it fell back"
        assert max(losses) - min(losses) < 0.3, f"engines learn different things in {precision}"


def compiled(place: str, folder: Path) -> None:
    """torch.compile inside a graph, on a small network."""
    how = "compiled+graph" if place == "cuda" else "compiled"
    record = fit(tiny("resnet-8", 12), results_folder=folder, device=place, engine=how)
    print(record.status, record.info["execution"]["engine"], record.final("train_loss"))
    assert record.status == "finished"


def recipes(place: str, folder: Path) -> None:
    """What a recipe can ask for that changes the step: each under the engine of the rule."""
    variants: dict[str, dict[str, Any]] = {
        "warm-up": {"warmup_lr": 0.01, "warmup_window": 5, "warmup_error": 89.0},
        "plateau": {"plateau_patience": 1, "plateau_margin": 99.0, "milestones": ()},
        "ghost": {"ghost_batch": 32},
        "norms": {"decay_norm": False, "recompute_norm": True},
        "held-out": {"validation": 200},
        "clipped": {"clip": 1.0},
        "augmented": {"pad": 1, "flip": True},
        "diverges": {"lr": 1e30},
    }
    for name, changes in variants.items():
        run = tiny("resnet-8-B", **changes)
        record = fit(run, name=name, results_folder=folder, device=place)
        print(f"{name:10} {record.status} {record.info['execution']['engine']}")
        assert record.status == ("diverged" if name == "diverges" else "finished")
    deep = (
        tiny("resnet-1202", 6, batch_size=8) if place == "cuda" else tiny("resnet-506", 1, batch_size=2)
    )
    record = fit(deep, name="deep", results_folder=folder, device=place)
    print("recomputed activations:", record.info["execution"]["activations"], record.status)


def photographs(place: str, folder: Path) -> None:
    """Images read from files come through pinned memory, step by step."""
    run = config.run_from_parameters(network="resnet-18", data="digits-large", steps=4, batch_size=16)
    record = fit(run, results_folder=folder, device=place)
    print(record.status, record.info["execution"]["engine"], record.final("train_loss"))
    assert record.status == "finished"


def no_wait(place: str, folder: Path) -> None:
    """Within a block of steps the host never waits for the device; at its end, how often is said."""
    images = images_32()
    for precision, how in (("fp32", "graph"), ("bf16", "graph+channels_last")):
        one, step = session("resnet-20", images, precision, how, place)
        for _ in range(2 if place == "cpu" else 10):
            step()
        if place == "cuda":
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(80):
                step()
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                for _ in range(110):  # over the end of a block of 100
                    step()
            torch.cuda.set_sync_debug_mode("default")
            print("waits over the end of a block:", *(wait.message for wait in waits))
            assert not waits
        print(precision, how, "loss", one.close_window()["train_loss"])


def company(place: str, folder: Path) -> None:
    """In company as alone, to the last bit; in turn for want of memory too; all memory free after."""
    runs = {"a": tiny(), "b": tiny("resnet-8", 30, seed=3), "c": tiny("resnet-14", 25)}
    logs = (store.METRICS_FILE, store.PROBES_FILE)

    def seen(record: Any) -> tuple[Any, ...]:
        assert not isinstance(record, Exception), record
        digests = [hashlib.sha256((record.path / log).read_bytes()).hexdigest() for log in logs]
        return (record.weights_sha256, *digests)

    alone = {
        name: seen(fit(run, name=name, results_folder=folder / "alone", device=place))
        for name, run in runs.items()
    }
    gc.collect()
    held = memory_held(place)
    for how, memory in (("company", None), ("one after the other", 1)):
        ended = fit_together(runs, results_folder=folder / how, device=place, memory=memory)
        same = {name: seen(record) == alone[name] for name, record in ended.items()}
        print(f"{how}: the same weights and logs as alone: {same}")
        assert all(same.values())
        now = memory_held(place)
        print(f"device memory held before and after, nothing collected: {held:,} and {now:,} bytes")
        assert now <= held + 2**20, "memory is held by runs that have ended"


def memory_held(place: str) -> int:
    """Bytes of the device's memory that tensors hold; cuBLAS keeps its own for each stream."""
    if place == "cpu":
        return 0
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def failures(place: str, folder: Path) -> None:
    """What goes wrong with one run in company leaves the others."""
    real, calls = training.train_step, 0

    def named(network: Any) -> bool:
        return isinstance(network, nets.CifarNetwork) and network.spec.name == "resnet-8"

    def waits(network: Any, *rest: Any) -> Any:
        step = real(network, *rest)
        if named(network):
            float(step.loss)  # forbidden while a graph is captured
        return step

    def too_large(at: int) -> Callable[..., Any]:
        def train_step(network: Any, *rest: Any) -> Any:
            nonlocal calls
            calls += named(network)
            if named(network) and calls == at:
                if place == "cpu":
                    raise torch.OutOfMemoryError("no memory, in a trial")
                torch.empty(1 << 50, dtype=torch.uint8, device=place)
            return real(network, *rest)

        return train_step

    # A capture that failed is the last that a process may try, so it comes last, in turn as well.
    runs = {"a": tiny(), "c": tiny("resnet-14", 25), "bad": tiny("resnet-8")}
    for name, broken in {"memory": too_large(2), "capture": waits}.items():
        with contextlib.ExitStack() as patched:
            for module in (captured, state):
                patched.enter_context(mock.patch.object(module, "train_step", broken))
            ended = fit_together(runs, results_folder=folder / name, device=place)
        for run, record in ended.items():
            said = f"{type(record).__name__}: {record}"[:250]
            if not isinstance(record, Exception):
                said = f"{record.status} {record.info['execution']['engine']}"
            print(f"{name}: {run}: {said}")
        assert all(not isinstance(ended[run], Exception) for run in ("a", "c")), "others suffered"
        assert isinstance(ended["bad"], Exception) or (name, place) == ("capture", "cpu")
    again = fit(runs["bad"], study="runs", name="bad", results_folder=folder / name, device=place)
    print("started again:", again.status, again.info["execution"]["engine"])
    assert again.status == "finished"


def study(place: str, folder: Path) -> None:
    """A small study by the command: two networks, their notebook, the question notebook."""
    words = ["study", "digits", "--depths", "8", "--steps", "30", "--together", "--device", place]
    done = subprocess.run([*TRAIN, *words, "--results", str(folder)], capture_output=True, text=True)
    print(done.stdout[-800:], done.stderr[-800:])
    assert done.returncode == 0
    assert len(list(folder.glob("digits/*/summary.json"))) == 2
    assert len(list(folder.glob("digits/*.ipynb"))) == 2


def resume(place: str, folder: Path) -> None:
    """Stopped by SIGTERM and resumed by the same command: the same bits as uninterrupted."""
    network, steps = ("resnet-20", 4_000) if place == "cuda" else ("plain-8", 100)
    words = [
        *TRAIN,
        "train",
        network,
        "--steps",
        str(steps),
        "--device",
        place,
        "--results",
        str(folder),
    ]
    words += ["--threads", "1"]  # as the others beside it
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    one, two = (
        subprocess.Popen([*words, "--run-name", name], **quiet)  # type: ignore[call-overload]
        for name in ("whole", "part")
    )
    log = folder / "runs" / "part" / store.METRICS_FILE
    while two.poll() is None and not (log.exists() and log.read_text().count("\n") >= 5):
        time.sleep(0.02)
    two.send_signal(signal.SIGTERM)
    two.wait()
    stopped = json.loads((log.parent / "run.json").read_text())
    assert stopped["status"] == "interrupted", stopped["status"]
    again = subprocess.run([*words, "--run-name", "part"], capture_output=True, text=True)
    assert (one.wait(), again.returncode) == (0, 0), again.stderr[-500:]
    records = [store.read_run(folder / "runs" / name) for name in ("whole", "part")]
    whole, part = ((r.weights_sha256, (r.path / store.METRICS_FILE).read_bytes()) for r in records)
    print(f"stopped at step {stopped['step']} of {steps}; the same bits: {whole == part}")
    assert whole == part


# The longest first: they are started in this order, some at a time.
CHECKS: dict[str, Callable[[str, Path], None]] = {
    check.__name__: check
    for check in (
        study,
        compiled,
        resume,
        recipes,
        company,
        engines,
        failures,
        no_wait,
        photographs,
        machine,
    )
}


def check(name: str, place: str, folder: Path) -> None:
    CHECKS[name](place, folder)
    wait(torch.device(place))
