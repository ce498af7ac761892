"""One Triton kernel on a GPU: read the pixels that the tokens need, average, normalise, write each token once.

**What moves.** A token of scale 0 is read where it lies: `C·p²` pixels. Of a token of scale k ≥ 1 the two central pixel
rows of each of its p rows of cells are touched, and in them two neighbouring pixels a cell, `4·C·p²` pixels whatever k
is. Memory comes in sectors of 32 bytes, so what really moves of such a row is the whole of it while a cell's row is
shorter than a sector (`p · 2**k` pixels), and one sector a cell from there on: for k ≥ 1 the two pixels straddle the
middle of an aligned run of `2**k`, and so lie in one sector if the image's rows begin on one. Written are `C·p²`
numbers a token, once, in order. The plan adds 24 bytes a token. Nothing else is read or written: no index tensors,
no float copy of a uint8 batch, no second pass to normalise.

**How it is cut.** A program is one channel of one token, or of a few neighbouring tokens where p is small. Inside a
program the elements run along the pixel rows, so that stores are contiguous. The plan's numbers tell whether all its
tokens are of scale 0; if so the pixels of a row are neighbours, which the compiler can see, and turns into wide loads.
All divisions of element numbers are by p, which it knows. Tokens and elements share one dimension: with one each,
Triton's layouts failed at some sizes ('tt.expand_dims' op inferred type(s) …), and this is as quick.

**Why it is right.** Each output element is computed by exactly one program from its own four pixels (or one), which are
those of `gather_indexed`; the tests compare the two. Lanes behind the last element or token (p = 14, or an odd number
of tokens) neither read nor write. Offsets between images and tokens are 64-bit; inside an image they are 32-bit unless
the image needs more. Boxes are brought inside the image and onto multiples of the power of two in p before they become
addresses: a plan that breaks its promise gives wrong pixels, never foreign memory or a misaligned load. Sums are taken
in float32 (float64 for float64), in the order of `indexed`, and rounded once, after the normalisation. The divisions
are the exactly rounded ones, so uint8 and float32 give the numbers of `quadtok.pixels.normalize`. Mean and std are
constants of the compiled kernel: no copy from the host, at the price of a compilation for each new pair.

**What was measured.** On an H200 it moves what is counted above at 80 % to 120 % of the speed of a plain copy where a
batch is large, and the sizes of programs below are within 6 % of the best that were tried (benchmarks/gpu.py,
docs/performance.md).

Not for gradients (`indexed` has them), and not inside `torch.compile`, whose own compiler fuses `indexed`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.patches.base import result_dtype
from quadtok.plan import Plan
from quadtok.tracing import is_followed, wants_derivatives

# Triton comes with torch's CUDA builds and has no types; where it is missing, this file still imports.
try:
    import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]
except ImportError:
    triton = None

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_ELEMENTS = 1024  # of a program
MIN_ELEMENTS = 256  # of a program, where there are as many
ELEMENTS_PER_THREAD = 4  # 16 bytes of float32, the widest store


def suits_fused(images: Tensor, plan: Plan) -> bool:
    """Whether the kernel may read these images: on a GPU, nobody follows or differentiates it, and Triton is there."""
    on_gpu = triton is not None and images.is_cuda and images.dtype in DTYPES
    is_plain = on_gpu and not is_followed([images, plan.left, plan.top, plan.scale])
    return is_plain and not wants_derivatives(images)


def gather_fused(
    images: Tensor,
    plan: Plan,
    out: Tensor | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """As `gather_indexed`, and with `mean` and `std` as `quadtok.pixels.normalize` of that, in one pass.

    Args:
        images: `[B, C, H, W]`, uint8 or floating, with any strides, on a GPU (or on a CPU under `TRITON_INTERPRET=1`).
        plan: for B images, on the same device.
        out: `[B, N, C, p, p]` to write to, in the result's dtype; contiguous, or it costs another copy.
        mean: one number a channel, on the scale 0…1, for pixels on the scale 0…255; with `std` or not at all.
        std: likewise.

    Returns:
        `[B, N, C, p, p]` in the images' dtype; float32 for uint8.

    Raises:
        InputError: where Triton is not installed.
    """
    if triton is None:
        raise InputError("the fused kernel needs triton, which is not installed: use gather_indexed")
    spec = plan.spec
    shape = (len(plan), spec.num_tokens, images.shape[1], spec.min_patch, spec.min_patch)
    fits = out is not None and out.is_contiguous()
    patches = out if out is not None and fits else images.new_empty(shape, dtype=result_dtype(images.dtype))
    _launch(images, plan, patches, mean, std)
    return patches if out is None or fits else out.copy_(patches)


def _launch(
    images: Tensor, plan: Plan, patches: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> None:
    spec = plan.spec
    channels, size = images.shape[1], spec.min_patch
    tokens, elements = program_shape(size)
    num_tokens = len(plan) * spec.num_tokens
    grid = (triton.cdiv(num_tokens, tokens), channels, triton.cdiv(size * size, elements))
    with torch.cuda.device(images.get_device()):  # Triton launches on the current one; -1, a CPU, changes nothing
        _gather_kernel[grid](
            images,
            *(field.contiguous() for field in (plan.left, plan.top, plan.scale)),
            patches,
            num_tokens,
            spec.num_tokens,
            spec.height,
            spec.width,
            *images.stride(),
            NUM_SCALES=spec.num_scales,
            CHANNELS=channels,
            SIZE=size,
            ALIGNMENT=size & -size,
            TOKENS=tokens,
            ELEMENTS=elements,
            WIDE=needs_wide_offsets(images),
            DOUBLE=images.dtype == torch.float64,
            MEAN=None if mean is None else tuple(mean),
            STD=None if std is None else tuple(std),
            num_warps=max(1, tokens * elements // (32 * ELEMENTS_PER_THREAD)),
            enable_fp_fusion=False,  # every operation rounds, as torch's own do
        )


def program_shape(size: int) -> tuple[int, int]:
    """(tokens, elements of one channel of each) of a program; powers of two, as Triton wants them."""
    elements = min(MAX_ELEMENTS, triton.next_power_of_2(size * size))
    return max(1, MIN_ELEMENTS // elements), elements


def needs_wide_offsets(images: Tensor) -> bool:
    """Whether a pixel lies 2**31 elements or more behind the first of its own image."""
    sides, strides = images.shape[1:], images.stride()[1:]
    last = sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
    return last >= 1 << 31


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _gather_kernel(  # type: ignore[no-untyped-def]  # Triton reads annotations in its own way
        images,
        lefts,
        tops,
        scales,
        out,
        num_tokens,  # of the whole batch
        tokens_per_image,
        height,
        width,
        batch_stride,
        channel_stride,
        row_stride,
        col_stride,
        NUM_SCALES: tl.constexpr,  # noqa: N803  # Triton's habit: constants of the compiled kernel in capitals
        CHANNELS: tl.constexpr,  # noqa: N803
        SIZE: tl.constexpr,  # noqa: N803  # p
        ALIGNMENT: tl.constexpr,  # noqa: N803  # the largest power of two in p
        TOKENS: tl.constexpr,  # noqa: N803
        ELEMENTS: tl.constexpr,  # noqa: N803
        WIDE: tl.constexpr,  # noqa: N803
        DOUBLE: tl.constexpr,  # noqa: N803
        MEAN: tl.constexpr,  # noqa: N803
        STD: tl.constexpr,  # noqa: N803
    ):
        index: tl.constexpr = tl.int64 if WIDE else tl.int32
        number: tl.constexpr = tl.float64 if DOUBLE else tl.float32
        channel = tl.program_id(1)

        # One dimension for tokens and elements: where a program is one token, what belongs to the token is one number.
        lane = tl.arange(0, TOKENS * ELEMENTS)
        token = tl.program_id(0).to(tl.int64) * TOKENS
        if TOKENS > 1:
            token += lane // ELEMENTS
        is_token = token < num_tokens
        scale = tl.load(scales + token, mask=is_token, other=0).to(index)
        scale = tl.minimum(tl.maximum(scale, 0), NUM_SCALES - 1)
        side = SIZE << scale
        left = tl.load(lefts + token, mask=is_token, other=0).to(index)
        left = tl.minimum(tl.maximum(left, 0), width - side) // ALIGNMENT * ALIGNMENT
        top = tl.load(tops + token, mask=is_token, other=0).to(index)
        top = tl.minimum(tl.maximum(top, 0), height - side)

        element = tl.program_id(2) * ELEMENTS + lane % ELEMENTS
        y, x = (element // SIZE).to(index), (element % SIZE).to(index)
        # Not by `&`: Triton 3.9's interpreter makes a wider type of a condition that is one number beside many.
        num_elements = is_token.to(tl.int32) * (SIZE * SIZE)
        mask = element < num_elements
        plane = images + (token // tokens_per_image * batch_stride + channel.to(index) * channel_stride)

        if (tl.max(scale, axis=0) if TOKENS > 1 else scale) == 0:
            value = tl.load(plane + ((top + y) * row_stride + (left + x) * col_stride), mask=mask, other=0).to(number)
        else:
            # The upper left of the four pixels at the middle of each cell; of scale 0 it is the only one.
            step, half = 1 << scale, 1 << scale >> 1
            is_coarse = scale > 0
            before = half - is_coarse.to(index)
            row, col = top + y * step + before, left + x * step + before
            first = plane + (row * row_stride + col * col_stride)
            others = element < is_coarse.to(tl.int32) * num_elements
            value = tl.load(first, mask=mask, other=0).to(number)
            left_sum = value + tl.load(first + row_stride, mask=others, other=0).to(number)
            right_sum = tl.load(first + col_stride, mask=others, other=0).to(number)
            right_sum += tl.load(first + (row_stride + col_stride), mask=others, other=0).to(number)
            value = tl.where(is_coarse, (left_sum + right_sum) * 0.25, value)

        if MEAN is not None:
            mean = tl.full([], 0, number)
            std = tl.full([], 1, number)
            for place in tl.static_range(CHANNELS):
                mean = tl.where(channel == place, tl.full([], MEAN[place], number), mean)
                std = tl.where(channel == place, tl.full([], STD[place], number), std)
            byte = tl.full([1], 255, number)
            # `/` on float32 is two units in the last place off; on float64 it is exact, and `div_rn` unknown.
            value = (value / byte - mean) / std if DOUBLE else tl.div_rn(tl.div_rn(value, byte) - mean, std)

        place_out = (token * CHANNELS + channel) * (SIZE * SIZE) + element
        tl.store(out + place_out, value.to(out.dtype.element_ty), mask=mask)
