"""Make the pictures of the README and the docs: `python docs/make_pictures.py`, in the repository's root.

The commands are read off the pages: every line that begins with `quadtok visualize` and writes below docs/pictures.
"""

import shlex
import sys
from pathlib import Path

from quadtok.cli import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def picture_commands() -> list[list[str]]:
    """The arguments of each command that makes a picture, without `quadtok`."""
    lines = {line.strip("`* ") for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()}
    return [
        shlex.split(line)[1:]
        for line in sorted(lines)
        if line.startswith("quadtok visualize") and "docs/pictures/" in line
    ]


def main() -> int:
    """Run them all; the largest exit code."""
    return max(run([*command, "--overwrite", "--quiet"]) for command in picture_commands())


if __name__ == "__main__":
    sys.exit(main())
