"""What only torch can tell about a network, asked of a process of its own: pages never import torch.

`anatomy` and `responses` start `python -m dashboard.inside`, give it a question as JSON and remember
its answer; `main` is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import streamlit as st

from resnetlab import config, store
from resnetlab.config import UsageError

SECONDS = 300  # that an answer may take
IMAGES, LARGE_IMAGES = 256, 32  # test images that the responses are measured on

Weights = tuple[tuple[str, int, int], ...]  # (file, mtime in ns, bytes) of the checkpoints


def weights(run: store.RunRecord) -> Weights:
    """The run's checkpoints as they look from outside; empty if it came without."""
    found = []
    try:
        for path in sorted((run.path / store.CHECKPOINTS).glob("*.pt")):
            seen = path.stat()
            found.append((path.name, seen.st_mtime_ns, seen.st_size))
    except OSError:
        return ()
    return tuple(found)


def anatomy(name: str, classes: int, channels: int, size: int) -> list[dict[str, Any]]:
    """`nets.parts` of the network of that name. Raises UsageError with what went wrong."""
    return _anatomy(name, classes, channels, size)


@st.cache_data(max_entries=64, show_spinner=False)
def _anatomy(name: str, classes: int, channels: int, size: int) -> list[dict[str, Any]]:
    question = {"network": name, "classes": classes, "channels": channels, "size": size}
    parts: list[dict[str, Any]] = _ask(question)["parts"]
    return parts


def responses(run: store.RunRecord) -> dict[str, Any]:
    """`probes.layer_responses` of the run's newest whole checkpoint: layers, values, step, images.

    Raises UsageError with what went wrong.
    """
    return _responses(os.fsencode(run.path), weights(run))


@st.cache_data(max_entries=256, show_spinner=False)
def _responses(path: bytes, stamps: Weights) -> dict[str, Any]:
    return _ask({"run": os.fsdecode(path)})


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "dashboard.inside"]
    here = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
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


# --- the process ------------------------------------------------------------------------------


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question, in the process that has torch."""
    from resnetlab import nets
    from resnetlab.nets import probes

    if "network" in question:
        network = nets.build(
            config.Network.from_name(question["network"]),
            num_classes=question["classes"],
            in_channels=question["channels"],
        )
        nets.check_size(network.spec, question["size"], question["size"])
        return {"parts": nets.parts(network, question["size"])}

    import torch

    from resnetlab import training
    from resnetlab.training import evaluate

    run = store.read_run(question["run"])
    trained = training.load_trained(run, torch.device("cpu"))
    most = IMAGES if run.config.recipe.crop is None else LARGE_IMAGES
    images = trained.normalise(evaluate.some_test_images(run.config, most))
    values = probes.layer_responses(trained.network, images)
    return {
        "layers": list(probes.response_layers(trained.network)),
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


if __name__ == "__main__":
    main()
