"""Which models can be adapted, how one is, and what is said of the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Literal

from torch import Tensor, nn

from quadtok.errors import InputError, PatchSizeError
from quadtok.models.adapted import SCALE_EMBEDDING, SUBPATCH, Adapted
from quadtok.models.attention import AttentionName, check_attention
from quadtok.models.detail import ScaleEmbedding, Subpatches
from quadtok.models.reading import Reader, numbers
from quadtok.models.selfcheck import check_adapted
from quadtok.names import DEFAULT_QUADTREE, DEFAULT_SCORER, QuadtreeName
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, mean_and_std
from quadtok.quadtrees import get_quadtree
from quadtok.scorers import ScorerFunction, get_scorer
from quadtok.spec import Spec

DetailName = Literal["subpatch"]
FAMILIES = ("timm", "torchvision")  # the library's name is the file's
ACCEPTED = "timm's VisionTransformer, VisionTransformerDistilled and Eva, and torchvision's VisionTransformer"
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


def adapt(
    model: nn.Module,
    spec: Spec,
    scorer: str | ScorerFunction = DEFAULT_SCORER,
    *,
    quadtree: QuadtreeName = DEFAULT_QUADTREE,
    attention: AttentionName = "auto",
    size_bias: float = 0.0,
    scale_embedding: bool = False,
    detail: DetailName | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    check: bool = True,
) -> Adapted:
    """A pretrained ViT that reads mixed-resolution tokens, its weights untouched.

    Args:
        model: timm's `VisionTransformer`, `VisionTransformerDistilled` or `Eva`, or torchvision's `VisionTransformer`,
            of exactly that class. It is left as it is: what is given is a deep copy.
        spec: the integers of a run; `min_patch` is the model's patch size. Its image size need not be the model's:
            tables of positions are resized as the model's library does it.
        scorer: a name for `get_scorer`, or any function (images, spec) → saliency. It is not trained and not saved.
        quadtree: a name for `get_quadtree`.
        attention: where images have several lengths: `"padded"` (with a mask; compiles and exports), `"packed"` (one
            row of all tokens, attention image by image), or `"auto"`, packed where that is quicker:
            on a CPU.
        size_bias: added to the attention scores of each token, times the log of how many finest cells it covers: at 1
            a token of 16 cells counts as 16.
        scale_embedding: add a learned vector for each scale, 0 at the start (`quadtok.scale_embedding` in the state
            dict; what is new there is under `quadtok.` and nothing else is).
        detail: `"subpatch"`: a coarse token also reads its own fine pixels, by a branch that adds 0 at the start
            (`quadtok.subpatch`). Needs the images in every call.
        mean: what the model's images are normalised with: one number a channel, on the scale 0…1. By default as its
            `pretrained_cfg` says; without one, ImageNet's.
        std: likewise.
        check: run one random image through the original and the adapted model, on the full grid, and compare.

    Returns:
        A model of the same class, with the same methods, weights and state dict, that is called as `Adapted` says.

    Raises:
        InputError: for models and parts that only the full grid suits, with what to use instead; and where the check
            finds a difference.
        WeightsError: for the name of a scorer whose weights cannot be had.
    """
    family = _family_of(model)
    family.refuse(model)
    _check_patches(family.patch_conv(model), spec)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError('the model is on the device "meta" and holds no numbers: load its weights first')
    get_quadtree(quadtree)
    channels = family.patch_conv(model).in_channels
    normalisation = _normalisation(mean_and_std(mean, std, channels) or family.normalisation(model))
    score = get_scorer(scorer) if isinstance(scorer, str) else scorer
    reader = Reader(spec, score, quadtree, channels, *normalisation)
    weight = family.patch_conv(model).weight
    parts = _new_parts(spec, weight, scale_embedding, detail)
    adapted = family.CLASSES[type(model)].of(model, reader, check_attention(attention, size_bias), parts)
    if not len(adapted._blocks()):
        raise InputError("the model has no blocks that could read tokens: make it with a depth of at least 1")
    if attention == "packed" and not adapted._can_pack():
        raise InputError(
            'attention="packed" needs blocks that hand their mask on to torch\'s fused attention, and these do not: '
            'use "padded" (and for timm leave TIMM_FUSED_ATTN alone)'
        )
    if check:
        check_adapted(adapted, *family.original_size(model))
    return adapted


def _new_parts(spec: Spec, weight: Tensor, scale_embedding: bool, detail: str | None) -> dict[str, nn.Module]:
    """What is asked for beside the model's own parts, by name."""
    if detail not in (None, "subpatch"):
        raise InputError(f'there is no detail {detail!r}: use "subpatch", or None')
    parts: dict[str, nn.Module] = {}
    if scale_embedding:
        parts[SCALE_EMBEDDING] = ScaleEmbedding(spec.num_scales, weight)
    if detail == "subpatch":
        parts[SUBPATCH] = Subpatches(weight)
    return parts


def _family_of(model: nn.Module) -> ModuleType:
    """The file that speaks to the library whose class this is; a library that is not loaded has no model here."""
    _refuse_strangers(model)
    family = next((_family(name) for name in FAMILIES if name in sys.modules and _is_from(type(model), name)), None)
    if family is not None and type(model) in family.CLASSES:
        _refuse_replaced_methods(model)
        return family
    raise InputError(_why_not(type(model), family))


def _family(name: str) -> ModuleType:
    return import_module(f"quadtok.models.{name}")


def _is_from(kind: type, library: str) -> bool:
    return kind.__module__.partition(".")[0] == library


def _refuse_strangers(model: nn.Module) -> None:
    """Refuse what is no model to begin with, and what has one inside."""
    if not isinstance(model, nn.Module):
        hint = ": make it with timm.create_model" if isinstance(model, str) else ""
        raise InputError(f"adapt takes a model, got {type(model).__name__}{hint}")
    if isinstance(model, Adapted):
        raise InputError("the model is adapted already: call it with another plan or num_tokens, or adapt the original")
    if type(model).__name__ in WRAPPERS:
        inside = WRAPPERS[type(model).__name__]
        raise InputError(
            f"the model is wrapped in {type(model).__name__}: adapt model.{inside}, and wrap what comes of it"
        )


def _why_not(kind: type, family: ModuleType | None) -> str:
    """What is said of a model of another class."""
    name = f"{kind.__module__.partition('.')[0]}'s {kind.__name__}"
    if kind.__name__ == "NaFlexVit":
        return f"{name} has a way of its own to take tokens: give it quadtok.models.to_naflex(tokens, model)"
    if _is_from(kind, "transformers"):
        return f"{name} cannot be adapted: examples/huggingface_dinov2.py shows how to replace its embeddings"
    parent = next((base for base in kind.__mro__[1:] if _is_accepted(base)), None)
    if parent is not None:
        return (
            f"{name} is a subclass of {parent.__name__}, and what it overrides may need the full grid: "
            f"load its weights into a plain {parent.__name__}"
        )
    return f"{name} cannot be adapted, it has no tokens or places them by a full grid: use {ACCEPTED}"


def _is_accepted(kind: type) -> bool:
    """Whether models of exactly this class can be adapted."""
    return any(name in sys.modules and _is_from(kind, name) and kind in _family(name).CLASSES for name in FAMILIES)


def _refuse_replaced_methods(model: nn.Module) -> None:
    """Refuse an object whose methods were replaced one by one: the copy would go on calling the original's."""
    replaced = [name for name in vars(model) if callable(getattr(type(model), name, None))]
    if replaced:
        raise InputError(f"the model's own {' and '.join(replaced)} was put in place of its class's: adapt a plain one")


def _check_patches(conv: nn.Module, spec: object) -> None:
    """Refuse patches that overlap, are oblong, or are not the spec's."""
    if not isinstance(spec, Spec):
        raise InputError(f"spec must be a Spec, got {type(spec).__name__}")
    if type(conv) is not nn.Conv2d:
        raise InputError(
            f"the model embeds patches by a {type(conv).__name__}, which may read beyond the patch: "
            "take a model with one plain Conv2d of kernel = stride (of a parametrized one, remove the parametrization)"
        )
    if conv._forward_pre_hooks or conv._forward_hooks:
        raise InputError(
            "the model's patch convolution has hooks (as of spectral_norm), and only its weights are used: "
            "take the hooks off first"
        )
    height, width = conv.kernel_size
    apart = conv.dilation != (1, 1) or conv.groups > 1
    if conv.stride != (height, width) or height != width or conv.padding not in ((0, 0), "valid") or apart:
        raise InputError(
            f"the model's patch convolution has kernel {height}×{width}, stride {conv.stride}, padding "
            f"{conv.padding}, dilation {conv.dilation} and groups {conv.groups}: patches must be square, side by side, "
            "without padding, and all channels together"
        )
    if height != spec.min_patch:
        raise PatchSizeError(
            f"the model's patches are {height}×{height} pixels and the spec's min_patch is {spec.min_patch}: "
            f"make a Spec with min_patch={height}",
            height,
        )


def _normalisation(
    given: tuple[Sequence[float], Sequence[float]] | None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = given or (IMAGENET_MEAN, IMAGENET_STD)
    return numbers(mean, "mean"), numbers(std, "std")
