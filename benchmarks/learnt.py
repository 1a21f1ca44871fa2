"""What an engine and a precision do to what is learnt: final training errors over seeds.

    python benchmarks/learnt.py                                            # plain-56 on the digits
    python benchmarks/learnt.py --data folder:PATH --networks plain-20 --steps 300    # on real images

Whole runs through `training.fit`, one a core with one thread; the last is the training error of a whole
pass in evaluation mode. Mean and standard deviation over seeds, and seed by seed the difference from
fp32 eager, which every other row is to be judged by.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from typing import Any

import tables

WAYS = (
    ("fp32", "eager"),
    ("fp32", "compiled"),
    ("fp32", "channels_last"),
    ("bf16", "eager"),
    ("bf16", "channels_last"),
)


def trained(job: tuple[str, str, int, str, str, int]) -> float:
    """The final training error of one run, in percent; 100 if it diverged."""
    from resnetlab import config, training

    network, data, steps, precision, engine, seed = job
    values: dict[str, Any] = {"network": network, "data": data, "steps": steps or None}
    run = config.run_from_parameters(**values, precision=precision, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        record = training.fit(run, results_folder=folder, device="cpu", threads=1, engine=engine)
    error = record.final("train_error_clean")
    return 100.0 if error is None else error


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--data", default="digits", help="digits, or folder:PATH")
    options.add_argument("--networks", default="plain-56,resnet-56")
    options.add_argument("--steps", type=int, default=0, help="steps [default: the recipe's]")
    options.add_argument("--seeds", type=int, default=3)
    asked = options.parse_args()
    from resnetlab import config, machine

    networks, seeds = asked.networks.split(","), range(asked.seeds)
    jobs = [
        (network, asked.data, asked.steps, *way, seed)
        for network in networks
        for way in WAYS
        for seed in seeds
    ]
    with multiprocessing.get_context("spawn").Pool(machine.usable_cores(), maxtasksperchild=1) as pool:
        found = dict(zip(jobs, pool.map(trained, jobs, chunksize=1), strict=True))
    rows = []
    for network in networks:
        by_way = {
            way: [found[network, asked.data, asked.steps, *way, seed] for seed in seeds] for way in WAYS
        }
        for (precision, engine), errors in by_way.items():
            apart = [own - base for own, base in zip(errors, by_way[WAYS[0]], strict=True)]
            rows.append(
                {
                    "network": network,
                    "precision": precision,
                    "engine": engine,
                    "train_error_clean": errors,
                    "mean": statistics.mean(errors),
                    "sd": statistics.stdev(errors),
                    "from_fp32_eager": apart,
                }
            )
    run = config.run_from_parameters(network=networks[0], data=asked.data, steps=asked.steps or None)
    report = {
        **tables.conditions(),
        "data": run.data.label,
        "recipe": run.recipe.label,
        "steps": run.recipe.steps,
        "rows": rows,
    }
    lines = [
        [
            row["network"],
            row["precision"],
            row["engine"],
            f"{row['mean']:.1f} ± {row['sd']:.1f} %",
            ", ".join(f"{error:.1f}" for error in row["train_error_clean"]),
            ", ".join(f"{error:+.1f}" for error in row["from_fp32_eager"]),
        ]
        for row in rows
    ]
    columns = ["network", "precision", "engine", "training error", "seed by seed", "less fp32 eager"]
    remark = (
        f"{run.data.label}, {run.recipe.steps} steps, batch {run.recipe.batch_size}, one thread; "
        f"mean ± sd over {asked.seeds} seeds."
    )
    name = "learnt" if asked.data == "digits" else "learnt_images"
    tables.publish(name, report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    main()
