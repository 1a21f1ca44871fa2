"""What people expect around a package: its address, its pages, the files of other services."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
CONCERNED = ("README.md", "pyproject.toml", "CITATION.cff")
PLACE = "https://github.com/someone/resnetlab"


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


address = loaded(PROJECT / ".ci" / "address.py")


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in (*CONCERNED, "notebooks/01_degradation.ipynb"):
        shutil.copy(PROJECT / name, tmp_path / name)
    text = (tmp_path / "pyproject.toml").read_text()
    text = re.sub(r"\[project\.urls\]\n(.+\n)*\n?", "", text)
    (tmp_path / "pyproject.toml").write_text(text)
    address.write(tmp_path)
    return tmp_path


def contents(project):
    files = (path for path in project.rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_text() for path in files}


def test_without_an_address_no_badge_is_shown_and_no_link_is_invented(project):
    assert not (project / "notebooks" / "colab").exists()
    for name, text in contents(project).items():
        assert "github.com" not in text, name
        assert "colab-badge" not in text, name


def test_from_one_address_all_others_are_made_and_without_it_they_go(project):
    before = contents(project)
    text = before["pyproject.toml"]
    with_address = text.replace(
        "[project.scripts]", f'[project.urls]\nRepository = "{PLACE}"\n\n[project.scripts]'
    )
    (project / "pyproject.toml").write_text(with_address)
    assert address.write(project) == PLACE
    once = contents(project)
    urls = tomllib.loads(once["pyproject.toml"])["project"]["urls"]
    assert set(urls) == {"Repository", "Issues", "Changelog", "Documentation"}
    assert all(url.startswith(PLACE) for url in urls.values())
    assert yaml.safe_load(once["CITATION.cff"])["repository-code"] == PLACE
    for target in re.findall(r"\]\(([^)#]+)|(?:srcset|src)=\"([^\"]+)\"", once["README.md"]):
        target = "".join(target)
        assert target.startswith("https://")
        if "/main/" in target:  # ours: the file that it names is there
            assert (PROJECT / target.partition("/main/")[2]).exists(), target
    copy = json.loads(once["notebooks/colab/01_degradation.ipynb"])
    badge, install = copy["cells"][0]["source"], copy["cells"][1]["source"]
    assert "/github/someone/resnetlab/blob/main/notebooks/colab/01_degradation.ipynb" in badge
    assert f"git+{PLACE}" in install
    assert copy["cells"][2:] == json.loads(before["notebooks/01_degradation.ipynb"])["cells"]

    address.write(project)
    assert contents(project) == once, "the same again"
    (project / "pyproject.toml").write_text(
        re.sub(rf'Repository = "{PLACE}"\n', "", once["pyproject.toml"])
    )
    address.write(project)
    after = contents(project)
    after["pyproject.toml"] = after["pyproject.toml"].replace("[project.urls]\n\n", "")
    assert after == before


def test_an_address_of_another_kind_is_refused(project):
    path = project / "pyproject.toml"
    path.write_text(path.read_text() + '\n[project.urls]\nRepository = "ftp://somewhere"\n')
    with pytest.raises(SystemExit, match="OWNER/NAME is needed"):
        address.write(project)


def test_what_follows_from_the_address_is_committed(tmp_path):
    for name in CONCERNED:
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    address.write(tmp_path)
    for name in CONCERNED:
        assert (tmp_path / name).read_text() == (PROJECT / name).read_text(), "run make address"


def test_the_metadata_say_what_is_supported():
    versions = [c.rpartition(" ")[2] for c in PYPROJECT["classifiers"] if "Python :: 3." in c]
    supported = Requirement(f"python{PYPROJECT['requires-python']}").specifier
    assert versions[0] == "3.11"
    assert all(version in supported for version in versions)
    assert not any("License ::" in line for line in PYPROJECT["classifiers"]), "license says it"
    assert all((PROJECT / name).is_file() for name in PYPROJECT["license-files"])
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["authors"] == PYPROJECT["authors"]
    assert citation["version"] == PYPROJECT["version"]


def test_github_and_the_container_call_what_is_here():
    jobs = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    images = jobs["tests"]["strategy"]["matrix"]["image"]
    classifiers = "\n".join(PYPROJECT["classifiers"])
    assert all(re.search(r"3\.\d+", image)[0] in classifiers for image in images)
    container = json.loads((PROJECT / ".devcontainer" / "devcontainer.json").read_text())
    named = f".venv/.ready-{container['containerEnv']['TORCH']}"
    assert container["postCreateCommand"] == f"make {named}"
    # Not with the variables of a make that runs these tests, another VENV for one.
    words = ["env", "-u", "MAKEFLAGS", "-u", "MAKEOVERRIDES", "make", "-n", named, "TORCH=cpu"]
    shown = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, PROJECT / "docs" / "build.py", folder],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_manual_and_the_lesson_become_pages_that_ask_no_network(site):
    manual = {path.stem for path in (PROJECT / "docs").glob("*.md")} - {"README"}
    assert manual <= {path.stem for path in (site / "docs").glob("*.html")}
    assert "00_the_idea" in (site / "lesson" / "index.html").read_text()
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"(?:src|srcset)=\"https?:", text), page
        if page.parent.name == "lesson":
            continue
        for target in re.findall(r"href=\"([^\"]+)\"", text):
            path, _, place = target.partition("#")
            if "://" in target or target.startswith("data:"):
                continue
            aim = (page.parent / path) if path else page
            assert aim.is_file(), f"{page.name} leads to {target}"
            if place and aim.parent.name != "lesson":
                assert f'id="{place}"' in aim.read_text(), f"{page.name} leads to {target}"
