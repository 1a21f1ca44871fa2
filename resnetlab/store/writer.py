"""Writing a run: one process at a time, by a lock that its death releases; checkpoints with SHA-256."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from resnetlab import config as configs
from resnetlab import files
from resnetlab.config import Run, UsageError
from resnetlab.store import checkpoints, lock, logs, schema
from resnetlab.store.checkpoints import Checkpoint
from resnetlab.store.lock import BEING_WRITTEN, AnotherWriterError
from resnetlab.store.reader import RunRecord, Skipped, read_folder, read_json

HEARTBEAT_SECONDS = 5.0
LOCK_SECONDS = 10.0  # a killed study's last process needs a moment to go


def check_folder(folder: Path, run: Run) -> RunRecord | None:
    """The run that lies there if it has this configuration, None if there is none yet.

    Raises UsageError, with the differences, if the folder holds another configuration, and if what it
    holds cannot be read.
    """
    if not (folder / schema.RUN_FILE).exists():
        return None
    record = read_folder(folder)
    if isinstance(record, Skipped):
        if _same(checkpoints.configuration(folder), run):
            return None  # its run.json is lost, its checkpoints are not
        raise UsageError(
            f"{folder / schema.RUN_FILE} cannot be read ({record.reason}); "
            "move the folder away or choose another run name"
        )
    if not _same(record.config, run):
        lines = "\n  ".join(configs.differences(record.config, run))
        raise UsageError(
            f"{record.study}/{record.name} holds another configuration (there != asked):\n  {lines}\n"
            "choose another run or study name, or remove that folder"
        )
    return record


def _same(there: Run | None, asked: Run) -> bool:
    """Whether they are one configuration, however the images' folder is spelt."""
    return there is not None and there.spelt() == asked.spelt()


class RunWriter:
    """The one writer of a run's folder, a context manager.

    Opening takes the lock, refuses another configuration (UsageError with the differences) and
    another living writer (AnotherWriterError); one that another machine takes the run from, where locks
    do not hold between machines, notices within a heartbeat and writes no more. Then either
    `resume_from(checkpoint)` or `start_over()`, rows, and `finish`.
    """

    def __init__(self, root: Path, study: str, name: str, run: Run) -> None:
        self.study = schema.check_name("study", study)
        self.name = schema.check_name("run", name)
        self.folder = root / study / name
        self.run = run
        self.info: dict[str, Any] = {}
        self._lock = lock.Lock(self.folder / schema.LOCK_FILE)
        self._begun = False
        self._last_beat = -math.inf

    def __enter__(self) -> Self:
        schema.prepare_root(self.folder.parents[1])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"run folder {self.folder} cannot be made ({error.strerror})") from None
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            self._refuse(lock.owner(read_json(self.folder / schema.RUN_FILE)[0] or {}))
        try:
            self._refuse(lock.living_writer(self.folder, locks=self._lock.held))
            earlier = check_folder(self.folder, self.run)
            if earlier is not None:
                self.run = earlier.config  # as it was spelt then
            self.info = dict(earlier.info) if earlier is not None else {}
            places = (self.folder, self.folder / schema.CHECKPOINTS)
            for left_over in (path for place in places for path in place.glob(".*.tmp")):
                left_over.unlink(missing_ok=True)  # of a writer that was killed
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _refuse(self, writer: str | None) -> None:
        """AnotherWriterError if there is one."""
        if writer is not None:
            raise AnotherWriterError(
                f"{self.study}/{self.name} {BEING_WRITTEN} {writer}; wait for it, stop it, or choose "
                "another run name"
            )

    def _check_ours(self) -> None:
        """AnotherWriterError if another process has begun the run since: only one may go on."""
        info = read_json(self.folder / schema.RUN_FILE)[0] if self._begun else None
        if not self._lock.renew():  # its file was removed, and another process has locked a new one
            self._refuse(lock.owner(info or {}))
        if info and (info.get("host"), info.get("pid")) != (self.info["host"], self.info["pid"]):
            self._refuse(lock.owner(info))

    @property
    def ended(self) -> bool:
        """True if an earlier process brought this run to its end."""
        summary = read_json(self.folder / schema.SUMMARY_FILE)[0]
        return summary is not None and summary.get("config_hash") == self.run.hash()

    def begin(
        self,
        *,
        execution: Mapping[str, Any],
        versions: Mapping[str, str],
        dataset: Mapping[str, Any],
        layers: Mapping[str, Sequence[str]],
        parameters: int,
    ) -> None:
        """Write run.json, status running: the first file of a run.

        `created`, `commit` and `versions` stay those of the first start; `starts` has every start's.
        """
        self._refuse(lock.living_writer(self.folder, locks=self._lock.held))  # begun meanwhile
        commit = schema.git_commit(Path(__file__))
        start = {"time": schema.now(), "commit": commit, "torch": versions.get("torch")}
        start |= {
            "host": socket.gethostname(),
            "device": execution.get("device_name"),
            "job": lock.job(),
        }
        self.info = {
            "schema": schema.SCHEMA_VERSION,
            "study": self.study,
            "run": self.name,
            "config": self.run.model_dump(mode="json"),
            "config_hash": self.run.hash(),
            "status": "running",
            "error": None,
            "step": self.info.get("step", 0),
            "created": self.info.get("created", schema.now()),
            "heartbeat": schema.now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "commit": self.info.get("commit", commit),
            "versions": self.info.get("versions", dict(versions)),
            "starts": [*self.info.get("starts", ()), start],
            "execution": dict(execution),
            "layers": {kind: list(names) for kind, names in layers.items()},
            "dataset": dict(dataset),
            "parameters": parameters,
            "events": configs.Events()._asdict(),
        }
        self._begun = True
        schema.write_json(self.folder / schema.RUN_FILE, self.info)

    def checkpoints(self) -> Iterator[Checkpoint | str]:
        """Those of this run, newest first: see `checkpoints.whole_ones`."""
        return checkpoints.whole_ones(self.folder, self.run, resumed=True)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Cut the logs back to what they were when the checkpoint was taken; later ones go."""
        checkpoints.drop(self.folder, after=checkpoint.step)
        for name in schema.LOGS:
            with files.open_log(self.folder / name, "ab") as file:
                file.truncate(min(checkpoint.offsets[name], file.tell()))

    def start_over(self) -> None:
        """Empty logs, no checkpoints: nothing of an earlier start is kept."""
        checkpoints.drop(self.folder, after=-1)
        for name in schema.LOGS:
            files.open_log(self.folder / name, "wb").close()

    def append(self, file: str, *rows: Mapping[str, Any]) -> None:
        """A JSON line per row, written at once. What is not finite is null; metrics rows name it."""
        lines = []
        for row in rows:
            clean = {key: schema.plain(value) for key, value in row.items() if value is not None}
            if nonfinite := [key for key, value in clean.items() if value is None]:
                clean["nonfinite"] = nonfinite
            lines.append(schema.json_line(clean))
        with files.open_log(self.folder / file, "ab") as log:
            log.write("".join(lines).encode())

    def beat(self, step: int) -> None:
        """A sign of life, at most every HEARTBEAT_SECONDS."""
        if time.monotonic() - self._last_beat < HEARTBEAT_SECONDS:
            return
        self._last_beat = time.monotonic()
        self._check_ours()
        self.info |= {"heartbeat": schema.now(), "step": step}
        schema.write_json(self.folder / schema.RUN_FILE, self.info, durable=False)

    def note_events(self, events: configs.Events) -> None:
        """What the run's own errors have decided; written with the next heartbeat or status."""
        self.info["events"] = events._asdict()

    def save_checkpoint(self, step: int, payload: bytes, seconds: float) -> None:
        """What `checkpoints` gives back, and the logs up to here on the disk."""
        self._check_ours()
        checkpoints.save(self.folder, self.run, step, payload, seconds)

    def finish(
        self,
        status: schema.Status,
        *,
        step: int,
        summary: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """The last word: run.json's status, then, for a run that has ended, summary.json."""
        self._check_ours()
        self.info |= {"status": status, "heartbeat": schema.now(), "step": step, "error": error}
        schema.write_json(self.folder / schema.RUN_FILE, self.info)
        if status in schema.ENDED:
            head = {"schema": schema.SCHEMA_VERSION, "status": status, "config_hash": self.run.hash()}
            end = {logs.DIGESTS: logs.digests(self.folder)}
            schema.write_json(self.folder / schema.SUMMARY_FILE, head | dict(summary or {}) | end)


def add_evaluation(record: RunRecord, row: Mapping[str, Any]) -> None:
    """Store the result of a test protocol with the run: one more line, after a whole one."""
    path = record.path / schema.EVALUATIONS_FILE
    line = schema.json_line({key: schema.plain(value) for key, value in row.items()})
    with files.open_log(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line  # a torn line stays alone
        file.write(line.encode())
