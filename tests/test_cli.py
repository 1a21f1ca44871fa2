"""The command line as a user meets it: output, exit codes, one clear message, nothing half written."""

import errno
import json
import subprocess
import sys

import pytest

from resnetlab import cli, config, files, store
from resnetlab.cli import terminal


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with two short runs, made by the command itself."""
    root = tmp_path_factory.mktemp("results")
    for network in ("plain-8", "resnet-8"):
        words = ["train", network, "--steps", "12", "--results", str(root), "--threads", "1"]
        command = [sys.executable, "-m", "resnetlab", *words, "--run", f"{network}-x"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "finished at step 12" in done.stdout
    return root


def test_help_and_reading_load_no_torch():
    code = (
        "import sys; sys.argv = ['resnetlab', '--help']\n"
        "from resnetlab import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "import resnetlab.store, resnetlab.studies\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "plain-21"], "nearest valid depths are 20 and 26"),
        (["train", "resnet56"], "did you mean 'resnet-56'?"),
        (["train", "plain-8", "--data", "cifr10"], "did you mean 'cifar10'?"),
        (["train", "plain-8", "--recipe", "paper-40"], "did you mean 'paper-400'?"),
        (["train", "plain-8", "--steps", "0"], "steps"),
        (["train", "plain-8", "--lr", "-1"], "lr"),
        (["train", "plain-8", "--lr", "nan"], "lr"),
        (["train", "plain-8", "--seed", "-1"], "seed"),
        (["train", "plain-8", "--run", "../up"], "run name '../up'"),
        (["train", "plain-8", "--run", "x" * 81], "1 to 80"),
        (["train", "plain-8", "--run", "a\x1b[31m"], "run name"),
        (["train", "plain-8", "--study", "a/b"], "study name"),
        (["train", "plain-8", "--precision", "tf32", "--device", "cpu"], "needs a CUDA GPU"),
        (["train", "plain-8", "--device", "gpu"], "unknown device"),
        (["study", "digit"], "did you mean 'digits'?"),
        (["study", "digits", "--depths", "8,x"], "--depths"),
        (["study", "digits", "--depths", ""], "depths must name each value once"),
        (["study", "digits", "--depths", "8,8"], "depths must name each value once"),
        (["study", "digits", "--shortcuts", "none,D"], "shortcut"),
        (["study", "digits", "--depths", "20,21"], "nearest valid depths"),
        (["study", "digits", "--jobs", "0"], "jobs"),
        (["study", "digits", "--name", ".."], "study name"),
        (["study", "digits", "--name", "reference"], "kept for the committed runs"),
        (["show", "nothing"], "no run 'nothing'"),
        (["compare", "nothing"], "no study 'nothing'"),
        (["data", "download", "digits"], "not downloaded"),
        (["data", "show", "folder:"], "needs a path"),
    ],
)
def test_usage_errors_exit_with_2_and_write_nothing(words, message, resnetlab, tmp_path):
    root = tmp_path / "results"
    root.mkdir()
    place = [] if words[0] == "data" else ["--results", root]
    code, out, error = resnetlab(*words, *place)
    assert code == 2
    assert message in error
    assert "Traceback" not in out + error
    assert not any(root.iterdir())


def test_unknown_options_and_commands_exit_with_2(resnetlab):
    assert resnetlab("train", "plain-8", "--dpeth", "3")[0] == 2
    assert resnetlab("tran", "plain-8")[0] == 2


def test_a_missing_gpu_is_one_message(resnetlab, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, error = resnetlab("train", "plain-8", "--device", "cuda", "--results", tmp_path)
    assert code == 2
    assert "no CUDA GPU" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["train", "plain-8"], ["study", "digits"]])
def test_results_folder_that_is_a_file_or_cannot_be_made(command, resnetlab, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    code, _, error = resnetlab(*command, "--results", file)
    assert code == 2
    assert "is a file" in error
    code, _, error = resnetlab(*command, "--results", file / "below")
    assert code == 2
    assert "cannot be written" in error
    assert file.read_text() == "mine"


def test_a_missing_results_folder_is_said(resnetlab, tmp_path):
    code, _, error = resnetlab("list", "--results", tmp_path / "none")
    assert code == 2
    assert "make study" in error


def test_a_data_set_that_is_not_there_is_a_wrong_request(resnetlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = resnetlab("train", "plain-8", "--data", "cifar10", "--results", tmp_path / "r")
    assert code == 2
    assert "resnetlab data download cifar10" in error
    assert "digits" in error
    code, _, error = resnetlab("train", "plain-8", "--data", "folder:nowhere", "--results", tmp_path)
    assert code == 2
    assert "train/CLASS" in error


def test_list_json_has_what_others_build_on(resnetlab, trained):
    code, out, _ = resnetlab("list", "--results", trained, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["run"] for row in rows] == ["plain-8-x", "resnet-8-x"]
    wanted = "study run network depth shortcut data seed status steps train_error test_error".split()
    for row in rows:
        assert set(wanted) <= set(row)
        assert row["status"] == "finished"
        assert row["steps"] == 12
        record = store.read_run(trained / "runs" / row["run"])
        assert row["test_error"] == record.metrics["test_error"].iloc[-1]
        assert row["train_error"] == record.metrics["train_error"].iloc[-1]
        assert row["validation_error"] is None


def test_tables_show_the_runs_and_what_was_skipped(resnetlab, trained, tmp_path):
    _, out, _ = resnetlab("list", "--results", trained)
    assert "runs/plain-8-x" in out
    assert "paper-400 (steps 12)" in out
    (tmp_path / "study" / "half-made").mkdir(parents=True)
    code, _, error = resnetlab("list", "--results", tmp_path)
    assert code == 0
    assert "half-made" in error
    assert "no run.json" in error


def test_two_studies_are_compared_as_one_table(resnetlab, tmp_path):
    """A study and the same with clipped gradients, paired by seed."""
    from resnetlab import config, training

    for study, clip in (("bare", None), ("clipped", 0.5)):
        for network in ("plain-8", "plain-14"):
            run = config.run_from_parameters(network=network, steps=2, batch_size=32, clip=clip)
            training.fit(run, study=study, name=run.name_in_study, results_folder=tmp_path, threads=1)
    code, out, _ = resnetlab("compare", "bare", "clipped", "--results", tmp_path, "--json")
    assert code == 0
    said = json.loads(out)["verdict"]
    assert len(json.loads(out)["networks"]) == 4
    head = "plain-8: final training error "
    assert any(sentence.startswith(head) and "clip 0.5" in sentence for sentence in said)
    assert any("plain-14 minus plain-8" in sentence and "by paper-400" in sentence for sentence in said)
    shown = " ".join(resnetlab("compare", "bare", "clipped", "--results", tmp_path)[1].split())
    assert " ".join(said[0].split()) in shown
    assert "plain-8 (digits, paper-400 (steps 2, batch_size 32, clip 0.5), fp32)" in shown
    one = resnetlab("compare", "bare", "--results", tmp_path)[1]
    assert "clip" not in one


def test_show_and_compare(resnetlab, trained):
    code, out, _ = resnetlab("show", "runs/plain-8-x", "--results", trained)
    assert code == 0
    assert "75002" in out  # 97,216 n - 21,926 parameters, less the two input channels of conv (288)
    assert "1,442 to train, 355 to test" in out
    _, out, _ = resnetlab("show", "plain-8-x", "--results", trained, "--json")
    assert json.loads(out)["row"]["network"] == "plain-8"
    _, out, _ = resnetlab("compare", "plain-8-x", "resnet-8-x", "--results", trained)
    assert "network.shortcut: 'none' != 'A'" in out
    _, out, _ = resnetlab("compare", "runs", "--results", trained, "--json")
    report = json.loads(out)
    assert {row["network"] for row in report["networks"]} == {"plain-8", "resnet-8"}
    assert report["verdict"]


def test_a_full_disk_is_one_message_and_what_to_do(resnetlab, tmp_path, monkeypatch):
    def full(self, file, *rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.RunWriter, "append", full)
    code, _, error = resnetlab("train", "plain-8", "--steps", "2", "--results", tmp_path)
    assert code == 1
    assert error == "error: the disk is full; free some space, then the same command goes on\n"
    assert store.read_study(tmp_path / "runs").runs[0].status == "failed"


def test_own_runs_come_before_reference_runs_of_the_same_name(tmp_path):
    run = config.run_from_parameters(network="plain-8")
    for root in (tmp_path, tmp_path / "reference"):
        with store.RunWriter(root, "digits", "twin", run) as writer:
            writer.begin(execution={}, versions={}, dataset={}, layers={}, parameters=1)
    assert store.find_run("twin", tmp_path).path == tmp_path / "digits" / "twin"
    assert store.find_run("digits/twin", tmp_path).path == tmp_path / "digits" / "twin"
    theirs = tmp_path / "reference" / "digits" / "twin"
    assert store.find_run("reference/digits/twin", tmp_path).path == theirs


def test_a_second_call_returns_the_ended_run(resnetlab, trained):
    words = ["train", "plain-8", "--steps", "12", "--results", trained, "--run", "plain-8-x"]
    code, out, _ = resnetlab(*words, "--json")
    assert code == 0
    assert json.loads(out)["status"] == "finished"
    code, _, error = resnetlab(*words[:3], "13", *words[4:])
    assert code == 2
    assert "recipe.steps: 12 != 13" in error


@pytest.mark.slow
def test_networks_are_the_papers_with_its_values_beside(resnetlab):
    code, out, _ = resnetlab("networks", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    for row in rows.values():
        assert config.Network.from_name(row["name"]).name == row["name"]
        assert row["layers"] == row["depth"]
    # Table 1 (FLOPs) and Table 6 (parameters); counts as in tests/test_models.py.
    flops = {"plain-18": 1.8, "resnet-34": 3.6, "resnet-50": 3.8, "resnet-101": 7.6, "resnet-152": 11.3}
    for name, billions in flops.items():
        row = rows[name]
        assert (row["paper_macs"], row["paper_macs_source"]) == (billions * 1e9, "Table 1")
        assert abs(row["macs"] / 1e9 - billions) < 0.1
    sizes = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}
    for depth, millions in sizes.items():
        row = rows[f"resnet-{depth}"]
        assert (row["paper_parameters"], row["paper_parameters_source"]) == (millions * 1e6, "Table 6")
        assert abs(row["parameters"] / 1e6 - millions) < (0.005 if millions < 1 else 0.05)
    families = {
        (row["design"], row["shortcut"], row["block"], row["stride_in"]) for row in rows.values()
    }
    for shortcut in ("none", "A", "B", "C"):
        assert ("imagenet", shortcut, "basic", "1x1") in families
        assert ("imagenet", shortcut, "bottleneck", "1x1") in families
        assert ("cifar", shortcut, "basic", "1x1") in families
    assert ("imagenet", "B", "bottleneck", "3x3") in families
    assert ("cifar", "A", "single", "1x1") in families
    assert rows["resnet-34-C"]["parameters"] == 22_716_840
    assert rows["resnet-34-C"]["paper_macs"] is None


def test_networks_on_request_and_their_table(resnetlab):
    code, out, _ = resnetlab("networks", "resnet-50", "plain-26", "--json")
    first, second = json.loads(out)
    assert code == 0
    wanted = {"name": "resnet-50", "depth": 50, "shortcut": "B", "parameters": 25_557_032}
    assert first.items() >= wanted.items()
    assert (first["projections"], first["image_size"], f"{first['macs'] / 1e9:.3f}") == (
        4,
        224,
        "3.858",
    )
    assert (second["name"], second["parameters"]) == ("plain-26", 97_216 * 4 - 21_926)
    _, out, _ = resnetlab("networks", "resnet-34-C", "resnet-152-C", "resnet-101-3x3", "resnet-56")
    assert "22,716,840    3.831 G –" in out
    assert "853,018   125.49 M 0.85 M (Table 6)" in out
    assert "3x3 stride" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain-21", "20 and 26"),
        ("resnet50", "did you mean 'resnet-50'"),
        ("resnet-34-3x3", "bottleneck blocks"),
    ],
)
def test_networks_that_do_not_exist_exit_with_2(name, said, resnetlab):
    code, out, error = resnetlab("networks", "resnet-20", name)
    assert code == 2
    assert said in error
    assert not out


def test_data_show(resnetlab):
    code, out, _ = resnetlab("data", "show", "digits", "--json")
    info = json.loads(out)
    assert code == 0
    assert info["shape"] == [1, 8, 8]
    assert info["train"] + info["test"] == 1797  # scikit-learn's documented count


def test_bench_runs_the_scripts_by_name_and_refuses_others(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "one.py").write_text("def main(): print('measured')\nmain()\n")
    (folder / "two.py").write_text("def main(): raise SystemExit(3)\nmain()\n")
    (folder / "shared.py").write_text("# imported by the others\n")
    monkeypatch.setattr(files, "project", lambda: tmp_path)
    for words, code in ((["one"], 0), ([], 1), (["tow"], 2)):
        monkeypatch.setattr(sys, "argv", ["resnetlab", "bench", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (code, None if code == 0 else code)
    out, err = capfd.readouterr()
    assert out.count("measured") == 2
    assert "failed: two" in err
    assert "did you mean 'two'" in err
    assert "shared" not in out


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_hides_no_name_and_no_number(columns, resnetlab, monkeypatch):
    reference = ("--results", files.project() / "results")
    for words in (["compare", "digits", *reference], ["list", "digits", *reference], ["weights"]):
        _, whole, _ = resnetlab(*words)
        assert "…" not in whole  # in a pipe a table is as wide as it needs
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(terminal, "watched", lambda: True)
            _, narrow, _ = resnetlab(*words)
        assert "…" not in narrow
        assert all(len(line) <= columns for line in narrow.splitlines())
        seen = "".join(narrow.split())
        names_and_numbers = [word for word in whole.split() if any(map(str.isdigit, word))]
        assert len(names_and_numbers) > 10
        assert [word for word in names_and_numbers if word not in seen] == []
