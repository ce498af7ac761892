"""What the examples make of Hugging Face's models is those models on the full grid, and knows centres and lengths."""

import runpy
from functools import partial
from pathlib import Path

import pytest
import torch

from quadtok import Plan, Spec, Tokens, extract_patches, normalize, reverse, tokenize

transformers = pytest.importorskip("transformers", minversion="5.6", reason="transformers is not installed, or old")

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8}
WIDE = SMALL | {"intermediate_size": 96}
SIZES = [(64, 64), (96, 32), (32, 128)]  # that of the models' tables, and two others
HALF = (0.5, 0.5, 0.5)


def shaken(make, config):
    """A model of which all weights matter."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = make(config).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def example(name):
    return runpy.run_path(str(EXAMPLES / f"huggingface_{name}.py"))


def full_spec(height, width):
    return Spec(height, width, 8, 32, height * width // 64)


def make_bytes(height, width, batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def raster(images, size=8):
    """`[B, C, H, W]` → `[B, H/p * W/p, p * p * C]`, channels last: what SigLIP2's processor gives."""
    cells = images.unfold(2, size, size).unfold(3, size, size)  # [B, C, rows, cols, p, p]
    return cells.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def dinov2(spec):
    model = shaken(transformers.Dinov2Model, transformers.Dinov2Config(image_size=64, **SMALL))
    code = example("dinov2")
    return model, lambda images: model(normalize(images)), partial(code["read_tokens"], model), lambda tokens: [tokens]


def dinov3(spec):
    config = transformers.DINOv3ViTConfig(image_size=64, num_register_tokens=2, **WIDE)
    model = shaken(transformers.DINOv3ViTModel, config)
    code = example("dinov3")
    switch = partial(code["read_rows"], model, spec)
    return model, lambda images: model(normalize(images)), switch, lambda tokens: [code["rows_of"](tokens)]


def siglip2(spec):
    model = shaken(transformers.Siglip2VisionModel, transformers.Siglip2VisionConfig(num_patches=64, **WIDE))
    code = example("siglip2")

    def original(images):
        rows = raster(normalize(images, HALF, HALF))
        shapes = torch.tensor([spec.grid(0)] * len(images))
        return model(rows, torch.ones(rows.shape[:2], dtype=torch.long), shapes)

    return model, original, partial(code["read_plans"], model), lambda tokens: code["inputs_of"](tokens).values()


def assert_close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1, expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("make", [dinov2, dinov3, siglip2])
def test_on_the_full_grid_it_is_the_model(make, size):
    spec = full_spec(*size)
    model, original, switch, inputs = make(spec)
    images, names = make_bytes(*size), [*model.state_dict()]
    expected = original(images)
    switch()
    tokens = tokenize(images, spec, "blur")
    found = model(*inputs(tokens))
    prefix, own = found.last_hidden_state.tensor_split([-spec.num_cells], dim=1)
    in_raster = torch.cat([prefix, reverse(own, tokens.plan).flatten(2).transpose(1, 2)], dim=1)
    assert_close(in_raster, expected.last_hidden_state)
    assert_close(found.pooler_output, expected.pooler_output)
    assert [*model.state_dict()] == names


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "table"),
    [
        (dinov2, lambda embeddings: embeddings.position_embeddings[0, 1:]),
        (siglip2, lambda e: e.position_embedding.weight),
    ],
)
def test_a_position_is_read_at_the_centre_of_its_patch(make, table):
    model, _, switch, inputs = make(full_spec(64, 64))
    for parameter in model.embeddings.parameters():
        parameter.zero_()
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    table(model.embeddings)[:, 0] = (10 * row + column).flatten()  # linear, and so known at every centre
    switch()
    tokens = tokenize(make_bytes(64, 64), Spec(64, 64, 8, 32, 31), "blur")
    assert len(tokens.plan.counts.nonzero()) >= 4
    first, *others = inputs(tokens)
    found = model.embeddings(first, *others[-1:])[..., -31:, 0]
    x, y = (tokens.plan.centers - 0.5).unbind(dim=-1)
    assert torch.equal(found, 10 * y + x)


@torch.no_grad()
def test_rope_turns_by_the_centre_of_a_patch():
    """Patches of 16 pixels shrunk to 8 lie in the image as those of 8 pixels do in the image shrunk."""
    spec = Spec(64, 96, 8, 16, 24)
    model, original, switch, inputs = dinov3(spec)
    images = make_bytes(64, 96).float()
    expected = original(torch.nn.functional.avg_pool2d(images, 2)).last_hidden_state
    switch()
    tokens = Tokens(plan := Plan.uniform(spec, scale=1, batch=2), extract_patches(images, plan))
    assert_close(model(*inputs(tokens)).last_hidden_state, expected)


@torch.no_grad()
def test_siglip2s_mask_tells_padding():
    spec = full_spec(64, 64)
    model, _, switch, inputs = siglip2(spec)
    switch()
    images = make_bytes(64, 64)
    images[1, :, 20:] = 7
    tokens = tokenize(images, spec, "blur", threshold=0.1)
    first, second = tokens.plan.lengths.tolist()
    assert first != second
    together = model(*inputs(tokens)).pooler_output
    for number in range(2):
        assert_close(together[number : number + 1], model(*inputs(tokens.unpadded(number))).pooler_output)
