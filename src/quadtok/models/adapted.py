"""A pretrained ViT that reads mixed-resolution tokens: what is the same in every family of models.

The image never meets the model's patch convolution: each token's own p × p pixels do. Their positions are read at the
centres of their patches, and from there on the model's own blocks, norms and head run as they are. On the full grid
that is the model itself, in another order of tokens.

A family (`timm.py`, `torchvision.py`) puts `Adapted` in front of the library's class and says where its parts are.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError, described
from quadtok.models.attention import Attention, Layout, visible_keys
from quadtok.models.embed import embed_patches
from quadtok.models.reading import Reader
from quadtok.names import QuadtreeName
from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold
from quadtok.reversal import reverse
from quadtok.scorers import ScorerFunction
from quadtok.spec import Spec
from quadtok.tokens import Tokens

NEW_PARTS, SCALE_EMBEDDING, SUBPATCH = "quadtok", "scale_embedding", "subpatch"  # names in the state dict


class Adapted(nn.Module):
    """What `quadtok.models.adapt` gives: the model, of its own class, with its own weights, methods and state dict.

    Only what it takes is new. In every call:

    Args of a call:
        images: `[B, C, H, W]`, uint8, or floating and normalised as the *model* wants it. Or `Tokens`, whose patches
            must be on the scale 0…255, as those of uint8 images and of files are.
        plan: of these images, chosen before; of any image size. Nothing is scored.
        num_tokens: a budget for this call, in place of the spec's; `spec.num_cells` is the full grid, without scoring.
        threshold: split only what is above it, to at most that budget: images of several lengths.
        return_plan: give `(result, plan)`.
    """

    _reader: Reader
    _attention: Attention

    @classmethod
    def of(cls, model: nn.Module, reader: Reader, attention: Attention, parts: Mapping[str, nn.Module]) -> Self:
        """A deep copy of a model of the library's class, as one of this class: nothing is built anew.

        New parts are the children of one called `quadtok`.

        Raises:
            InputError: for a model that cannot be copied.
        """
        adapted = cls.__new__(cls)
        adapted.__dict__ = _copied(model).__dict__
        adapted._reader = reader
        adapted._attention = attention
        if parts:
            adapted.add_module(NEW_PARTS, nn.ModuleDict(parts))
        adapted._bring_scorer()
        return adapted

    @property
    def spec(self) -> Spec:
        """The integers of a run, where a call does not say otherwise."""
        return self._reader.spec

    @property
    def scorer(self) -> ScorerFunction:
        """What scores the images. It is no part of the module: not saved, not trained, not reached by `train()`."""
        return self._reader.scorer

    @property
    def quadtree(self) -> QuadtreeName:
        """The name of the quadtree."""
        return self._reader.quadtree

    def extra_repr(self) -> str:
        """Spec and quadtree: what the children do not show."""
        return f"spec={self.spec}\nquadtree={self.quadtree!r}"

    def forward(
        self,
        images: Tensor | Tokens,
        *,
        plan: Plan | None = None,
        num_tokens: int | None = None,
        threshold: Threshold | None = None,
        return_plan: bool = False,
    ) -> Any:
        """The model's own output: logits `[B, classes]` for most; see `Adapted` for the arguments."""
        features, plan = self.forward_features(
            images, plan=plan, num_tokens=num_tokens, threshold=threshold, return_plan=True
        )
        output = self.forward_head(features, plan=plan)
        return (output, plan) if return_plan else output

    def forward_features(
        self,
        images: Tensor | Tokens,
        *,
        plan: Plan | None = None,
        num_tokens: int | None = None,
        threshold: Threshold | None = None,
        return_plan: bool = False,
    ) -> Any:
        """`[B, P + N, D]`: the model's prefix tokens and the plan's, after its last norm; arguments as of `Adapted`."""
        embedded, plan = self._embedded(images, plan, num_tokens, threshold)
        (tokens,) = self._run(embedded, plan, [len(self._blocks()) - 1])
        features = self._last_norm(tokens)
        return (features, plan) if return_plan else features

    def forward_head(self, features: Tensor, pre_logits: bool = False, *, plan: Plan | None = None) -> Any:
        """Features to the model's output.

        Args:
            features: `[B, P + N, D]`, as `forward_features` gives them.
            pre_logits: what the classifier reads instead.
            plan: of the tokens. Without it the head takes all of them for valid.

        Returns:
            As the model's own.

        Raises:
            InputError: for a pool that takes no mask, where the plan has images of several lengths.
        """
        return self._head(features, None if plan is None else visible_keys(plan, self._num_prefix()), pre_logits)

    def forward_intermediates(
        self,
        images: Tensor | Tokens,
        indices: int | Sequence[int] | None = None,
        *,
        dense: bool = True,
        norm: bool = False,
        return_prefix_tokens: bool = False,
        intermediates_only: bool = False,
        plan: Plan | None = None,
        num_tokens: int | None = None,
        threshold: Threshold | None = None,
        return_plan: bool = False,
    ) -> Any:
        """What the tokens are after some of the blocks, as maps over the image.

        Args:
            images: as of `Adapted`, like `plan`, `num_tokens`, `threshold` and `return_plan`.
            indices: the last so many blocks, or the numbers of blocks (negative from the end); None for all.
            dense: maps `[B, D, H/p, W/p]`, each token over its cells; or the tokens `[B, N, D]`.
            norm: apply the model's last norm.
            return_prefix_tokens: pairs of each and the prefix tokens `[B, P, D]`.
            intermediates_only: without the features behind the last norm `[B, P + N, D]`, which else come first.
            plan: see `Adapted`.
            num_tokens: see `Adapted`.
            threshold: see `Adapted`.
            return_plan: see `Adapted`.

        Returns:
            A list, in the order of the blocks; or `(features, list)`.

        Raises:
            InputError: for a block that there is not.
        """
        embedded, plan = self._embedded(images, plan, num_tokens, threshold)
        last = len(self._blocks()) - 1
        taken = _taken(indices, last + 1)
        ends = self._run(embedded, plan, taken if intermediates_only else sorted({*taken, last}))
        outputs = [self._split(self._last_norm(end) if norm else end, plan, dense) for end in ends[: len(taken)]]
        maps = outputs if return_prefix_tokens else [output for output, _ in outputs]
        result = maps if intermediates_only else (self._last_norm(ends[-1]), maps)
        return (result, plan) if return_plan else result

    def _split(self, tokens: Tensor, plan: Plan, dense: bool) -> tuple[Tensor, Tensor]:
        """The plan's tokens, over the image or in a row, and the prefix tokens."""
        prefix, own = tokens[:, : self._num_prefix()], tokens[:, self._num_prefix() :]
        return reverse(own, plan) if dense else own, prefix

    def _embedded(
        self, images: Tensor | Tokens, plan: Plan | None, num_tokens: int | None, threshold: Threshold | None
    ) -> tuple[Tensor, Plan]:
        """`[B, N, D]`: the patches as the model's convolution embeds them, and what new parts add; and the plan."""
        patches, plan = self._reader.read(images, plan, num_tokens, threshold)
        conv, parts = self._patch_conv(), self._new_parts()
        if patches.device != conv.weight.device:
            raise InputError(
                f"the images are on {patches.device}, the model is on {conv.weight.device}: move one (model.to)"
            )
        embedded = embed_patches(patches.to(conv.weight.dtype), conv.weight, conv.bias)
        if SCALE_EMBEDDING in parts:
            embedded = embedded + parts[SCALE_EMBEDDING](plan)
        if SUBPATCH in parts:
            pixels = self._reader.whole(images).to(conv.weight.dtype)
            embedded = embedded + parts[SUBPATCH](F.conv2d(pixels, conv.weight, conv.bias, conv.stride), plan)
        return embedded, plan

    def _run(self, embedded: Tensor, plan: Plan, wanted: Sequence[int]) -> list[Tensor]:
        """`[B, P + N, D]` after each of the wanted blocks, whose numbers rise; blocks after the last do not run."""
        tokens = self._place(embedded, plan)
        layout = self._attention.layout(plan, self._num_prefix(), self._can_pack())
        context = self._context(plan, layout, tokens.dtype)
        tokens, ends = layout.arrange(tokens), []
        for number, block in enumerate(self._blocks()[: wanted[-1] + 1]):
            tokens = self._step(tokens, block, number, context)
            if number in wanted:
                ends.append(layout.restore(tokens))
        return ends

    def _new_parts(self) -> nn.ModuleDict | dict[str, nn.Module]:
        return getattr(self, NEW_PARTS, {})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `cuda`, `to_empty` and a model around this module call: a scorer with a net goes along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._bring_scorer()
        return self

    def _bring_scorer(self) -> None:
        self._reader = self._reader.on(self._patch_conv().weight.device)

    # What a family says of its class.

    @abstractmethod
    def _patch_conv(self) -> nn.Conv2d:
        """The patch convolution, whose weights embed the patches."""

    @abstractmethod
    def _num_prefix(self) -> int:
        """P: how many tokens stand before the patches'."""

    @abstractmethod
    def _place(self, embedded: Tensor, plan: Plan) -> Tensor:
        """Embedded patches `[B, N, D]` with positions, behind the prefix tokens: what the first block takes."""

    @abstractmethod
    def _blocks(self) -> Sequence[nn.Module]:
        """The blocks, first to last."""

    @abstractmethod
    def _can_pack(self) -> bool:
        """Whether all blocks hand their mask on to torch's attention, so that images can be packed."""

    @abstractmethod
    def _context(self, plan: Plan, layout: Layout, dtype: torch.dtype) -> Any:
        """What every block is told of the tokens, which are of this type."""

    @abstractmethod
    def _step(self, tokens: Tensor, block: nn.Module, number: int, context: Any) -> Tensor:
        """One block."""

    @abstractmethod
    def _last_norm(self, tokens: Tensor) -> Tensor:
        """The model's norm behind its last block; `[B, P + N, D]` both."""

    @abstractmethod
    def _head(self, features: Tensor, keys: Tensor | None, pre_logits: bool) -> Any:
        """`forward_head`; `keys` `[B, P + N]` says which tokens are there, None all of them."""

    @abstractmethod
    def _run_original(self, model: Any, images: Tensor) -> tuple[Tensor, Any]:
        """What the library's own code makes of images `[B, C, H, W]`: features `[B, P + N, D]`, and the output."""


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as problem:  # of many types: what a model may hold is its owner's affair
        raise InputError(
            "the model holds what Python cannot copy, such as weights that hooks compute (weight_norm, pruning): "
            f"take that off first ({described(problem)})"
        ) from problem


def _taken(indices: int | Sequence[int] | None, depth: int) -> list[int]:
    """The numbers of blocks that are asked for, rising."""
    if indices is None:
        return list(range(depth))
    if isinstance(indices, int):
        if not 1 <= indices <= depth:
            raise InputError(f"indices {indices} asks for the last {indices} blocks, the model has {depth}")
        return list(range(depth - indices, depth))
    numbers = list(indices)
    if not numbers or not all(-depth <= number < depth for number in numbers):
        raise InputError(f"indices {numbers} must name blocks of the model's {depth}: 0 to {depth - 1}")
    return sorted({number % depth for number in numbers})
