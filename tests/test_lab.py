"""The live lab: what may be asked for, the queue with real processes, and its page."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from dashboard_data import charts, write_run
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from dashboard import door, lab
from resnetlab import cli, config, files, store
from resnetlab.config import UsageError

PROJECT = Path(__file__).resolve().parent.parent
APP = PROJECT / "dashboard" / "app.py"
PAGE = "app_pages/lab.py"
PATIENCE = 240.0  # seconds; a loaded machine

SHORT = lab.asked(8, "none", steps=4)
LONG = lab.asked(8, "none", steps=lab.MOST_STEPS)


def processes(root: Path, word: str = "") -> list[psutil.Process]:
    """Those that name this results folder, which only this test knows, and the word."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()  # fails for one that has just ended
            if str(root) in words and (not word or word in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "results"
    folder.mkdir()
    yield folder
    for name in ("dashboard.lab", "train"):  # the worker first: it would start what waits
        for process in processes(folder, name):
            process.kill()
    wait_until(lambda: not processes(folder), "a process is left over")


@pytest.fixture
def one_slot() -> Iterator[None]:
    """One usable core, for this process and those that it starts."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not pin processes to cores")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every core is taken, by whatever it may be."""
    monkeypatch.setattr(lab, "slots", lambda: 0)
    monkeypatch.setattr(lab, "_ensure_worker", lambda queue: None)


def name_of(run: config.Run) -> str:
    return run.default_name


def record(root: Path, request: config.Run) -> store.RunRecord | None:
    try:
        return store.read_run(root / lab.STUDY / name_of(request))
    except UsageError:
        return None


def has_status(root: Path, request: config.Run, status: str) -> bool:
    found = record(root, request)
    return found is not None and found.status == status


def logged(root: Path, request: config.Run) -> int:
    found = record(root, request)
    return found.steps_done if found is not None else 0


# --- what may be asked for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 21}, "20 and 26"),
        ({"depth": 116}, "more than the lab's limit of 110"),
        ({"depth": None}, "depth"),
        ({"depth": 20.0}, "depth"),
        ({"shortcut": "D"}, "shortcut"),
        ({"lr": 0.0}, "lr: input should be greater than 0"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": 11.0}, "limit of 10"),
        ({"steps": 0}, "steps: input should be greater"),
        ({"steps": 2_001}, "more than the lab's limit of 2,000"),
        ({"seed": -1}, "seed: input should be greater"),
        ({"seed": 2**31}, "seed: input should be less"),
        ({"data": "folder:/etc"}, "not offered here"),
        ({"data": "imagenet:/"}, "not offered here"),
        ({"data": "mnist"}, "not offered here"),
        ({"data": None}, "not offered here"),
    ],
)
def test_what_is_no_run_or_too_much_is_refused_with_the_reason(
    root: Path, changes: dict[str, Any], message: str
) -> None:
    values = {"depth": 20, "shortcut": "none"} | changes
    with pytest.raises(UsageError, match=message):
        lab.submit(root, [lab.asked(**values)])
    assert not list(root.iterdir())


def test_only_data_that_lie_here_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "usual_data", lambda: tmp_path / "data")
    assert lab.data_sets() == ["digits"]
    (tmp_path / "data" / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "data" / "cifar100").mkdir()  # begun, never filled
    assert lab.data_sets() == ["digits", "cifar10"]
    assert lab.asked(20, "A", data="cifar10", steps=100).recipe.name == "short"


def test_only_what_the_page_can_ask_for_goes_on() -> None:
    for run in (*lab.LESSON, lab.asked(50, "B", 0.25, "digits", 7, 3)):
        assert lab.may_be_asked(run)
    usual = lab.asked(20, "none")
    for changes in ({"batch_size": 64}, {"steps": lab.MOST_STEPS + 1}):
        changed = usual.model_copy(update={"recipe": usual.recipe.replace(**changes)})
        assert not lab.may_be_asked(changed)


@pytest.mark.parametrize(
    ("said", "address", "on"),
    [
        ("1", "0.0.0.0", True),
        ("0", "127.0.0.1", False),
        (None, "127.0.0.1", True),
        (None, "0.0.0.0", False),
        (None, None, False),  # Streamlit's own default: every address
        ("yes", None, False),
    ],
)
def test_the_lab_is_off_where_others_can_reach_it_unless_asked_for(
    said: str | None, address: str | None, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESNETLAB_LAB", raising=False)
    if said is not None:
        monkeypatch.setenv("RESNETLAB_LAB", said)
    assert lab.enabled(address) is on


@pytest.mark.parametrize(
    ("words", "with_lab", "said"),
    [
        ([], "1", ""),
        (["--no-lab"], "0", ""),
        (["--listen", "localhost"], "1", ""),
        (["--listen", "0.0.0.0"], "0", "the Live lab is off"),
        (["--listen", "0.0.0.0", "--lab"], "1", "and start runs with the token"),
        (["--listen", "::"], "0", "read every result here"),
    ],
)
def test_the_command_says_what_listening_elsewhere_means(
    words: list[str], with_lab: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    monkeypatch.setattr("socket.socket.bind", lambda *given: None)  # its port may be taken here
    done = CliRunner().invoke(cli.app.app, ["dashboard", *words])
    assert done.exit_code == 0, done.output
    _, command, environment = seen[0]
    assert environment["RESNETLAB_LAB"] == with_lab
    assert ("warning" in done.output) is bool(said)
    assert said in done.output
    listening = command[command.index("--server.address") + 1]
    asked = words[1] if "--listen" in words else "127.0.0.1"
    assert listening == ("127.0.0.1" if asked == "localhost" else asked)
    names = [word for at, word in enumerate(command) if command[at - 1] == "--server.allowedHosts"]
    assert names == (["*"] if said else ["127.0.0.1", "localhost"])


def test_the_command_refuses_what_is_no_address() -> None:
    done = CliRunner().invoke(cli.app.app, ["dashboard", "--listen", "everywhere"])
    assert isinstance(done.exception, UsageError)
    assert "an address such as" in str(done.exception)


# --- the queue, without processes -------------------------------------------------------------


def test_the_queue_keeps_its_order_and_has_a_limit(root: Path, nothing_starts: None) -> None:
    requests = [lab.asked(8, "none", steps=4, seed=seed) for seed in range(lab.MOST_WAITING)]
    for request in requests:
        assert lab.submit(root, [request]) == ["waiting"]
    assert [entry.run.seed for entry in lab.look(root)] == list(range(lab.MOST_WAITING))
    with pytest.raises(UsageError, match="20 runs wait"):
        lab.submit(root, [lab.asked(8, "A", steps=4)])
    assert lab.submit(root, [requests[3]]) == ["under way"]  # asks for nothing new
    lab.stop(root, name_of(requests[3]))
    assert lab.submit(root, [lab.asked(8, "A", steps=4)]) == ["waiting"]
    seeds = [entry.run.seed for entry in lab.look(root) if entry.run.network.shortcut == "none"]
    assert seeds == [seed for seed in range(lab.MOST_WAITING) if seed != 3]


def test_many_who_press_start_at_once_make_one_run_each(root: Path, nothing_starts: None) -> None:
    with ThreadPoolExecutor(8) as browsers:
        answers = list(browsers.map(lambda _: lab.submit(root, lab.LESSON), range(8)))
    assert sorted(answers) == [["under way"] * 3] * 7 + [["waiting"] * 3]
    assert [entry.run.network.name for entry in lab.look(root)] == ["plain-20", "plain-56", "resnet-56"]
    assert len(list((lab._Queue(root).folder / "waiting").iterdir())) == 3


def test_a_lesson_that_does_not_fit_is_refused_whole(root: Path, nothing_starts: None) -> None:
    for seed in range(lab.MOST_WAITING - 1):
        lab.submit(root, [lab.asked(8, "none", steps=4, seed=seed)])
    with pytest.raises(UsageError, match="runs wait"):
        lab.submit(root, lab.LESSON)
    assert len(lab.look(root)) == lab.MOST_WAITING - 1


def test_a_run_that_has_ended_is_not_queued_again(root: Path, nothing_starts: None) -> None:
    write_run(root, "plain-8", study=lab.STUDY, name=name_of(SHORT), planned=4, steps=4)
    assert lab.submit(root, [SHORT]) == ["ended"]
    assert lab.look(root) == []


def test_damaged_files_in_the_queue_are_set_aside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "_ensure_worker", lambda queue: None)
    monkeypatch.setattr(
        "resnetlab.studies.processes.Local.start", lambda *words: pytest.fail("a process started")
    )
    queue = lab._Queue(root)
    with queue.locked():
        pass
    bad = {
        "00000001.torn.json": '{"depth": 8',
        "00000002.other.json": json.dumps(SHORT.model_dump(mode="json") | {"evil": 1}),
        "00000003.path.json": json.dumps(
            SHORT.model_dump(mode="json") | {"data": {"name": "folder:/"}}
        ),
        "00000004.name-of-another.json": json.dumps(SHORT.model_dump(mode="json")),
        "nonsense.json": "[]",
    }
    for name, content in bad.items():
        (queue.folder / "waiting" / name).write_text(content)
    (queue.folder / "running" / "torn.json").write_text("{")
    (queue.folder / "running" / "list.json").write_text('{"run": [], "pid": "1", "created": []}')
    assert lab.look(root) == []
    assert lab.tend(root) == []
    assert not list((queue.folder / "waiting").iterdir())
    assert not list((queue.folder / "running").iterdir())
    assert "damaged" in lab.notes(root)["path"]


def test_only_the_process_that_was_started_is_signalled(
    root: Path, nothing_starts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be somebody else's by now: here it is this test's own."""
    monkeypatch.setattr("psutil.Process.send_signal", lambda *words: pytest.fail("signalled"))
    monkeypatch.setattr("psutil.Process.kill", lambda *words: pytest.fail("killed"))
    queue = lab._Queue(root)
    me = psutil.Process()
    asked = SHORT.model_dump(mode="json")
    marker = {"run": asked, "pid": me.pid, "created": me.create_time(), "stop": None}
    with queue.locked():
        queue.mark(name_of(SHORT), marker)
    lab.stop(root, name_of(SHORT))
    with queue.locked():
        queue.mark(name_of(SHORT), marker | {"stop": time.time() - 2 * lab.STOP_SECONDS})
    assert lab.tend(root) == []


def test_a_name_that_is_not_in_the_queue_stops_nothing(root: Path, nothing_starts: None) -> None:
    lab.stop(root, "../../etc")
    assert not (root / lab.STUDY).exists()
    lab.submit(root, [SHORT])
    lab.stop(root, "../waiting/00000001." + name_of(SHORT))
    assert len(lab.look(root)) == 1


def test_a_results_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(UsageError, match="is a file"):
        lab.submit(tmp_path / "results", [SHORT])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / lab.STUDY).write_text("no folder")
    with pytest.raises(UsageError, match="queue cannot be written"):
        lab.submit(tmp_path / "other", [SHORT])


# --- the queue, with processes ----------------------------------------------------------------


@pytest.mark.slow
def test_a_run_finishes_as_it_was_asked_for_and_the_worker_ends(root: Path) -> None:
    assert lab.submit(root, [SHORT]) == ["started"]
    assert lab.submit(root, [SHORT]) == ["under way"]
    # Nobody looks from here on, as when the tab is closed.
    wait_until(lambda: has_status(root, SHORT, "finished"), "it does not finish")
    wait_until(lambda: not lab.worker_lives(root), "its worker does not end")
    found = record(root, SHORT)
    assert found is not None
    assert found.config == SHORT
    assert found.info["execution"]["threads"] == 1
    assert len(found.info["starts"]) == 1
    assert lab.tend(root) == []
    assert lab.notes(root) == {}
    assert lab.submit(root, [SHORT]) == ["ended"]
    assert [run.name for run in store.read_study(root / lab.STUDY).runs] == [name_of(SHORT)]


@pytest.mark.slow
def test_stop_ends_with_a_checkpoint_and_start_goes_on_from_it(root: Path) -> None:
    lab.submit(root, [LONG])
    wait_until(lambda: logged(root, LONG) > 0, "it does not train")
    assert [entry.phase for entry in lab.tend(root)] == ["running"]
    lab.stop(root, name_of(LONG))
    assert [entry.phase for entry in lab.look(root)] in (["stopping"], [])
    wait_until(lambda: not lab.tend(root), "it does not stop")
    found = record(root, LONG)
    assert found is not None
    assert found.status == "interrupted"
    assert list((found.path / store.CHECKPOINTS).glob("*.pt"))
    assert lab.notes(root) == {}
    stopped_at = found.info["step"]
    assert 0 < stopped_at < lab.MOST_STEPS

    assert lab.submit(root, [LONG]) == ["started"]
    wait_until(lambda: logged(root, LONG) > stopped_at, "it does not go on")
    found = record(root, LONG)
    assert found is not None
    assert len(found.info["starts"]) == 2
    assert found.metrics["step"].is_monotonic_increasing
    lab.stop(root, name_of(LONG))
    wait_until(lambda: not lab.tend(root), "it does not stop again")


@pytest.mark.deep
def test_no_more_run_than_there_are_cores_and_the_rest_in_order(root: Path, one_slot: None) -> None:
    requests = [lab.asked(8, "none", steps=4, seed=seed) for seed in (2, 0, 1)]
    assert lab.submit(root, requests) == ["started", "waiting", "waiting"]

    def ended() -> bool:
        assert len(processes(root, "train")) <= 1
        return all(has_status(root, request, "finished") for request in requests)

    wait_until(ended, "the queue does not empty by itself")
    found = [record(root, request) for request in requests]
    begun = [run.info["starts"][0]["time"] for run in found if run is not None]
    assert begun == sorted(begun)


@pytest.mark.deep
def test_a_killed_worker_is_replaced_and_its_runs_are_kept(root: Path, one_slot: None) -> None:
    other = lab.asked(8, "A", steps=4)
    lab.submit(root, [LONG, other])
    wait_until(lambda: lab.worker_lives(root), "no worker")
    (worker,) = processes(root, "dashboard.lab")
    wait_until(lambda: logged(root, LONG) > 0, "it does not train")
    worker.kill()
    wait_until(lambda: not lab.worker_lives(root), "its lock stays")
    assert [entry.phase for entry in lab.look(root)] == ["running", "waiting"]
    assert has_status(root, LONG, "running")

    # What a second server does at its first look: it knows no process of the first one.
    lab._workers.clear()
    assert [entry.phase for entry in lab.tend(root)] == ["running", "waiting"]
    wait_until(lambda: lab.worker_lives(root), "no new worker")
    lab.stop(root, name_of(LONG))
    wait_until(lambda: has_status(root, other, "finished"), "what waited does not start by itself")
    assert has_status(root, LONG, "interrupted")
    found = record(root, LONG)
    assert found is not None
    assert len(found.info["starts"]) == 1


@pytest.mark.slow
def test_a_starter_killed_half_way_starts_nothing_twice(root: Path, one_slot: None) -> None:
    """Its marker has no number yet, and the request is still in the queue."""
    lab.submit(root, [LONG])
    queue = lab._Queue(root)
    with queue.locked():
        queue.mark(name_of(LONG), queue.markers()[name_of(LONG)] | {"pid": None, "created": None})
        queue.add(LONG)
    lab.tend(root)
    assert len(processes(root, "train")) == 1
    assert not queue.waiting()
    lab.stop(root, name_of(LONG))
    wait_until(lambda: not lab.tend(root), "it does not stop")


@pytest.mark.slow
def test_a_run_whose_process_dies_says_so_and_goes_on_when_asked(root: Path) -> None:
    lab.submit(root, [LONG])
    wait_until(lambda: logged(root, LONG) > 0, "it does not train")
    (training,) = processes(root, "train")
    training.kill()
    wait_until(lambda: not lab.tend(root), "it still counts as training")
    wait_until(lambda: has_status(root, LONG, "interrupted"), "it still reads as running")
    assert "ended unexpectedly" in lab.notes(root)[name_of(LONG)]
    assert lab.submit(root, [LONG]) == ["started"]
    assert lab.notes(root) == {}
    lab.stop(root, name_of(LONG))
    wait_until(lambda: not lab.tend(root), "it does not stop")


# --- the page ---------------------------------------------------------------------------------


@pytest.fixture
def open_lab(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    monkeypatch.setenv("RESNETLAB_RESULTS", str(root))

    def open_one(switch: str = "1", entered: bool = True, **query: str) -> AppTest:
        monkeypatch.setenv("RESNETLAB_LAB", switch)
        monkeypatch.setattr(door, "enters", lambda: entered)
        app = AppTest.from_file(str(APP), default_timeout=120)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        app.switch_page(PAGE).run()
        assert not app.exception, app.exception
        return app

    return open_one


def texts(app: AppTest) -> str:
    return "\n".join(item.value for item in (*app.text, *app.markdown, *app.info)) + "\n".join(
        item.proto.text for item in app.get("progress")
    )


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, app.exception


def test_the_page_with_the_lab_off_shows_runs_and_starts_none(
    root: Path, open_lab: Callable[..., AppTest]
) -> None:
    write_run(root, "plain-8", study=lab.STUDY, name="a")
    write_run(root, "plain-14", study=lab.STUDY, name="b", status="interrupted", steps=8)
    app = open_lab("0")
    assert "The Live lab is off" in texts(app)
    assert not {"Start", "Start the lesson", "Stop", "Continue"} & set(buttons(app))
    assert len(charts(app)) == 2
    assert not (root / lab.STUDY / ".queue").exists()


def test_without_the_token_the_page_shows_runs_and_starts_and_stops_none(
    root: Path, open_lab: Callable[..., AppTest], nothing_starts: None
) -> None:
    write_run(root, "plain-14", study=lab.STUDY, name="b", status="interrupted", steps=8)
    lab.submit(root, [SHORT])
    app = open_lab(entered=False)
    assert "it carries a token" in texts(app)
    assert not {"Start", "Start the lesson", "Stop", "Take out", "Continue"} & set(buttons(app))
    assert len(charts(app)) == 2


def test_the_page_without_runs(open_lab: Callable[..., AppTest]) -> None:
    app = open_lab()
    assert "No run has been started here yet" in texts(app)
    assert {"Start", "Start the lesson"} <= set(buttons(app))
    assert len(charts(app)) == 1, "a chart from the first second"


def test_the_chart_lies_over_what_is_known_from_the_first_second(
    root: Path, open_lab: Callable[..., AppTest], nothing_starts: None
) -> None:
    for seed in (0, 1):
        write_run(root / "reference", "plain-20", seed=seed)
        write_run(root / "reference", "plain-56", seed=seed)
        write_run(root / "reference", "resnet-8", seed=seed)
    lab.submit(root, [lab.asked(56, "none")])
    (chart,) = charts(open_lab())
    ghosts = [trace["hovertemplate"] for trace in chart["data"]]
    assert [name for name in ghosts if "plain-20 train before, mean of 2 seeds" in name], "of the form"
    assert [name for name in ghosts if "plain-56 train before, mean of 2 seeds" in name], (
        "of what waits"
    )
    assert not [name for name in ghosts if "resnet-8" in name], "of no other"
    assert {trace["xaxis"] for trace in chart["data"]} == {"x", "x2"}, "empty axes are drawn too"
    (chart,) = charts(open_lab(lab_predict="true"))
    assert not [t for t in chart["data"] if " before, " in t["hovertemplate"]], (
        "no answer is given away"
    )


def test_a_prediction_is_a_level_in_the_chart_and_is_compared_with_the_end(
    root: Path, open_lab: Callable[..., AppTest]
) -> None:
    path = write_run(root, "plain-56", study=lab.STUDY)
    app = open_lab()
    next(item for item in app.toggle if item.key == "lab_predict").set_value(True).run()
    next(item for item in app.slider if item.key == "lab guess plain-56").set_value(30).run()
    levels = [trace["y"] for trace in charts(app)[0]["data"] if "predicted" in trace["hovertemplate"]]
    assert levels == [[30, 30], [50, 50]], "that of the form's network, too"
    error = store.read_run(path).summary["train_error"]  # type: ignore[index]
    said = f"30 % predicted, {error:.1f} % measured, {error - 30:+.1f} points apart"
    assert said in texts(app)


def test_more_seeds_of_what_is_on_screen(
    root: Path, open_lab: Callable[..., AppTest], nothing_starts: None
) -> None:
    runs = [lab.asked(8, "none", steps=4, seed=2), lab.asked(8, "none", steps=4, seed=0)]
    scaled = lab.asked(14, "A", 0.3, steps=4, scale=0.5)
    foreign = config.run_from_parameters(network="plain-8", lr=77.0)
    wanted = lab.more_seeds([*runs, scaled, foreign])
    assert sorted(run.seed for run in wanted if run.network.depth == 8) == [3, 4, 5]
    assert [run.seed for run in wanted if run.network.depth == 14] == [1, 2, 3]
    assert all(lab.may_be_asked(run) for run in wanted)
    assert {run.surgery for run in wanted if run.network.depth == 14} == {scaled.surgery}

    write_run(root, "plain-8", study=lab.STUDY)
    app = open_lab()
    press(app, "Three more seeds of each")
    waits = [entry.run.seed for entry in lab.look(root) if entry.phase == "waiting"]
    assert waits == [1, 2, 3]


def test_a_run_that_has_finished_is_not_said_to_start(root: Path, nothing_starts: None) -> None:
    lab.submit(root, [SHORT])
    path = write_run(root, "plain-8", study=lab.STUDY, name=SHORT.default_name)
    pid = store.read_run(path).info["pid"]
    queue = lab._Queue(root)
    marker = {"run": SHORT.model_dump(mode="json"), "pid": pid, "created": 1.0, "stop": None}
    queue.mark(SHORT.default_name, marker)
    assert [entry.phase for entry in lab.look(root)] == ["ending"]
    queue.mark(SHORT.default_name, marker | {"pid": pid + 1})
    assert [entry.phase for entry in lab.look(root)] == ["starting"], "it is from an earlier start"


def test_the_page_refuses_with_the_librarys_words(root: Path, open_lab: Callable[..., AppTest]) -> None:
    app = open_lab()
    next(box for box in app.number_input if box.key == "lab_seed").set_value(0.5)
    press(app, "Start")
    assert "Not started" in texts(app)
    assert "seed" in texts(app)
    next(box for box in app.number_input if box.key == "lab_seed").set_value(0)
    next(box for box in app.number_input if box.key == "lab_steps").set_value(10**9)
    press(app, "Start")
    assert "steps 1,000,000,000 is more than the lab's limit of 2,000" in texts(app)
    assert not (root / lab.STUDY).exists()


def test_a_link_chooses_and_a_bad_one_falls_back(open_lab: Callable[..., AppTest]) -> None:
    app = open_lab(lab_depth="56", lab_data="folder:/etc", lab_shortcut="Z", lab_steps="many")
    data = next(box for box in app.selectbox if box.key == "lab_data")
    assert data.value == "digits"
    assert not app.exception


def test_the_page_with_finished_runs_says_what_they_say(
    root: Path, open_lab: Callable[..., AppTest]
) -> None:
    for network in ("plain-8", "plain-14", "resnet-14"):
        write_run(root, network, study=lab.STUDY)
    write_run(root, "plain-8", study=lab.STUDY, name="other-rate", lr=0.05)
    app = open_lab()
    offered = next(box for box in app.multiselect if box.key == "lab_runs")
    assert len(offered.options) == 4
    assert len(offered.value) == 3
    offered.set_value(offered.options).run()
    assert not app.exception
    # Runs at another rate have a figure of their own, on the same scale.
    first, second, heatmap = charts(app)
    assert first["layout"]["yaxis"]["range"] == second["layout"]["yaxis"]["range"]
    assert sum(trace["type"] == "heatmap" for trace in heatmap["data"]) == 4
    assert "Final training error of plain-14 minus plain-8" in texts(app)
    assert "live]" not in texts(app)


def test_hostile_names_in_the_labs_study_are_never_interpreted(
    root: Path, open_lab: Callable[..., AppTest]
) -> None:
    hostile = "<img src=x> ![a](http:evil.example) :red[z]"
    path = write_run(root, "plain-8", study=lab.STUDY, status="failed", steps=8, error=hostile * 30)
    path.rename(path.with_name(hostile))
    write_run(root, "plain-14", study=lab.STUDY, data="folder:/x/" + hostile)
    app = open_lab()
    assert "evil.example" in "".join(item.value for item in app.text)
    interpreted = [*app.markdown, *app.info, *app.title, *app.header, *app.caption]
    assert not any("evil.example" in item.value for item in interpreted)
    assert not any("evil.example" in item.proto.text for item in app.get("progress"))


def test_the_page_shows_what_waits_and_takes_it_out(
    root: Path, open_lab: Callable[..., AppTest], nothing_starts: None
) -> None:
    app = open_lab()
    press(app, "Start the lesson")
    assert "plain-56 · seed 0 waits for a free core" in texts(app)
    assert "0 training of at most 0 at a time, 3 waiting" in texts(app)
    assert "resnet-56, seed 0, digits, rate 0.1, 300 steps: waiting, number 3" in texts(app)
    press(app, "Start the lesson")
    assert "is under way already" in texts(app)
    press(app, "Take out")
    assert [entry.run.network.name for entry in lab.look(root)] == ["plain-56", "resnet-56"]
    another = open_lab()  # a second browser finds the same
    assert buttons(another).count("Take out") == 2


def test_a_held_picture_stays_while_rows_arrive(
    root: Path, open_lab: Callable[..., AppTest], nothing_starts: None
) -> None:
    path = write_run(root, "plain-8", study=lab.STUDY, steps=8)
    lab.submit(root, [SHORT])  # something is under way
    app = open_lab()
    next(box for box in app.toggle if box.key == "lab_pause").set_value(True).run()
    before = charts(app)
    assert before
    with (path / store.METRICS_FILE).open("a") as file:
        file.write('{"step": 12, "train_error": 1.0}\n')
    app.run()
    assert charts(app) == before
    next(box for box in app.toggle if box.key == "lab_pause").set_value(False).run()
    assert charts(app) != before


@pytest.mark.slow
def test_the_page_from_start_to_stop_and_on(root: Path, open_lab: Callable[..., AppTest]) -> None:
    app = open_lab()
    next(box for box in app.select_slider if box.key == "lab_depth").set_value(8)
    next(box for box in app.number_input if box.key == "lab_steps").set_value(lab.MOST_STEPS)
    press(app, "Start")
    assert "plain-8 · seed 0 started" in texts(app)
    wait_until(lambda: logged(root, LONG) > 0, "it does not train")
    app = open_lab()  # the tab was closed; another one finds the run
    assert "1 training of at most" in texts(app)
    assert "rate 0.1, 2,000 steps: training" in texts(app)
    assert len(charts(app)) == 2
    assert charts(app)[0]["data"]
    press(app, "Stop")
    wait_until(lambda: not lab.tend(root), "it does not stop")
    app.run()
    assert "interrupted after" in texts(app)
    press(app, "Continue")
    assert "1 training of at most" in texts(app)
    press(app, "Stop")
    wait_until(lambda: not lab.tend(root), "it does not stop again")
