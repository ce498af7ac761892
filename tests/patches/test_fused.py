"""The fused kernel: in Triton's interpreter on a CPU (interpreted_fused.py), and on a GPU where there is one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import SPECS, random_saliency
from quadtok import Plan, Spec, extract_patches, get_quadtree, normalize
from quadtok.errors import InputError
from quadtok.patches import fused, gather_indexed

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CASES = Path(__file__).with_name("interpreted_fused.py")


@needs_triton
def test_the_kernel_is_right_in_tritons_interpreter():
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_work_on_a_cpu_does_not_load_triton():
    code = """
import sys, torch
from quadtok import Plan, Spec, extract_patches
extract_patches(torch.rand(1, 3, 32, 32), Plan.uniform(Spec(32, 32, 16, 16, 4), 0))
assert "quadtok.patches.fused" not in sys.modules
assert "triton" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_triton_the_file_imports_suits_nothing_and_says_what_is_missing():
    code = """
import sys
sys.modules["triton"] = None
import torch
from quadtok import Plan, Spec
from quadtok.patches.fused import gather_fused, suits_fused
images, plan = torch.rand(1, 3, 32, 32), Plan.uniform(Spec(32, 32, 16, 16, 4), 0)
assert not suits_fused(images, plan)
gather_fused(images, plan)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"{InputError.__module__}.InputError: the fused kernel needs triton, which is not installed: use gather_indexed"
    )


@needs_triton
@pytest.mark.parametrize("size", [1, 2, 3, 8, 14, 16, 31, 32, 33, 64])
def test_a_program_holds_powers_of_two_within_its_bounds_and_all_of_a_small_patch(size):
    tokens, elements = fused.program_shape(size)
    assert tokens & (tokens - 1) == elements & (elements - 1) == 0
    assert 256 <= tokens * elements <= 1024
    assert elements >= min(size * size, 1024)


@pytest.mark.parametrize(
    ("shape", "strides", "wide"),
    [
        ((1, 1, 2, 2), (4, 4, 2, 1), False),
        ((9, 1, 2, 2), (1 << 40, 4, 2, 1), False),
        ((1, 3, 2, 2), (1, 1 << 30, 2, 1), True),
        ((1, 2, 1, 2), (1, (1 << 31) - 2, 2, 1), False),
        ((1, 2, 1, 2), (1, (1 << 31) - 1, 2, 1), True),
    ],
)
def test_offsets_are_wide_where_an_image_spans_two_to_the_31_elements(shape, strides, wide):
    images = torch.empty_strided(shape, strides, device="meta")
    assert fused.needs_wide_offsets(images) is wide


def random_images(spec, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(2, channels, spec.height, spec.width, generator=generator) * 256).to(dtype)


@needs_triton
@needs_gpu
@pytest.mark.parametrize("dtype", fused.DTYPES, ids=str)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_on_a_gpu_patches_are_those_of_the_indexed_way(spec, dtype):
    plan = get_quadtree()(random_saliency(spec, 2), spec) if spec.num_scales > 1 else Plan.uniform(spec, 0, batch=2)
    for layout in (torch.contiguous_format, torch.channels_last):
        images = random_images(spec, dtype=dtype).cuda().contiguous(memory_format=layout)
        assert fused.suits_fused(images, plan.to("cuda"))
        patches = extract_patches(images, plan.to("cuda"))
        torch.testing.assert_close(patches.cpu(), gather_indexed(images.cpu(), plan), rtol=1e-6, atol=0)


@needs_triton
@needs_gpu
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64])
def test_on_a_gpu_the_kernel_compiles_for_every_size_of_patch(size):
    spec = Spec(size * 8, size * 16, size, size * 4, 59)
    plan = get_quadtree()(random_saliency(spec, 2), spec)
    for dtype in (torch.uint8, torch.float32):
        images = random_images(spec, dtype=dtype)
        patches = extract_patches(images.cuda(), plan.to("cuda"))
        torch.testing.assert_close(patches.cpu(), gather_indexed(images, plan), rtol=1e-6, atol=0)


@needs_triton
@needs_gpu
def test_on_a_gpu_bytes_are_normalised_in_the_same_pass():
    spec = Spec(256, 256, 16, 64, 100)
    plan = get_quadtree()(random_saliency(spec, 2), spec)
    images, mean, std = random_images(spec, dtype=torch.uint8), (0.1, 0.5, 0.7), (0.2, 1.0, 0.3)
    patches = extract_patches(images.cuda(), plan.to("cuda"), mean=mean, std=std)
    torch.testing.assert_close(patches.cpu(), normalize(gather_indexed(images, plan), mean, std), rtol=0, atol=1e-6)


@needs_triton
@needs_gpu
def test_on_a_gpu_who_asks_for_gradients_gets_them():
    spec = Spec(32, 32, 16, 16, 4)
    images = torch.rand(1, 3, 32, 32, device="cuda", requires_grad=True)
    extract_patches(images, Plan.uniform(spec, 0, device="cuda")).sum().backward()
    assert (images.grad == 1).all()
