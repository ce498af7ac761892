"""The command line in this process, as in tests/cli."""

from cli.conftest import photo, photos, quadtok

__all__ = ["photo", "photos", "quadtok"]
