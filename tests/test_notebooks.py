"""The notebooks: their form, and that papermill alone runs them and refuses what it should."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError

from resnetlab import config, files, store
from resnetlab.config import Recipe, UsageError, run_from_parameters
from resnetlab.pages import executed
from resnetlab.studies import notebook

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
COPIES = sorted((FOLDER.parent / "results" / store.REFERENCE).rglob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def parameters_cell(content):
    cells = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    return cells[0]


def test_the_notebooks_of_the_readme_are_there():
    assert {path.name for path in PATHS} >= {"train.ipynb", "01_degradation.ipynb"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_form(path):
    content = read(path)
    nbformat.validate(content)
    title = content.cells[0].source.splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?"), "a notebook asks one question, its title"
    predict = content.cells[0].source.split("\n\n")[-1]
    assert predict.startswith("**Predict first:**"), "figures are seen after a prediction"
    assert predict.endswith("?")
    parameters = parameters_cell(content)
    setups = 0
    for before, cell in zip(content.cells, content.cells[1:], strict=False):
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert cell.execution_count is None
        assert before.cell_type == "markdown", f"prose stands before each code cell: {cell.source}"
        if cell is not parameters:
            assert len(cell.source.splitlines()) <= 15, cell.source
        setups += cell.source.count("here = notebook.begin(globals()")
    assert setups == 1, "one line sets up"
    prose = [cell.source for cell in content.cells if cell.cell_type == "markdown"]
    assert any("cannot say" in text for text in prose)
    assert prose[-1] is content.cells[-1].source
    assert "**Questions.**" in prose[-1]
    assert prose[-1].count("<details><summary>Answer</summary>") == prose[-1].count("</details>") == 3


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: f"{copy.parent.name}-{copy.stem}")
def test_a_committed_copy_is_of_its_notebook_as_it_stands(copy):
    """Else its words are not those of the code that made its values: execute it, or remove it."""
    content = executed.parse(copy.read_bytes())
    assert executed.failure(content) is None
    source = executed.parse((FOLDER / copy.name).read_bytes())
    assert executed.sources(content) == executed.sources(source)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebooks_need_few_helpers(path):
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    helpers = {"begin", "say", "limits", "outcomes"}
    helpers |= {"Progress", "progress_line"} if path.stem.startswith("train") else set()
    assert set(re.findall(r"\bnotebook\.(\w+)", code)) <= helpers


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_parameters_are_typed_commented_literals_at_most_eight_first(path):
    source = parameters_cell(read(path)).source
    first, _, rest = source.partition("\n# ")
    assert 1 <= len(first.splitlines()) <= 8
    assert "\n# " not in rest, "one line parts them"
    for line in [*first.splitlines(), *rest.splitlines()[1:]]:
        assert "  # " in line, line
    for name, parameter in notebook.parameters_of(source).items():
        assert parameter.kind in notebook.KINDS, name
    assert len(notebook.parameters_of(source)) == len(ast.parse(source).body)


def test_train_takes_every_field_of_the_recipe():
    import papermill

    known = papermill.inspect_notebook(str(FOLDER / "train.ipynb"))
    not_flat = {"name", "milestones", "decay"}
    assert set(Recipe.model_fields) - not_flat <= set(known)
    assert known["depth"]["help"].startswith("weighted layers, 6n+2: 8, 14, 20, 32, 44, 56, 110")


PARAMETERS = """depths: list[int] = [20]  # a
also: list[str] = []  # b
seed: int = 0  # c
quick: bool = False  # d
flip: bool = None  # e
results: str = ""  # f"""


def begun(injected="", quick=None):
    """The names of a notebook with these parameters after its first line."""
    names = {"In": ["", "import os", PARAMETERS, injected]}
    exec(PARAMETERS, names)
    exec(injected, names)
    return names, notebook.begin(names, quick)


def test_a_notebook_begins_with_its_parameters_taken_strictly(tmp_path):
    names, here = begun(f"# Parameters\ndepths = '[8, 14]'\nresults = {str(tmp_path)!r}\n")
    assert (names["depths"], names["also"], names["flip"]) == ([8, 14], [], None)
    assert here.root == here.how["root"] == tmp_path
    names, _ = begun("# Parameters\nquick = 'true'\nalso = 'plain-8,resnet-8'\n", {"depths": [8]})
    assert (names["quick"], names["depths"]) == (True, [8])
    assert names["also"] == ["plain-8", "resnet-8"]
    names, _ = begun("", {"depths": [8]})
    assert names["depths"] == [20], "no trial was asked for"
    names, _ = begun("# Parameters are chosen by hand\nmore = 3")
    assert names["more"] == 3, "only what papermill wrote is looked at"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("depht = 56", "unknown parameter 'depht'; did you mean 'depths'?"),
        ("depths = [20, 56.5]", r"depths: should be a list such as \[18, 34\], got \[20, 56.5\]"),
        ("depths = 'deep'", r"depths: should be a list such as \[18, 34\], got 'deep'"),
        ("seed = 'one'", "seed: should be a whole number, got 'one'"),
        ("seed = 1.0", "seed: should be a whole number, got 1.0"),
        ("quick = 1", "quick: should be true or false, got 1"),
    ],
)
def test_what_the_parameters_cell_does_not_have_is_refused(line, message):
    with pytest.raises(UsageError, match=message):
        begun(f"# Parameters\n{line}\n", {"depths": [8]})


def test_sentences_and_limits_are_lists():
    assert notebook.say(["a", "b"]).data == "- a\n- b"
    assert notebook.say({"**one**": ["a"], "**two**": ["b"]}).data == "**one**\n- a\n\n**two**\n- b"
    runs = [run_from_parameters(network="plain-8", seed=seed) for seed in (0, 1)]
    words = notebook.limits(["the one", "another."], runs).data.splitlines()
    assert words[:3] == [
        "- The one.",
        "- Another.",
        "- 2 seed(s): too few to tell chance from a difference.",
    ]
    assert words[3].startswith("- The paper trained on CIFAR-10 and ImageNet, these runs on digits")
    assert len(words) == 4, "a reason is said once"
    runs.append(run_from_parameters(network="plain-8", seed=2))
    assert len(notebook.limits([], runs).data.splitlines()) == 1


def test_execute_refuses_unknown_names_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'depth'"):
        notebook.execute(FOLDER / "train.ipynb", tmp_path / "out.ipynb", {"deph": 3})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (lambda: PapermillExecutionError(3, 1, "fit()", "KeyboardInterrupt", "", []), True),
        (lambda: RuntimeError("the kernel died"), True),
        (lambda: PapermillExecutionError(3, 1, "fit()", "ValueError", "no", []), False),
    ],
)
def test_an_execution_that_was_stopped_leaves_the_earlier_copy(failure, kept, tmp_path, monkeypatch):
    source, target = FOLDER / "train.ipynb", tmp_path / "out.ipynb"
    content = nbformat.read(source, as_version=4)

    def execute(source, target, *words, **options):
        nbformat.write(content, target)
        raise failure()

    monkeypatch.setattr("papermill.execute_notebook", execute)
    for earlier in ("", "whole"):
        if earlier:
            target.write_text(earlier)
        with pytest.raises((PapermillExecutionError, RuntimeError)):
            notebook.execute(source, target, {})
        assert (target.read_text() == earlier) is (kept and bool(earlier))
        assert list(tmp_path.iterdir()) == [target]


def papermill(target, *words, cwd, name="train.ipynb"):
    """The plain papermill command, as anybody would type it."""
    command = [sys.executable, "-m", "papermill", str(FOLDER / name), str(target), *words]
    environment = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.slow
def test_plain_papermill_runs_it(tmp_path):
    words = "-p depth 8 -p shortcut none -p steps 10 -p threads 1 -p study s -p run r".split()
    done = papermill(tmp_path / "out.ipynb", *words, "-p", "results", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = store.read_run(tmp_path / "here" / "s" / "r")
    assert record.status == "finished"
    assert record.network.name == "plain-8"
    assert record.steps_done == 10


@pytest.mark.deep
def test_run_by_hand_one_figure_grows(tmp_path, monkeypatch):
    """JupyterLab names its session to the kernel; the curves are then replaced, not repeated."""
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    words = "-p depth 8 -p steps 400 -p threads 1 -p results here".split()
    done = papermill(tmp_path / "out.ipynb", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (cell,) = [cell for cell in read(tmp_path / "out.ipynb").cells if "on_row=" in cell.source]
    figures = [out.data["application/vnd.plotly.v1+json"] for out in cell.outputs if "data" in out]
    assert len(figures) == 1
    assert figures[0]["data"][0]["name"] == "train error"
    assert "finished at step 400" in cell.outputs[-1].text


@pytest.mark.deep
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "deph", "56"], "did you mean 'depth'?"),
        (["-p", "depth", "21"], "nearest valid depths are 20 and 26"),
        (["-y", "lr: 1e-3"], "write 1.0e-3"),
        (["-r", "flip", "false"], "should be a number or true/false, got the text 'false'"),
    ],
)
def test_plain_papermill_stops_before_training(words, message, tmp_path):
    place = ["-p", "results", "here", "-p", "steps", "2"]
    done = papermill(tmp_path / "out.ipynb", *words, *place, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "here").exists()


def said(cells):
    """All the text that an executed notebook printed or drew as Markdown."""
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    texts = (o.get("text") or o.get("data", {}).get("text/markdown", "") for o in outputs)
    return "\n".join(map(str, texts))


@pytest.mark.deep
def test_shortcut_options_train_what_is_missing_and_only_that(tmp_path):
    name, words = (
        "05_shortcut_options.ipynb",
        ["-p", "results", str(tmp_path / "here"), "-p", "steps", "4"],
    )
    words += ["-y", "depths: [8]\nseeds: [0]"]
    for out in ("first.ipynb", "again.ipynb"):
        done = papermill(tmp_path / out, *words, cwd=FOLDER.parent, name=name)
        assert done.returncode == 0, done.stderr
    study = store.read_study(tmp_path / "here" / "shortcuts")
    assert {run.network.name for run in study.runs} == {
        "plain-8",
        "resnet-8",
        "resnet-8-B",
        "resnet-8-C",
    }
    assert {run.status for run in study.runs} == {"finished"}
    first, again = (said(read(tmp_path / out).cells) for out in ("first.ipynb", "again.ipynb"))
    assert "plain-8-seed0" in first
    assert "finished" in first
    assert "finished" not in again, "the second time nothing is trained"
    assert "Final training error of plain-8 minus resnet-8" in again
    assert "Too few seeds to say" in again


@pytest.mark.deep
def test_imagenet_notebook_on_images_that_it_makes_claims_nothing_about_imagenet(tmp_path):
    words = ["-p", "results", str(tmp_path / "here"), "-p", "steps", "3"]
    words += ["-y", "depths: [18]\nalso: [resnet-50]\noverrides: {batch_size: 8}"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="06_imagenet.ipynb")
    assert done.returncode == 0, done.stderr
    text = said(read(tmp_path / "out.ipynb").cells)
    assert "**Measured on digits-large**: 1,442 training and 355 test images of 10 classes" in text
    assert "Not ImageNet: nothing here is a claim about ImageNet." in text
    study = store.read_study(tmp_path / "here" / "imagenet")
    assert {run.network.name for run in study.runs} == {"plain-18", "resnet-18", "resnet-50"}
    assert {run.status for run in study.runs} == {"finished"}


def figures(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [
        o.data["application/vnd.plotly.v1+json"]
        for o in outputs
        if "data" in o and "plotly" in str(o.data.keys())
    ]


@pytest.mark.deep
def test_degradation_notebook_has_a_trial_where_nothing_was_run(tmp_path):
    root = tmp_path / "empty"
    words = ["-p", "results", str(root), "-p", "quick", "True"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="01_degradation.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 5
    assert "too few seeds" in said(cells).lower()
    assert [path.name for path in store.find_studies(root)] == ["digits-trial"]


@pytest.mark.deep
def test_the_first_step_notebook_pairs_every_arm_with_the_recipe_as_it_is(tmp_path):
    words = ["-p", "results", str(tmp_path / "here"), "-p", "quick", "True"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="12_first_step.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 3
    for change in ("clip 1.0", "lr 0.01", "warmup_lr 0.001, warmup_steps 3"):
        assert f"by paper-400 (steps 10, {change}); the second minus the first" in said(cells)
    assert said(cells).count("the first step changes a convolution by up to") == 4
    assert "no seed of both studies yet" in said(cells)


def test_the_first_step_notebook_asks_for_the_runs_of_the_committed_studies():
    """Its arms by their defaults are the presets: a run of one is found by the other."""
    rate = config.default_recipe("digits").lr
    arms = {"clip": {"clip": 1.0}, "tenth": {"lr": rate / 10}}
    arms["warm-up"] = {"warmup_lr": rate / 100, "warmup_steps": 30}
    for arm, change in arms.items():
        preset = config.GRIDS[f"first-step-{arm}"]
        assert preset.overrides == change
        assert (preset.depths, preset.seeds) == ((20, 56), (0, 1, 2, 3, 4))
        assert preset.shortcuts == (("none", "A") if arm == "clip" else ("none",))


@pytest.mark.deep
def test_gradient_norms_notebook_measures_stores_and_trains_only_once(tmp_path):
    words = ["-p", "results", str(tmp_path / "here"), "-p", "quick", "True"]
    for out in ("first.ipynb", "again.ipynb"):
        done = papermill(tmp_path / out, *words, cwd=FOLDER.parent, name="03_gradient_norms.ipynb")
        assert done.returncode == 0, done.stderr
    first, again = (read(tmp_path / out).cells for out in ("first.ipynb", "again.ipynb"))
    assert "finished" in said(first)
    assert "finished" not in said(again), "the second time nothing is trained"
    assert len(figures(again)) == 6
    assert "- plain-14 (1 seed): at step 0 the first layer's gradient is" in said(again)
    assert "Plain, 14 layers, without batch norm: what leaves the last block" in said(again)
    name, root = "digits-10-steps", tmp_path / "here"
    start = store.read_measurement(root / "measurements" / name / "at-initialisation.json").frame
    run = store.read_run(root / name / "plain-8-seed0")
    logged = run.probe().query("step == 0")["value"].tolist()
    own = start.query("network == 'plain-8' and norm == 'with batch norm' and layer >= 0")
    own = own[own["quantity"] == "gradient_norm"]["value"].tolist()
    assert own == pytest.approx(logged, rel=1e-4), "what is measured is what the run logged"
    assert said(again).count("a layer's weights grow up to") >= 2


@pytest.mark.deep
def test_gradient_correlation_notebook_measures_and_sets_beside_what_was_learnt(tmp_path):
    root = tmp_path / "here"
    words = ["-p", "results", str(root), "-p", "quick", "True"]
    out, name = tmp_path / "out.ipynb", "13_gradient_correlation.ipynb"
    done = papermill(out, *words, cwd=FOLDER.parent, name=name)
    assert done.returncode == 0, done.stderr
    cells = read(out).cells
    assert len(figures(cells)) == 2
    assert "Plain: 8 layers" in said(cells)
    stored = store.read_measurement(root / "measurements" / "digits" / "gradient-correlation.json")
    assert set(stored.frame["network"]) == {"plain-8", "resnet-8", "plain-14", "resnet-14"}
    assert stored.frame["value"].between(-1, 1).all()
    assert stored.info["choices"]["points"] == 32


@pytest.mark.deep
def test_layer_responses_notebook_measures_the_trained_weights(tmp_path):
    import torch

    from resnetlab import training
    from resnetlab.nets import probes
    from resnetlab.training import evaluate

    root = tmp_path / "here"
    words = ["-p", "results", str(root), "-p", "quick", "True", "-p", "images", "40"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="07_layer_responses.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 2
    assert "Too few seeds to say" in said(cells)
    assert "the paper trained on CIFAR-10" in said(cells) or "only orderings compare" in said(cells)
    frame = store.read_measurement(
        root / "measurements" / "responses-10-steps" / "layer-responses.json"
    ).frame
    run = store.read_run(root / "responses-10-steps" / "resnet-8-seed0")
    trained = training.load_trained(run, torch.device("cpu"))
    images = trained.normalise(evaluate.some_test_images(run.config, 40))
    wanted = probes.layer_responses(trained.network, images).tolist()
    own = frame[frame["network"] == "resnet-8"]["value"].tolist()
    assert own == pytest.approx(wanted, rel=1e-4)


@pytest.mark.deep
def test_loss_surface_notebook_measures_around_the_trained_weights(tmp_path):
    import torch
    from torch.nn.functional import cross_entropy

    from resnetlab import training
    from resnetlab.images import datasets

    root = tmp_path / "here"
    words = ["-p", "results", str(root), "-p", "quick", "True"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="08_loss_surface.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 2
    assert "- plain-8, seed 0: loss " in said(cells)
    assert "these are slices" in said(cells).lower()
    frame = store.read_measurement(
        root / "measurements" / "surface-10-steps" / "loss-surface.json"
    ).frame
    assert len(frame) == 2 * 5 * 5
    run = store.read_run(root / "surface-10-steps" / "resnet-8-seed0")
    trained = training.load_trained(run, torch.device("cpu"))
    part = datasets.load(run.config.data).train
    some = torch.linspace(0, len(part.images) - 1, 64).long()
    network = trained.network.train()  # batch norms as in training
    with torch.no_grad():
        loss = cross_entropy(network(trained.normalise(part.images[some])), part.labels[some])
    at = frame.query("network == 'resnet-8' and x == 0 and y == 0")["loss"]
    assert float(at.iloc[0]) == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize(("points", "reach"), [(5, 1.0), (15, 1.0), (21, 0.3), (51, 1.7)])
def test_the_middle_of_the_loss_surface_is_the_trained_weights_exactly(points, reach):
    """linspace of single floats misses 0 at 15 points: the weights' own loss was then not found."""
    cells = read(FOLDER / "08_loss_surface.ipynb").cells
    (line,) = [line for c in cells for line in c.source.splitlines() if line.startswith("ticks = ")]
    values = eval(line.removeprefix("ticks = "), {"points": points, "reach": reach})
    assert values[points // 2] == 0
    assert (values[0], values[-1], len(values)) == (-reach, reach, points)


def state_after(name, until):
    """What a notebook's code cells define, run here up to the one whose source holds that word."""
    state = {"In": []}
    for cell in read(FOLDER / name).cells:
        if cell.cell_type == "code":
            state["In"].append(cell.source)
            exec(cell.source, state)
            if until in cell.source:
                return state
    raise AssertionError(f"no cell of {name} has {until!r}")


@pytest.mark.parametrize(
    ("name", "until"),
    [
        ("03_gradient_norms.ipynb", "wide ="),
        ("05_shortcut_options.ipynb", "grid ="),
        ("09_three_times_longer.ipynb", "long ="),
        ("11_rounding.ipynb", "grids.append"),
    ],
)
def test_by_default_every_run_is_there_and_nothing_is_trained(name, until, monkeypatch):
    from resnetlab import studies

    state = state_after(name, until)
    grids = state.get("grids") or [state[name] for name in ("grid", "long") if name in state]

    def refuse(grid, **how):
        raise AssertionError(f"{grid.name} would train {how['only']}")

    monkeypatch.setattr(studies.runner, "run", refuse)
    root = files.project() / "results"
    runs = [run for grid in grids for run in studies.collect(grid, root=root)]
    assert len(runs) == sum(len(grid.runs()) for grid in grids) >= 9
    assert {run.config.seed for run in runs} >= {0, 1, 2}


@pytest.mark.deep
def test_longer_notebook_trains_two_lengths_and_draws_the_timelines(tmp_path):
    root = tmp_path / "here"
    words = ["-p", "results", str(root), "-p", "quick", "True", "-p", "warm_up_depth", "8"]
    done = papermill(
        tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="09_three_times_longer.ipynb"
    )
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 3
    short = store.read_run(root / "digits-10-steps" / "plain-8-seed0")
    long = store.read_run(root / "digits-10-steps-times-3" / "plain-8-seed0")
    assert (short.steps_done, long.steps_done) == (10, 30)
    # The rate falls at the same fractions of the way: a half and three quarters.
    assert long.config.recipe.milestones == (15, 22)
    difference = long.final("train_error") - short.final("train_error")
    assert f"the longer minus the shorter {difference:+.1f} points, n = 1" in said(cells)
    right, *wrong = (trace for trace in figures(cells)[2]["data"] if trace["showlegend"])
    assert right["name"] == "as in the paper"
    assert [trace["y"][-1] for trace in wrong] == [0.0001, 0.0001]
    warm = store.read_run(root / "digits-10-steps-warm-up" / "resnet-8-seed0")
    assert warm.config.recipe.warmup_lr == 0.01
    forgotten = store.read_run(root / "digits-10-steps-never-restored" / "resnet-8-seed0")
    assert forgotten.config.recipe.lr == 0.01


@pytest.mark.deep
def test_rounding_notebook_measures_errors_and_trains_in_float64(tmp_path):
    import torch

    from resnetlab import training
    from resnetlab.nets import probes

    root = tmp_path / "here"
    words = ["-p", "results", str(root), "-p", "quick", "True"]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="11_rounding.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 4
    assert "plain-8, fp32 minus fp64: " in said(cells)
    assert "- bf16 channels_last: plain " in said(cells)
    stored = store.read_measurement(root / "measurements" / "digits-10-steps" / "gradient-error.json")
    assert stored.info["choices"]["images"] == 128
    assert set(stored.frame["network"]) == {"plain-8", "resnet-8", "plain-14", "resnet-14"}
    run = store.read_run(root / "digits-10-steps-fp64" / "plain-8-seed0-fp64")
    assert run.config.precision == "fp64"
    begun = training.beginning(run.config, torch.device("cpu"))
    errors = probes.gradient_error(
        probes.batch_gradients(*begun, "bf16"), probes.batch_gradients(*begun, "fp64")
    )
    own = stored.frame.query("network == 'plain-8' and arithmetic == 'bf16'")
    assert own["relative"].tolist() == pytest.approx(errors.relative.tolist(), rel=0.3)


@pytest.mark.deep
def test_constructed_solution_notebook_builds_trains_on_and_does_so_once(tmp_path):
    root, name = tmp_path / "here", "02_constructed_solution.ipynb"
    words = ["-p", "results", str(root), "-p", "quick", "True"]
    for out in ("first.ipynb", "again.ipynb"):
        done = papermill(tmp_path / out, *words, cwd=FOLDER.parent, name=name)
        assert done.returncode == 0, done.stderr
    first, again = (read(tmp_path / out).cells for out in ("first.ipynb", "again.ipynb"))
    assert "plain-14-from-plain-8-lr0.01-seed0: finished" in said(first)
    assert "finished" not in said(again), "the second time nothing is trained"
    assert len(figures(again)) == 3
    assert "- plain-8 as plain-14 (1 seed): a logit changes by" in said(again)
    assert "test errors equal" in said(again)
    assert "- Residual, rate 0.1: kept by" in said(again)
    assert "Too few seeds to say more" in said(again)
    onward = store.read_study(root / "constructed-30-steps-on-10-steps")
    assert {run.status for run in onward.runs} == {"finished"}
    assert len(onward.runs) == 8, "the deep networks and the shallow ones, at every rate"
    same = store.read_measurement(
        root / "measurements" / "constructed-30-steps" / "same-function.json"
    ).frame
    built = same[same["which"] == "after"]
    assert (built["logits"] < 1e-4).all()
    assert built["error"].tolist() == same[same["which"] == "before"]["error"].tolist()
    assert (same[same["which"] == "disturbed"]["logits"] > 1e-2).all()
    source = store.read_run(root / "constructed-30-steps" / "plain-8-seed0")
    assert built["error"].iloc[0] == pytest.approx(source.final("test_error"), abs=1e-3)
    after = store.read_measurement(
        root / "measurements" / "constructed-30-steps" / "trained-on.json"
    ).frame
    own = after.set_index("run").loc["plain-14-from-plain-8-lr0.1-seed0"]
    run = store.read_run(onward.path / own.name)
    assert own["train_error_clean"] == pytest.approx(run.summary["train_error_clean"])
    assert own["start_train_error_clean"] == pytest.approx(source.summary["train_error_clean"])
    assert own["peak_train_error"] == pytest.approx(run.metrics["train_error"].max())
    shallow = store.read_run(onward.path / "plain-8-from-plain-8-lr0.1-seed0")
    assert own["shallow_train_error_clean"] == pytest.approx(shallow.summary["train_error_clean"])


@pytest.mark.deep
def test_shortcut_dial_notebook_turns_the_dial_and_removes_blocks(tmp_path):
    import torch

    from resnetlab import nets, training
    from resnetlab.training import evaluate

    root, words = tmp_path / "here", ["-p", "quick", "True"]
    words += ["-p", "results", str(root)]
    done = papermill(tmp_path / "out.ipynb", *words, cwd=FOLDER.parent, name="04_shortcut_dial.ipynb")
    assert done.returncode == 0, done.stderr
    cells = read(tmp_path / "out.ipynb").cells
    assert len(figures(cells)) == 4
    assert "Too few seeds to say how much is enough" in said(cells)
    dial = store.read_measurement(root / "measurements" / "dial-10-steps" / "shortcut-dial.json").frame
    assert dict(zip(dial["network"], dial["scale"], strict=True)) == {
        "plain-14": 0.0,
        "resnet-14-scale0.5": 0.5,
        "resnet-14": 1.0,
    }
    lesions = store.read_measurement(root / "measurements" / "dial-10-steps" / "lesions.json").frame
    single = lesions[lesions["removed"] == 1].groupby("network")["place"].apply(list)
    assert single.to_dict() == {
        "plain-8": [0],  # its other blocks change the shape
        "resnet-8": [0, 1, 2],
        "resnet-14": [0, 1, 2, 3, 4, 5],
    }
    assert (lesions[lesions["removed"] == 2].groupby("network").size() == 2).all()
    own = lesions.query("network == 'resnet-14' and removed == 1 and place == 3")
    run = store.read_run(root / own["study"].item() / "resnet-14-seed0")
    assert run.study == "dial-10-steps", "the dial's last run is the same network: not trained twice"
    trained = training.load_trained(run, torch.device("cpu"))
    norm = trained.network.get_submodule("stage2.1.residual.bn2")
    assert isinstance(norm, nets.BatchNorm)
    with torch.no_grad():  # the same by hand
        norm.weight.zero_()
        norm.bias.zero_()
    error = evaluate.evaluate(trained, run.config.data, "single", crop=None)["top1_error"]
    assert own["names"].item() == "stage2.1"
    assert own["test_error"].item() == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("value", ["yes", 1, None, "0"])
def test_a_switch_that_is_no_switch_is_refused(value):
    assert notebook.value_of("true", "bool", "quick") is True
    assert notebook.value_of("False", "bool", "quick") is False
    assert notebook.value_of(True, "bool", "quick") is True
    with pytest.raises(UsageError, match="quick: should be true or false"):
        notebook.value_of(value, "bool", "quick")


# --- the idea ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idea():
    """What the cells of notebook 00 computed, run here."""
    return state_after("00_the_idea.ipynb", "notebook.limits(")


def test_the_sum_of_a_residual_block_turns_as_the_formula_says(idea):
    measured = idea["measured"]
    assert (measured["apart by"] < 1e-6).all(), "pushed by hand, against automatic differentiation"
    kinds = measured.groupby("shortcut")["the shortcut's part"]
    assert kinds.get_group("identity").tolist() == pytest.approx([1.0] * kinds.size()["identity"])
    assert kinds.get_group("padded").tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_option_a_adds_no_parameter_and_no_multiply_add(idea):
    more = idea["more"]
    assert more.loc["resnet-20"].tolist() == [0, 0]
    # B projects twice, C in all nine blocks: 1x1 weights, and scale and shift of their batch norms.
    grow, stay = ((16, 32), (32, 64)), ((16, 16),) * 3 + ((32, 32), (64, 64)) * 2
    costs = [sum(i * o + 2 * o for i, o in pairs) for pairs in (grow, grow + stay)]
    assert more.loc[["resnet-20-B", "resnet-20-C"], "parameters"].tolist() == costs


def test_vgg_is_counted_by_the_rule_of_the_papers_networks(idea):
    rows = idea["costs"]
    # Simonyan and Zisserman 2014, Table 1, E: convolutions on maps of 224 to 14, three linear layers.
    widths = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 3]
    widths += [(256, 512), *[(512, 512)] * 7]
    sizes = [224] * 2 + [112] * 2 + [56] * 4 + [28] * 4 + [14] * 4
    convolutions = sum(9 * i * o * s * s for (i, o), s in zip(widths, sizes, strict=True))
    whole = convolutions + 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert rows["VGG-19"] == ("143,667,240", f"{whole / 1e9:.2f} G", "19.6 G (Sec. 4.1)")
    assert rows["VGG-16"][0] == "138,357,544"
    assert rows["plain-34"][:2] == ("21,623,848", "3.64 G")
    assert "the paper's 15.3 G is nearer to the count without them" in idea["said"][0]
    assert "the paper's 19.6 G is nearer to the count with them" in idea["said"][1]


def test_what_you_may_have_read_is_set_right_with_the_papers_numbers():
    from resnetlab import paper

    cells = [cell.source for cell in read(FOLDER / "00_the_idea.ipynb").cells]
    (text,) = [text.split(head)[1] for text in cells if (head := "## You may have read") in text]
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 8
    assert all(re.search(r"Sec\. [134]", line.split("|")[-2]) for line in lines), "each says where"
    six = paper.reported("ResNet (ILSVRC'15)", "top5_error", protocol="ensemble")
    one = paper.reported("resnet-152", "top5_error", protocol="multi-scale")
    assert f"{six.value:.2f} % top-5 error" in text
    assert f"{one.value:.2f} %, on the validation set" in text
    assert f"{paper.FIGURE_4_STEPS:,}" in text
    assert "$60 \\times 10^4$" in text
