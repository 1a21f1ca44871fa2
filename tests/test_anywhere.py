"""One install, any folder: what is ours and where it lies, copies of notebooks, kernels, the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from resnetlab import files, store
from resnetlab.config import UsageError
from resnetlab.studies import copies, kernels, notebook

PROJECT = Path(__file__).resolve().parents[1]
MOST_BYTES = 25_000_000  # of the wheel; docs/install.md says so
NOT_CARRIED = (
    "dashboard/photograph.py",
    "dashboard/screenshots/",
    "results/rewrite.py",
    "results/told.py",
    "results/.under-way/",
    "results/.weights/",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.delenv(store.RESULTS_VARIABLE, raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def somebody_elses(folder: Path) -> Path:
    """A project with folders of our names, which hold nothing of ours."""
    for name, content in {
        "notebooks/01_degradation.ipynb": "theirs",
        "notebooks/README.md": "theirs",
        "results/digits/plain-20-seed0/run.json": "theirs",
        "results/table.csv": "1,2\n",
        "data/cifar10/cifar-10-batches-py/data_batch_1": "theirs",
        "dashboard/__init__.py": "raise RuntimeError('theirs')\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def seen(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and its content."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# --- what is ours -----------------------------------------------------------------------------


def test_in_an_empty_folder_results_have_a_folder_of_their_own(here: Path) -> None:
    assert store.results_root() == here / "resnetlab-results"
    assert files.usual_data() == here / "resnetlab-data"
    assert not any(here.iterdir()), "looking makes nothing"


def test_nothing_of_somebody_elses_project_is_taken_for_ours(here: Path) -> None:
    somebody_elses(here)
    assert store.results_root() == here / "resnetlab-results"
    assert files.usual_data() == here / "resnetlab-data"
    assert notebook.find("01").parent == PROJECT / "notebooks"
    assert all(path.is_relative_to(PROJECT) for path in store.find_studies())


def test_in_a_checkout_results_are_found_from_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(store.RESULTS_VARIABLE, raising=False)
    for folder in (PROJECT, PROJECT / "notebooks", PROJECT / "results" / "reference" / "digits"):
        monkeypatch.chdir(folder)
        assert store.results_root() == PROJECT / "results"
        assert files.usual_data() == PROJECT / "data"


def test_a_marked_folder_is_ours_wherever_it_lies(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "below" / "deeper").mkdir(parents=True)
    store.prepare_root(here / "results")
    for folder in (here, here / "below" / "deeper", here / "results"):
        monkeypatch.chdir(folder)
        assert store.results_root() == here / "results"
        assert files.usual_data() == here / "resnetlab-data", "data/ is ours in a checkout only"
    store.prepare_root(here / "below" / "resnetlab-results")
    monkeypatch.chdir(here / "below")
    assert store.results_root() == here / "below" / "resnetlab-results", "the nearer one"


def test_who_names_a_folder_gets_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.RESULTS_VARIABLE, str(here / "by variable"))
    assert store.results_root() == here / "by variable"
    assert store.results_root(here / "by option") == here / "by option"


def test_new_results_folders_are_marked_and_old_ones_are_left_as_they_are(here: Path) -> None:
    store.prepare_root(here / "new")
    assert "resnetlab" in (here / "new" / files.MARKER).read_text()
    theirs = somebody_elses(here / "theirs") / "results"
    before = seen(theirs)
    store.prepare_root(theirs)  # by --results
    assert seen(theirs) == before


def test_no_results_go_into_the_package() -> None:
    for place in (files.PACKAGE / "results", files.PACKAGE / files.CARRIED / "results"):
        with pytest.raises(UsageError, match="lies in the package"):
            store.prepare_root(place)
        assert not place.exists()


def test_the_committed_runs_belong_to_the_usual_results_only(here: Path) -> None:
    names = [store.label_of(path, store.results_root()) for path in store.find_studies()]
    assert "reference/digits" in names
    assert store.find_run("digits/plain-20-seed0").study == "digits"
    assert store.find_run("reference/digits/plain-20-seed0").study == "digits"
    assert store.find_measurements("loss-surface")
    assert store.find_studies(here / "elsewhere") == []
    (here / "elsewhere" / "reference" / "s").mkdir(parents=True)
    assert [path.name for path in store.find_studies(here / "elsewhere")] == ["s"]


def test_what_is_made_of_a_committed_study_does_not_lie_with_it(here: Path) -> None:
    root, committed = store.results_root(), PROJECT / "results" / "reference" / "digits"
    assert store.made_of(committed, root) == root / "of-reference" / "digits"
    assert store.made_of(root / "mine", root) == root / "mine"
    assert store.made_of(committed, PROJECT / "results") == committed, "git ignores it there"
    (root / "of-reference" / "digits").mkdir(parents=True)
    assert "of-reference" not in [path.name for path in store.find_studies()]
    with pytest.raises(UsageError, match="kept for"):
        store.check_name("study", "of-reference")


def test_an_executed_notebook_over_committed_runs_does_not_hide_them(here: Path) -> None:
    folder = here / "resnetlab-results" / "digits"
    folder.mkdir(parents=True)
    (folder / "01_degradation.ipynb").touch()
    assert store.find_study("digits").runs
    (folder / "plain-8-seed0").mkdir()
    assert store.find_study("digits").path == folder, "the user's own, once a run begins"


# --- notebooks copied out ---------------------------------------------------------------------


def test_copies_are_renewed_but_never_over_what_somebody_changed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = here / "mine"
    first = copies.copy_out(target)
    assert set(first.new) == {path.name for path in (PROJECT / "notebooks").iterdir()}
    assert copies.copy_out(target).same == first.new
    (target / "01_degradation.ipynb").write_text("changed")
    (target / "03_gradient_norms.ipynb").unlink()
    later = here / "later"  # a later version of the package
    shutil.copytree(PROJECT / "notebooks", later / "notebooks")
    for name in ("01_degradation.ipynb", "02_constructed_solution.ipynb"):
        (later / "notebooks" / name).write_text("later")
    monkeypatch.setattr(files, "project", lambda: later)
    for left in range(2):
        again = copies.copy_out(target)
        assert again.left == ("01_degradation.ipynb",)
        assert again.new == (() if left else ("03_gradient_norms.ipynb",))
        assert again.renewed == (() if left else ("02_constructed_solution.ipynb",))
    assert "left alone, changed here: 01_degradation.ipynb" in str(again)
    assert (target / "01_degradation.ipynb").read_text() == "changed"
    assert (target / "02_constructed_solution.ipynb").read_text() == "later"


def test_copies_know_the_results_that_were_theirs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.copy_out(here / "mine")
    monkeypatch.chdir(here / "mine")
    assert store.results_root() == here / "resnetlab-results"
    assert files.usual_data() == here / "resnetlab-data"
    assert copies.copy_out(here / "mine").results == here / "resnetlab-results"
    copies.copy_out(here / "mine", here / "others")
    assert store.results_root() == here / "others"
    assert "reference/digits" in [store.label_of(p, here / "others") for p in store.find_studies()]


def test_lab_copies_into_a_folder_of_its_own_and_opens_that(
    here: Path, resnetlab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody_elses(here)
    before, started = seen(here), list[Any]()
    monkeypatch.setattr(os, "execve", lambda *how: started.append((*how, Path.cwd())))
    code, said, _ = resnetlab("lab", "--no-start")
    assert (code, started) == (0, [])
    assert "copied" in said
    assert resnetlab("lab", "--ip=::1", "notebooks", "--no-browser", "--port", 9999)[0] == 0
    ((python, words, environment, where),) = started
    assert where == here / "notebooks"
    assert python == sys.executable
    assert {"--no-browser", "--port=9999", "--ip=::1"} <= set(words)
    assert environment["JUPYTER_PATH"].split(os.pathsep)[0] == str(kernels.OURS)
    after = seen(here)
    assert {name: after[name] for name in before} == before
    places = {name.split("/")[0] for name in after if name not in before}
    assert places == {"notebooks", "resnetlab-notebooks", "resnetlab-results"}


def test_lab_works_on_the_notebooks_of_a_checkout_where_they_are(
    resnetlab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(os, "execve", lambda *_: None)
    assert resnetlab("lab")[:2] == (0, "")
    assert Path.cwd() == PROJECT / "notebooks"
    assert not (PROJECT / "notebooks" / files.COPIES).exists()


def test_lab_says_what_is_missing_and_refuses_the_package(
    here: Path, resnetlab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = resnetlab("lab", files.PACKAGE / "x", "--no-start")
    assert code == 2
    assert "lies in the package" in complaint
    code, _, complaint = resnetlab("lab", "one", "--ip", "two")
    assert code == 2
    assert "one folder is needed" in complaint
    (here / "file").touch()
    code, _, complaint = resnetlab("lab", "file", "--no-start")
    assert code == 2
    assert "cannot be written" in complaint
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    code, _, complaint = resnetlab("lab")
    assert code == 2
    assert "pip install 'resnetlab[lab]'" in complaint


# --- kernels ----------------------------------------------------------------------------------


@pytest.fixture
def other_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter finds a kernel called python3 that is no Python of ours."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


@pytest.mark.usefixtures("other_kernel")
def test_the_kernel_is_this_interpreter_whatever_jupyter_path_offers() -> None:
    from jupyter_client.manager import KernelManager

    def command() -> str:
        return str(KernelManager(kernel_name="python3").format_kernel_cmd()[0])

    assert command() == "/bin/false"
    with kernels.ours():
        assert command() == sys.executable
    assert command() == "/bin/false"


@pytest.mark.slow
@pytest.mark.usefixtures("other_kernel")
def test_a_notebook_is_executed_by_this_interpreter(tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell("import sys\nprint(sys.executable)")]
    made.metadata = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    nbformat.write(made, tmp_path / "in.ipynb")
    notebook.execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {})
    (output,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert output["text"].strip() == sys.executable


# --- the wheel --------------------------------------------------------------------------------


def tracked() -> list[str]:
    """The files of the project: what git knows, and what it does not ignore."""
    words = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("the project's files are known from git")
    return [name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, copy / name)
    words = (
        "pip wheel -q --no-deps --no-build-isolation --no-index --disable-pip-version-check -w out ."
    )
    subprocess.run([sys.executable, "-m", *words.split()], cwd=copy, check=True)
    (path,) = (copy / "out").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    words = "pip install -q --no-deps --no-index --no-compile --target"
    subprocess.run([sys.executable, "-m", *words.split(), str(place), str(wheel)], check=True)
    return place


@pytest.mark.slow
def test_the_wheel_carries_what_is_committed_and_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    start = f"resnetlab/{files.CARRIED}/"
    carried = {name.removeprefix(start) for name in names if name.startswith(start)}
    wanted = {
        name
        for name in tracked()
        if name.startswith(("notebooks/", "dashboard/", "results/"))
        and not name.startswith(NOT_CARRIED)
        and Path(name).name != files.MARKER
        and Path(name).parent.name != store.FIGURES
    }
    assert carried == wanted
    package = {name for name in tracked() if name.startswith("resnetlab/")}
    assert package <= set(names), "everything of the package itself is there too"


@pytest.mark.slow
def test_an_installation_works_in_any_folder_and_writes_only_results(
    installation: Path, tmp_path: Path
) -> None:
    """In an empty folder and in somebody else's project; the installation itself stays as it was."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RESNETLAB_")}
    environment |= {"PYTHONPATH": str(installation), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(folder: Path, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    installed = seen(installation)
    app = installation / "resnetlab" / files.CARRIED / "dashboard" / "app.py"
    page = (
        f"import sys\nfrom streamlit.testing.v1 import AppTest\nsys.path.insert(0, '')\n"
        f"page = AppTest.from_file({str(app)!r}, default_timeout=120).run()\n"
        "print(list(page.exception), page.title[0].value, sys.modules['dashboard'].__file__)"
    )
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", somebody_elses(tmp_path / "theirs")):
        before = seen(folder)
        said = python(folder, "-c", "import resnetlab; print(resnetlab.__file__)")
        assert Path(said.strip()).is_relative_to(installation)
        assert "digits/plain-56-seed0" in python(folder, "-m", "resnetlab", "list", "digits")
        assert python(folder, "-c", page).split()[0] == "[]"
        assert seen(folder) == before, "reading writes nothing"
        python(folder, "-m", "resnetlab", "report", "digits")
        python(folder, "-m", "resnetlab", "notebook", "10")
        after = seen(folder)
        assert {name: after[name] for name in before} == before
        new = {name.removeprefix("resnetlab-results/") for name in after if name not in before}
        made = {"lesson/10_ours_and_the_paper.ipynb", "of-reference/digits/report.html"}
        assert new == made | {files.MARKER}
    assert seen(installation) == installed
