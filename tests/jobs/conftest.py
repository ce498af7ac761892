"""A folder to look for inputs in, and folders that may not be looked into."""

import errno
import os

import pytest


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with images, other files, hidden files and subfolders; the working folder."""
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", ".git/d.jpg", "sub/deep/e.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def close(monkeypatch):
    """Close folders: they may not be listed, or are gone by then. Tests may run as root, who may list everything."""
    scandir = os.scandir

    def by_name(*folders, reason=errno.EACCES):
        def refuse(path):
            if os.path.basename(path) in folders:
                raise OSError(reason, os.strerror(reason))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return by_name
