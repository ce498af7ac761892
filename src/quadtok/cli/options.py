"""The flags that commands share: one place for their names, defaults and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quadtok.names import FitName, IfExistsName, PixelDtypeName, QuadtreeName

_QUADTREE, _PREPARE, _OUTPUT, _RUN, _SAY = "Quadtree", "Preprocessing", "Output", "Running", "Reporting"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS...",
        help="Image files, folders or quoted globs; - reads one path per line from stdin.",
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="Paths on stdin end in NUL (for find -print0).")]
RelativeTo = Annotated[
    Path | None,
    typer.Option(
        "--relative-to", metavar="DIR", show_default="each input's folder; of a list, the folder that holds all of it",
        help="Name outputs by the inputs' paths below DIR; they mirror them, as do maps and random seeds.",
    ),
]  # fmt: skip

Tokens = Annotated[
    str,
    typer.Option(
        "--tokens", "-n", metavar="N|P%", rich_help_panel=_QUADTREE,
        help="Tokens per image: roots + 3 × splits, or a percentage of the full grid, rounded down.",
    ),
]  # fmt: skip
ImageSize = Annotated[
    str,
    typer.Option(
        "--image-size", "-s", metavar="N|HxW|native", rich_help_panel=_QUADTREE,
        help="Size after preprocessing, in multiples of --max-patch; native: each image's own, rounded to those.",
    ),
]  # fmt: skip
MinPatch = Annotated[
    int,
    typer.Option(min=1, rich_help_panel=_QUADTREE, help="Side of the finest patch: the resolution of a token."),
]
MaxPatch = Annotated[
    int,
    typer.Option(min=1, rich_help_panel=_QUADTREE, help="Side of the coarsest patch: min-patch × a power of two."),
]
Scorer = Annotated[
    str,
    typer.Option(
        metavar="feature|blur|precomputed|random|MODULE:NAME", rich_help_panel=_QUADTREE,
        help="What decides where to split; MODULE:NAME is a function of yours, (uint8 images, spec) to saliency.",
    ),
]  # fmt: skip
ScorerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scorer-option", metavar="KEY=VALUE", rich_help_panel=_QUADTREE,
        help="An option of the scorer, such as stride=16, error=cosine_distance, high_res_fraction=0.5.",
    ),
]  # fmt: skip
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="bundled|imagenet|FILE", rich_help_panel=_QUADTREE,
        show_default="bundled",
        help="For --scorer feature: bundled, imagenet (the paper's, downloaded at first use) or a state dict.",
    ),
]  # fmt: skip
Maps = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR", rich_help_panel=_QUADTREE,
        help="For --scorer precomputed: a .pt file with a map \\[h, w] for all inputs or \\[B, h, w] for each, "
        "or a folder with NAME.pt for each.",
    ),
]  # fmt: skip
Seed = Annotated[
    int,
    typer.Option(
        rich_help_panel=_QUADTREE, envvar="QUADTOK_SEED",
        help="For --scorer random; an image's layout depends on this and on its relative name alone.",
    ),
]  # fmt: skip
Impl = Annotated[
    QuadtreeName,
    typer.Option(rich_help_panel=_QUADTREE, help="Which quadtree; all give the same plan, bit for bit."),
]

Fit = Annotated[
    FitName | None,
    typer.Option(
        rich_help_panel=_PREPARE, show_default="crop; pad for native",
        help="crop: short side to size/0.875, then the centre. pad: all of it, edges repeated. squash: stretched.",
    ),
]  # fmt: skip
Background = Annotated[str, typer.Option(metavar="COLOR", rich_help_panel=_PREPARE, help="Colour behind transparency.")]
Exif = Annotated[bool, typer.Option("--exif/--no-exif", rich_help_panel=_PREPARE, help="Apply the EXIF orientation.")]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft/--no-draft", rich_help_panel=_PREPARE,
        help="Decode a JPEG at 1/2, 1/4 or 1/8 where that leaves twice the size asked for: faster, nearly the same.",
    ),
]  # fmt: skip
MaxPixels = Annotated[
    int, typer.Option(min=1, rich_help_panel=_PREPARE, help="Refuse larger images (decompression bombs).")
]

OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", "-o", metavar="DIR", rich_help_panel=_OUTPUT, show_default="beside each input",
        help="Where to write; created; mirrors the input tree.",
    ),
]  # fmt: skip
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", rich_help_panel=_OUTPUT, help="Exact output name, for one input."),
]
KeepExt = Annotated[
    bool,
    typer.Option(
        "--keep-ext",
        rich_help_panel=_OUTPUT,
        help="cat.jpg becomes cat.jpg.pt, so cat.png can stand beside it.",
    ),
]
Dtype = Annotated[
    PixelDtypeName,
    typer.Option(
        rich_help_panel=_OUTPUT,
        help="Stored pixels: float16 is exact, uint8 half as large and within half a step, none the layout alone.",
    ),
]  # fmt: skip
Overlay = Annotated[
    bool, typer.Option("--overlay", rich_help_panel=_OUTPUT, help="Also draw each image's patches: NAME.overlay.png.")
]
IfExists = Annotated[
    IfExistsName,
    typer.Option(
        rich_help_panel=_OUTPUT,
        help="resume: skip outputs made from the same input with the same settings, refuse others.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=_OUTPUT,
        help="Short for --if-exists overwrite: replaces any file but an input, and an image that quadtok did not make.",
    ),
]

Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=_RUN, envvar="QUADTOK_DEVICE", help="Where to score."),
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, rich_help_panel=_RUN, help="Images scored at once.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=0, rich_help_panel=_RUN, show_default="the cores there are, at most 8",
        help="Threads that read images and make files; 0: one thing after another. The files are the same.",
    ),
]  # fmt: skip
FailFast = Annotated[bool, typer.Option("--fail-fast", rich_help_panel=_RUN, help="Stop at the first bad input.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", rich_help_panel=_RUN, help="Show what would be written; write nothing.")
]

Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_SAY, help="JSON lines on stdout: one per input, then a summary."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=_SAY, help="Errors only.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, rich_help_panel=_SAY, help="A line per input.")]
