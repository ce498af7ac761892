"""Runs of their own: what cannot be tried beside others, since it ends a run, or needs flags."""

import errno
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import bad_images
from bad.inputs import flat, small
from quadtok import load_tokens


@dataclass(frozen=True)
class Bench:
    """What a run is done with.

    Attributes:
        quadtok: calls the command line in this process.
        folder: an empty one.
        photo: a sound photograph, elsewhere.
        patch: takes back what was changed.
    """

    quadtok: Callable[..., Any]
    folder: Path
    photo: Path
    patch: pytest.MonkeyPatch

    def tokenize(self, *arguments: object) -> Any:
        return self.quadtok("tokenize", "--scorer", "blur", *arguments)


def on_open(bench: Bench, path: Path, act: Callable[[], None]) -> None:
    """Do this whenever this file is about to be opened."""
    really_open = os.open

    def opened(name: Any, *arguments: Any, **keywords: Any) -> int:
        if name == path:
            act()
        return really_open(name, *arguments, **keywords)

    bench.patch.setattr(os, "open", opened)


def no_permission(bench: Bench) -> Any:
    """Simulated, since tests may run as root, who may read everything."""

    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    on_open(bench, bench.photo, refuse)
    return bench.tokenize(small(bench.folder), bench.photo)


def a_file_that_vanishes(bench: Bench) -> Any:
    on_open(bench, bench.photo, lambda: bench.photo.unlink(missing_ok=True))
    return bench.tokenize(bench.photo, small(bench.folder))


def a_file_that_changes(bench: Bench) -> Any:
    on_open(bench, bench.photo, lambda: bad_images.photo(70, 70).save(bench.photo, "JPEG"))
    result = bench.tokenize(bench.photo)
    assert load_tokens(bench.photo.with_suffix(".pt")).metadata["source"]["size"] == [70, 70]
    return result


def max_pixels(bench: Bench) -> Any:
    return bench.tokenize(bench.photo, "--max-pixels", 14_999)  # it has 150 × 100


def an_empty_folder(bench: Bench) -> Any:
    return bench.tokenize(bench.folder)


def a_glob_without_matches(bench: Bench) -> Any:
    return bench.tokenize(f"{bench.folder}/*.jpg")


def two_roots_with_one_name(bench: Bench) -> Any:
    names = [small(bench.folder / root, "cat.png") for root in "ab"]
    result = bench.tokenize(*(name.parent for name in names), "-o", bench.folder / "out")
    assert not (bench.folder / "out").exists()
    return result


def names_that_differ_in_case(bench: Bench) -> Any:
    small(bench.folder, "cat.png")
    small(bench.folder, "CAT.png")
    really_samefile = os.path.samefile
    swapped = bench.folder.name.swapcase()
    bench.patch.setattr(
        os.path, "samefile", lambda one, other: Path(other).name == swapped or really_samefile(one, other)
    )
    return bench.tokenize(bench.folder, "-o", bench.folder / "out")


def a_leading_dash(bench: Bench) -> Any:
    small(bench.folder, "-dash.png")
    bench.patch.chdir(bench.folder)
    return bench.tokenize("--", "-dash.png")


def a_list_of_odd_names(bench: Bench) -> Any:
    path = small(bench.folder, os.fsdecode(b"caf\xe9\n.png"))
    bench.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(path) + b"\0")))
    return bench.tokenize("-0", "-")


def an_output_name_that_is_too_long(bench: Bench) -> Any:
    return bench.tokenize(small(bench.folder, "x" * 251 + ".png"), bench.photo, "--keep-ext")


def the_same_again(bench: Bench) -> Any:
    bench.tokenize(bench.photo)
    return bench.tokenize(bench.photo)


def other_settings(bench: Bench) -> Any:
    bench.tokenize(bench.photo)
    before = bench.photo.with_suffix(".pt").read_bytes()
    result = bench.tokenize(bench.photo, "-n", 64)
    assert bench.photo.with_suffix(".pt").read_bytes() == before
    return result


def a_foreign_output(bench: Bench) -> Any:
    bench.photo.with_suffix(".pt").write_text("mine")
    result = bench.tokenize(bench.photo)
    assert bench.photo.with_suffix(".pt").read_text() == "mine"
    return result


def an_output_that_is_a_folder(bench: Bench) -> Any:
    bench.photo.with_suffix(".pt").mkdir()
    return bench.tokenize(bench.photo, small(bench.folder))


def a_named_output_that_is_a_folder(bench: Bench) -> Any:
    return bench.tokenize(bench.photo, "--output", bench.folder)


def an_output_folder_that_is_a_file(bench: Bench) -> Any:
    (bench.folder / "file").touch()
    return bench.tokenize(bench.photo, "-o", bench.folder / "file")


def a_read_only_folder(bench: Bench) -> Any:
    """Simulated, since root may write everywhere."""
    really_access = os.access
    bench.patch.setattr(
        os, "access", lambda path, mode, **more: not mode & os.W_OK and really_access(path, mode, **more)
    )
    return bench.tokenize(bench.photo, "-o", bench.folder)


def an_output_that_is_an_input(bench: Bench) -> Any:
    photo = bench.photo.rename(bench.photo.with_suffix(".pt"))
    before = photo.read_bytes()
    result = bench.tokenize(photo, "--output", photo)
    assert photo.read_bytes() == before
    return result


def a_full_disk(bench: Bench) -> Any:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("a.png", "b.png"):
        small(bench.folder, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = bench.tokenize(bench.folder, "-b", 1)
    assert not list(bench.folder.glob(".quadtok-*")) and not list(bench.folder.glob("*.pt"))
    assert bench.tokenize(bench.folder).code == 0
    return result


def tokenize_with(*arguments: object) -> Callable[[Bench], Any]:
    """A photograph and these flags; it is not even opened."""

    def run(bench: Bench) -> Any:
        def opened() -> None:
            raise AssertionError("the photograph was opened")

        on_open(bench, bench.photo, opened)
        return bench.tokenize(bench.photo, *arguments)

    return run


def no_weights_and_no_network(bench: Bench) -> Any:
    bench.patch.setenv("TORCH_HOME", str(bench.folder))
    bench.patch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    bench.patch.delenv("no_proxy", raising=False)
    return bench.quadtok("tokenize", bench.photo, "--scorer", "feature", "--weights", "imagenet")


def weights_of(content: bytes | None) -> Callable[[Bench], Any]:
    def run(bench: Bench) -> Any:
        path = bench.folder / "weights.pt"
        torch.save({"layer.weight": torch.zeros(3)}, path)
        if content is not None:
            path.write_bytes(content)
        return bench.quadtok("tokenize", bench.photo, "--weights", path)

    return run


def a_map(values: Callable[[], torch.Tensor] | None) -> Callable[[Bench], Any]:
    """Of a photograph, beside one that has a good map."""

    def run(bench: Bench) -> Any:
        maps = bench.folder / "maps"
        maps.mkdir()
        torch.save(torch.rand(16, 16), maps / "small.pt")
        if values is not None:
            torch.save(values(), maps / bench.photo.with_suffix(".pt").name)
        inputs = [bench.photo, small(bench.folder)]
        return bench.quadtok("tokenize", *inputs, "--scorer", "precomputed", "--maps", maps)

    return run


def features_of(*shape: int) -> Callable[[Bench], Any]:
    """Given with one token file of 100 tokens."""

    def run(bench: Bench) -> Any:
        bench.tokenize(bench.photo)
        torch.save(torch.rand(*shape), bench.folder / "features.pth")
        given = [bench.photo.with_suffix(".pt"), "--to", "features", "--features", bench.folder / "features.pth"]
        return bench.quadtok("reverse", *given)

    return run


def flat_by_every_quadtree(bench: Bench) -> Any:
    path, files = flat(bench.folder), set()
    for name in ("dict", "tensor", "zcurve", "parallel"):
        result = bench.tokenize(path, "--impl", name, "--overwrite")
        files.add(path.with_suffix(".pt").read_bytes())
    assert len(files) == 1
    # The first root in z-order is split first, and of its patches the first.
    assert load_tokens(path.with_suffix(".pt")).plan.scale[0, :4].tolist() == [0, 0, 0, 0]
    return result


def another_torchvision(bench: Bench) -> Any:
    import builtins

    really_import = builtins.__import__

    def broken(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return really_import(name, *arguments, **keywords)

    bench.patch.setattr(builtins, "__import__", broken)
    assert bench.tokenize(bench.photo).code == 0
    return bench.quadtok("tokenize", bench.photo, "--overwrite", "--weights", "imagenet")


def a_copied_tree(bench: Bench) -> Any:
    bench.tokenize(bench.photo)
    os.utime(bench.photo, (1, 1))
    os.utime(bench.photo.with_suffix(".pt"), (2**31, 2**31))
    return bench.tokenize(bench.photo)


def a_set_back_clock(bench: Bench) -> Any:
    """A manifest goes by sizes and times: what was touched is read again, and found to be the same."""
    manifest = ["--manifest", bench.folder / "manifest.jsonl"]
    bench.tokenize(bench.photo, *manifest)
    os.utime(bench.photo, (1, 1))
    return bench.tokenize(bench.photo, *manifest)
