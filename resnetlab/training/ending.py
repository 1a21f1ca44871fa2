"""How a run ends: the summary of one that came to its end, and what is said of one that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from resnetlab import store
from resnetlab.training import ranks
from resnetlab.training.device import note
from resnetlab.training.memory import out_of_memory
from resnetlab.training.state import Training, weights_sha256


def summary_of(
    training: Training, log: store.RunRecord, clean: float | None, diverged_at: int | None
) -> dict[str, Any]:
    """summary.json: the last values of the run's own log, and what the log does not have.

    `clean` is the error in percent of a full pass over the training images, None where none was made.
    """
    events, speed = training.schedule.events, log.metrics["images_per_second"].median()
    return {
        "steps": training.step,
        "train_error": log.final("train_error"),
        "train_loss": log.final("train_loss"),
        "train_error_clean": store.significant(clean),
        "validation_error": log.final("validation_error"),
        "test_error": log.final("test_error"),
        "test_loss": log.final("test_loss"),
        "diverged_at": diverged_at,
        "warm_until": events.warm_until,
        "drops": list(events.drops),
        "seconds": store.significant(training.seconds),
        "images_per_second": store.significant(float(speed)),
        "weights_sha256": weights_sha256(training.network),
    }


@contextlib.contextmanager
def failing_in_words(training: Training, writer: store.RunWriter | None) -> Iterator[None]:
    """Whatever goes wrong in the block marks the run failed; known causes are explained."""
    try:
        yield
    except BaseException as error:
        # Else the run's memory would be free, and another's, while the device still writes into it.
        with contextlib.suppress(RuntimeError):
            training.wait()
        known = ranks.lost(error, training.group) or out_of_memory(error, training)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        # The disk may be full or gone: the first error is the one to report, not this one.
        # Another writer's run is not this one's to mark.
        with contextlib.suppress(OSError, store.AnotherWriterError):
            if writer is not None:
                writer.finish("failed", step=training.step, error=str(known or reason))
        if known is None:
            raise
        if writer is not None:
            note(str(known))  # now: torchrun ends this process within moments
        raise known from error
