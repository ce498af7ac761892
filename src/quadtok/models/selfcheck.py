"""On the full grid an adapted model is the original: looked at on the user's own weights, before they are relied on.

Positions that are wrong by half a cell cost hardly any accuracy and raise nothing. So one image of random numbers goes
through the library's own code and through the adapted model, with the tokens in reverse order, so that a part which
goes by their order shows, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quadtok.errors import InputError, described
from quadtok.models.adapted import Adapted
from quadtok.plan import Plan
from quadtok.precision import full_precision
from quadtok.spec import Spec

# Of the largest number, by the type of the weights. Sums of products are added in another order than a convolution's;
# and timm's tables of sines and cosines are float32 numbers in models of double precision, too.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
TENSOR_FLOAT_32 = 5e-3  # off the CPU: 10 bits, which cuDNN's convolutions keep by default


def check_adapted(model: Adapted, height: int, width: int) -> None:
    """Run one image of this size through both, in eval mode.

    Args:
        model: just adapted; its modes are as they were afterwards, and no random state is touched.
        height: a size that the original takes, in pixels.
        width: likewise.

    Raises:
        InputError: where they differ, with the numbers.
    """
    conv = model._patch_conv()
    patch = conv.kernel_size[0]
    images = torch.randn(
        (1, conv.in_channels, height, width),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float32,
        device="cpu",
    ).to(conv.weight)
    spec = Spec.full(height // patch * patch, width // patch * patch, patch, patch)
    plan = _reversed(Plan.uniform(spec, scale=0, device=images.device))
    with _as_in_evaluation(model), torch.no_grad(), full_precision(images.device):
        try:
            features, output = model._run_original(_as_original(model), images)
        except Exception as problem:
            raise InputError(
                f"the original fails for an image {height}×{width}, {images.dtype}: {described(problem)}"
            ) from problem
        ours = model.forward_features(images[..., : spec.height, : spec.width], plan=plan)
        # Without the plan's order, where every token has an output of its own.
        our_output = model.forward_head(ours, plan=plan)
    prefix = model._num_prefix()
    _compare("features", torch.cat([ours[:, :prefix], ours[:, prefix:].flip(1)], dim=1), features)
    if our_output.ndim == 2:
        _compare("output", our_output, output)


def _as_original(model: Adapted) -> nn.Module:
    """The very same parts as an object of the library's own class, which knows nothing of ours."""
    library: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, Adapted))
    original: nn.Module = library.__new__(library)
    original.__dict__ = model.__dict__
    return original


def _reversed(plan: Plan) -> Plan:
    return Plan(plan.left.flip(1), plan.top.flip(1), plan.scale.flip(1), plan.spec)


def _compare(what: str, ours: Tensor, original: Tensor) -> None:
    allowed = TOLERANCES.get(original.dtype, 1e-1)
    if original.device.type != "cpu":
        allowed = max(allowed, TENSOR_FLOAT_32)
    largest = original.abs().max().item()
    difference = (ours - original).abs().max().item() / max(largest, 1e-30)
    if not difference <= allowed:  # NaN is not
        raise InputError(
            f"on the full grid the adapted model's {what} differ from the original's by {difference:.1e} of the "
            f"largest, {largest:.3g} (allowed are {allowed:.0e}): a part of the model goes by the order or the grid of "
            "its tokens, or its weights are not finite; check=False adapts it all the same"
        )


@contextmanager
def _as_in_evaluation(model: nn.Module) -> Iterator[None]:
    """In eval mode, and afterwards every module in its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
