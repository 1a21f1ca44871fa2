"""Write the table of the paper's claims into README.md again, from the committed runs.

    python results/told.py

`make keep` has brought new runs: this is what README.md says of them. Its words around the table are
written by hand, and tests/test_project.py computes them again.
"""

from __future__ import annotations

from pathlib import Path

from resnetlab import files
from resnetlab.verdict import claims

PROJECT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- claims -->\n", "<!-- /claims -->"
STUDIES = (
    "digits",
    "digits-110",
    "digits-warm-up",
    "depth-real",
    "imagenet-tiny",
)  # that the page leads with
ERROR = "train_error_clean"  # on which they are asked first of all


def table() -> str:
    """Claims of STUDIES on ERROR, in Markdown."""
    found = claims.in_results(PROJECT / "results" / "reference", *STUDIES)
    return claims.markdown(row for row in found if row.error == ERROR)


def written(page: str) -> str:
    """The page with today's table in it. ValueError where it has no place for one."""
    head, begun, rest = page.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"README.md has no {BEGIN.strip()} and {END} around a table")
    return f"{head}{BEGIN}{table()}\n{END}{tail}"


if __name__ == "__main__":
    readme = PROJECT / "README.md"
    files.atomic_write(readme, written(readme.read_text("utf-8")).encode())
