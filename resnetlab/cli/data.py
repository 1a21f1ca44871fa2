"""Verbs on data sets: `data download`, `data check`, `data show`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from typer import Argument, Option

from resnetlab import config
from resnetlab.cli.options import DATA_HELP, JsonOption, data_app
from resnetlab.cli.terminal import print_json


@data_app.command("download")
def data_download(name: Annotated[str, Argument(help="cifar10, cifar100 or tiny-imagenet")]) -> None:
    """Fetch CIFAR-10, CIFAR-100 (170 MB) or Tiny ImageNet (248 MB) into data/, checksums verified."""
    from resnetlab.images import datasets

    if name == "tiny-imagenet":
        from resnetlab.images import tiny_imagenet

        place = tiny_imagenet.download(datasets.data_root())
    else:
        place = datasets.download(name)
    print(f"{name} is in {place}")


@data_app.command("check")
def data_check(
    path: Annotated[
        str, Argument(help="A folder with train/ and test/ or val/; KIND:PATH; tiny-imagenet")
    ],
    fast: Annotated[bool, Option("--fast", help="Read headers only, decode nothing")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at every image of a folder before a long run; exit code 1 if something would spoil it."""
    from tqdm import tqdm

    from resnetlab.images import census, datasets, photographs

    def progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        return tqdm(items, what, total, leave=False, disable=as_json or None)  # type: ignore[no-any-return]

    kind, colon, rest = path.partition(":")
    named = bool(colon) and kind in config.FOLDERS
    place = config.expanded(rest if named else path)
    if path == "tiny-imagenet" and not place.is_dir():
        place = datasets.data_root() / path
    report = census.inspect(
        place,
        classes=photographs.IMAGENET_CLASSES if named and kind == "imagenet" else None,
        tiny=kind == "tiny-imagenet" if named or path == "tiny-imagenet" else None,
        headers_only=fast,
        progress=progress,
    )
    if as_json:
        print_json(asdict(report))
    else:
        for split in report.splits.values():
            kinds = ", ".join(f"{count:,} {name}" for name, count in split.kinds.items())
            print(f"{split.folder}/  {split.images:,} images in {len(split.classes):,} classes")
            spans = {"per class": split.per_class, "width": split.width, "height": split.height}
            for what, span in spans.items():
                print(
                    f"  {what:<9} {span['least']:,} to {span['greatest']:,}, median {span['median']:,g}"
                )
            print(f"  {'kinds':<9} {kinds or 'none'}; {split.bytes / 1e6:,.1f} MB")
        for word, sentences in (("note", report.notes), ("problem", report.problems)):
            for sentence in sentences:
                print(f"{word}: {sentence}")
        print(f"{len(report.problems)} problem(s)" if report.problems else "no problem found")
    if report.problems:
        raise typer.Exit(1)


@data_app.command("show")
def data_show(name: Annotated[str, Argument(help=DATA_HELP)], as_json: JsonOption = False) -> None:
    """Classes, image shape, sizes and hash of a data set, read whole."""
    from resnetlab.images import datasets, folders, photographs

    spec = config.images_named(name)
    images = photographs.load(spec) if spec.large else datasets.load(spec)
    info = {"data": spec.label} | images.describe()
    if as_json:
        print_json(info)
        return
    for key, value in info.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{key:<11} {shown}")
    if images.left_out:
        print(f"{'not read':<11} {folders.named(images.left_out)}")
