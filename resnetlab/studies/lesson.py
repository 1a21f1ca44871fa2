"""The lesson: the question notebooks in teaching order, executed, and as pages that need no computer.

Which notebooks belong to it and in which order stands in lesson.toml, once. A page is an HTML file
that holds an executed notebook (`pages.lesson_pages`); `index.html` links them. Beside them lie plotly
and lesson.js, which shows one figure per screen, in the order of lesson.toml.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from plotly.offline import get_plotlyjs

from resnetlab import config, files, store, verdict
from resnetlab.config import UsageError
from resnetlab.pages import document, executed, lesson_pages
from resnetlab.studies import collection, notebook, runner

KIND = "page of a lesson"
INDEX = "index.html"
SHARED = "plotly.js", "lesson.js"  # scripts beside the pages
VIEW = Path(__file__).with_suffix(".js").read_text("utf-8")  # one figure per screen
TRIALS, COMMITTED = store.LESSONS[1:]  # folders of quick executions, and of the committed ones
DEFAULT = next(iter(config.GRIDS))  # of several copies of a notebook, the one over this study first
TITLE = "Why deep plain networks fail, and why residual ones do not"


@dataclass(frozen=True)
class Chapter:
    """One notebook of the lesson: its place in the story, and the parameters of a trial of it."""

    name: str  # of its file, without .ipynb
    role: str = ""
    quick: Mapping[str, Any] = field(default_factory=lambda: {"quick": True})
    looks: bool = False  # at a study that it does not train itself

    @property
    def source(self) -> Path:
        return notebook.find(self.name)

    @property
    def question(self) -> str:
        """The title of the notebook."""
        cells = executed.parse(self.source.read_bytes())["cells"]
        first = executed.text_of(cells[0].get("source")) if cells else ""
        return first.partition("\n")[0].lstrip("# ") or self.name

    @property
    def prediction(self) -> str:
        """What a class is to predict before the figure, in the notebook's words; "" for nothing."""
        cells = executed.parse(self.source.read_bytes())["cells"]
        first = executed.text_of(cells[0].get("source")) if cells else ""
        asked = " ".join(first.partition("**Predict first:**")[2].partition("\n\n")[0].split())
        return asked[:1].upper() + asked[1:]


STORY = tuple(
    Chapter(**values)
    for values in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["chapter"]
)


def chapters() -> list[Chapter]:
    """Those whose notebook is there, in the order of the story; others follow by name."""
    numbered = [name.removesuffix(".ipynb") for name in notebook.names() if name[0].isdecimal()]
    in_order = [chapter for chapter in STORY if chapter.name in numbered]
    return in_order + [Chapter(name) for name in numbered if name not in {one.name for one in in_order}]


# --- executing --------------------------------------------------------------------------------


def place_of(source: Path, parameters: Mapping[str, Any], root: Path) -> Path:
    """Where the executed copy of a notebook with these parameters lies: with the runs it looks at.

    A trial (`quick`) lies apart, and so does a notebook that looks at no one study.
    """
    content = executed.parse(source.read_bytes())
    values = executed.defaults(content["cells"]) | dict(parameters)
    name = store.LESSON
    if asked := values.get("study"):
        name = store.check_name("study", asked)
        # A notebook that trains names its folder after what it trains; the others are told the folder.
        if any("folder_name(" in text for text in executed.sources(content)):
            asked = {key: values[key] for key in ("steps", "recipe") if key in values}
            name = collection.folder_name(name, str(values["data"]), **asked)
    if notebook.value_of(values.get("quick", False), "bool", "quick"):
        name = TRIALS
    return root / name / source.name


def check(source: Path, parameters: Mapping[str, Any], root: Path) -> None:
    """UsageError if a notebook that only looks at a study would find nothing there to look at."""
    values = executed.defaults(executed.parse(source.read_bytes())["cells"]) | dict(parameters)
    if values.get("quick") or source.stem not in {one.name for one in STORY if one.looks}:
        return
    table = store.find_study(values["study"], root).table()
    verdict.one_condition(table, values["data"], values["recipe"], values["precision"])


def execute(source: Path, target: Path, parameters: Mapping[str, Any], root: Path) -> str:
    """Execute a notebook in a process of its own: "" or why it failed, one line.

    What it trains and measures lands in `root`, the executed copy in `target`, also that of a failed
    execution. KeyboardInterrupt if it was stopped.
    """
    store.prepare_root(root)
    # The project's own folder needs no path: what is executed can then be shared as it is.
    place = {} if root == store.results_root() else {"results": str(root)}
    return runner.execute(source, target, place | dict(parameters)) or opened(target)[1]


def opened(copy: Path) -> tuple[dict[str, Any] | None, str]:
    """An executed copy, None if it cannot be read; and what ended its execution, "" for a whole one."""
    try:
        content = executed.parse(copy.read_bytes())
    except (OSError, executed.UnreadableError) as error:
        return None, f"its executed copy cannot be read: {error}"
    return content, executed.failure(content) or ""


def is_there(source: Path, target: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether this very notebook was executed with these parameters, to its end."""
    copy, problem = opened(target)
    if copy is None or problem:
        return False
    given = {key: value for key, value in executed.given(copy).items() if key != "results"}
    same = executed.sources(copy) == executed.sources(executed.parse(source.read_bytes()))
    return same and given == dict(parameters)


@dataclass(frozen=True)
class Part:
    """A chapter of the lesson as it stands: its executed copy, or why there is none."""

    chapter: Chapter
    page: str  # file name without ending
    copy: Path | None = None
    error: str = ""
    seconds: float | None = None  # that its execution took now


def teach(
    root: Path,
    folder: Path,
    *,
    quick: bool = False,
    again: bool = False,
    device: str = "auto",
    begins: Callable[[Chapter], None] = lambda chapter: None,
    ends: Callable[[Part], None] = lambda part: None,
) -> list[Part]:
    """Execute every chapter, one after the other, and write pages and index into `folder`.

    What is there already is not executed, unless `again`; one that fails does not stop the others. A
    preset study that a chapter only looks at is trained first if there is none. The pages of what has
    ended are there at any moment.
    """
    in_order = chapters()
    parts = [Part(chapter, chapter.name) for chapter in in_order]
    check_folder(folder)
    for index, chapter in enumerate(in_order):
        begins(chapter)
        began, source = time.monotonic(), chapter.source
        parameters: dict[str, Any] = dict(chapter.quick) if quick else {}
        known = executed.defaults(executed.parse(source.read_bytes())["cells"])
        if device != "auto" and "device" in known:
            parameters["device"] = device
        # A trial of a notebook without the word is one by its numbers.
        target = root / TRIALS / source.name if quick else place_of(source, parameters, root)
        error, seconds = "", None
        if again or not is_there(source, target, parameters):
            if chapter.looks and not quick:
                error = _provide(str(known.get("study")), root, device)
            error = error or execute(source, target, parameters, root)
            seconds = time.monotonic() - began
        copy = target if target.is_file() else None
        parts[index] = Part(chapter, chapter.name, copy, error, seconds)
        write_page(folder, parts[index])
        write_index(folder, parts)
        ends(parts[index])
    return parts


def _provide(name: str, root: Path, device: str) -> str:
    """Train the preset study of that name if the results have none of it: "" or why that failed."""
    if name not in config.GRIDS or any(path.name == name for path in store.find_studies(root)):
        return ""
    outcome = runner.run(config.grid_named(name), root=root, device=device, report=False)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return "; ".join(outcome.failed)


def from_reference(root: Path, folder: Path) -> list[Part]:
    """Pages and index of the executed copies that come with the project; nothing is executed.

    UsageError if there is none.
    """
    parts = []
    for chapter in chapters():
        copies = sorted(
            store.reference_root(root).glob(f"*/{chapter.name}.ipynb"),
            key=lambda copy: (copy.parent.name != DEFAULT, copy),
        )
        for copy in copies:
            page = chapter.name + (f"-{copy.parent.name}" if len(copies) > 1 else "")
            parts.append(Part(chapter, page, copy, opened(copy)[1]))
        if not copies:
            parts.append(Part(chapter, chapter.name))
    if not any(part.copy for part in parts):
        raise UsageError(f"{store.reference_root(root)} holds no executed notebooks")
    check_folder(folder)
    for part in parts:
        write_page(folder, part)
    write_index(folder, parts)
    return parts


# --- pages ------------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """UsageError if pages cannot be written there, or would replace something that is none of ours."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}") from None
    document.check_target(folder / INDEX, KIND)


def write_page(folder: Path, part: Part) -> None:
    """PAGE.html and, beside it, the executed notebook itself; nothing where there is no copy."""
    content = opened(part.copy)[0] if part.copy is not None else None
    if part.copy is None or content is None:
        return  # the index says why
    head = f'<p class="over"><a href="{INDEX}">{escape(TITLE)}</a></p>'
    head += '<p class="soft screens"><a href="#screen-0">One figure per screen</a></p>'
    target = folder / f"{part.page}.html"
    document.check_target(target, KIND)
    body = f"{head}\n{lesson_pages.body(content)}"
    files.atomic_write(target, document.whole(KIND, part.chapter.question, body, beside=SHARED))
    if part.copy.parent != folder:
        files.atomic_write(folder / f"{part.page}.ipynb", part.copy.read_bytes())


def write_index(folder: Path, parts: Sequence[Part]) -> None:
    """index.html: every chapter in order, with what it was executed on, or why it is not there.

    And what the pages share: plotly, and a script that knows the first page of each chapter.
    """
    lines, story = [], dict[str, str]()
    for part in parts:
        title, role = escape(part.chapter.question), escape(part.chapter.role)
        has_page = part.copy is not None and (folder / f"{part.page}.html").is_file()
        if has_page:
            page = f"{quote(part.page)}.html"
            story.setdefault(part.chapter.name, page)
            title = f'<a href="{page}">{title}</a>'
        notes = [document.text(note) for note in _notes(part)]
        if part.error:
            notes.append(f"<strong>failed: {document.text(part.error)}</strong>")
        if has_page:
            notes.append(f'<a href="{quote(part.page)}.ipynb">the notebook</a>')
        soft = f'<p class="soft">{" · ".join(notes)}</p>'
        lines.append(f"<li><h3>{title}</h3><p>{role}</p>{soft}</li>")
    first = next(iter(story.values()), "")
    template = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
    body = template.substitute(
        title=escape(TITLE), first=first, chapters="".join(lines), written=escape(store.now())
    )
    files.atomic_write(folder / INDEX, document.whole(KIND, TITLE, body))
    order = f"const STORY = {json.dumps(list(story.values()))};\n"
    for name, script in zip(SHARED, (get_plotlyjs(), document.DRAW + order + VIEW), strict=True):
        files.atomic_write(folder / name, script.encode(), durable=False)


def _notes(part: Part) -> Iterator[str]:
    """What the index notes about an executed copy."""
    yield part.chapter.name
    if part.copy is None:
        yield f"not executed yet: resnetlab notebook {part.chapter.name}"
        return
    content, _ = opened(part.copy)
    if content is None:
        return
    noted = executed.noted(content)
    began, seconds = noted.get("start_time"), noted.get("duration")
    if isinstance(began, str):
        yield f"executed {began[:16].replace('T', ' ')} UTC"
    if isinstance(seconds, int | float):
        yield f"took {seconds:,.0f} s"
    defaults = executed.defaults(content["cells"])
    for name, value in executed.given(content).items():
        if name != "results" and value != defaults.get(name):
            yield f"{name} {json.dumps(value)}"
