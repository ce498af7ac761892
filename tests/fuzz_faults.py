"""Programs with the faults that tests/fuzz.py looks for: each fails at case 2 alone."""

import os
import sys
import time


class Fine:
    def make(self, rng):
        return "some bytes", rng.randbytes(8), None

    def check(self, data, known):
        self.cases = getattr(self, "cases", -1) + 1
        if self.cases == 2:
            self.fail()
        return "decoded"

    def fail(self):
        """Here it does not."""


class Raises(Fine):
    def fail(self):
        raise KeyError("surprise")


class Speaks(Fine):
    def fail(self):
        os.write(2, b"libfoo: warning")


class Warns(Fine):
    def fail(self):
        import warnings

        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)


class Crashes(Fine):
    def fail(self):
        os.abort()


class Leaves(Fine):
    def fail(self):
        os._exit(3)


class Exits(Fine):
    def fail(self):
        sys.exit(0)


class Hangs(Fine):
    def fail(self):
        time.sleep(60)


class Grows(Fine):
    def fail(self):
        self.kept = b"x" * (600 << 20)


class DoesNotStart(Fine):
    def __init__(self):
        os._exit(5)
