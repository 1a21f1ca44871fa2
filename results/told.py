"""Write into README.md again what it says of runs that come in: the paper's claims, the photographs.

    python results/told.py

`make keep` has brought new runs: these are the page's tables of them, each between two marks. The words
around are written by hand, and tests/test_project.py computes those that have numbers.
"""

from __future__ import annotations

from pathlib import Path

from resnetlab import files, store, verdict
from resnetlab.verdict import claims

PROJECT = Path(__file__).resolve().parents[1]
REFERENCE = PROJECT / "results" / "reference"
STUDIES = (
    "digits",
    "digits-110",
    "digits-warm-up",
    "depth-real",
    "depth-real-16k",
    "imagenet-tiny",
)  # that the page leads with
ERROR = "train_error_clean"  # on which they are asked first of all


def table() -> str:
    """Claims of STUDIES on ERROR, in Markdown."""
    found = claims.in_results(REFERENCE, *STUDIES)
    return claims.markdown(row for row in found if row.error == ERROR)


def photographs() -> str:
    """How the networks of `depth-real` that have ended did, in Markdown: seeds, mean, spread.

    Then their differences: networks that have ended with other seeds do not compare by their means.
    """
    table = store.read_study(REFERENCE / "depth-real").table()
    means = verdict.by_network(table)
    errors = {"train_error": "training error", "train_error_clean": "clean", "test_error": "test error"}
    lines = [
        "| network, or difference | seeds | " + " | ".join(errors.values()) + " |",
        "|---" * (2 + len(errors)) + "|",
    ]
    ended = table[table["status"] == "finished"].groupby("network")["seed"].apply(set)
    for _, row in means[means["n"] > 0].iterrows():
        cells = [row["network"], listed(ended[row["network"]])]
        cells += [verdict.with_spread(row, name) for name in errors]
        lines.append(f"| {' | '.join(cells)} |")
    (study,) = (one for one in claims.asked() if one.name == "depth-real")
    wider = tuple((f"{family}-{study.depths[0]}", f"{family}-8") for family in ("plain", "resnet"))
    for pair in (*(study.pair(claim.kind) for claim in claims.CLAIMS), *wider):
        gaps = [verdict.contrast(table, *pair, name) for name in errors]
        if shared := ended.get(pair[0], set()) & ended.get(pair[1], set()):
            cells = [" minus ".join(pair), listed(shared), *(difference(gap) for gap in gaps if gap)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def listed(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def difference(gap: verdict.Contrast) -> str:
    return f"{gap.mean:+.2f}" + (f" ± {gap.spread:.2f}" if gap.n > 1 else "")


PARTS = {"claims": table, "photographs": photographs}


def written(page: str) -> str:
    """The page with today's tables in it. ValueError where it has no place for one."""
    for name, write in PARTS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        head, begun, rest = page.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"README.md has no {begin.strip()} and {end} around a table")
        page = f"{head}{begin}{write()}\n{end}{tail}"
    return page


if __name__ == "__main__":
    readme = PROJECT / "README.md"
    files.atomic_write(readme, written(readme.read_text("utf-8")).encode())
