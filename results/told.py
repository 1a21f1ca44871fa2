"""Write again what pages say of runs that come in: the paper's claims, the photographs.

    python results/told.py

`make keep` has brought new runs: README.md and docs/findings.md have a table of them each, between two
marks. The words around are written by hand; tests/test_findings.py computes those that have numbers.
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
    errors = {"train_error": "running", "train_error_clean": "clean", "test_error": "test"}
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


# Page -> the table in it, between marks of that name, and what writes it.
PAGES = {"README.md": ("claims", table), "docs/findings.md": ("photographs", photographs)}


def written(name: str) -> str:
    """A page of PAGES with today's table in it. ValueError where it has no place for one."""
    page, (part, write) = (PROJECT / name).read_text("utf-8"), PAGES[name]
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
    head, begun, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"{name} has no {begin.strip()} and {end} around a table")
    return f"{head}{begin}{write()}\n{end}{tail}"


if __name__ == "__main__":
    for page in PAGES:
        files.atomic_write(PROJECT / page, written(page).encode())
