"""What only torch can tell about a network, asked of a process of its own: pages never import torch.

`ask` starts `python -m dashboard.inside` and gives it a question as JSON; `main` is that process. The
pages ask through `cached`, which remembers the answers.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnetlab import config, files, store
from resnetlab.config import UsageError, extras

SECONDS = 300  # that an answer may take
# Answers that come along, so that the page of a committed study needs no torch: `python -m
# dashboard.inside write` makes them again, and a test compares.
KNOWN = Path(__file__).with_suffix(".json.gz")
IMAGES, LARGE_IMAGES = 256, 32  # test images that the responses are measured on


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """The answer of a process of its own, see `measure`. Raises UsageError with what went wrong."""
    command = [sys.executable, "-P", "-m", "dashboard.inside"]  # -P: not one of the working folder
    paths = os.pathsep.join(filter(None, sys.path))  # the project's folder is among them
    try:
        done = subprocess.run(
            command,
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise UsageError(f"the measurement took more than {SECONDS} seconds and was ended") from None
    except (OSError, ValueError, IndexError):
        raise UsageError("the process that was to measure ended without an answer") from None
    if "error" in answer:
        raise UsageError(str(answer["error"]))
    return dict(answer)


@functools.cache
def known() -> dict[str, Any]:
    """The answers that come along, by `key_of` their question."""
    return dict(json.loads(gzip.decompress(KNOWN.read_bytes()))) if KNOWN.is_file() else {}


def key_of(name: str, classes: int, channels: int, size: int) -> str:
    return f"{name} {classes} {channels} {size}"


def anatomy(names: Sequence[str], classes: int, channels: int, size: int) -> dict[str, Any]:
    """name -> `nets.parts`, from what comes along or from one process for all.

    Raises UsageError with what went wrong.
    """
    keys = {name: key_of(name, classes, channels, size) for name in names}
    if all(key in known() for key in keys.values()):
        return {name: known()[key] for name, key in keys.items()}
    question = {"networks": [*names], "classes": classes, "channels": channels, "size": size}
    return dict(ask(question)["parts"])


# --- the process ------------------------------------------------------------------------------


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question, in the process that has torch."""
    extras.require_train()
    from resnetlab import nets
    from resnetlab.nets import probes

    if "networks" in question:
        size, answer = question["size"], {}
        for name in question["networks"]:
            network = nets.build(
                config.Network.from_name(name),
                num_classes=question["classes"],
                in_channels=question["channels"],
            )
            nets.check_size(network.spec, size, size)
            answer[name] = nets.parts(network, size)
        return {"parts": answer}

    import torch

    from resnetlab import training
    from resnetlab.training import evaluate

    run = store.read_run(question["run"])
    trained = training.load_trained(run, torch.device("cpu"))
    most = IMAGES if run.config.recipe.crop is None else LARGE_IMAGES
    images = trained.normalise(evaluate.some_test_images(run.config, most))
    values = probes.layer_responses(trained.network, images)
    return {
        "values": [store.significant(value) for value in values.tolist()],
        "step": trained.step,
        "images": len(images),
    }


def main() -> None:
    """Read a question from standard input, write its answer as the last line of standard output."""
    try:
        answer = measure(json.load(sys.stdin))
    except UsageError as error:
        answer = {"error": str(error)}
    except Exception as error:  # damaged weights or images: said on the page, never a traceback there
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, allow_nan=False))


def committed() -> dict[str, Any]:
    """What `known` holds: the networks of the committed studies and their counterparts, measured."""
    questions: dict[tuple[int, int, int], set[str]] = {}
    for path in store.find_studies():
        for run in store.read_study(path).runs if path.parent.name == store.REFERENCE else ():
            shape, classes = run.info["dataset"]["shape"], len(run.info["dataset"]["classes"])
            size = run.config.recipe.crop or shape[1]
            if run.config.surgery is None and size:
                depth = run.network.depth
                names = {run.network.name, f"plain-{depth}", f"resnet-{depth}"}
                questions.setdefault((classes, shape[0], size), set()).update(names)
    answers = {}
    for (classes, channels, size), names in sorted(questions.items()):
        asked = {"classes": classes, "channels": channels, "size": size, "networks": sorted(names)}
        for name, parts in measure(asked)["parts"].items():
            answers[key_of(name, classes, channels, size)] = parts
    return answers


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        text = json.dumps(committed(), separators=(",", ":"))
        files.atomic_write(KNOWN, gzip.compress(text.encode(), mtime=0))
    else:
        main()
