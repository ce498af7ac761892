"""The names a user may type, and the defaults that flags and functions share.

Imports nothing, so that `--help` can list them without loading torch.
"""

from typing import Literal

ScorerName = Literal["object", "feature", "blur", "entropy", "duplicate", "point", "precomputed", "random"]
QuadtreeName = Literal["dict", "tensor", "zcurve", "parallel"]
ErrorName = Literal["mse", "cosine_distance"]
StyleName = Literal["overlay", "blur", "mini", "levels"]
FitName = Literal["crop", "pad", "squash"]
PixelDtypeName = Literal["float16", "uint8", "float32", "none"]
IfExistsName = Literal["resume", "skip", "overwrite", "error"]
StoreName = Literal["tokens", "plans"]
MapFormatName = Literal["pt", "npy", "png"]
FormatName = Literal["files", "safetensors", "shards", "parquet"]
EngineName = Literal["threads", "ray"]
MinimaName = Literal["none", "float16", "float32"]

# What these want to know, each image brings along: a seed, a map, points.
WITHOUT_OPTIONS: tuple[ScorerName, ...] = ("random", "precomputed", "point")
# What else may be said of a scorer, of those that have options at all.
SCORER_OPTIONS: dict[str, tuple[str, ...]] = {
    "object": ("weights", "views", "precision"),
    "feature": ("weights", "net", "stride", "error", "high_res_fraction", "precision"),
    "entropy": ("thresholds",),
}
FEATURE_WEIGHTS = ("imagenet", "lite0")  # by their names; of no other scorer

DEFAULT_SCORER: ScorerName = "object"
DEFAULT_QUADTREE: QuadtreeName = "parallel"
DEFAULT_NUM_TOKENS = 100
DEFAULT_IMAGE_SIZE = 256  # both sides, in pixels
DEFAULT_MIN_PATCH = 16
DEFAULT_MAX_PATCH = 64
DEFAULT_FIT: FitName = "crop"  # to a fixed size
DEFAULT_NATIVE_FIT: FitName = "pad"  # keeps every pixel
DEFAULT_BACKGROUND = "white"  # behind transparency
DEFAULT_PIXEL_DTYPE: PixelDtypeName = "float16"
DEFAULT_IF_EXISTS: IfExistsName = "resume"
DEFAULT_STORE: StoreName = "tokens"
DEFAULT_FORMAT: FormatName = "files"
MANIFEST = ".quadtok-manifest.jsonl"  # in an output folder
DEFAULT_SHARD_SIZE = 1000  # samples: of tokens 80 MB
DEFAULT_SHARD_DTYPE: PixelDtypeName = "uint8"
DEFAULT_MINIMA: MinimaName = "none"  # of a plan store: budgets alone
DEFAULT_ENGINE: EngineName = "threads"
DEFAULT_BATCH_SIZE = 32  # images scored at once
DEFAULT_STYLE: StyleName = "overlay"
DEFAULT_SEED = 0
DEFAULT_DEVICE = "auto"  # CUDA where there is one
DEFAULT_LINE_WIDTH = 1  # in pixels
DEFAULT_LINE_COLOR = "#00000055"  # the reference's: black at alpha 85
MAX_PIXELS = 89_478_485  # of an image; Pillow's own limit: a quarter of a gigabyte of RGB

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
TOKEN_SUFFIX = ".pt"
SAFETENSORS_SUFFIX = ".safetensors"  # of a token file in that format
TOKEN_SUFFIXES = frozenset((TOKEN_SUFFIX, SAFETENSORS_SUFFIX))
MAP_SUFFIXES = (".pt", ".npy", ".png")  # of importance maps
PLANS_SUFFIX = ".qts"  # of a file of plans
TAR_SUFFIX = ".tar"  # of a shard, and of an archive of images
PARQUET_SUFFIX = ".parquet"  # of a table of images
# Formats of many images a file and several files a folder, and how these end.
SHARD_SUFFIXES: dict[FormatName, str] = {"shards": TAR_SUFFIX, "parquet": PARQUET_SUFFIX}
OVERLAY_SUFFIX = ".overlay.png"  # of the picture beside a token file
# What a picture can be written as: formats that can hold the mark of quadtok, by which folders pass over it.
PICTURE_SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".gif")
LOSSLESS_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
ANIMATION_SUFFIXES = (".gif", ".webp")
PAGE_SUFFIXES = (".html", ".htm")
