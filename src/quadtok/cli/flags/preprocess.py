"""How an image file becomes an image of a size."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags.base import PREPARE
from quadtok.cli.given import given, is_given
from quadtok.cli.grouped import Group
from quadtok.colors import check_color
from quadtok.geometry import Geometry
from quadtok.names import DEFAULT_BACKGROUND, MAX_PIXELS, FitName

if TYPE_CHECKING:
    from quadtok.preprocess import Preprocess


@dataclass(frozen=True)
class PreprocessFlags(Group):
    """The fit goes with the grid (`Grid.geometry`), the rest with the geometry that comes of both."""

    fit: Annotated[
        FitName | None,
        typer.Option(
            rich_help_panel=PREPARE, show_default="crop; pad for native",
            help="crop: short side to size/0.875, then the centre. pad: all of it, edges repeated. squash: stretched.",
        ),
    ] = None  # fmt: skip
    background: Annotated[
        str, typer.Option(metavar="COLOR", rich_help_panel=PREPARE, help="Colour behind transparency.")
    ] = DEFAULT_BACKGROUND
    exif: Annotated[
        bool, typer.Option("--exif/--no-exif", rich_help_panel=PREPARE, help="Apply the EXIF orientation.")
    ] = True
    draft: Annotated[
        bool,
        typer.Option(
            "--draft/--no-draft", rich_help_panel=PREPARE,
            help="Decode a JPEG at 1/2, 1/4 or 1/8 where that leaves twice the size asked for: faster, "
            "nearly the same.",
        ),
    ] = True  # fmt: skip
    max_pixels: Annotated[
        int, typer.Option(min=1, rich_help_panel=PREPARE, help="Refuse larger images (decompression bombs).")
    ] = MAX_PIXELS

    def check(self, context: typer.Context) -> None:
        """The background is a colour."""
        if is_given(context, "background"):
            check_color(self.background)

    def value(self, geometry: Geometry) -> Preprocess:
        """How files become images of this geometry. Loads torch."""
        from quadtok.preprocess import Preprocess

        return Preprocess(geometry, self.max_pixels, self.background, self.exif, self.draft)

    def given(self, context: typer.Context) -> list[str]:
        """Those that were typed: none of them means anything where no image file is read."""
        return given(context, [field.name for field in fields(self)])
