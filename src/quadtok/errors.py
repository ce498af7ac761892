"""Every error quadtok raises on purpose.

    QuadtokError            catch this one to catch them all; also a ValueError, so that plain code works too
    ├── SpecError           a spec that cannot be tiled, or a token count that cannot be reached
    ├── InputError          arguments that do not fit together: shapes, types, names, non-finite values
    ├── ImageError          an image file that cannot be read
    ├── WeightsError        weights that cannot be found, fetched, or fitted to the net
    ├── TokenFileError      a token file that cannot be trusted
    └── OutputError         a result that cannot be written
        └── DiskFull        because no space is left: further ones cannot either

The sentence carries the numbers, what was expected, and a next step.
"""


class QuadtokError(ValueError):
    """The family of everything that quadtok refuses."""


class SpecError(QuadtokError):
    """A geometry or a token count that no quadtree can have."""


class InputError(QuadtokError):
    """Arguments that do not fit together."""


class ImageError(QuadtokError):
    """An image file that cannot be read."""


class WeightsError(QuadtokError):
    """Weights of the feature scorer that cannot be loaded."""


class TokenFileError(QuadtokError):
    """A token file that is damaged, foreign, or from a newer version."""


class OutputError(QuadtokError):
    """A result that cannot be written where it was asked for."""


class DiskFull(OutputError):  # noqa: N818  # the name says it
    """No space is left for a result, nor for the next."""
