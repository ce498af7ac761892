"""A way to read images in which a process dies of some files; a module of its own, as processes load it by its name."""

import os
import signal
import time
from pathlib import Path

from quadtok.preprocess import Preprocess

POISON, LOOKS_LIKE_POISON, HANGS = b"poison", b"once", b"hangs"


class Dying(Preprocess):
    """Dies of each file that ends in `POISON`, and once of one that ends in the path of a file, which it removes.

    Of one that ends in `HANGS` it never has enough.
    """

    def decode(self, data, path):
        if data.endswith(HANGS):
            signal.pause()
        once = data.rpartition(LOOKS_LIKE_POISON)[2]
        if data.endswith(POISON):
            os.kill(os.getpid(), signal.SIGKILL)
        if once.startswith(b"/") and Path(os.fsdecode(once)).exists():
            os.unlink(once)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(data, path)


class Timed(Dying):
    """Also says when it was at which file, by the name of a file beside it."""

    def decode(self, data, path):
        begin = time.monotonic()
        time.sleep(0.03)
        try:
            return super().decode(data, path)
        finally:
            (path.parent / f"{path.stem} {begin} {time.monotonic()}.log").touch()
