"""Test protocols: their views and scores against torchvision and by hand, and all that is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torchvision.transforms import functional

from resnetlab import config, nets, store, training
from resnetlab.config import UsageError
from resnetlab.images import datasets, feeds
from resnetlab.images import pixels as pixel_operations
from resnetlab.training import evaluate

CPU = torch.device("cpu")


def pixels(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=random, dtype=torch.uint8)


def network_of(name, **kwargs):
    """Random weights, and batch-norm statistics that are not the initial ones."""
    random = torch.Generator().manual_seed(1)
    network = nets.build(name, generator=random, **kwargs)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
    return network.eval()


# --- views and scores -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (11, 8), (8, 13), (13, 10), (14, 21)])
def test_the_centre_is_torchvisions(size):
    images = pixels(2, 3, *size)
    assert torch.equal(pixel_operations.centre_crop(images, 8), functional.center_crop(images, 8))


def protocol_scores(network, normalise, images_at, protocol, sides, crop=None, **how):
    subject = training.Trained(network, normalise, None)
    return evaluate.protocol_scores(subject, images_at, protocol, crop, sides, **how)


def test_ten_crop_is_the_mean_softmax_over_torchvisions_crops():
    network = network_of("plain-8")
    images = pixels(3, 3, 37, 45)
    normalise = feeds.Normalise(torch.full((3, 1, 1), 127.0), torch.full((3, 1, 1), 60.0))
    with torch.no_grad():
        logits = [network(normalise(view)) for view in functional.ten_crop(images, 32)]
    expected = torch.stack([view.softmax(dim=1) for view in logits]).mean(dim=0)
    batches = [(images[:2], torch.tensor([0, 1])), (images[2:], torch.tensor([2]))]
    scores, labels = protocol_scores(
        network, normalise, lambda side: batches, "ten-crop", crop=32, sides=[37]
    )
    torch.testing.assert_close(scores.float(), expected, rtol=1e-4, atol=1e-6)
    assert labels.tolist() == [0, 1, 2]
    summed, _ = protocol_scores(
        network, normalise, lambda side: batches, "ten-crop", crop=32, sides=[37], average="logits"
    )
    torch.testing.assert_close(summed.float(), torch.stack(logits).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_summed_logits_name_another_class_than_averaged_scores():
    """One view shouts class 0, nine say class 1: the mean softmax is 1's, the summed logits are 0's."""
    views = torch.zeros(1, 10, 3, 1, 1)
    views[0, 0, 0], views[0, 1:, 1] = 100.0, 2.0
    flat = torch.nn.Flatten()  # its logits are the pixels
    assert evaluate.view_scores(flat, views).argmax() == 1
    assert evaluate.view_scores(flat, views, "logits").argmax() == 0
    e = np.exp(2.0)
    expected = torch.tensor([[(1 + 9 / (e + 2)) / 10, 9 * e / (e + 2) / 10, 9 / (e + 2) / 10]])
    torch.testing.assert_close(evaluate.view_scores(flat, views).float(), expected.float())


def test_scores_far_below_the_best_keep_their_order():
    """In float32 the softmax of all but the first is 0, and five of these zeros would be chance."""
    views = torch.tensor([400.0, 0.0, 40.0, 10.0, 30.0, 20.0, 50.0]).view(1, 1, 7, 1, 1)
    assert (views.flatten().softmax(dim=0)[1:] == 0).all()
    scores = evaluate.view_scores(torch.nn.Flatten(), views)
    assert scores.topk(6).indices.tolist() == [[0, 6, 2, 4, 5, 3]]


@pytest.mark.parametrize("side", [64, pytest.param(224, marks=pytest.mark.slow)])
def test_multi_scale_on_one_scale_is_the_plain_forward(side):
    network = network_of("resnet-18", num_classes=7)
    images = pixels(2, 3, side, side + 37)
    normalise = feeds.Normalise(torch.full((3, 1, 1), 127.0), torch.full((3, 1, 1), 60.0))
    asked = []

    def images_at(scale):
        asked.append(scale)
        return [(images, torch.tensor([0, 1]))]

    scores, _ = protocol_scores(network, normalise, images_at, "multi-scale", sides=[side])
    with torch.no_grad():
        expected = network(normalise(images)).softmax(dim=1)
    torch.testing.assert_close(scores.float(), expected, rtol=1e-4, atol=1e-6)
    assert asked == [side]


def test_multi_scale_averages_the_softmax_over_scales():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3))

    at = {8: torch.tensor([1.0, 2.0, 4.0]), 16: torch.tensor([6.0, 0.0, 1.0])}
    scores, _ = protocol_scores(
        Mean(),
        lambda images: images.float(),
        lambda s: [(at[s].view(1, 3, 1, 1).expand(1, 3, s, s + 1).byte(), torch.tensor([0]))],
        "multi-scale",
        sides=[8, 16],
    )
    expected = (at[8].softmax(dim=0) + at[16].softmax(dim=0)) / 2
    torch.testing.assert_close(scores[0].float(), expected)


@pytest.mark.parametrize(("most_pixels", "most_waiting"), [(10**9, 10**9), (60, 3), (1, 1)])
def test_batches_of_one_shape_keep_the_order_of_the_images(most_pixels, most_waiting, monkeypatch):
    monkeypatch.setattr(evaluate, "CPU_BATCH_PIXELS", most_pixels)
    monkeypatch.setattr(evaluate, "MOST_WAITING", most_waiting)

    class Seen(torch.nn.Module):
        def forward(self, x):
            shapes.append(tuple(x.shape))
            return x.mean(dim=(2, 3))

    shapes = []
    sizes = [(4, 5), (5, 4), (4, 4), (4, 5), (4, 5), (5, 4), (4, 9), (4, 4), (4, 5), (4, 5), (4, 9)]
    images = [
        (torch.full((1, 3, *size), index, dtype=torch.uint8), torch.tensor([index]))
        for index, size in enumerate(sizes)
    ]
    scores, labels = protocol_scores(
        Seen(),
        lambda batch: batch.float(),
        lambda side: images,
        "multi-scale",
        sides=[4],
        average="logits",
    )
    assert labels.tolist() == scores[:, 0].tolist() == list(range(len(sizes)))
    assert len(shapes) == (4 if most_pixels == 10**9 else len(shapes))
    assert sum(shape[0] for shape in shapes) == len(sizes)


def test_the_network_is_left_in_its_mode():
    network = network_of("plain-8").train()
    batches = [(pixels(2, 3, 32, 32), torch.tensor([0, 1]))]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    protocol_scores(network, lambda x: x.float(), lambda s: batches, "single", [32], crop=32)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_top_1_and_top_5_by_hand():
    scores = torch.tensor(
        [
            [9, 8, 7, 6, 5, 4.0],  # label 0: right
            [9, 8, 7, 6, 5, 4.0],  # label 4: fifth
            [9, 8, 7, 6, 5, 4.0],  # label 5: sixth, wrong in both
            [0, 1, 2, 3, 4, 5.0],  # label 0: sixth
        ]
    )
    found = evaluate.score(scores, torch.tensor([0, 4, 5, 0]))
    assert found == evaluate.Score(4, 75.0, 50.0)
    assert evaluate.score(scores[:, :5], torch.tensor([0, 4, 4, 0])).top5_error is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_no_error_rate(bad):
    scores = torch.zeros(2, 6)
    scores[1, 3] = bad
    with pytest.raises(RuntimeError, match="not finite"):
        evaluate.score(scores, torch.tensor([0, 1]))


def test_no_images_are_no_error_rate():
    network = network_of("plain-8")
    with pytest.raises(ValueError, match="no images"):
        evaluate.single_view(network, [])
    with pytest.raises(ValueError, match="no images"):
        protocol_scores(network, lambda x: x, lambda s: [], "single", [32], crop=32)


# --- torchvision's weights --------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """torchvision's resnet18 with two classes, and the file of its weights."""
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(num_classes=2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    return theirs.eval(), path


def test_weights_from_a_file_give_torchvisions_logits(weights):
    theirs, path = weights
    subject = training.from_torchvision(path, "resnet-18-B", CPU)
    images = pixels(2, 3, 64, 96)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of torchvision's own transforms
    with torch.no_grad():
        expected = theirs(functional.normalize(images.float() / 255, mean, deviation))
        got = subject.network.eval()(subject.normalise(images))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert subject.step is None


def test_what_training_scripts_put_around_weights_is_taken_off(weights, tmp_path):
    theirs, _ = weights
    bare = theirs.state_dict()
    parallel = {f"module.{name}": value for name, value in bare.items()}
    files = {
        "parallel.pth": parallel,
        "examples.tar": {"epoch": 9, "arch": "resnet18", "state_dict": parallel, "best_acc1": 1.0},
        "compiled.pt": {"model": {f"_orig_mod.module.{name}": value for name, value in bare.items()}},
        "lightning.ckpt": {"state_dict": {f"model.{name}": value for name, value in bare.items()}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    safetensors.torch.save_file(bare, tmp_path / "hub.safetensors")
    for name in (*files, "hub.safetensors"):
        network = training.from_torchvision(tmp_path / name, "resnet-18-B", CPU).network
        loaded = nets.to_torchvision(network)
        assert all(torch.equal(loaded[key], value) for key, value in bare.items()), name


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no weights file"),
        ("folder", "there is no weights file"),
        ("truncated", "truncated or holds something else"),
        ("empty", "truncated or holds something else"),
        ("hostile", "truncated or holds something else"),
        ("hostile in a zip", "truncated or holds something else"),
        ("a list", "a state dict is needed"),
        ("another's names in an envelope", "these are not the weights of resnet-18-B"),
        ("a checkpoint of ours", "weights of resnetlab's own: `resnetlab evaluate STUDY/RUN`"),
        ("odd bias", "these are not the weights of resnet-18-B"),
    ],
)
def test_bad_weights_files_are_refused_and_never_executed(kind, message, weights, tmp_path):
    theirs, good = weights
    path, touched = tmp_path / "w.pth", tmp_path / "executed"
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:100_000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "hostile":
        path.write_bytes(pickle.dumps(Hostile(str(touched))))
    elif kind == "hostile in a zip":
        torch.save({"fc.bias": torch.zeros(2), "more": Hostile(str(touched))}, path)
    elif kind == "a list":
        torch.save([1, 2], path)
    elif kind == "another's names in an envelope":
        torch.save({"state_dict": {f"x.{k}": v for k, v in theirs.state_dict().items()}}, path)
    elif kind == "a checkpoint of ours":
        torch.save({"network": nets.build("resnet-18-B", num_classes=2).state_dict(), "step": 1}, path)
    elif kind == "odd bias":
        torch.save(theirs.state_dict() | {"fc.bias": torch.tensor(1.0)}, path)
    with pytest.raises(UsageError, match=message):
        training.from_torchvision(path, "resnet-18-B", CPU)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain-18", "torchvision has no plain networks"),
        ("plain-50", "torchvision has no plain networks"),
        ("resnet-18", "build 'resnet-18-B' instead"),
        ("resnet-34-B", "these are not the weights of resnet-34-B"),
        ("resnet-50", "these are not the weights of resnet-50"),
        ("resnet-20", "a network for small images"),
        ("resnet18", "unknown network"),
    ],
)
def test_weights_of_another_network_are_refused(name, message, weights):
    with pytest.raises(UsageError, match=message):
        training.from_torchvision(weights[1], name, CPU)


@pytest.mark.slow
def test_bottlenecks_of_torchvision_need_its_stride(tmp_path):
    theirs = nets.to_torchvision(nets.build("resnet-50", num_classes=2))
    path = tmp_path / "resnet50.pth"
    torch.save(theirs, path)
    with pytest.raises(UsageError, match="use resnet-50-3x3"):
        training.from_torchvision(path, "resnet-50", CPU)
    assert training.from_torchvision(path, "resnet-50-3x3", CPU).network.spec.stride_in == "3x3"


# --- runs, and the command --------------------------------------------------------------------


def folder_of_photos(path, classes=("cat", "dog"), each=3):
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for index in range(each):
                size = (40 + 7 * index, 52 - 5 * index)
                image = Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
                image.save(path / split / name / f"{index}.png")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder: plain-8 on the digits, plain-8 and resnet-18 on a folder of larger images."""
    root = tmp_path_factory.mktemp("results")
    photos = folder_of_photos(tmp_path_factory.mktemp("photos"))
    often = {"log_every": 2, "test_every": 2, "probe_every": 2, "checkpoint_every": 2}
    large = {"data": f"folder:{photos}", "recipe": "imagenet-small", "batch_size": 4, "steps": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "data_root", lambda: root / "data")
        for name, values in {
            "small": {"network": "plain-8", "steps": 4},
            "square": {"network": "plain-8"} | large,
            "large": {"network": "resnet-18"} | large,
        }.items():
            run = config.run_from_parameters(**(values | often))
            record = training.fit(run, study="s", name=name, results_folder=root, threads=1)
            assert record.status == "finished"
    return root, photos


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    """A copy of the results folder that a test may change."""
    monkeypatch.setattr(datasets, "data_root", lambda: tmp_path / "data")
    shutil.copytree(trained[0] / "s", tmp_path / "s")
    return tmp_path


@pytest.mark.parametrize("name", ["small", "square", "large"])
def test_the_single_view_is_trainings_own_test(name, copied, resnetlab):
    code, out, _ = resnetlab("evaluate", name, "--results", copied, "--json")
    assert code == 0
    (row,) = json.loads(out)["evaluations"]
    record = store.read_run(copied / "s" / name)
    one_image = 100 / row["images"]
    assert row["images"] == record.info["dataset"]["test"]
    assert row["top1_error"] == pytest.approx(record.summary["test_error"], abs=1e-4 + one_image * 0.01)
    assert row["step"] == record.steps_done
    assert row["dataset_sha256"] == record.info["dataset"]["sha256"]


def test_results_are_stored_with_the_run_and_shown(copied, resnetlab):
    words = ["evaluate", "large", "--protocol", "all", "--results", copied]
    code, out, _ = resnetlab(*words)
    assert code == 0
    assert "Stored in" in out
    for shown in ("single, 32 of 37", "ten-crop, 32 of 37", "multi-scale, 32 37 55 69 91", "27.88"):
        assert shown in out
    assert "Not comparable: the paper trained on CIFAR-10 and ImageNet" in out
    assert "crop 32 of shorter side 37; the paper: crop 224 of shorter side 256" in out
    resnetlab(*words)  # again: the same three, not six
    rows = store.read_run(copied / "s" / "large").evaluations
    assert rows["protocol"].tolist() == ["single", "ten-crop", "multi-scale"]
    assert rows["sides"].tolist() == [[37], [37], [32, 37, 55, 69, 91]]
    _, out, _ = resnetlab("show", "large", "--results", copied)
    assert "multi-scale, 32 37 55 69 91, step 2" in out
    _, out, _ = resnetlab("show", "large", "--results", copied, "--json")
    assert [row["protocol"] for row in json.loads(out)["evaluations"]] == rows["protocol"].tolist()


def test_all_is_what_the_images_allow(copied, resnetlab):
    for name, protocols in (("small", ["single"]), ("square", ["single", "ten-crop"])):
        _, out, _ = resnetlab("evaluate", name, "--protocol", "all", "--results", copied, "--json")
        assert [row["protocol"] for row in json.loads(out)["evaluations"]] == protocols


def test_options_move_sides_and_average(copied, resnetlab):
    words = ["--average", "logits", "--side", "48", "--scales", "32,40", "--results", copied, "--json"]
    _, out, _ = resnetlab("evaluate", "large", "--protocol", "all", *words)
    said = json.loads(out)
    assert [row["sides"] for row in said["evaluations"]] == [[48], [48], [32, 40]]
    assert {row["average"] for row in said["evaluations"]} == {"logits"}
    assert any("logits averaged" in sentence for sentence in said["not_comparable"])


def test_a_reference_run_is_tested_and_not_written_to(copied, resnetlab):
    (copied / "reference").mkdir()
    (copied / "s").rename(copied / "reference" / "s")
    before = sorted((copied / "reference").rglob("*"))
    code, out, _ = resnetlab("evaluate", "reference/s/small", "--results", copied)
    assert code == 0
    assert "Not stored: committed reference runs stay as they are" in out
    assert sorted((copied / "reference").rglob("*")) == before


def test_weights_given_as_a_file_are_reported_and_not_stored(trained, weights, resnetlab, monkeypatch):
    root, photos = trained
    monkeypatch.setattr(datasets, "data_root", lambda: root / "data")
    words = ["evaluate", "--weights", weights[1], "--network", "resnet-18-B", "--data"]
    code, out, _ = resnetlab(*words, f"folder:{photos}", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["run"], said["step"], said["stored"]) == (None, None, False)
    assert said["evaluations"][0]["crop"] == 224
    assert said["evaluations"][0]["sides"] == [256]
    code, out, _ = resnetlab(*words, f"folder:{photos}")
    assert "Not stored" in out
    code, _, error = resnetlab(*words, "digits-large")
    assert code == 2
    assert "tells 2 classes apart, digits-large has 10" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["small", "--protocol", "tencrop"], "did you mean 'ten-crop'?"),
        (["small", "--average", "softmx"], "did you mean 'softmax'?"),
        (["small", "--protocol", "ten-crop"], "ten-crop needs images larger than the network's"),
        (["small", "--protocol", "multi-scale"], "multi-scale needs images larger"),
        (["small", "--side", "32"], "a side or scales needs images larger"),
        (["small", "--data", "digits-large"], "was trained on small images as they are"),
        (["small", "--data", "digts"], "did you mean 'digits'?"),
        (["small", "--network", "plain-8"], "--network belongs to --weights"),
        (["smal"], "did you mean"),
        ([], "name a run, or give --weights FILE"),
        (["small", "--weights", "w.pth"], "name a run, or give --weights FILE"),
        (["--weights", "w.pth"], "--weights needs --network"),
        (["--weights", "w.pth", "--network", "resnet-18-B", "--data", "digits"], "no weights file"),
        (["large", "--scales", "32"], "--scales belongs to multi-scale"),
        (["large", "--protocol", "multi-scale", "--side", "40"], "--side belongs to single"),
        (["large", "--protocol", "multi-scale", "--scales", "16,32"], "too small for resnet-18"),
        (["large", "--protocol", "multi-scale", "--scales", "-3"], "too small for resnet-18"),
        (["large", "--protocol", "multi-scale", "--scales", "32,x"], "--scales: a list"),
        (["large", "--protocol", "multi-scale", "--scales", ""], "--scales: a list"),
        (["large", "--protocol", "multi-scale", "--scales", "32,5000"], "more than 4096 pixels"),
        (["large", "--side", "31"], "have no crop of 32"),
        (["large", "--side", "0"], "have no crop of 32"),
        (["large", "--data", "digits"], "has small images"),
        (["large", "--data", "digits-large"], "tells 2 classes apart, digits-large has 10"),
        (["square", "--protocol", "multi-scale"], "plain-8 takes square ones"),
        (["large", "--device", "gpu"], "unknown device"),
    ],
)
def test_what_cannot_be_tested_is_one_message(words, message, copied, resnetlab):
    code, out, error = resnetlab("evaluate", *words, "--results", copied)
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error
    assert not list(copied.rglob(store.EVALUATIONS_FILE))


def test_images_of_other_channels_are_refused():
    network = nets.build("plain-8", in_channels=1)
    subject = training.Trained(network, feeds.Normalise(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), 1)
    spec = config.Data(name="digits-large")
    with pytest.raises(UsageError, match=r"takes images of 1 channel\(s\), digits-large has 3"):
        evaluate.evaluate(subject, spec, "single", crop=32)


def test_a_run_without_checkpoints_is_no_random_network(copied, resnetlab):
    shutil.rmtree(copied / "s" / "small" / "checkpoints")
    code, _, error = resnetlab("evaluate", "small", "--results", copied)
    assert code == 2
    assert "has no weights to test" in error


def test_a_damaged_checkpoint_is_said_and_the_one_before_serves(copied, resnetlab):
    newest = sorted((copied / "s" / "small" / "checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    code, out, error = resnetlab("evaluate", "small", "--results", copied)
    assert code == 0
    assert newest.name in error
    assert "step 2, tested on digits" in out
    for path in (copied / "s" / "small" / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    code, _, error = resnetlab("evaluate", "small", "--results", copied)
    assert code == 2
    assert "no whole checkpoint" in error


def test_weights_that_are_not_finite_exit_with_1(trained, weights, resnetlab, tmp_path, monkeypatch):
    root, photos = trained
    monkeypatch.setattr(datasets, "data_root", lambda: root / "data")
    broken = {name: value.clone() for name, value in weights[0].state_dict().items()}
    broken["fc.bias"][0] = float("nan")
    torch.save(broken, tmp_path / "w.pth")
    words = ["--weights", tmp_path / "w.pth", "--network", "resnet-18-B", "--data", f"folder:{photos}"]
    code, _, error = resnetlab("evaluate", *words)
    assert code == 1
    assert "not finite" in error


def test_a_full_disk_does_not_lose_what_was_measured(copied, resnetlab, monkeypatch):
    def full(record, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "add_evaluation", full)
    code, out, error = resnetlab("evaluate", "small", "--results", copied)
    assert code == 1
    assert "single" in out
    assert "could not be stored" in error


# --- resnetlab recipe -------------------------------------------------------------------------


def test_recipes_are_listed_and_told(resnetlab):
    code, out, _ = resnetlab("recipe")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(config.RECIPES)
    for name in config.RECIPES:
        code, out, _ = resnetlab("recipe", name)
        assert code == 0, name
        assert max(map(len, out.splitlines())) <= 100
        assert ("scripted" in out) == (name in ("paper-110", "imagenet"))


def test_the_recipe_of_110_layers_as_a_table(resnetlab):
    _, out, _ = resnetlab("recipe", "paper-110", "--json")
    said = json.loads(out)
    rates = [(row["step"], row["until"], row["lr"]) for row in said["rates"]]
    assert rates[:2] == [(0, 400, 0.01), (400, 32_000, 0.1)]  # Sec. 4.2
    assert rates[2:] == [(32_000, 48_000, 0.01), (48_000, 64_000, 0.001)]
    assert "Sec. 4.2" in said["scripted"][0]
    _, out, _ = resnetlab("recipe", "paper-110", "--warm-until", "1000", "--json")
    assert json.loads(out)["rates"][1]["step"] == 1000
    _, out, _ = resnetlab("recipe", "imagenet", "--drops", "7,70000", "--json")
    assert [row["step"] for row in json.loads(out)["rates"]] == [0, 7, 70_000]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["imgenet"], "did you mean 'imagenet'?"),
        (["paper", "--warm-until", "400"], "no warm-up that an error ends"),
        (["paper", "--drops", "400"], "does not wait for plateaus"),
        (["paper-110", "--warm-until", "0"], "0 is not a step"),
        (["imagenet", "--drops", "9,3"], "steps that increase"),
        (["imagenet", "--drops", "1,2,3"], "at most 2 steps"),
        (["imagenet", "--drops", "x"], "--drops: a list"),
        (["imagenet", "--drops", "700000"], "not a step of 1 to 600,000"),
        (["paper", "--out", "figure.pdf"], "ends in .html or .png"),
        (["--out", "figure.png"], "name a recipe"),
    ],
)
def test_bad_recipe_requests_exit_with_2(words, message, resnetlab):
    code, _, error = resnetlab("recipe", *words)
    assert code == 2
    assert message in error


def test_a_recipe_as_a_page(resnetlab, tmp_path):
    path = tmp_path / "new" / "rate.html"
    assert resnetlab("recipe", "paper-110", "--out", path)[0] == 0
    assert "Learning rate of recipe paper-110" in path.read_text()


def test_some_test_images_come_from_all_over_the_test_set():
    from resnetlab.config import run_from_parameters
    from resnetlab.images import datasets

    run = run_from_parameters(network="plain-8")
    test = datasets.load(run.data).test.images
    few = evaluate.some_test_images(run, 3)
    assert torch.equal(few, test[[0, (len(test) - 1) // 2, len(test) - 1]])
    assert torch.equal(evaluate.some_test_images(run, 10**6), test)
    with pytest.raises(UsageError, match="at least 1"):
        evaluate.some_test_images(run, 0)
