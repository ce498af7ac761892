"""The names a user may type. Imports nothing, so that `--help` can list them without loading torch."""

from typing import Literal

ScorerName = Literal["feature", "blur", "precomputed", "random"]
QuadtreeName = Literal["dict", "tensor", "zcurve", "parallel"]
ErrorName = Literal["mse", "cosine_distance"]
StyleName = Literal["overlay", "blur", "mini", "levels"]
FitName = Literal["crop", "pad", "squash"]
PixelDtypeName = Literal["float16", "uint8", "float32", "none"]
IfExistsName = Literal["resume", "skip", "overwrite", "error"]

# What folders are searched for; a file named directly may have any ending, its format is told by content.
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    )
    + (".tif", ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".j2c", ".jpc", ".jpf")
)
TOKEN_SUFFIXES = frozenset((".pt",))
# What a picture can be written as: formats that can hold the mark of quadtok, by which folders pass over it.
PICTURE_SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".gif")
LOSSLESS_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
ANIMATION_SUFFIXES = (".gif", ".webp")
