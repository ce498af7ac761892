"""Work over files from Python: what `quadtok tokenize` does, with a function in place of its lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quadtok.errors import InputError
from quadtok.geometry import Geometry, make_geometry, parse_budget, parse_size, parse_threshold, usual_budget
from quadtok.jobs.arguments import Name, check_types, path_of, texts_of
from quadtok.jobs.base import Ending, Engine, Job, Listener, OpenSink, Outcome
from quadtok.jobs.destination import Destination
from quadtok.jobs.device import check_device_name, resolve_device
from quadtok.jobs.engines.choice import engine_of
from quadtok.jobs.parts import Part, parse_part
from quadtok.jobs.scorer_options import meant_scorer, takes_weights
from quadtok.jobs.scoring import Scoring, make_scoring, scoring_of
from quadtok.jobs.sinks.folder import FolderSink
from quadtok.jobs.sinks.manifest import remembered
from quadtok.jobs.sinks.naming import Naming, Outputs, plan_outputs, without_our_pictures
from quadtok.jobs.sinks.rooms import Rooms
from quadtok.jobs.sources import Found, Source, find_sources
from quadtok.jobs.summary import Summary, known, listener
from quadtok.jobs.targets import Target
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.names import (
    DEFAULT_BACKGROUND,
    DEFAULT_BATCH_SIZE,
    DEFAULT_DEVICE,
    DEFAULT_ENGINE,
    DEFAULT_FORMAT,
    DEFAULT_IF_EXISTS,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_MAX_PATCH,
    DEFAULT_MIN_PATCH,
    DEFAULT_QUADTREE,
    DEFAULT_SEED,
    DEFAULT_STORE,
    IMAGE_SUFFIXES,
    MANIFEST,
    MAX_PIXELS,
    EngineName,
    FitName,
    FormatName,
    IfExistsName,
    MinimaName,
    PixelDtypeName,
    QuadtreeName,
    StoreName,
)
from quadtok.places import Url
from quadtok.preprocess import Preprocess
from quadtok.scorers import ScorerFunction


def tokenize_files(
    inputs: Name | Iterable[Name], output_dir: Name | None = None, *,
    num_tokens: int | str | None = None, threshold: float | None = None, quadtree: QuadtreeName = DEFAULT_QUADTREE,
    image_size: int | tuple[int, int] | str = DEFAULT_IMAGE_SIZE, min_patch: int = DEFAULT_MIN_PATCH,
    max_patch: int = DEFAULT_MAX_PATCH, scorer: str | ScorerFunction | None = None,
    scorer_options: Mapping[str, Any] | None = None, weights: Name | None = None, maps: Name | None = None,
    points: Name | None = None, seed: int = DEFAULT_SEED, fit: FitName | None = None,
    background: str = DEFAULT_BACKGROUND, exif: bool = True, draft: bool = True, max_pixels: int = MAX_PIXELS,
    dtype: PixelDtypeName | None = None, overlay: bool = False, keep_ext: bool = False, relative_to: Name | None = None,
    store: StoreName = DEFAULT_STORE, minima: MinimaName | None = None, format: FormatName = DEFAULT_FORMAT,
    shard_size: int | None = None, output: Name | None = None, part: str | None = None,
    if_exists: IfExistsName = DEFAULT_IF_EXISTS, manifest: Name | bool = True, verify: bool = False,
    device: str = DEFAULT_DEVICE, batch_size: int = DEFAULT_BATCH_SIZE, workers: int | None = None, decoders: int = 0,
    engine: EngineName | Engine = DEFAULT_ENGINE, fail_fast: bool = False,
    begin: Callable[[int], object] | None = None, progress: Listener | None = None,
) -> Summary:  # fmt: skip
    """Write a token file for each image, or one file of plans, or shards, as `quadtok tokenize` does, byte for byte.

    An input that fails costs itself alone: its error is in the summary. Ctrl-C raises `KeyboardInterrupt`; what is
    written by then is whole, and the same call goes on from there.

    Args:
        inputs: image files, folders and globs; or one of them.
        output_dir: where to write; it mirrors the folders of the inputs. None: beside each input.
        num_tokens: of an image, or a share of its full grid such as `"40%"`; None: 100, and with a threshold `"100%"`.
        threshold: split only what has a larger saliency; `num_tokens` is then the most.
        image_size: a side, (height, width), or `"native"`: each image keeps its own.
        min_patch: see `Spec`.
        max_patch: see `Spec`.
        scorer: a name, `"module:attribute"`, or a function (images, spec) → saliency, called by one thread. None:
            `"object"`, or `"feature"` where weights or an option of it are given.
        scorer_options: options of a scorer that is given by name.
        weights: of the scorer `"feature"`: `"bundled"`, `"imagenet"`, `"lite0"`, or a file with a state dict. Of
            `"object"`: `"bundled"` or a file.
        maps: of the scorer `"precomputed"`: a file, or a folder that mirrors the inputs.
        points: of the scorer `"point"`: a JSON or CSV file; see docs/scorers.md.
        seed: of the scorer `"random"`.
        quadtree: which one; all give the same plan.
        fit: `"crop"`, `"pad"` or `"squash"`; None: crop, and pad for native sizes.
        background: colour behind transparency.
        exif: apply the EXIF orientation.
        draft: decode large JPEGs at a part of their size.
        max_pixels: refuse larger images.
        dtype: of the stored pixels: `"float16"`, `"uint8"`, `"float32"`, or `"none"` for the layout alone. None:
            float16, in shards uint8.
        overlay: also draw each image's plan.
        keep_ext: `cat.jpg` becomes `cat.jpg.pt`.
        store: `"tokens"`, or `"plans"`: no pixels, but the plans of every budget.
        minima: of plans, what thresholds need: `"float32"`, `"float16"`, or `"none"`, which None is.
        format: `"files"`, `"safetensors"`, `"shards"` or `"parquet"`.
        shard_size: images of a shard; None: 1000.
        output: the file of all plans, which ends in `.qts`, where they are not in shards.
        relative_to: the folder that names are relative to.
        part: `"3/8"`: only the third of eight parts of the inputs; `"auto"` as on the command line.
        if_exists: `"resume"`, `"skip"`, `"overwrite"` or `"error"`.
        manifest: the file that says what became of each input; True: `.quadtok-manifest.jsonl` in `output_dir`, False:
            none.
        verify: open every file, whatever the manifest says.
        device: where to score: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:N"`.
        batch_size: images scored at once.
        workers: threads, or processes of Ray; None: one for each core.
        engine: `"threads"`, `"ray"` (on this machine), or one such as `Ray(address="auto")`, whose own arguments count.
        decoders: processes that decode images: one that dies costs the file that it died of; 0: the threads decode.
        fail_fast: end at the first input that fails.
        begin: hears how many inputs there are, before the first is read.
        progress: hears what became of each input, in their order, in this thread. What it writes to stderr just while
            a TIFF is read elsewhere is lost, as what libtiff complains of is.

    Returns:
        The counts, and the errors.

    Raises:
        QuadtokError: where nothing can be done at all: no inputs, or arguments that do not fit together.
    """
    _check_types(seed, max_pixels, batch_size, scorer_options or {}, begin, progress, device)
    _check_switches(exif=exif, draft=draft, overlay=overlay, keep_ext=keep_ext, fail_fast=fail_fast, verify=verify)
    destination = _destination(store, format, output_dir, output, dtype, minima, shard_size, if_exists)
    destination.check(num_tokens is None and threshold is None, overlay, keep_ext, verify or manifest is not True)
    wanted, threshold = destination.budget(num_tokens), parse_threshold(threshold)
    geometry = _geometry(image_size, wanted, threshold, fit, min_patch, max_patch)
    preprocess = Preprocess(geometry, max_pixels, background, exif, draft)
    scorer, options = _chosen(scorer, scorer_options or {}, weights)
    found = _found(inputs, relative_to, which := _part(part))
    target, naming = destination.target(quadtree, threshold, which), destination.naming(overlay, keep_ext)
    planned, sources, ours = _planned(target, found.sources, naming, maps, points, options.get("weights"))
    summary, where = Summary(left=len(sources) + len(ours) + len(found.refused)), resolve_device(device)
    scoring = _scoring(scorer, options, maps, points, seed, sources, where)
    who = engine_of(engine, workers, batch_size, decoders, geometry.size is not None, fail_fast, where)
    run = partial(_run, who, fail_fast, known(ours, found.refused), listener(summary, progress), begin, summary.left)
    if target is not None:
        summary.ending = run(*target.start(preprocess, scoring, where, sources))
        return summary
    job = TokenizeJob(preprocess, scoring, quadtree, destination.dtype, where, overlay, threshold, destination.suffix)
    lines, rooms, believed = _manifest(manifest, destination.folder), Rooms(), destination.resumes and not verify
    with remembered(lines, partial(job.fingerprint, data=b""), planned, believed, rooms, if_exists != "skip") as memory:
        sink = FolderSink(planned, job.makes, if_exists, scorer=scoring.name, is_done=memory.is_done, rooms=rooms)
        summary.ending = run(job, sink, memory.hear)
    return summary


def _planned(
    target: Target | None, sources: Sequence[Source], naming: Naming,
    maps: Name | None, points: Name | None, weights: Name | None,
) -> tuple[list[Outputs], Sequence[Source], list[Source]]:  # fmt: skip
    """The files of each input where each has some of its own; the inputs; and those that are passed over."""
    look_at_all = maps is not None
    if target is None:
        also_read = _also_read(maps=maps, points=points, weights=weights)
        planned, ours = plan_outputs(sources, naming, look_at_all=look_at_all, also_read=also_read)
        return planned, [outputs.source for outputs in planned], ours
    sources, ours = without_our_pictures(sources) if look_at_all else (sources, [])
    return [], sources, ours


def _run(
    engine: Engine, fail_fast: bool, before: Iterable[Outcome], hear: Listener,
    begin: Callable[[int], object] | None, number: int, job: Job[Any, Any], sink: OpenSink,
    remember: Listener | None = None,
) -> Ending:  # fmt: skip
    """Do the job, after what is known of some inputs before."""
    if begin is not None:
        begin(number)
    for outcome in before:
        hear(outcome)
        if outcome.error and fail_fast:
            return "failed fast"
    with sink.open():
        return engine.run(job, sink.sources, sink, hear if remember is None else _both(remember, hear))


def _both(first: Listener, second: Listener) -> Listener:
    def hear(outcome: Outcome) -> None:
        first(outcome)
        second(outcome)

    return hear


def _chosen(
    scorer: str | ScorerFunction | None, options: Mapping[str, Any], weights: Name | None
) -> tuple[str | ScorerFunction, Mapping[str, Any]]:
    """The scorer that is meant, and its options, its weights among them."""
    if weights is not None:
        if "weights" in options:
            raise InputError("weights and scorer_options: both name the weights: give one")
        check_types(weights=(weights, str | os.PathLike, "a name or a path"))
        options = {"weights": os.fspath(weights), **options}
    chosen = meant_scorer(options) if scorer is None else scorer
    if weights is not None and not (isinstance(chosen, str) and takes_weights(chosen, weights)):
        which = f"weights {weights}" if chosen == "object" else "weights"
        raise InputError(f'{which} belong to scorer="feature", not to {chosen!r}')
    return chosen, options


def _found(inputs: Name | Iterable[Name], relative_to: Name | None, part: Part | None) -> Found:
    found = find_sources(texts_of(inputs), IMAGE_SUFFIXES, relative_to=path_of("relative_to", relative_to))
    return found if part is None else part.of(found)


def _part(part: str | None) -> Part | None:
    if part is None:
        return None
    check_types(part=(part, str, "a text"))
    return parse_part(part, os.environ, "part")


def _destination(
    store: StoreName, format: FormatName, folder: Name | None, file: Name | None, dtype: PixelDtypeName | None,
    minima: MinimaName | None, shard_size: int | None, if_exists: IfExistsName,
) -> Destination:  # fmt: skip
    paths = path_of("output_dir", folder), path_of("output", file)
    return Destination(store, format, *paths, dtype, minima, shard_size, if_exists)


def _geometry(
    image_size: int | tuple[int, int] | str, num_tokens: int | str | None, threshold: float | None,
    fit: FitName | None, min_patch: int, max_patch: int,
) -> Geometry:  # fmt: skip
    budget = parse_budget(usual_budget(threshold) if num_tokens is None else str(num_tokens))
    return make_geometry(_size(image_size), budget, fit, min_patch, max_patch)


def _also_read(**given: Name | None) -> list[Path]:
    return [path for argument, name in given.items() if (path := path_of(argument, name)) is not None]


def _manifest(manifest: Name | bool, folder: Path | None) -> Path | None:
    """Where it is, if there is to be one."""
    if isinstance(manifest, bool):
        return folder / MANIFEST if manifest and folder is not None and not isinstance(folder, Url) else None
    return path_of("manifest", manifest)


def _scoring(
    scorer: str | ScorerFunction, options: Mapping[str, Any], maps: Name | None, points: Name | None, seed: int,
    sources: Sequence[Source], device: str,
) -> Scoring:  # fmt: skip
    if not isinstance(scorer, str):
        if isinstance(scorer, type):
            raise InputError(f"scorer {scorer!r} is a class: give an object of it")
        if maps is not None or points is not None or options:
            raise InputError("maps, points and scorer_options go with the name of a scorer; this one is made already")
        return scoring_of(scorer, device)
    return make_scoring(
        scorer, maps=path_of("maps", maps), points=path_of("points", points), seed=seed, options=options,
        sources=sources, device=device,
    )  # fmt: skip


def _check_types(
    seed: object, max_pixels: object, batch_size: object, options: Mapping[Any, Any], begin: object, progress: object,
    device: str,
) -> None:  # fmt: skip
    check_device_name(device)
    whole = (int, "an integer")
    check_types(seed=(seed, *whole), max_pixels=(max_pixels, *whole), batch_size=(batch_size, *whole))
    check_types(scorer_options=(options, Mapping, "a dict of options by their names"))
    check_types(**{f"the name of the option {name!r}": (name, str, "a text") for name in options})
    if begin is not None:
        check_types(begin=(begin, Callable, "a function of a number"))
    if progress is not None:
        check_types(progress=(progress, Callable, "a function of an outcome"))


def _check_switches(**given: object) -> None:
    """A text such as "no" would count as yes."""
    check_types(**{name: (value, bool, "True or False") for name, value in given.items()})


def _size(image_size: int | tuple[int, int] | str) -> tuple[int, int] | None:
    if not isinstance(image_size, tuple | list):
        return parse_size(str(image_size))
    if len(image_size) != 2:
        raise InputError(f"image_size {image_size} is none of a side, (height, width) and 'native'")
    height, width = image_size
    return height, width
