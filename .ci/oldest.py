"""Constraints for `make test-oldest`: every package of pyproject.toml in the oldest version it allows.

Those of the extras test and dev, by which is tested, keep the version of constraints.txt.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
TOOLS = ("test", "dev")


def oldest() -> list[str]:
    """`name==version`, one line a package."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = list(project["dependencies"])
    lines += [line for extra in extras if extra not in TOOLS for line in extras[extra]]
    pins = {}
    for line in lines:
        name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<[\d.]+)?", line).groups()
        pins[name] = f"{name}=={version}"
    tools = {re.split("[><=]", line)[0] for extra in TOOLS for line in extras[extra]}
    tested = (PROJECT / "constraints.txt").read_text("utf-8").lower().splitlines()
    return sorted([*pins.values(), *(line for line in tested if line.split("==")[0] in tools)])


if __name__ == "__main__":
    print(*oldest(), sep="\n")
