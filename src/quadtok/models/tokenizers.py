"""The two tokenizers as modules: mixed-resolution tokens, and the uniform grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.models.embed import PatchEmbedding, check_embed_dim, sinusoidal_embedding
from quadtok.names import DEFAULT_QUADTREE, DEFAULT_SCORER, QuadtreeName
from quadtok.patches import extract_patches
from quadtok.pixels import check_images, standardize
from quadtok.plan import Plan
from quadtok.quadtrees import get_quadtree
from quadtok.quadtrees.base import check_threshold
from quadtok.scorers import ScorerFunction, get_scorer, on_device
from quadtok.scorers.base import Described
from quadtok.spec import Spec
from quadtok.tokens import choose


class QuadtreeTokenizer(nn.Module):
    """Mixed-resolution tokens: quadtree patches, embedded, with sinusoidal positions and a cls token in front.

    Args:
        spec: the integers of the run.
        scorer: a name for `get_scorer`, or any function (images, spec) → saliency. It is held outside the module's
            own registry: its weights are neither trained nor saved, and `train()` does not reach it. Only to another
            device a scorer with a net goes along.
        embed_dim: D, even.
        in_channels: C.
        quadtree: a name for `get_quadtree`.
        threshold: split only what has a larger saliency; `spec.num_tokens` is then the most, and the rest of the N
            tokens of an image is 0. Ask for the plan: its `valid` says which are tokens.

    The state dict holds the learned weights alone: `patch_embed.proj.weight`, `patch_embed.proj.bias`, `cls_token`
    (timm's names). Positions are patch centres in units of `min_patch`.
    """

    def __init__(
        self,
        spec: Spec,
        scorer: str | ScorerFunction = DEFAULT_SCORER,
        *,
        embed_dim: int = 768,
        in_channels: int = 3,
        quadtree: QuadtreeName = DEFAULT_QUADTREE,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        get_quadtree(quadtree)
        check_embed_dim(embed_dim)
        check_threshold(threshold)
        self.spec = spec
        self.quadtree = quadtree
        self.threshold = threshold
        self.patch_embed = PatchEmbedding(in_channels, spec.min_patch, embed_dim)
        self.cls_token = _cls_token(embed_dim)
        # Inside a tuple, so that `nn.Module` does not adopt a scorer that is a module itself; read it as `scorer`.
        self._scorer = (get_scorer(scorer) if isinstance(scorer, str) else scorer,)
        self._bring_scorer()

    @property
    def scorer(self) -> ScorerFunction:
        """What scores the images: the one that was given, or made by its name, on the device of the weights."""
        return self._scorer[0]

    def extra_repr(self) -> str:
        """Spec, scorer and quadtree: what the children do not show."""
        threshold = "" if self.threshold is None else f"\nthreshold={self.threshold}"
        return f"spec={self.spec}\nscorer={_words(self.scorer)}\nquadtree={self.quadtree!r}{threshold}"

    @overload
    def forward(self, images: Tensor, return_plan: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, images: Tensor, return_plan: Literal[True]) -> tuple[Tensor, Plan]: ...
    def forward(self, images: Tensor, return_plan: bool = False) -> Tensor | tuple[Tensor, Plan]:
        """`[B, C, H, W]`, normalised floats or uint8, → tokens `[B, 1 + N, D]`, cls first; on request the plan too."""
        check_images(images, self.spec)
        plan, _ = choose(images, self.spec, self.scorer, self.quadtree, self.threshold)
        patches = _in_weights_dtype(extract_patches(images, plan), images, self.patch_embed)
        tokens = _assemble(self.patch_embed(patches), plan.centers, self.cls_token)
        if plan.lengths is not None:
            tokens = tokens.masked_fill(~F.pad(plan.valid, (1, 0), value=True)[..., None], 0)
        return (tokens, plan) if return_plan else tokens

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `cuda`, `to_empty` and a model around this module call."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._bring_scorer()
        return self

    def _bring_scorer(self) -> None:
        """To the device of the weights. But not to "meta": it would lose its own, which no state dict brings back."""
        device = self.cls_token.device
        if device.type != "meta":
            self._scorer = (on_device(self.scorer, device),)


class VanillaTokenizer(nn.Module):
    """The uniform grid of `patch_size` patches in raster order, embedded in the same way: the ViT's own tokens.

    Args:
        patch_size: p, in pixels.
        embed_dim: D, even.
        in_channels: C.

    Positions are integer (column, row), without the half offset of `QuadtreeTokenizer`: models trained with the paper's
    code expect this difference.
    """

    def __init__(self, patch_size: int = 16, *, embed_dim: int = 768, in_channels: int = 3) -> None:
        super().__init__()
        check_embed_dim(embed_dim)
        self.patch_size = patch_size
        self.patch_embed = PatchEmbedding(in_channels, patch_size, embed_dim)
        self.cls_token = _cls_token(embed_dim)

    def extra_repr(self) -> str:
        """The side of a patch."""
        return f"patch_size={self.patch_size}"

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]`, normalised floats or uint8, → tokens `[B, 1 + H/p * W/p, D]`, cls first."""
        check_images(images)
        batch, channels, height, width = images.shape
        size = self.patch_size
        if height % size or width % size:
            raise InputError(f"images are {height}×{width}: both sides must be multiples of patch_size {size}")
        rows, cols = height // size, width // size
        patches = images.view(batch, channels, rows, size, cols, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [B, rows*cols, C, p, p]
        row, col = torch.meshgrid(*(torch.arange(n, device=images.device) for n in (rows, cols)), indexing="ij")
        positions = torch.stack([col, row], dim=-1).view(1, -1, 2).expand(batch, -1, -1)
        embedded = self.patch_embed(_in_weights_dtype(patches, images, self.patch_embed))
        return _assemble(embedded, positions, self.cls_token)


def _words(scorer: ScorerFunction) -> str:
    """A line for a scorer: a function's name; a module's whole tree would be one for a page."""
    return repr(scorer) if isinstance(scorer, Described) else getattr(scorer, "__qualname__", type(scorer).__qualname__)


def _cls_token(embed_dim: int) -> nn.Parameter:
    """`[1, 1, D]`, drawn as timm draws it."""
    return nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)


def _in_weights_dtype(patches: Tensor, images: Tensor, patch_embed: PatchEmbedding) -> Tensor:
    """The patches `[B, N, C, p, p]`, normalised if the images were bytes, in the dtype of the learned weights."""
    values = patches if images.is_floating_point() else standardize(patches)
    return values.to(patch_embed.proj.weight.dtype)


def _assemble(embedded: Tensor, positions: Tensor, cls_token: Tensor) -> Tensor:
    """`[B, N, D]` with positions `[B, N, 2]` added and the cls token, which has none, in front: `[B, 1 + N, D]`."""
    placed = embedded + sinusoidal_embedding(positions, embedded.shape[-1]).to(embedded.dtype)
    # Not `len(embedded)`: it is a number of Python's, and torch.export would take the batch for fixed.
    first = cls_token.to(embedded.dtype).expand(embedded.shape[0], -1, -1)
    return torch.cat([first, placed], dim=1)
