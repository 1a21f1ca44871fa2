"""Faults on purpose, many of each kind: `make faults` writes what became of them to a page.

    python tests/faults/campaign.py            # the whole campaign, minutes
    python tests/faults/campaign.py --sample   # every 7th, seconds; prints the figures alone

What is tried is the store, as training uses it: a run of 12 steps whose numbers follow from one
another, a checkpoint every fourth. Its training is a hash, so that a hundred of them take seconds. Each
attempt is a process of its own. After the fault the same command comes again, without one: *survived*
is a run that ends bit-identical to the undisturbed one; *refused* one that says in a sentence why not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resnetlab import config, files, store
from resnetlab.cli import terminal
from resnetlab.config import UsageError
from resnetlab.store import Checkpoint, RunWriter, schema, writer

PAGE = files.project() / "docs" / "reliability.md"
STEPS, EVERY = 12, 4
RUN = config.run_from_parameters(network="plain-8", steps=STEPS, milestones=[])
LAYERS = {"gradient_norm": ["conv", "classifier"]}
UNNOTICED = "files of what stayed unnoticed"
KILLED, REFUSED, FAILED = 9, 3, 4  # exit codes of an attempt
COUNTED = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fsync")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Names that somebody may have or try, for folders, studies, runs, data sets, networks, recipes.
NAMES = [
    *("", ".", "..", "../x", "a/b", "/etc/passwd", "~", "~root", "-rf", "--help", " ", "a b", "a\\b"),
    *("con", "nul.txt", "x" * 81, "x" * 300, "x" * 5000, "reference", "figures", "measurements"),
    *("a\nb", "a\rb", "a\tb", "a\x1b[31mred", "a\x07", "\x7f", "\x9b31m", "\u202egnp.exe", "\ufeffx"),
    *(
        "<b>x</b>",
        "<script>alert(1)</script>",
        "![x](http://x.invalid/y)",
        "[red]x[/red]",
        "$x$",
        "`x`",
    ),
    *(
        "{x}",
        "{0.__class__}",
        "%s%n",
        "$(id)",
        ";id",
        "|id",
        "&",
        "*",
        "?",
        "'",
        '"',
        "=1+1",
        "@x",
        "#",
    ),
    *("é", "e\u0301", "日本", "\U0001f600", "a\ud800b", "\udcff", "０", "²", "None", "nan", "1e999"),
    *(
        "digits",
        "plain-8",
        "plain-0x8",
        "resnet-8-B-C",
        "PLAIN-8",
        "plain-8 ",
        "plain--8",
        "plain-99999",
    ),
]


def train(root: Path, until: int = STEPS) -> None:
    """The run, or what is left of it, up to that step: numbers that depend on all before them."""
    with RunWriter(root, "s", "r", RUN) as own:
        if own.ended:
            return
        whole = (item for item in own.checkpoints() if isinstance(item, Checkpoint))
        newest = next(whole, None)
        own.begin(execution={"device": "cpu"}, versions={}, dataset={}, layers=LAYERS, parameters=1)
        if newest is None:
            own.start_over()
        else:
            own.resume_from(newest)
        step, state = (newest.step, newest.payload) if newest else (0, b"seed")
        while step < until:
            step, state = step + 1, hashlib.sha256(state).digest()
            error = error_of(state)
            own.append(store.METRICS_FILE, {"step": step, "train_error": error, "train_loss": error})
            values = {"step": step, "kind": "gradient_norm", "values": [state[1], state[2]]}
            own.append(store.PROBES_FILE, values)
            own.append(store.TIMING_FILE, {"step": step, "seconds": step, "images_per_second": 1.0})
            own.beat(step)
            if step % EVERY == 0:
                own.save_checkpoint(step, state, float(step))
        if until == STEPS:
            sha256 = hashlib.sha256(state).hexdigest()
            summary = {"steps": step, "train_error": error_of(state), "weights_sha256": sha256}
            own.finish("finished", step=step, summary=summary)


def error_of(state: bytes) -> float:
    return round(state[0] / 256 * 90, 3)


def attempt(work: Callable[[], None], watch: Callable[[str, Any], None] | None = None) -> int:
    """Do it in a process of its own, which `watch` is told every file operation of; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = FAILED
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if watch is not None:
            fsync = os.fsync

            def told(number: int) -> None:
                watch("fsync", ())
                fsync(number)

            os.fsync = told
            sys.addaudithook(watch)
        work()
        code = 0
    except (UsageError, store.AnotherWriterError):
        code = REFUSED
    except OSError:
        code = FAILED
    finally:
        os._exit(code)


class Fault:
    """Counts file operations that change something below a folder, and acts from the `at`-th on."""

    def __init__(self, root: Path, at: int, act: Callable[[], None]) -> None:
        self.root, self.at, self.act, self.seen = str(root), at, act, 0

    def __call__(self, event: str, words: Any) -> None:
        if event not in COUNTED:
            return
        if event == "open" and not (isinstance(words[2], int) and words[2] & WRITES):
            return
        if event != "fsync" and not str(words[0]).startswith(self.root):
            return
        self.seen += 1
        if self.seen >= self.at:
            self.act()


def kill() -> None:
    os._exit(KILLED)


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def outcome(root: Path, before: dict[str, bytes]) -> str:
    """What the same command, once more, makes of the run: identical, refused, said or unnoticed."""
    code = attempt(lambda: train(root))
    if code == REFUSED:
        return "refused"
    folder = root / "s" / "r"
    if code == 0 and results(folder) == before:
        return "identical"
    record = store.reader.read_folder(folder)
    said = isinstance(record, store.Skipped) or record.problems or record.status != "finished"
    return "said" if said else "unnoticed"


def results(folder: Path) -> dict[str, bytes]:
    """Every byte that a run is for: logs, summary, the newest weights."""
    names = [*store.LOGS, store.SUMMARY_FILE, f"{store.CHECKPOINTS}/step-{STEPS:08d}.pt"]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def campaign(place: Path, stride: int) -> dict[str, Counter[str]]:
    """kind -> what became of its attempts. With `stride` 7 every seventh is tried."""
    writer.LOCK_SECONDS = 0.5
    schema.git_commit = lambda source: None  # three processes a call
    draw, count = random.Random(0), 0
    train(place / "undisturbed")
    before = results(place / "undisturbed" / "s" / "r")
    train(place / "stopped", until=10)
    reads, number = os.pipe()
    counting = Fault(place / "counted", 10**9, kill)

    def counted() -> None:
        train(place / "counted")
        os.write(number, str(counting.seen).encode())

    attempt(counted, counting)
    total = int(os.read(reads, 100))
    outcomes: dict[str, Counter[str]] = {}

    def fresh() -> Path:
        nonlocal count
        count += 1
        return place / f"{count}"

    def note(kind: str, what: str, root: Path) -> None:
        outcomes.setdefault(kind, Counter())[what] += 1
        shutil.rmtree(root, ignore_errors=True)

    for at in range(1, total + 1, stride):
        root = fresh()
        attempt(lambda root=root: train(root), Fault(root, at, kill))
        note("kills", outcome(root, before), root)
        root = fresh()
        attempt(lambda root=root: train(root), Fault(root, at, full))
        note("full disks", outcome(root, before), root)
    for _ in range(0, 400, stride):
        for kind in ("flips", "cuts"):
            root = fresh()
            shutil.copytree(place / "stopped", root)
            there = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size]
            path = draw.choice(there)
            content = bytearray(path.read_bytes())
            if kind == "flips":
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content if kind == "flips" else content[: draw.randrange(len(content))])
            what = outcome(root, before)
            if what == "unnoticed":
                outcomes.setdefault(UNNOTICED, Counter())[path.name] += 1
            note(kind, what, root)
    for name in NAMES[::stride]:
        for what in (through(entry, name, fresh()) for entry in ENTRIES):
            outcomes.setdefault("names", Counter())[what] += 1
    return outcomes


def _on_disk(name: str, root: Path) -> None:
    """A run's folder of that name, with a whole run in it, as another program may have put it there."""
    train(root)
    try:
        (root / "s" / "r").rename(root / "s" / name)
    except ValueError:  # no system has such a name
        raise OSError(errno.EILSEQ, "no name for a folder") from None
    for run in store.read_study(root / "s").runs:
        terminal.say(terminal.table(["run"], [[run.name]]), f"{run.path}: {run.problems}")
        json.dumps(run.as_row()).encode()


ENTRIES: list[Callable[[str, Path], Any]] = [
    lambda name, root: RunWriter(root, name, "r", RUN).__enter__(),
    lambda name, root: RunWriter(root, "s", name, RUN).__enter__(),
    lambda name, root: config.run_from_parameters(network=name),
    lambda name, root: config.run_from_parameters(network="plain-8", recipe=name or "x"),
    lambda name, root: config.run_from_parameters(network="plain-8", data=name),
    lambda name, root: (
        config.run_from_parameters(network="plain-8", data=f"folder:{name}").default_name
    ),
    lambda name, root: store.find_study(name, root),
    lambda name, root: store.find_run(name, root),
    lambda name, root: config.grid_named(name),
    _on_disk,
]


def through(entry: Callable[[str, Path], Any], name: str, root: Path) -> str:
    """What an entry makes of a name: taken, refused; unnoticed is another error, or a raw sign."""
    root.mkdir(parents=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as out:
        usual, sys.stdout = sys.stdout, out
        try:
            entry(name, root)
            what = "taken"
        except UsageError as error:
            terminal.say(str(error))
            what = "refused"
        except OSError:  # the file system's own refusal to have such a name
            what = "refused"
        except Exception:
            what = "unnoticed"
        finally:
            sys.stdout = usual
        out.seek(0)
        raw = re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.read())
    shutil.rmtree(root, ignore_errors=True)
    return "unnoticed" if raw else what


MEANINGS = {
    "kills": "the process killed at each of its file operations",
    "full disks": "no space left from each of them on",
    "flips": "one bit of one file of a stopped run flipped",
    "cuts": "one file of a stopped run cut at any byte, as a power cut leaves it",
    "names": f"{len(NAMES)} hostile names through each of {len(ENTRIES)} entries",
}


def table(outcomes: dict[str, Counter[str]]) -> str:
    rows = [
        "| fault | tried | as if nothing had been | refused or said | unnoticed |",
        "|---|---|---|---|---|",
    ]
    for kind, what in ((kind, outcomes[kind]) for kind in MEANINGS):
        good, said = what["identical"] + what["taken"], what["refused"] + what["said"]
        cells = (f"{kind}: {MEANINGS[kind]}", what.total(), good, said, what["unnoticed"])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    files_of = ", ".join(f"`{name}` ({n})" for name, n in sorted(outcomes.get(UNNOTICED, {}).items()))
    return "\n".join([*rows, "", f"Unnoticed were faults in: {files_of or 'no file'}."])


def fill(page: str, shown: str) -> str:
    """The page with these figures between its marks."""
    head, _, rest = page.partition("<!-- faults -->\n")
    return f"{head}<!-- faults -->\n{shown}\n<!-- /faults -->{rest.partition('<!-- /faults -->')[2]}"


def main(words: Iterable[str]) -> None:
    sample = "--sample" in words
    memory = Path("/dev/shm")  # thousands of fsyncs, of which none has to reach a disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        outcomes = campaign(Path(place), 7 if sample else 1)
    shown = table(outcomes)
    print(shown)
    if sample:
        print(json.dumps(outcomes))
    else:
        PAGE.write_text(fill(PAGE.read_text("utf-8"), shown), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
