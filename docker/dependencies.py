"""Prints what a pyproject.toml needs, one requirement a line, for an image that holds dependencies only."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
print("\n".join(project["dependencies"]))
