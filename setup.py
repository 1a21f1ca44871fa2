"""What pyproject.toml cannot say: the wheel carries notebooks, dashboard and reference runs along.

They stay where they are in a checkout and come to lie in resnetlab/_carried in the wheel;
`resnetlab.files.project` knows both places. What git ignores is not carried.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = (
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "dashboard/[!p]*.py",  # not photograph.py, which takes pictures of a checkout's pages
    "dashboard/icon.svg",
    "dashboard/inside.json.gz",
    "dashboard/live_chart.js",
    "dashboard/*.toml",
    "dashboard/.streamlit/config.toml",
    "dashboard/app_pages/*.py",
    "dashboard/app_pages/*.toml",
    "dashboard/styles/*.css",
    "results/README.md",
    "results/reference/README.md",
    "results/reference/*/*.ipynb",
    "results/reference/*/*/*.json",
    "results/reference/*/*/*.jsonl",
    "results/reference/digits/plain-56-seed0/train.ipynb",
)


def carried():
    for pattern in CARRIED:
        paths = sorted(Path().glob(pattern))
        if not paths:
            raise SystemExit(f"{pattern} is missing: build from a checkout or a source distribution")
        yield from paths


class Carrying(build_py):
    """The package, and what it carries; an editable installation finds all that in the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        place = Path(self.build_lib, "resnetlab", "_carried")
        shutil.rmtree(place, ignore_errors=True)  # of an earlier build
        for path in carried():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / path)

    def get_source_files(self):
        """For the source distribution, from which a wheel may be built."""
        return [*super().get_source_files(), *map(str, carried())]


setup(cmdclass={"build_py": Carrying})
