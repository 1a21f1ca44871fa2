"""What only a GPU can show: that its path works, gives the same bits in every way, and how fast it is.

    python benchmarks/gpu.py smoke           # every promise of the GPU path, five checks at a time
    python benchmarks/gpu.py bits            # eager, captured, captured again, in company: the same?
    python benchmarks/gpu.py company         # the nine networks of Figure 6, alone and in turn
    python benchmarks/gpu.py ceilings        # what the card does at best: copies, products, layers
    python benchmarks/gpu.py profile         # which kernels a step is made of
    python benchmarks/gpu.py exactness       # what steps cost that come out the same every time
    python benchmarks/gpu.py                 # all of them, in this order

Each writes gpu_COMMAND.json into the folder `--out`, `company` also its table in README.md. `--dry`
tries them on a CPU, in small, with figures that mean nothing. Times are those of the whole device: the
clock is read when it has done all.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import kernels
import smoke as checks
import tables
import torch
from clocks import clock, wait
from overhead import images_32
from torch import Tensor

from resnetlab import store, training
from resnetlab.config import schedule

AT_A_TIME = 5  # checks of the smoke test
NETWORKS = [
    "resnet-110",
    *(f"{kind}-{depth}" for depth in (56, 44, 32, 20) for kind in ("plain", "resnet")),
]
WAYS = ["tf32:graph+channels_last", "fp32:graph", "bf16:graph+channels_last"]
QUEUES = ("8", "32")  # CUDA_DEVICE_MAX_CONNECTIONS: 8 is the driver's own


class Here:
    """Where this is measured, and in what sizes: on a CPU only to see that it runs."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.dry = asked, asked.dry
        usual = Path(tempfile.gettempdir()) / "resnetlab-gpu-dry" if asked.dry else tables.HERE
        self.out = Path(asked.out or usual).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.place = "cpu" if asked.dry else "cuda"
        self.device = torch.device(self.place)

    def again(self, *words: str, limit: float, **changes: str) -> tuple[int, str]:
        """This script in a process of its own: its exit code and all that it said."""
        dry = ["--dry"] if self.dry else []
        command = [sys.executable, __file__, *words, *dry, "--out", str(self.out)]
        started = subprocess.Popen(
            command, env=os.environ | changes, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said = started.communicate(timeout=limit)[0]
            return started.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # what it started goes with it
            return 124, f"{started.communicate()[0]}\nstopped after {limit:.0f} s"

    def report(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {**tables.conditions(), "device": training.device_name(self.device), "rows": rows}

    def keep(self, name: str, rows: list[dict[str, Any]]) -> None:
        """gpu_NAME.json in the folder `--out`."""
        store.write_json(self.out / f"gpu_{name}.json", self.report(rows))


# --- smoke and bits -----------------------------------------------------------------------------


def smoke(here: Here) -> bool:
    """Each check in a process of its own: an error of CUDA in one must not be the next one's."""

    def one(name: str) -> dict[str, Any]:
        began = time.perf_counter()
        code, said = here.again("check", name, limit=here.asked.limit)
        seconds = round(time.perf_counter() - began, 1)
        print(
            f"--- {name}: {'ok' if code == 0 else f'FAILED ({code})'}, {seconds} s\n{said[-3000:]}",
            flush=True,
        )
        return {"check": name, "ok": code == 0, "seconds": seconds, "said": said[-10_000:]}

    names = here.asked.only or list(checks.CHECKS)
    with concurrent.futures.ThreadPoolExecutor(2 if here.dry else AT_A_TIME) as pool:
        rows = list(pool.map(one, names))
    here.keep("smoke", rows)
    print(
        "\n".join(
            f"{'ok    ' if row['ok'] else 'FAILED'} {row['check']} {row['seconds']} s" for row in rows
        )
    )
    return all(row["ok"] for row in rows)


def bits(here: Here) -> bool:
    """The same step in every way: are the weights after so many of them the same?

    An eager step may get its rate in double precision, a captured one reads it from the device: where
    these differ, the third way, eager at rates rounded to fp32, says whether that is all.
    """
    images, steps = images_32(), 4 if here.dry else 150
    rows: list[dict[str, Any]] = []
    whole: list[bool] = []
    real = schedule.Schedule.lr
    network, beside = ("plain-8", "resnet-8") if here.dry else ("resnet-20", "plain-32")

    def rounded(self: schedule.Schedule, step: int) -> float:
        return float(torch.tensor(real(self, step), dtype=torch.float32))

    def weights(one: training.Training) -> Tensor:
        return torch.cat([v.detach().double().flatten() for v in one.network.state_dict().values()])

    def alone(precision: str, how: str) -> Tensor:
        one, step = checks.session(network, images, precision, how, here.place)
        for _ in range(steps):
            step()
        wait(here.device)
        return weights(one)

    for precision, layout in (("fp32", ""), ("tf32", "+channels_last"), ("bf16", "+channels_last")):
        if here.dry and precision == "tf32":
            continue
        graph, eager = f"graph{layout}", layout.strip("+") or "eager"
        others = [checks.session(n, images, precision, graph, here.place) for n in (beside, network)]
        for _ in range(steps):
            for _, step in others:
                step()
        wait(here.device)
        captured = alone(precision, graph)
        trials = {"again": alone(precision, graph), "company": weights(others[1][0])}
        trials["eager"] = alone(precision, eager)
        with mock.patch.object(schedule.Schedule, "lr", rounded):
            trials["eager, rates in fp32"] = alone(precision, eager)
        same = {name: bool(torch.equal(captured, other)) for name, other in trials.items()}
        whole.append(all(same.values()))
        apart = float((captured - trials["eager"]).abs().max())
        row = {"network": network, "precision": precision, "steps": steps, "same": same}
        rows.append(row | {"largest_difference_to_eager": apart})
        print(rows[-1], flush=True)
    here.keep("bits", rows)
    return here.dry or all(whole)


# --- speed --------------------------------------------------------------------------------------


def company(here: Here) -> bool:
    """Figure 6's networks in one process, each process one precision and one number of queues."""
    rows: list[dict[str, Any]] = []
    for way in here.asked.only or (WAYS[1:2] if here.dry else WAYS):
        for queues in QUEUES:
            code, said = here.again(
                "turns", way, limit=here.asked.limit, CUDA_DEVICE_MAX_CONNECTIONS=queues
            )
            if code:
                print(f"FAILED {way}, {queues} queues\n{said[-2000:]}", flush=True)
                continue
            rows.append(json.loads((here.out / "gpu_turns.json").read_text())["rows"][0])
            print(rows[-1], flush=True)
    (here.out / "gpu_turns.json").unlink(missing_ok=True)
    report = here.report(rows)
    columns = "precision, engine|queues|alone, all nine|in turn, a round|a step|faster|memory"
    lines = [
        [
            row["way"].replace(":", ", "),
            row["queues"],
            f"{sum(row['alone_ms'].values()):.2f} ms",
            f"{row['round_ms']:.2f} ms",
            f"{row['round_ms'] / len(row['alone_ms']):.2f} ms",
            f"{sum(row['alone_ms'].values()) / row['round_ms']:.2f} times",
            f"{row['memory_gib']:.1f} GiB",
        ]
        for row in rows
    ]
    remark = f"{report['device']}; batch 128, random 32x32 images, a step of each of the nine a round."
    tables.publish("gpu_company", report, remark, tables.markdown(columns.split("|"), lines), here.out)
    return bool(rows)


def turns(here: Here, way: str) -> None:
    """One row of `company`: milliseconds a step of each alone, and of a round of all in turn."""
    precision, how = way.split(":")
    names, times = (NETWORKS[-2:], 2) if here.dry else (NETWORKS, here.asked.steps)
    images = images_32()
    pairs = [checks.session(name, images, precision, how, here.place) for name in names]

    def turn() -> None:
        for _, step in pairs:
            step()

    for _ in range(1 if here.dry else 6):  # captured after these
        turn()
    alone = {
        name: 1e3 * clock(step, times, here.device)
        for name, (_, step) in zip(names, pairs, strict=True)
    }
    round_ms = 1e3 * clock(turn, times, here.device)
    gib = 0.0 if here.dry else torch.cuda.max_memory_allocated() / 2**30
    row = {
        "way": way,
        "queues": os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS", ""),
        "alone_ms": alone,
        "round_ms": round_ms,
        "memory_gib": gib,
        "losses": [one.close_window()["train_loss"] for one, _ in pairs],
    }
    here.keep("turns", [row])


def ceilings(here: Here) -> bool:
    """What the card does at best (`kernels.ceilings`)."""
    here.keep("ceilings", kernels.ceilings(here.device, here.dry))
    return True


def profile(here: Here) -> bool:
    """The kernels of a step, by the time that they take (`kernels.profile`)."""
    here.keep("profile", kernels.profile(here.device, here.dry))
    return True


def exactness(here: Here) -> bool:
    """A step of ResNet-20 with cuDNN's deterministic algorithms, which every run has, and without.

    With its search for the fastest algorithm, `benchmark`, and without.
    """
    cudnn, images = torch.backends.cudnn, images_32()
    rows: list[dict[str, Any]] = []
    for way in [f"{p}:{e}" for p in ("tf32", "fp32", "bf16") for e in ("graph+channels_last", "graph")]:
        if here.dry and way != "fp32:graph":
            continue
        precision, how = way.split(":")
        row: dict[str, Any] = {"way": way, "network": "plain-8" if here.dry else "resnet-20"}
        for exact in (True, False):
            for search in (False, True):
                step = checks.session(row["network"], images, precision, how, here.place)[1]
                cudnn.deterministic, cudnn.benchmark = exact, search
                for _ in range(1 if here.dry else 6):
                    step()
                ms = 1e3 * clock(step, 2 if here.dry else 60, here.device)
                row[f"{'exact' if exact else 'free'}{'_searched' if search else ''}_ms"] = ms
        rows.append(row)
        print(row, flush=True)
    report = here.report(rows)
    columns = "precision, engine|deterministic|and searched|free|and searched|saved"
    lines = [
        [
            row["way"].replace(":", ", "),
            *(
                f"{row[k]:.2f} ms"
                for k in ("exact_ms", "exact_searched_ms", "free_ms", "free_searched_ms")
            ),
            f"{100 * (1 - row['free_ms'] / row['exact_ms']):.0f} %",
        ]
        for row in rows
    ]
    remark = (
        f"{report['device']}; a step of {rows[0]['network']} alone, batch 128, random 32x32 images."
    )
    tables.publish(
        "gpu_exactness", report, remark, tables.markdown(columns.split("|"), lines), here.out
    )
    return True


COMMANDS = {one.__name__: one for one in (smoke, bits, company, ceilings, profile, exactness)}


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    known = ["all", *COMMANDS, "check", "turns"]
    options.add_argument("command", nargs="?", choices=known, default="all")
    options.add_argument("only", nargs="*", help="checks of smoke; PRECISION:ENGINE of company")
    options.add_argument("--out", help="folder of the JSON files [default: benchmarks/]")
    options.add_argument("--steps", type=int, default=100, help="rounds of company")
    options.add_argument("--limit", type=float, default=90, help="seconds of a process")
    options.add_argument("--dry", action="store_true", help="on a CPU, in small")
    here = Here(options.parse_args())
    if not here.dry and not torch.cuda.is_available():
        print("no GPU here: nothing measured (--dry tries it on a CPU)")
        return 0 if here.asked.command == "all" else 2
    if here.asked.command == "check":
        with tempfile.TemporaryDirectory() as folder:
            checks.check(here.asked.only[0], here.place, Path(folder))
        return 0
    if here.asked.command == "turns":
        turns(here, here.asked.only[0])
        return 0
    names = list(COMMANDS) if here.asked.command == "all" else [here.asked.command]
    worked = []
    for name in names:
        print(f"== {name}", flush=True)
        worked.append(COMMANDS[name](here))
        gc.collect()
    return 0 if all(worked) else 1


if __name__ == "__main__":
    sys.exit(main())
