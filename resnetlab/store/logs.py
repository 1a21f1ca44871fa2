"""What the logs of a run were, by SHA-256: another digit in a row has the form of a row."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from resnetlab import files
from resnetlab.store import schema

MOST_LOG = 256 * files.MEGABYTE  # more than any run writes
# They hold what was measured; without its seconds a run goes on all the same.
NEEDED = (schema.METRICS_FILE, schema.PROBES_FILE)
DIGESTS = "logs_sha256"  # in the label of a checkpoint, and in summary.json


def digests(folder: Path, ends: Mapping[str, int] | None = None) -> dict[str, str]:
    """SHA-256 of the logs that a run needs, or of their first `ends` bytes; no log is an empty one."""
    found = {}
    for name in NEEDED:
        content = b""
        with contextlib.suppress(OSError):
            content = files.read(folder / name, MOST_LOG)
        found[name] = hashlib.sha256(content[: ends[name]] if ends else content).hexdigest()
    return found


def changed(folder: Path, told: object, ends: Mapping[str, int] | None = None) -> list[str]:
    """The logs that are not what `digests` said then; none where nothing was told, as of old."""
    if not isinstance(told, dict):
        return []
    now = digests(folder, ends)
    return [name for name in NEEDED if name in told and told[name] != now[name]]
