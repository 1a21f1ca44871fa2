"""What follows from the address of the project's repository: `make address`, after it changed.

The address stands once, in pyproject.toml under [project.urls] as Repository. From it are made: the
other addresses there; absolute links and pictures in README.md, the long description, which is read
without the files beside it; repository-code in CITATION.cff; and, in notebooks/colab/, copies of the
notebooks whose first cell installs, each with a badge that opens it. Without an address there is none
of that: links are relative again, and no badge is shown.
"""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
PICTURES = (".png", ".svg", ".jpg")
LINK = re.compile(r"(\]\(|(?:src|srcset)=\")([^)\"#\s]+)")
BEGIN, END = "# made by make address\n", "# end\n"


def address(project: Path) -> str:
    """https://github.com/OWNER/NAME; "" as long as there is none."""
    urls = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"].get("urls", {})
    place = str(urls.get("Repository", "")).removesuffix("/").removesuffix(".git")
    if place and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", place):
        raise SystemExit(
            f"Repository: an address like https://github.com/OWNER/NAME is needed, got {place}"
        )
    return place


def readme(text: str, place: str) -> str:
    """Links and pictures absolute, or relative without an address."""
    text = re.sub(
        r"https://(?:raw\.githubusercontent|github)\.com/[\w.-]+/[\w.-]+/(?:blob/)?main/", "", text
    )

    def absolute(found: re.Match[str]) -> str:
        before, target = found.groups()
        if not place or "://" in target:
            return found[0]
        raw = place.replace("https://github.com", "https://raw.githubusercontent.com")
        return (
            before + (f"{raw}/main/" if target.endswith(PICTURES) else f"{place}/blob/main/") + target
        )

    return LINK.sub(absolute, text)


def urls(text: str, place: str) -> str:
    """pyproject.toml with the addresses that follow from the repository's."""
    text = re.sub(f"{BEGIN}.*?{END}", "", text, flags=re.DOTALL)
    if not place:
        return text
    ways = {
        "Issues": "issues",
        "Changelog": "blob/main/CHANGELOG.md",
        "Documentation": "tree/main/docs",
    }
    lines = "".join(f'{name} = "{place}/{way}"\n' for name, way in ways.items())
    return re.sub(r"(\[project\.urls\]\n(?:Repository.*\n))", rf"\g<1>{BEGIN}{lines}{END}", text)


def citation(text: str, place: str) -> str:
    """CITATION.cff with the address, or without."""
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.MULTILINE)
    return text.replace("license:", f'repository-code: "{place}"\nlicense:', 1) if place else text


def on_colab(notebook: dict, name: str, place: str) -> dict:
    """A notebook that installs before it begins, under a badge that opens it."""
    opens = place.replace("https://github.com", "https://colab.research.google.com/github")
    badge = f"[![Open in Colab]({BADGE})]({opens}/blob/main/notebooks/colab/{name})"
    install = f'%pip install --quiet "resnetlab[train,lab] @ git+{place}"'
    first = [
        {"cell_type": "markdown", "id": "colab-badge", "metadata": {}, "source": badge},
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "colab-install",
            "metadata": {},
            "outputs": [],
            "source": install,
        },
    ]
    return notebook | {"cells": [*first, *notebook["cells"]]}


def write(project: Path) -> str:
    """Bring all files to the address, and return it."""
    place = address(project)
    for name, change in (("README.md", readme), ("pyproject.toml", urls), ("CITATION.cff", citation)):
        path = project / name
        path.write_text(change(path.read_text("utf-8"), place), "utf-8")
    folder = project / "notebooks" / "colab"
    shutil.rmtree(folder, ignore_errors=True)
    if place:
        folder.mkdir()
        for path in sorted((project / "notebooks").glob("*.ipynb")):
            copy = on_colab(json.loads(path.read_text("utf-8")), path.name, place)
            (folder / path.name).write_text(
                json.dumps(copy, indent=1, ensure_ascii=False) + "\n", "utf-8"
            )
    return place


if __name__ == "__main__":
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    print(write(here) or "pyproject.toml has no [project.urls] Repository: no badge, relative links")
