"""What cannot be is refused in one line, before a kernel starts; cells can be run again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from resnetlab import config, store, verdict
from resnetlab.config import UsageError
from resnetlab.images import datasets
from resnetlab.plots import lines
from resnetlab.studies import lesson, limits, notebook

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
SIZES = ("int", "float", "list[int]", "list[float]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("01 -p data cifar10", "no run has the data 'cifar10'; what there is: digits"),
        ("01 -p recipe shrt", "no run has the recipe 'shrt'; what there is: "),
        ("01 -p study digit", "no study 'digit'"),
        ("08 -p points 14", "points: should be odd, got 14"),
        ("08 -p points 1", "points: should be 2 or more, got 1"),
        ("08 -p reach 0", "reach: should be above 0, got 0.0"),
        ("08 -p images 0", "images: should be 1 or more, got 0"),
        ("08 -p data tiny-imagenet", "of small images, got 'tiny-imagenet'"),
        ("04 -p scales 0.5,1.5", "scales: should be 0 to 1, got 1.5"),
        ("07 -p depths 21", "the nearest valid depths are 20 and 26"),
        ("07 -p seeds []", "seeds: at least one is needed"),
        ("05 -p shortcuts none,D", "unknown shortcut option 'D'; known: none, A, B, C"),
        ("06 -p also resnet50", "did you mean 'resnet-50'"),
        ("11 -p precisions fp23", "unknown precision 'fp23'; did you mean 'fp32'?"),
        ("03 -p device gpu", "device: auto, cpu, cuda or cuda:N is needed, got 'gpu'"),
        ("03 -p data cifar-10", "did you mean 'cifar10'?"),
    ],
)
def test_values_are_checked_before_a_kernel_starts(words, message, resnetlab, monkeypatch):
    monkeypatch.setattr(lesson, "execute", lambda *given: pytest.fail("it would have been executed"))
    code, _, error = resnetlab("notebook", *words.split())
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_parameter_given_by_hand_is_checked_by_the_first_line():
    cell = 'points: int = 15  # along each side, odd\nresults: str = ""  # folder'
    names = {"In": ["", cell], "points": 14, "results": ""}
    with pytest.raises(UsageError, match="points: should be odd, got 14"):
        notebook.begin(names)


@pytest.mark.parametrize("path", [path for path in PATHS if path.name[0].isdecimal()], ids=str)
def test_every_number_of_a_question_notebook_has_its_limits(path):
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    for name, parameter in notebook.parameters_of(cell.source).items():
        assert parameter.comment, name
        limits.check(name, parameter.default, parameter.comment)
        known = name in limits.LIMITS or name in limits.NAMES or name in limits.ABOVE_ZERO
        assert known or parameter.kind not in SIZES, f"{name}: its limits belong into studies/limits.py"


def test_notebooks_are_found_by_number_and_by_word():
    names = ("03", "3", "03_gradient_norms", "03_gradient_norms.ipynb", "norms", "Gradient norms")
    assert {notebook.find(name).stem for name in names} == {"03_gradient_norms"}
    with pytest.raises(UsageError, match=r"several .*'shortcut': 04_shortcut_dial, 05_shortcut_opt"):
        notebook.find("shortcut")
    with pytest.raises(UsageError, match=r"no notebook '99'; known: 0") as caught:
        notebook.find("99")
    assert "train" not in str(caught.value)
    with pytest.raises(UsageError, match="did you mean '03_gradient_norms'"):
        notebook.find("gradeint_norms")


def test_a_name_is_meant_by_the_word_that_stands_in_it():
    known = ["digits", "digits-110", "figure-6", "constructed"]
    assert config.did_you_mean("110", known) == "; did you mean 'digits-110'?"
    assert config.did_you_mean("figure", known) == "; did you mean 'figure-6'?"
    assert config.did_you_mean("digit", known) == "; did you mean 'digits'?"
    assert config.did_you_mean("CONSTRUCTED", known) == "; did you mean 'constructed'?"
    assert config.did_you_mean("110 Digits", known) == "; did you mean 'digits-110'?"
    assert config.did_you_mean("12", known) == f"; known: {', '.join(known)}"
    many = config.did_you_mean("zzz", map(str, range(30)))
    assert many.endswith("18, 19 and 10 more")


def test_what_there_is_is_said_where_nothing_was_found():
    table = pd.DataFrame({"data": ["digits", "cifar10"], "depth": [8, 20]})
    assert verdict.only(table, data="", depth=[], seed=None).equals(table)
    assert verdict.only(table, depth=[20])["data"].tolist() == ["cifar10"]
    with pytest.raises(UsageError, match="no run has the depth 56; what there is: 8, 20"):
        verdict.only(table, depth=[8, 56])
    with pytest.raises(UsageError, match="what there is: none at all"):
        verdict.only(table.iloc[:0], data="digits")


def test_an_error_in_words_is_one_line_in_a_notebook(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    for kind in ("resnetlab.config.UsageError", "resnetlab.images.pixels.DataError"):
        module, _, name = kind.rpartition(".")
        result = shell.run_cell(f"from {module} import {name}\nraise {name}('no such depth')")
        assert not result.success, "papermill stops there"
        assert capsys.readouterr().out.splitlines() == [f"{name}: no such depth"]
    shell.run_cell("1 / 0")
    assert "Traceback" in capsys.readouterr().out
    shell.history_manager.end_session()


@pytest.mark.parametrize("name", ["tiny-imagenet", "digits-large", "imagenet:somewhere"])
def test_larger_images_are_not_read_as_small_ones(name):
    with pytest.raises(UsageError, match=r"is not read into memory as small images.*folder:PATH"):
        datasets.load(config.Data(name=name))


def test_points_name_their_study_in_full(tmp_path):
    study = "s" * 80
    run = config.run_from_parameters(network="plain-8", steps=10)
    places = [tmp_path / study / "r", tmp_path / store.REFERENCE / study / "r"]
    label = study[:79] + "…"  # as a page cuts it
    records = {f"{label} ({i})": store.RunRecord(p, {}, run, None) for i, p in enumerate(places)}
    for record in records.values():
        record.path.mkdir(parents=True)
        row = '{"step": 10, "train_error": 1.0}\n'
        (record.path / store.METRICS_FILE).write_text(row)
    points = lines.points(records)
    assert points["study"].tolist() == [study, f"{store.REFERENCE}/{study}"]
    assert points["run"].tolist() == ["r", "r"]


def test_a_rate_follows_held_out_images_but_in_the_papers_own_recipe_and_that_is_said(tmp_path):
    data = {"data": "digits-large", "network": "resnet-18"}
    follows = {"milestones": [], "plateau_patience": 5}
    ways = {"fixed": {}, "usual": follows, "held": follows | {"validation": 9}}
    said, runs = {}, {}
    for name, values in (ways | {"paper": {"recipe": "imagenet"}}).items():
        runs[name] = run = config.run_from_parameters(**data, **values)
        said[name] = " ".join(store.notes([store.RunRecord(tmp_path, {}, run, None)]))
        assert config.run_from_parameters(**config.parameters_of(run)) == run
    assert {name: run.data.validation for name, run in runs.items()} == {
        "fixed": 0,
        "usual": config.HELD_OUT,
        "held": 9,
        "paper": 0,
    }
    assert runs["usual"].data.label == "digits-large (5 % held out)"
    assert (
        "stands still (the paper: 'when the error plateaus'): the test images had a say"
        in said["paper"]
    )
    assert said["fixed"] == said["held"] == said["usual"] == ""
    cells = nbformat.read(notebook.find("train.ipynb"), as_version=4).cells
    kinds = next(found for cell in cells if (found := notebook.parameters_of(cell.source)))
    for name, value in config.parameters_of(runs["usual"]).items():
        if name in kinds:  # as a study hands it to the notebook that trains
            assert notebook.value_of(value, kinds[name].kind, name) == value
    for typed, held in ((0.0, 0), (100.0, 100), (0.1, 0.1)):  # as a command line gives it
        assert config.run_from_parameters(network="plain-8", validation=typed).data.validation == held
    old = runs["usual"].data.model_copy(update={"validation": 0})
    old = runs["usual"].model_copy(update={"data": old})  # of before
    (sentence,) = store.notes([store.RunRecord(tmp_path, {}, old, None)])
    assert "the test images had a say in the training" in sentence
    with pytest.raises(config.UsageError, match="follows the error on the test images"):
        config.parameters_of(old)
    plateaus = [name for name, recipe in config.RECIPES.items() if recipe.plateau_patience]
    assert plateaus == ["imagenet"]


# --- cells run again --------------------------------------------------------------------------


def stored(node: ast.AST) -> Iterator[str]:
    """Names that a statement leaves behind, those of comprehensions and functions not among them."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda | ast.comprehension):
        for child in ast.iter_child_nodes(node):
            yield from stored(child)


def cells(path: Path) -> tuple[set[str], list[tuple[set[str], set[str]]]]:
    """The parameters; and of each code cell the names that it leaves, and those that it takes."""
    parameters, parts = set[str](), []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        left, taken = set[str](), set[str]()
        for statement in ast.parse(cell.source).body:
            loads = {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
            }
            inner = {
                node.id if isinstance(node, ast.Name) else node.arg
                for node in ast.walk(statement)
                if isinstance(node, ast.arg)
                or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            }
            augmented = isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name)
            taken |= loads - left - inner
            taken |= {statement.target.id} - left if augmented else set()
            left |= set(stored(statement))
        if "parameters" in cell.metadata.get("tags", []):
            parameters = left
        else:
            parts.append((left, taken))
    return parameters, parts


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_cells_can_be_run_again_in_any_order_that_makes_sense(path):
    """No cell gives a parameter another value; what a cell takes from another has one home."""
    parameters, parts = cells(path)
    for left, _ in parts:
        assert not left & parameters, "a parameter is given another value"
    for _, taken in parts:
        for name in taken:
            homes = [index for index, (left, _) in enumerate(parts) if name in left]
            assert len(homes) < 2, f"{name} is left behind by several cells"
