"""Reading a run as it lies there: torn lines and damaged files are skipped and said, never raised."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from resnetlab import files
from resnetlab.config import Network, Run, UsageError, did_you_mean
from resnetlab.store import logs, schema
from resnetlab.store.alive import is_alive
from resnetlab.store.pretrained import FOLDER, kept, read_header, shipped

# More than any run writes: a larger file is another's, and would fill the memory of whoever looks.
MOST_JSON, MOST_LINE = files.MEGABYTE, files.MEGABYTE


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def read_json(path: Path, most: int = MOST_JSON) -> tuple[dict[str, Any] | None, str]:
    """The object in a JSON file of at most so many bytes, or None and why not."""
    try:
        value = json.loads(files.read(path, most))
    except FileNotFoundError:
        return None, f"no {path.name}"
    except OSError as error:
        return None, f"{path.name} cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return None, f"{path.name} is torn or not JSON"
    if not isinstance(value, dict):
        return None, f"{path.name} is not a JSON object"
    return value, ""


def read_versioned(path: Path, most: int = MOST_JSON) -> tuple[dict[str, Any] | None, str]:
    """As `read_json`, of a file that says which version of the schema it follows."""
    info, problem = read_json(path, most)
    version = schema.SCHEMA_VERSION if info is None else info.get("schema")
    if version != schema.SCHEMA_VERSION:
        return None, f"its format is version {version!r}, this reader knows {schema.SCHEMA_VERSION}"
    return info, problem


def parse_config(info: Mapping[str, Any]) -> tuple[Run | None, str]:
    try:
        return Run.parse(info.get("config")), ""  # type: ignore[arg-type]
    except UsageError as error:
        return None, f"its configuration is not readable: {error}"


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a JSON-lines file and the number of torn or damaged lines left out."""
    try:
        return _parse_lines(files.read(path, logs.MOST_LOG))
    except OSError:
        return [], 0


def _parse_lines(content: bytes) -> tuple[list[dict[str, Any]], int]:
    rows, bad = [], 0
    for line in filter(bytes.strip, content.splitlines()):
        row = None
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line) if len(line) <= MOST_LINE else None
        if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < 2**53:
            rows.append(row)
        else:
            bad += 1
    return rows, bad


def finite(value: object) -> float:
    """`value` as a float; NaN for what is no finite number (JSON also says true, NaN and 1e999)."""
    with contextlib.suppress(OverflowError):  # of a whole number with more digits than a float has
        if type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
    return math.nan


# Rows of a log -> a frame, and how many of the rows had to be left out.
_Parse = Callable[[list[dict[str, Any]]], tuple[pd.DataFrame, int]]


@dataclass(frozen=True)
class _SoFar:
    """A growing log as far as it has been read: what was in it, and where its last whole line ends."""

    frame: pd.DataFrame | None = None
    bad: int = 0  # lines left out
    end: int = 0  # bytes
    last: bytes = b""  # that line: where it is not found again, the log was cut back or replaced

    def read_on(self, content: bytes, parse: _Parse, keys: list[str]) -> _SoFar:
        """With the lines that follow: sorted by `keys`, each once, the last one written."""
        rows, torn = _parse_lines(content)
        frame, unfit = parse(rows)
        if self.frame is not None:
            frame = pd.concat([self.frame, frame], ignore_index=True) if len(frame) else self.frame
        if frame is not self.frame:
            frame = frame.drop_duplicates(keys, keep="last")
            frame = frame.sort_values(keys, kind="stable", ignore_index=True)
        last = content[content.rfind(b"\n", 0, -1) + 1 :] or self.last
        return _SoFar(frame, self.bad + torn + unfit, self.end + len(content), last)


def _read_log(
    path: Path, before: _SoFar, parse: _Parse, keys: list[str]
) -> tuple[pd.DataFrame, int, _SoFar]:
    """The whole log, of which only what is new is parsed.

    Gives the frame, the number of lines left out, and what the next read goes on from.
    """
    content = b""
    with contextlib.suppress(OSError):
        content = files.read(path, logs.MOST_LOG, start=before.end - len(before.last))
        if content.startswith(before.last):
            content = content[len(before.last) :]
        else:
            content, before = files.read(path, logs.MOST_LOG), _SoFar()
    cut = content.rfind(b"\n") + 1  # after it there may be a line that is being written
    whole = before.read_on(content[:cut], parse, keys)
    shown = whole.read_on(content[cut:], parse, keys)
    assert shown.frame is not None
    return shown.frame, shown.bad, whole


def _numbers(log: str) -> _Parse:
    """Rows of that log as numbers: known columns only, what is not a number as NaN."""
    names = [name for name in schema.SCHEMA[log] if name != "nonfinite"]

    def parse(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
        cells = [[finite(row.get(name)) for name in names] for row in rows]
        frame = pd.DataFrame(cells, columns=names)
        return frame.astype(dict.fromkeys(names, float) | {"step": int}), 0

    return parse


def torn_lines(count: int) -> str:
    """`1 torn or damaged line`, `3 torn or damaged lines`."""
    return "1 torn or damaged line" if count == 1 else f"{count} torn or damaged lines"


def identity_of(run: Run, study: str = "", name: str | None = None) -> dict[str, Any]:
    """Who a run is, as every table and frame names it, on disk or not: the keys are IDENTITY.

    `network` tells an edited network from an ordinary one: `Run.network_name`.
    """
    return {
        "study": study,
        "run": name or run.name_in_study,
        "network": run.network_name,
        "depth": run.network.depth,
        "shortcut": run.network.shortcut,
        "family": run.network.family,
        "data": run.data.label,
        "recipe": run.recipe.label,
        "seed": run.seed,
        "precision": run.precision,
    }


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on disk. Frames are read when first asked for, as they are then."""

    path: Path
    info: Mapping[str, Any]
    config: Run
    summary: Mapping[str, Any] | None
    _logs: dict[str, _SoFar] = field(default_factory=dict, repr=False, compare=False)

    @property
    def study(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def network(self) -> Network:
        return self.config.network

    @cached_property
    def status(self) -> schema.Status:
        """As written, but a `running` whose writer is gone reads `interrupted`."""
        if self.summary is not None:
            return "diverged" if self.summary.get("status") == "diverged" else "finished"
        written = self.info.get("status")
        if written == "running" and is_alive(self.info):
            return "running"
        # A run whose end was decided but not yet summarised has something left to do.
        return "failed" if written == "failed" else "interrupted"

    def _log(self, name: str, parse: _Parse, keys: list[str]) -> tuple[pd.DataFrame, int]:
        """A log's frame and the number of its lines left out."""
        frame, bad, so_far = _read_log(self.path / name, self._logs.get(name, _SoFar()), parse, keys)
        if self.status == "running":  # no other grows
            self._logs[name] = so_far
        else:
            self._logs.pop(name, None)
        return frame, bad

    @cached_property
    def _metrics(self) -> tuple[pd.DataFrame, int]:
        metrics, bad = self._log(schema.METRICS_FILE, _numbers(schema.METRICS_FILE), ["step"])
        timing, bad_timing = self._log(schema.TIMING_FILE, _numbers(schema.TIMING_FILE), ["step"])
        planned = metrics["step"] <= self.config.recipe.steps  # no run has a later step
        metrics, bad = metrics[planned].reset_index(drop=True), bad + int((~planned).sum())
        return metrics.merge(timing, on="step", how="left"), bad + bad_timing

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per logged step: the columns of metrics.jsonl and timing.jsonl; absent is NaN."""
        return self._metrics[0]

    @cached_property
    def _probes(self) -> tuple[pd.DataFrame, int]:
        """All probe rows, long: kind, step, layer (0-based), name, value."""
        return self._read_probes()

    def _read_probes(self) -> tuple[pd.DataFrame, int]:
        known = self.info.get("layers")
        layers = known if isinstance(known, dict) else {}

        def parse(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
            bad, records = 0, []
            for row in rows:
                kind, values = row.get("kind"), row.get("values")
                names = layers.get(kind) if isinstance(kind, str) else None
                if isinstance(names, list) and isinstance(values, list) and len(values) == len(names):
                    records += [
                        (kind, row["step"], index, str(names[index]), finite(value))
                        for index, value in enumerate(values)
                    ]
                else:
                    bad += 1
            frame = pd.DataFrame(records, columns=["kind", "step", "layer", "name", "value"])
            return frame.astype({"step": int, "layer": int, "value": float}), bad

        return self._log(schema.PROBES_FILE, parse, ["kind", "step", "layer"])

    def probe(self, kind: str = "gradient_norm") -> pd.DataFrame:
        """Rows of one probe kind: step, layer (0-based, in forward order), name, value."""
        frame = self._probes[0]
        return frame[frame["kind"] == kind].drop(columns="kind").reset_index(drop=True)

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Results of `resnetlab evaluate`, the latest of each protocol, checkpoint and data set."""
        columns = list(schema.SCHEMA[schema.EVALUATIONS_FILE])
        rows, _ = read_lines(self.path / schema.EVALUATIONS_FILE)
        frame = pd.DataFrame([[row.get(name) for name in columns] for row in rows], columns=columns)
        what = ["step", "protocol", "average", "crop", "sides", "data", "dataset_sha256"]
        same = frame[what].astype(str).duplicated(keep="last")
        return frame[~same].reset_index(drop=True)

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """What was skipped or is wrong, in sentences; empty for a healthy run."""
        # Without keeping them: of a thousand healthy runs they would fill the memory for nothing.
        probes = self._probes if "_probes" in self.__dict__ else self._read_probes()
        left_out = {"metrics": self._metrics[1], "probes": probes[1]}
        sentences = [f"{torn_lines(n)} left out of its {log}" for log, n in left_out.items() if n]
        if self.summary is None and (self.path / schema.SUMMARY_FILE).exists():
            sentences.append(
                f"{schema.SUMMARY_FILE} is torn or damaged: the run does not count as ended"
            )
        if self.info.get("status") == "running" and self.status == "interrupted":
            sentences.append(
                f"its process is gone (last heartbeat {self.info.get('heartbeat')}); "
                "the same command resumes it"
            )
        sentences += (known := self._disagreements())
        told = [f"{log}.jsonl" for log, n in left_out.items() if n or (known and log == "metrics")]
        changed = logs.changed(self.path, (self.summary or {}).get(logs.DIGESTS))
        sentences += [
            f"its {name} is not what it was when the run ended" for name in changed if name not in told
        ]
        if len(devices := self._devices()) > 1:
            sentences.append(
                f"it went on on another device ({', then '.join(devices)}): its bits may differ from "
                "those of a run that stayed on one"
            )
        if self.info.get("error"):
            sentences.append(str(self.info["error"]))
        return tuple(sentences)

    def _disagreements(self) -> list[str]:
        """Where the last rows of a whole log are not what the summary was made from."""
        if self.summary is None or self._metrics[1]:
            return []
        sentences, last = [], self.metrics.iloc[-1:]
        done = finite(self.summary.get("steps"))
        if len(last) and done != float(last["step"].iloc[0]):
            sentences.append(
                f"its log ends at step {last['step'].iloc[0]}, its summary was made at step {done:g}"
            )
        for name in ("train_error", "train_loss", "validation_error", "test_error", "test_loss"):
            logged, summed = self.metrics[name].dropna().iloc[-1:], finite(self.summary.get(name))
            if len(logged) and not (
                math.isnan(summed) or math.isclose(logged.iloc[0], summed, rel_tol=1e-5)
            ):
                sentences.append(
                    f"its log's last {name} is {logged.iloc[0]:g}, its summary's {summed:g}"
                )
        return sentences

    def _devices(self) -> list[str]:
        """The devices that its starts name, each once."""
        starts = self.info.get("starts")
        named = (
            [start.get("device") for start in starts if isinstance(start, dict)]
            if isinstance(starts, list)
            else []
        )
        return list(dict.fromkeys(device for device in named if isinstance(device, str)))

    def final(self, quantity: str) -> float | None:
        """The last value of a metric: the summary's, or while there is none, the log's."""
        value = finite(self.summary.get(quantity)) if self.summary is not None else math.nan
        if math.isnan(value) and quantity in self.metrics:
            seen = self.metrics[quantity].dropna()
            value = float(seen.iloc[-1]) if len(seen) else math.nan
        return None if math.isnan(value) else value

    @property
    def steps_done(self) -> int:
        if self.summary is not None and type(self.summary.get("steps")) is int:
            return int(self.summary["steps"])
        return int(self.metrics["step"].max()) if len(self.metrics) else 0

    def identity(self) -> dict[str, Any]:
        """Who the run is, as every table and frame names it: the keys are IDENTITY.

        A folder's name may be no UTF-8, which no column of text takes: those bytes are spelt out.
        """
        who = identity_of(self.config, self.study, self.name)
        return {
            key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for key, value in who.items()
        }

    @property
    def images_sha256(self) -> str | None:
        """Of the images it was trained on, which may lie in any folder; None if it is not on record."""
        sha256 = files.mapping(self.info.get("dataset")).get("sha256")
        return sha256 if isinstance(sha256, str) else None

    @property
    def weights_sha256(self) -> str | None:
        """Of its trained weights; None for a run that has not ended."""
        sha256 = (self.summary or {}).get("weights_sha256")
        return sha256 if isinstance(sha256, str) else None

    @property
    def has_weights(self) -> bool:
        """Whether a checkpoint lies with it, or its weights come with the package or the clone."""
        checkpoints = (self.path / schema.CHECKPOINTS).glob("step-*.pt")
        return any(path.is_file() for path in checkpoints) or self.shipped is not None

    @property
    def shipped(self) -> Path | None:
        """The file of its weights in the package or, of long runs, in the clone: see `pretrained`."""
        sha256 = self.weights_sha256 or ""
        return shipped().get(sha256) or kept().get(sha256)

    def as_row(self) -> dict[str, Any]:
        """The run as one flat record, for tables and `resnetlab list --json`. Errors in percent."""
        outcome: dict[str, Any] = {"status": self.status, "steps": self.steps_done}
        outcome["steps_planned"] = self.config.recipe.steps
        classes = files.mapping(self.info.get("dataset")).get("classes")
        outcome["classes"] = len(classes) if isinstance(classes, list) and classes else None
        outcome |= {quantity: self.final(quantity) for quantity in schema.FINAL}
        return self.identity() | outcome


@dataclass(frozen=True)
class Skipped:
    """A folder that is no readable run, and why."""

    path: Path
    reason: str


def read_folder(path: Path, earlier: RunRecord | Skipped | None = None) -> RunRecord | Skipped:
    """What lies in a study's folder. Logs are read on from where `earlier`, of the same run, ended."""
    info, problem = read_versioned(path / schema.RUN_FILE)
    if info is None:
        return Skipped(path, problem)
    run, problem = parse_config(info)
    if run is None:
        return Skipped(path, problem)
    summary = read_json(path / schema.SUMMARY_FILE)[0]
    if summary is not None and summary.get("status") not in schema.ENDED:
        summary = None
    same = isinstance(earlier, RunRecord) and earlier.info.get("layers") == info.get("layers")
    logs = dict(earlier._logs) if isinstance(earlier, RunRecord) and same else {}
    return RunRecord(path, info, run, summary, logs)


def read_run(path: str | Path) -> RunRecord:
    """The run in that folder. Raises UsageError, with the reason, if there is none to read."""
    record = read_folder(Path(path).absolute())  # "." has no name, its absolute path has
    if isinstance(record, Skipped):
        raise UsageError(f"{path} is not a readable run: {record.reason}")
    return record


def shipped_run(path: Path) -> RunRecord:
    """The run of a file of weights in the package, as it lay on disk, but for its logs."""
    info, summary = read_header(path)
    return RunRecord(FOLDER / info["study"] / info["run"], info, Run.parse(info["config"]), summary)


def pretrained_run(name: str) -> RunRecord:
    """The run whose weights come with the package under that name, such as plain-56-digits.

    Its configuration, where it ran and what it scored; its logs lie in the results only. UsageError,
    with the nearest name, if there is none.
    """
    known = {path.stem: path for path in shipped().values()}
    if name not in known:
        raise UsageError(f"no weights {name!r} come along{did_you_mean(name, known)}")
    return shipped_run(known[name])
