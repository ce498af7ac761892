"""What is asked of a plan's integers: whether they are any, whether boxes tile an image, whether two are the same."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.spec import Spec
from quadtok.zorder import number_of_cells

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


def integers_of(fields: dict[str, object], within_memory: bool = False) -> dict[str, Tensor]:
    """The fields of a plan from elsewhere, as int64; without those that are None.

    Args:
        fields: by the names that `Plan` gives them.
        within_memory: refuse a tensor that is larger than its memory: a file of a kilobyte can declare a terabyte of
            one number.

    Raises:
        InputError: naming the field that is no dense tensor of integers, and what it is.
    """
    integers = {}
    for name, field in fields.items():
        if field is None and name == "lengths":
            continue
        found = field.dtype if isinstance(field, Tensor) else type(field).__name__
        if not isinstance(field, Tensor) or found not in INTEGERS:
            unit = "tokens of an image" if name == "lengths" else "pixels; scale 0 for the finest"
            raise InputError(f"{name} of a plan must be integers ({unit}), got {found}")
        _check_memory(name, field, within_memory)
        integers[name] = field.long()
    return integers


def _check_memory(name: str, field: Tensor, within_memory: bool) -> None:
    where = f"{name} of a plan must be numbers in memory, got"
    if field.layout != torch.strided or field.is_meta or field.is_nested:
        raise InputError(f"{where} a tensor {'nested' if field.is_nested else field.layout} on {field.device}")
    if within_memory and field.numel() * field.element_size() > field.untyped_storage().nbytes():
        raise InputError(f"{where} {list(field.shape)} of fewer: give .clone()")


def check_tiling(left: Tensor, top: Tensor, scale: Tensor, lengths: Tensor | None, spec: Spec) -> None:
    """Look at the values: every patch on its own grid, and every cell of every image covered exactly once.

    Args:
        left: `[B, N]` integers, pixels.
        top: likewise.
        scale: likewise, 0 = finest.
        lengths: `[B]`, how many of the N are tokens; the slots behind them must be 0. None: all.
        spec: of N tokens.

    Raises:
        InputError: naming the first token that breaks the rule.
    """
    fields = {"left": left, "top": top, "scale": scale}
    batch = left.shape[0] if left.ndim else 1
    _check_shapes(fields, (batch, spec.num_tokens))
    is_token = torch.ones_like(left, dtype=torch.bool)
    if lengths is not None:
        _check_lengths(lengths, left, spec)
        is_token = torch.arange(spec.num_tokens, device=left.device) < lengths[:, None]
        _check_padding(fields, is_token)
    _check_places(left, top, scale, spec)
    # With every patch on its own grid, two patches are disjoint or nested: distinct first cells whose runs of
    # cells add up to the whole line leave no room for either an overlap or a gap.
    cell = number_of_cells(top // spec.min_patch, left // spec.min_patch, spec)
    first, order = torch.where(is_token, cell, spec.num_cells).sort(dim=1)
    run = torch.where(is_token.gather(1, order), 1 << (2 * scale.gather(1, order)), 0)
    following = torch.cat([first[:, 1:], torch.full_like(first[:, :1], spec.num_cells)], dim=1)
    broken = (first + run != following) | (first[:, :1] != 0)
    if broken.any():
        image, place = broken.nonzero()[0].tolist()
        token = int(order[image, place])
        raise InputError(f"tokens do not tile image {image} exactly once: the break is at token {token}")


def _check_shapes(fields: dict[str, Tensor], shape: tuple[int, int]) -> None:
    device = fields["left"].device
    for name, field in fields.items():
        if tuple(field.shape) != shape:
            raise InputError(f"{name} has shape {list(field.shape)}, the spec asks for {list(shape)}")
        if field.device != device:
            raise InputError(f"{name} lies on {field.device} and left on {device}: move one of them")


def _check_lengths(lengths: Tensor, left: Tensor, spec: Spec) -> None:
    if tuple(lengths.shape) != (left.shape[0],):
        raise InputError(f"lengths have shape {list(lengths.shape)}, there are {left.shape[0]} images")
    if lengths.device != left.device:
        raise InputError(f"lengths lie on {lengths.device} and left on {left.device}: move one of them")
    wrong = (lengths < spec.num_roots) | (lengths > spec.num_tokens)
    if wrong.any():
        image = int(wrong.nonzero()[0])
        raise InputError(
            f"image {image} has {int(lengths[image])} tokens: it must have {spec.num_roots} (the roots) to "
            f"{spec.num_tokens} (num_tokens)"
        )


def _check_padding(fields: dict[str, Tensor], is_token: Tensor) -> None:
    for name, field in fields.items():
        wrong = ~is_token & (field != 0)
        if wrong.any():
            image, slot = wrong.nonzero()[0].tolist()
            raise InputError(f"{name} of slot {slot} of image {image} is {int(field[image, slot])}: padding must be 0")


def _check_places(left: Tensor, top: Tensor, scale: Tensor, spec: Spec) -> None:
    known = scale.clamp(0, spec.num_scales - 1)
    size = spec.min_patch << known
    fits = (known == scale) & (left % size == 0) & (top % size == 0)
    fits &= (left >= 0) & (left <= spec.width - size)
    fits &= (top >= 0) & (top <= spec.height - size)
    if not fits.all():
        image, token = (~fits).nonzero()[0].tolist()
        raise InputError(f"token {token} of image {image} lies off the grid of its scale or outside the image")


def same_integers(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors hold the same numbers, wherever they lie. Waits for the devices.

    Raises:
        InputError: on the device meta, which holds no numbers.
    """
    if ours is theirs or ours.shape != theirs.shape:
        return ours is theirs
    if ours.is_meta or theirs.is_meta:
        raise InputError("plans on the device meta hold no numbers that could be compared")
    return torch.equal(ours.long(), theirs.to(ours.device).long())
