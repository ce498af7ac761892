"""What a classifier must be before anything is asked of it."""

from __future__ import annotations

from torch import jit, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from quadtok.errors import InputError


def check_model(model: nn.Module) -> None:
    """Refuse a model whose layers cannot be listened to, or whose weights hold nothing to take a gradient by.

    Raises:
        InputError: with what to give instead.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, got a {type(model).__name__}")
    if isinstance(model, jit.ScriptModule):
        raise InputError(
            "the model is scripted or traced, and its layers cannot be listened to: give it as it was before"
        )
    weights = (*model.parameters(), *model.buffers())
    if any(isinstance(weight, UninitializedParameter | UninitializedBuffer) for weight in weights):
        raise InputError("the model has lazy layers without weights yet: call it once with an image before")
    if any(weight.is_meta for weight in weights):
        raise InputError("the model has weights without numbers (on the device meta): load its weights before")
    if any(weight.is_inference() for weight in weights):
        raise InputError("the model was made in inference mode, in which nothing has gradients: make it outside")


def check_evaluating(model: nn.Module) -> None:
    """Refuse a model that is in training mode.

    Raises:
        InputError: likewise.
    """
    if any(module.training for module in model.modules()):
        raise InputError(
            "the model, or a part of it, is in training mode, in which chance has a part: call model.eval()"
        )
