"""What only torch can tell about a network, asked of a process of its own: pages never import torch.

`ask` starts `python -m dashboard.inside` and gives it a question as JSON; `main` is that process. The
pages ask through `cached`, which remembers the answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from resnetlab import config, store
from resnetlab.config import UsageError, extras

SECONDS = 300  # that an answer may take
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


# --- the process ------------------------------------------------------------------------------


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question, in the process that has torch."""
    extras.require_train()
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
