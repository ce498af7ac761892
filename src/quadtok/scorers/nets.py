"""Scorers that look through a network: their options, where it lies, what files of weights are, and their digests."""

from __future__ import annotations

import copy
import hashlib
import itertools
import operator
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from quadtok.errors import InputError, WeightsError, about, described
from quadtok.files import load_safely
from quadtok.pixels import check_images
from quadtok.scorers.base import Described
from quadtok.spec import Spec

Net = TypeVar("Net", bound=nn.Module)
Choice = TypeVar("Choice", str, int)


class NetScorer(Described):
    """A scorer that has a network: on the CPU, or where its weights lie.

    Nothing of it changes when it scores, so threads may share it; `to` gives one that is elsewhere.

    Attributes:
        device: where its net is; None for a net without weights, which is everywhere.
        weights: their name or path.
        weights_sha256: of their names and values.
    """

    kind: str  # of scorer, for sentences
    weights: str
    weights_sha256: str
    device: torch.device | None
    _net: nn.Module
    _channels: int | None  # that the net takes; None where nobody knows

    def to(self, device: torch.device | str) -> Self:
        """This scorer on another device: itself where it is there already, else a copy. This one stays where it is.

        Raises:
            InputError: for a device that is not there.
        """
        if self.device is None or str(self.device) == str(device):
            return self
        moved = copy.copy(self)
        try:
            moved._net = copy.deepcopy(self._net).to(device)
        except (RuntimeError, AssertionError) as problem:  # an AssertionError where torch was built without CUDA
            reason = str(problem).partition("\n")[0]
            raise InputError(f"the {self.kind} scorer cannot be moved to device {device}: {reason}") from problem
        moved.device = device_of(moved._net)
        return moved

    def _check(self, images: Tensor, spec: Spec) -> None:
        check_images(images, spec)
        if self._channels is not None and images.shape[1] != self._channels:
            raise InputError(
                f"the {self.kind} scorer's net takes {self._channels} channels, the images have {images.shape[1]}: "
                f"give images of {self._channels}, or choose a scorer without a net, such as blur"
            )
        if self.device is not None and images.device != self.device:
            raise InputError(
                f"the {self.kind} scorer is on {self.device}, the images are on {images.device}: "
                f'use scorer.to("{images.device}"), once'
            )


def chosen(option: str, value: object, choices: Collection[Choice]) -> Choice:
    """The choice that a value is. Integers may be of any type, numpy's too: what is handed back is Python's.

    Raises:
        InputError: where it is none.
    """
    found = value if isinstance(value, str) else _index(value)
    for choice in choices:
        if found == choice:
            return choice
    raise InputError(f"{option} {value!r} is none of {', '.join(map(str, choices))}")


def name_of_weights(weights: object) -> str:
    """A name, or a path as a text.

    Raises:
        InputError: where it is neither.
    """
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"weights must be a name or a path, got {weights!r}")
    return os.fsdecode(weights)


@contextmanager
def made_where_torch_lets(what: str) -> Iterator[None]:
    """A net is made in the block. Where it cannot be, as in an export, a transform or a mode, that is one sentence.

    Args:
        what: is made: "a feature scorer".

    Raises:
        InputError: with what to do instead.
    """
    if torch.compiler.is_exporting():
        raise InputError(f"{what} cannot be made while torch exports: make it before, and pass it on")
    try:
        yield
    except (RuntimeError, AssertionError) as problem:  # what it is in a mode or a transform, torch says in many ways
        raise InputError(
            f"{what} cannot be made here ({described(problem)}): inside a transform or a mode of torch "
            "make it before, and pass it on"
        ) from problem


def device_of(net: nn.Module) -> torch.device | None:
    """Where its weights lie; None where it has none."""
    return next((tensor.device for tensor in itertools.chain(net.parameters(), net.buffers())), None)


def read_state(path: Path, names: str = "bundled") -> Mapping[str, Tensor]:
    """A state dict from a file, loaded without running anything in it.

    Args:
        path: of the file.
        names: of weights that are no files, for the error.

    Raises:
        WeightsError: where there is no such file or it is no state dict.
    """
    with about(f"weights {path}"):
        if not os.path.exists(path):
            raise WeightsError(f"no such file; give {names} or the path of a state dict")
        state = load_safely(path, WeightsError, "not a state dict that can be loaded safely")
        if not isinstance(state, Mapping) or not all(map(_is_named_tensor, state.items())):
            raise WeightsError("not a state dict (a mapping of names to tensors)")
        return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, the same however the file around them was written."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_net(make: Callable[[], Net], state: Mapping[str, Tensor], name: str, kind: str, optional: str = "\0") -> Net:
    """A frozen net with these weights, on the CPU and in float32, whatever torch's defaults are.

    It is made without memory and then handed the weights: so no number is drawn at random on the way, and nothing is
    rounded to a default dtype or lost on a default device.

    Args:
        make: the net's constructor.
        state: its weights, of which every one must be there and fit.
        name: the file, for the error.
        kind: what it should have been, for the error.
        optional: weights whose names begin so may be there or not, and are left out: the net has none there.

    Raises:
        WeightsError: where one is missing, unknown, of another shape, or holds other than finite numbers.
    """
    with torch.device("meta"):
        net = make()
    wanted = {key: value for key, value in net.state_dict().items() if not key.startswith(optional)}
    given = {key: value for key, value in state.items() if not key.startswith(optional)}
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    shared = sorted(wanted.keys() & given.keys())
    odd = [key for key in shared if not _is_plain(given[key]) or not _is_as_real(given[key], wanted[key])]
    plain = [key for key in shared if key not in odd]
    misshapen = [key for key in plain if wanted[key].shape != given[key].shape]
    weights = {key: _own_float32(given[key]) for key in plain}
    infinite = [key for key, value in weights.items() if not value.isfinite().all()]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    for label, keys in (faults | {"not plain numbers": odd, "not finite": infinite}).items():
        if keys:
            raise WeightsError(
                f"weights {name}: not {kind}: {len(keys)} of {len(wanted)} tensors {label}, first {keys[0]}"
            )
    put_weights(net, weights)
    return net


def put_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make these tensors the net's parameters, frozen, and its buffers.

    Neither by `load_state_dict` nor by assignment: tools that build models without memory (`init_empty_weights`) watch
    these, and would take the numbers away.
    """
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        owner = net.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[leaf] = value


def _index(value: object) -> int | None:
    """An integer of any type as Python's; None for all else, and for truth values."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # it may be any
    except TypeError:
        return None


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _is_plain(tensor: Tensor) -> bool:
    """Whether these are numbers in memory: not sparse, nested, quantised, complex, or without data."""
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return is_dense and not tensor.is_quantized and not tensor.is_complex()


def _is_as_real(given: Tensor, wanted: Tensor) -> bool:
    """Whether these can stand for what is wanted: where that is floating, only floating ones can."""
    return given.is_floating_point() or not wanted.is_floating_point()


def _own_float32(tensor: Tensor) -> Tensor:
    """A contiguous copy; floats become float32, a counter stays an integer."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
