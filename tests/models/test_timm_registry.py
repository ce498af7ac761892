"""Twelve of timm's registered models, one block of each; benchmarks/timm_registry.py runs all of them."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TWELVE = [
    "vit_tiny_patch16_224",
    "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_clip_224",
    "flexivit_small",
    "deit3_small_patch16_224",
    "deit_small_distilled_patch16_224",
    "eva02_tiny_patch14_224",
    "vit_small_patch16_rope_mixed_ape_224",
    "vit_pe_core_tiny_patch16_384",
    "vit_small_plus_patch16_dinov3",
]


@pytest.fixture(scope="module")
def sweep():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / "timm_registry.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("name", TWELVE)
def test_a_model_of_the_registry_is_the_original_in_any_order_and_each_image_is_as_alone(name, sweep):
    assert sweep["refusal"](name) is None
    found = sweep["differences"](sweep["one_block"](name))
    assert found.keys() == {"full", "shuffled", "padded", "packed"}
    assert max(found.values()) < 1e-5, found


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_tiny_r_s16_p8_224", "resnet18"])
def test_another_model_of_the_registry_is_refused(name, sweep):
    assert sweep["refusal"](name)
