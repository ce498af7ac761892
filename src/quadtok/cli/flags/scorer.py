"""Who decides where to split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from quadtok.cli.flags.base import FLAGS, QUADTREE
from quadtok.cli.grouped import Group
from quadtok.errors import InputError
from quadtok.jobs.scorer_options import meant_scorer, options_for, takes_weights
from quadtok.jobs.sources import Source
from quadtok.names import DEFAULT_QUADTREE, DEFAULT_SCORER, DEFAULT_SEED, QuadtreeName, ScorerName

if TYPE_CHECKING:
    from quadtok.jobs.scoring import Scoring


@dataclass(frozen=True)
class ScorerFlags(Group):
    """A scorer and its options."""

    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="|".join((*get_args(ScorerName), "MODULE:NAME")), rich_help_panel=QUADTREE,
            show_default=f"{DEFAULT_SCORER}; feature with --weights or an option of it",
            help="What decides where to split; MODULE:NAME is a function of yours, (uint8 images, spec) to saliency.",
        ),
    ] = None  # fmt: skip
    scorer_option: Annotated[
        list[str] | None,
        typer.Option(
            "--scorer-option", metavar="KEY=VALUE", rich_help_panel=QUADTREE,
            help="An option of the scorer, such as views=2, error=cosine_distance, thresholds=5.75,4.0.",
        ),
    ] = None  # fmt: skip
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="bundled|imagenet|lite0|FILE", rich_help_panel=QUADTREE, show_default="bundled",
            help="For --scorer feature: bundled, imagenet (the paper's, downloaded at first use), lite0 (with "
            "quadtok\\[lite0]) or a state dict; for --scorer object: bundled or a state dict.",
        ),
    ] = None  # fmt: skip
    seed: Annotated[
        int,
        typer.Option(
            rich_help_panel=QUADTREE, envvar="QUADTOK_SEED",
            help="For --scorer random; an image's layout depends on this and on its relative name alone.",
        ),
    ] = DEFAULT_SEED  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scorers of this run: one here; a command may take several."""
        return (meant_scorer(self._options, FLAGS) if self.scorer is None else self.scorer,)

    def check(self, context: typer.Context) -> None:
        """No unknown scorer; no options and weights that no scorer takes, nor weights twice."""
        if self.weights is not None and "weights" in parse_options(self.scorer_option or []):
            raise InputError("--weights and --scorer-option weights=…: both name the weights: give one")
        for name in self.names:
            if name not in get_args(ScorerName) and ":" not in name:
                known = ", ".join(get_args(ScorerName))
                raise InputError(f"there is no scorer {name!r}: choose one of {known}, or module:attribute")
        self._check_options()

    def scoring(self, name: str, sources: Sequence[Source], device: str, tell: Callable[[str], None]) -> Scoring:
        """The scoring of one of the names. Loads torch.

        Args:
            name: one of `names`.
            sources: the inputs.
            device: where they are scored.
            tell: hears which weights were loaded, if any.

        Raises:
            QuadtokError: whatever loading the scorer raises.
        """
        return self._scoring(name, sources, device, tell)

    def _scoring(
        self,
        name: str,
        sources: Sequence[Source],
        device: str,
        tell: Callable[[str], None],
        maps: Path | None = None,
        points: Path | None = None,
    ) -> Scoring:
        from quadtok.jobs.scoring import make_scoring

        return make_scoring(
            name,
            maps=maps,
            points=points,
            seed=self.seed,
            options=options_for(name, self.names, self._options),
            sources=sources,
            device=device,
            tell=tell,
            words=FLAGS,
        )

    @property
    def _options(self) -> dict[str, Any]:
        """The options of the scorers, the weights among them."""
        options = parse_options(self.scorer_option or [])
        return options if self.weights is None else {"weights": self.weights, **options}

    def _check_options(self) -> None:
        if self.weights is not None and not any(takes_weights(name, self.weights) for name in self.names):
            whose = f"--weights {self.weights}" if "object" in self.names else "--weights"
            raise InputError(f"{whose} belongs to --scorer feature, not to {', '.join(self.names)}")
        for option in self._options:
            if option == "name" and any(name in get_args(ScorerName) for name in self.names):
                raise InputError("--scorer-option name=…: no scorer of quadtok's has an option of that name")
            if not any(option in options_for(name, self.names, self._options) for name in self.names):
                raise InputError(f"--scorer-option {option}: {', '.join(self.names)} would not get it")


@dataclass(frozen=True)
class MapScorerFlags(ScorerFlags):
    """A scorer which may also read maps or points, and the quadtree."""

    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", rich_help_panel=QUADTREE,
            help="For --scorer precomputed: a .pt, .npy or .png file with a map \\[h, w] for all inputs or "
            "\\[B, h, w] for each, or a folder with NAME.pt (.npy, .png) for each.",
        ),
    ] = None  # fmt: skip
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|csv", rich_help_panel=QUADTREE,
            help="For --scorer point: points x, y and boxes left, top, right, bottom of each input, in pixels of the "
            "photograph, by its name.",
        ),
    ] = None  # fmt: skip
    impl: Annotated[
        QuadtreeName,
        typer.Option(rich_help_panel=QUADTREE, help="Which quadtree; all give the same plan, bit for bit."),
    ] = DEFAULT_QUADTREE

    def check(self, context: typer.Context) -> None:
        """As above; and no maps and points that no scorer reads."""
        super().check(context)
        for scorer, flag, file in self._read:
            if file is not None and scorer not in self.names:
                raise _lonely(flag, scorer)

    def check_read(self) -> None:
        """Where there is something to score, `precomputed` needs its maps and `point` its points.

        Raises:
            InputError: where they are not given.
        """
        for scorer, flag, file in self._read:
            if file is None and scorer in self.names:
                raise _lonely(flag, scorer)

    def scoring(self, name: str, sources: Sequence[Source], device: str, tell: Callable[[str], None]) -> Scoring:
        """As above; the maps are for `precomputed`, the points for `point`."""
        maps = self.maps if name == "precomputed" else None
        points = self.points if name == "point" else None
        return self._scoring(name, sources, device, tell, maps, points)

    @property
    def also_read(self) -> list[Path]:
        """Files and folders that scoring reads besides the inputs."""
        weights = self._options.get("weights")
        return [Path(str(path)) for path in (self.maps, self.points, weights) if path is not None]

    @property
    def _read(self) -> list[tuple[str, str, Path | None]]:
        """Scorers that read a file, its flag, and the file."""
        return [("precomputed", "--maps", self.maps), ("point", "--points", self.points)]


def _lonely(flag: str, scorer: str) -> InputError:
    return InputError(f"{flag} and --scorer {scorer} go together: give both")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts to scorer options; numbers become numbers, and several with commas a list of them."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--scorer-option {pair!r} is not of the form key=value")
        options[key] = _value(value)
    return options


def _value(text: str) -> int | float | str | list[int | float]:
    if "," not in text:
        return _number(text)
    numbers = [number for number in map(_number, text.split(",")) if not isinstance(number, str)]
    return numbers if len(numbers) == text.count(",") + 1 else text


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
