"""The model of a run: timm's or one's own, its weights, adapted to read tokens, and which of them learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from low_rank import make_low_rank
from quadtok.errors import InputError, WeightsError, about, described
from quadtok.files import load_safely, read_regular
from quadtok.models import Adapted, adapt
from quadtok.models.adapted import NEW_PARTS
from quadtok.own_code import ours_only
from quadtok.storage.safetensors_file import is_safetensors
from settings import ALL, LOW_RANK, NONE, PRETRAINED, Settings

HUBS = ("hf-hub:", "hf_hub:", "local-dir:")  # where timm also finds models
HEADS = ("head", "heads", "head_dist", "fc")  # what libraries call the part that knows the classes


def made(settings: Settings, num_classes: int) -> Adapted:
    """The adapted model, with its weights, on the CPU.

    Args:
        settings: of the run.
        num_classes: of the head; 0: none.

    Raises:
        InputError: where there is no such model, or it cannot be adapted.
        WeightsError: where its weights cannot be had, or are another model's.
    """
    vit = _vit(settings, num_classes)
    detail = "subpatch" if settings.detail else None
    model = adapt(vit, settings.spec, settings.scorer, detail=detail, scale_embedding=settings.scale_embedding)
    if settings.weights not in (PRETRAINED, NONE):
        _load(model, Path(settings.weights))
    return model


def choose_learned(model: Adapted, settings: Settings) -> None:
    """Let only those weights learn that the run trains. A head of new classes always does."""
    if settings.train == ALL:
        return
    head = {id(weight) for name in HEADS for weight in _weights(getattr(model, name, None))}
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(f"{NEW_PARTS}.") or id(weight) in head)
    if settings.train == LOW_RANK:
        make_low_rank(nn.ModuleList(model._blocks()), settings.rank)


def without_fused_attention(model: Adapted) -> None:
    """Let timm's blocks multiply queries and keys themselves, wherever the model goes.

    On a CPU and in half precision, torch's fused kernel takes four to five times as long for its gradients as the plain
    product (torch 2.15, 113 tokens), and a whole step up to 1.8 times as long.
    """
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False


def _weights(part: Any) -> list[nn.Parameter]:
    return list(part.parameters()) if isinstance(part, nn.Module) else []


def _vit(settings: Settings, num_classes: int) -> nn.Module:
    arguments = settings.arguments_of_model | {"num_classes": num_classes}
    if ":" in settings.model and not settings.model.startswith(HUBS):
        if settings.weights == PRETRAINED:
            raise InputError(f"--model {settings.model} brings its weights or has none: give --weights none, or a file")
        module, _, function = settings.model.partition(":")
        with about(f"--model {settings.model}"), ours_only(f"cannot be made with --model-args {settings.model_args}"):
            made: nn.Module = getattr(importlib.import_module(module), function)(**arguments)
            return made
    if not settings.model.startswith(HUBS) and not timm.is_model(settings.model):
        raise InputError(
            f"timm {timm.__version__} has no model {settings.model!r}: timm.list_models('vit*') names them"
        )
    if settings.drop_path:
        arguments["drop_path_rate"] = settings.drop_path
    pretrained = settings.weights == PRETRAINED
    return _called(settings, lambda: timm.create_model(settings.model, pretrained=pretrained, **arguments))


def _called(settings: Settings, make: Callable[[], nn.Module]) -> nn.Module:
    """What a library, or one's own code, makes: it may raise anything."""
    with about(f"--model {settings.model}"):
        try:
            return make()
        except Exception as problem:
            raise InputError(
                f"cannot be made with --model-args {settings.model_args}: {described(problem)}"
            ) from problem


def _load(model: Adapted, path: Path) -> None:
    """All weights but those of a head of other classes; new parts begin as they do where the file has none."""
    with about(f"--weights {path}"):
        state = _read(path)
        state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
        if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
            raise WeightsError("holds no state dict")
        ours = model.state_dict()
        fitting = {key for key in state if key in ours and state[key].shape == ours[key].shape}
        without = {key for key in ours if key.split(".")[0] == NEW_PARTS} - set(state)
        odd = sorted(key for key in (set(state) | set(ours)) - fitting - without if key.split(".")[0] not in HEADS)
        if odd:
            raise WeightsError(f"is of another model than {type(model).__name__}: {odd[0]} does not fit")
        try:
            model.load_state_dict({key: state[key] for key in fitting}, strict=False)
        except RuntimeError as problem:  # of sparse tensors, and of those without numbers
            raise WeightsError("holds weights that are no plain tensors of numbers") from problem


def _read(path: Path) -> Any:
    """What a file of torch or of safetensors holds."""
    data = read_regular(path, WeightsError)
    if not is_safetensors(data):
        return load_safely(path, WeightsError, "is no file of weights that torch reads")
    try:
        from safetensors.torch import load
    except ImportError as problem:
        raise WeightsError("safetensors are an extra: pip install 'quadtok[safetensors]'") from problem
    try:
        return load(data)
    except Exception as problem:  # the library has types of its own
        raise WeightsError("is no whole file of safetensors") from problem


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)
