"""The names a user may type. Imports nothing, so that `--help` can list them without loading torch."""

from typing import Literal

ScorerName = Literal["feature", "blur", "precomputed", "random"]
QuadtreeName = Literal["dict", "tensor", "zcurve", "parallel"]
ErrorName = Literal["mse", "cosine_distance"]
StyleName = Literal["overlay", "blur", "mini"]
FitName = Literal["crop", "pad", "squash"]
PixelDtypeName = Literal["float16", "uint8", "float32", "none"]
