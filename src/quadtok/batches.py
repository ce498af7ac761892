"""Tokens of several images, or batches, as one batch: what a loader of token files wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok.errors import InputError
from quadtok.plan import Plan
from quadtok.spec import Spec
from quadtok.tokens import Tokens


def collate(parts: Sequence[Tokens]) -> Tokens:
    """One batch of several, padded to the longest image; `DataLoader(files, collate_fn=collate)`.

    Args:
        parts: of one geometry (height, width, min_patch, max_patch), with any number of tokens; all with patches (of
            one dtype and number of channels) or all without, on one device.

    Returns:
        All images, in order. `plan.lengths` where their numbers of tokens differ; slots behind them are 0 (see `Plan`).
        `saliency` where every part has it; no metadata. `tokens.unpadded(i)` is the i-th image again.

    Raises:
        InputError: where there is none, or they do not fit together.
    """
    parts = list(parts)
    if not parts:
        raise InputError("there are no tokens to put together: give one Tokens at least")
    for number, part in enumerate(parts):
        if not isinstance(part, Tokens):
            raise InputError(f"part {number} is {type(part).__name__}: collate takes Tokens (load_tokens, tokenize)")
        _check_alike(part, parts[0], number)
    longest = max(part.plan.max_seqlen() for part in parts)
    plan = _one_plan([part.plan for part in parts], replace(parts[0].plan.spec, num_tokens=longest))
    patches = [part.patches for part in parts if part.patches is not None]
    return Tokens(
        plan,
        torch.cat([_resized(batch, longest) for batch in patches]) if patches else None,
        _one_saliency([part.saliency for part in parts]),
    )


def _check_alike(part: Tokens, first: Tokens, number: int) -> None:
    """Refuse what cannot stand in one batch with the first."""
    for what, ours, theirs in (
        ("a geometry of", _geometry(part.plan.spec), _geometry(first.plan.spec)),
        ("patches of", _kind(part.patches), _kind(first.patches)),
        ("its plan on", part.plan.scale.device, first.plan.scale.device),
    ):
        if ours != theirs:
            raise InputError(f"part {number} has {what} {ours}, part 0 {theirs}: one batch holds one kind")


def _geometry(spec: Spec) -> str:
    return f"{spec.height}×{spec.width} in patches of {spec.min_patch} to {spec.max_patch}"


def _kind(patches: Tensor | None) -> str:
    return "no pixels" if patches is None else f"{patches.dtype} {list(patches.shape[2:])} on {patches.device}"


def _one_plan(plans: Sequence[Plan], spec: Spec) -> Plan:
    left, top, scale = (
        torch.cat([_resized(getattr(plan, name), spec.num_tokens) for plan in plans])
        for name in ("left", "top", "scale")
    )
    if all(plan.lengths is None and plan.spec == spec for plan in plans):
        return Plan(left, top, scale, spec)
    lengths = torch.cat([plan.valid.sum(dim=1) for plan in plans])
    return Plan(left, top, scale, spec, lengths)


def _resized(values: Tensor, slots: int) -> Tensor:
    """`[B, N, …]` → `[B, slots, …]`: 0 behind what there is; what is cut off is padding."""
    behind = slots - values.shape[1]
    return F.pad(values, (0, 0) * (values.ndim - 2) + (0, behind)) if behind > 0 else values[:, :slots]


def _one_saliency(parts: Sequence[list[Tensor] | None]) -> list[Tensor] | None:
    known = [saliency for saliency in parts if saliency is not None]
    return [torch.cat(scores) for scores in zip(*known, strict=True)] if len(known) == len(parts) else None
