"""The two tokenizers: goldens, timm's weights, a scorer that stays outside, and the same plan in any precision."""

import functools

import pytest
import torch
from torch import nn

from helpers import assert_same_plan, golden, golden_plan, golden_spec, order_by_scale, random_saliency
from quadtok import (
    QuadtreeTokenizer,
    Spec,
    VanillaTokenizer,
    extract_patches,
    get_quadtree,
    get_scorer,
    normalize,
    tokenize,
)
from quadtok.errors import InputError
from quadtok.models.embed import sinusoidal_embedding
from quadtok.quadtrees import QUADTREES
from quadtok.scorers import SCORERS
from quadtok.tokens import choose

GOLDEN = "tokens_256_16_64_100_blur"
SPEC = Spec(32, 48, 4, 16, 21)
KEYS = {"cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def make_bytes(spec=SPEC, batch=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, channels, spec.height, spec.width), generator=generator, dtype=torch.uint8)


def quadtree_tokenizer(spec=SPEC, scorer="blur", embed_dim=12, **options):
    return QuadtreeTokenizer(spec, scorer, embed_dim=embed_dim, **options)


MAKERS = {
    "quadtree": quadtree_tokenizer,
    "vanilla": lambda embed_dim=12, **options: VanillaTokenizer(4, embed_dim=embed_dim, **options),
}


@pytest.fixture(params=sorted(MAKERS))
def make(request):
    return MAKERS[request.param]


def load_golden(module):
    data = golden("embed_256")
    state = {"cls_token": data["cls_token"].view(1, 1, -1)}
    state |= {f"patch_embed.proj.{name}": data[name] for name in ("weight", "bias")}
    module.load_state_dict(state)
    return data


@pytest.mark.parametrize("quadtree", sorted(QUADTREES))
def test_the_quadtree_tokens_are_the_references(quadtree):
    tokenizer = QuadtreeTokenizer(golden_spec(GOLDEN), "blur", embed_dim=32, quadtree=quadtree)
    expected = load_golden(tokenizer)["quadtree"]
    tokens, plan = tokenizer(golden(GOLDEN)["images_u8"], return_plan=True)
    assert_same_plan(plan, golden_plan(GOLDEN))
    order = order_by_scale(plan)[..., None].expand(-1, -1, 32)
    ours = torch.cat([tokens[:, :1], tokens[:, 1:].gather(1, order)], dim=1)
    assert (ours - expected).abs().max() <= 1e-5  # sums of 768 float32 products


def test_the_vanilla_tokens_are_the_references():
    tokenizer = VanillaTokenizer(16, embed_dim=32)
    expected = load_golden(tokenizer)["vanilla"]
    assert (tokenizer(golden(GOLDEN)["images_u8"]) - expected).abs().max() <= 1e-5


def test_a_vits_weights_load_by_timms_names_and_the_rest_is_left_over(make):
    vit = {
        "cls_token": torch.randn(1, 1, 12),
        "pos_embed": torch.randn(1, 197, 12),
        "patch_embed.proj.weight": torch.randn(12, 3, 4, 4),
        "patch_embed.proj.bias": torch.randn(12),
        "blocks.0.norm1.weight": torch.ones(12),
    }
    module = make()
    loaded = module.load_state_dict(vit, strict=False)
    assert loaded.missing_keys == []
    assert set(loaded.unexpected_keys) == {"pos_embed", "blocks.0.norm1.weight"}
    for name, value in module.state_dict().items():
        assert torch.equal(value, vit[name])


def test_the_state_dict_holds_the_learned_weights_alone(make):
    module = make()
    assert set(module.state_dict()) == KEYS
    assert {name for name, _ in module.named_parameters()} == KEYS
    assert list(module.buffers()) == []


class LearnedScorer(nn.Module):
    """A module as a scorer, with a weight, a buffer and a dropout that would be seen."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.drop = nn.Dropout(0.5)
        self.eval()

    def forward(self, images, spec):
        return [self.drop(scores) * self.gain for scores in get_scorer("blur")(images, spec)]


def test_a_scorer_that_is_a_module_stays_outside():
    scorer = LearnedScorer()
    tokenizer = quadtree_tokenizer(scorer=scorer)
    assert set(tokenizer.state_dict()) == {name for name, _ in tokenizer.named_parameters()} == KEYS
    assert scorer not in set(tokenizer.modules())
    tokenizer.train().to(torch.float64)
    assert not scorer.training
    assert scorer.gain.dtype == torch.float32
    tokenizer(make_bytes()).sum().backward()
    assert scorer.gain.grad is None


@pytest.mark.parametrize("name", ["object", "feature"])
def test_a_scorer_with_a_net_goes_along_to_another_device(name, device):
    scorer = get_scorer(name)
    tokenizer = quadtree_tokenizer(scorer=scorer)
    expected = tokenizer(make_bytes(), return_plan=True)
    tokens, plan = nn.Sequential(tokenizer).to(device)[0](make_bytes().to(device), return_plan=True)
    assert tokens.device.type == plan.left.device.type == device
    torch.testing.assert_close(tokens.cpu(), expected[0], rtol=0, atol=1e-5)
    assert scorer.device.type == "cpu"


@pytest.mark.parametrize("scorer", ["object", "feature"])
def test_a_tokenizer_without_memory_gives_shapes_and_keeps_its_scorer(scorer):
    tokenizer, images = quadtree_tokenizer(scorer=scorer), make_bytes()
    state, expected = tokenizer.state_dict(), tokenizer(images)
    assert tokenizer.to("meta")(images.to("meta")).shape == expected.shape
    tokenizer.to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(tokenizer(images), expected)


@pytest.mark.parametrize("scorer", ["object", get_scorer("object")], ids=["by name", "made before"])
def test_tokenize_takes_images_of_any_device(scorer, device):
    expected = tokenize(make_bytes(), SPEC, scorer).plan
    assert tokenize(make_bytes().to("meta"), SPEC, scorer).patches.is_meta
    assert_same_plan(tokenize(make_bytes().to(device), SPEC, scorer).plan.to("cpu"), expected)


@pytest.mark.parametrize("scorer", ["blur", LearnedScorer()], ids=["blur", "module"])
def test_train_mode_does_not_change_the_plan(scorer):
    tokenizer = quadtree_tokenizer(scorer=scorer)
    expected = tokenizer.eval()(make_bytes(), return_plan=True)[1]
    assert_same_plan(tokenizer.train()(make_bytes(), return_plan=True)[1], expected)


def test_the_plan_comes_on_request_and_is_that_of_tokenize():
    tokenizer = quadtree_tokenizer()
    tokens, plan = tokenizer(make_bytes(), return_plan=True)
    assert torch.equal(tokens, tokenizer(make_bytes()))
    assert_same_plan(plan, tokenize(make_bytes(), SPEC, "blur").plan)


def test_tokens_are_embedded_patches_at_their_centres_behind_a_cls_token_without_position(device):
    images, tokenizer = normalize(make_bytes()).to(device), quadtree_tokenizer().to(device)
    tokens, plan = tokenizer(images, return_plan=True)
    assert tokens.shape == (2, 1 + 21, 12)
    assert torch.equal(tokens[:, :1], tokenizer.cls_token.expand(2, -1, -1))
    expected = tokenizer.patch_embed(extract_patches(images, plan)) + sinusoidal_embedding(plan.centers, 12)
    torch.testing.assert_close(tokens[:, 1:], expected)


def test_vanilla_tokens_are_a_convolution_in_raster_order_at_integer_positions():
    images, tokenizer = normalize(make_bytes()), VanillaTokenizer(4, embed_dim=12)
    grid = tokenizer.patch_embed.proj(images)  # [B, D, 8, 12]: a rectangle
    positions = torch.tensor([[col, row] for row in range(8) for col in range(12)])
    expected = grid.flatten(2).transpose(1, 2) + sinusoidal_embedding(positions, 12)
    torch.testing.assert_close(tokenizer(images)[:, 1:], expected, rtol=1e-5, atol=1e-5)


def test_bytes_are_normalised_as_the_scorer_and_the_model_expect(make):
    module = make()
    # The quadtree normalises the means of bytes, or means the normalised: float32 roundings.
    torch.testing.assert_close(module(make_bytes()), module(normalize(make_bytes())), rtol=0, atol=1e-5)


def test_another_number_of_channels_is_embedded_too(make):
    images = make_bytes(channels=1)
    torch.testing.assert_close((module := make(in_channels=1))(images), module(images / 255), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_than_the_weights_are_refused(make, channels):
    sentence = rf"patches are \[{channels}, 4, 4\] \(C, p, p\), the embedding takes \[3, 4, 4\]"
    with pytest.raises(InputError, match=sentence):
        make()(make_bytes(channels=channels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_precision_gives_its_tokens_and_the_same_plan(dtype):
    reference = quadtree_tokenizer()
    expected, plan = reference(normalize(make_bytes()), return_plan=True)
    converted = quadtree_tokenizer()
    converted.load_state_dict(reference.state_dict())
    tokens, same = converted.to(dtype)(normalize(make_bytes()), return_plan=True)
    assert tokens.dtype == dtype
    assert_same_plan(same, plan)
    # bfloat16 keeps 8 bits, of numbers up to 8 or so.
    torch.testing.assert_close(tokens.float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_planned_as_the_float32_images_that_they_are(dtype):
    images, tokenizer = normalize(make_bytes()).to(dtype), quadtree_tokenizer()
    tokens, plan = tokenizer.to(dtype)(images, return_plan=True)
    assert tokens.dtype == dtype
    assert_same_plan(plan, tokenizer.float()(images.float(), return_plan=True)[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_change_the_plan(dtype, device):
    images, tokenizer = normalize(make_bytes()).to(device), quadtree_tokenizer().to(device)
    expected, plan = tokenizer(images, return_plan=True)
    with torch.autocast(device_type=device, dtype=dtype):
        tokens, same = tokenizer(images, return_plan=True)
    assert_same_plan(same, plan)
    torch.testing.assert_close(tokens.float(), expected, rtol=0, atol=0.05)


def test_gradients_reach_the_weights_and_the_images(make):
    module, images = make(), normalize(make_bytes()).requires_grad_()
    module(images).square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in module.parameters())
    assert images.grad.abs().sum() > 0


def test_tokenize_gives_patches_with_gradients_and_saliency_without():
    images = normalize(make_bytes()).requires_grad_()
    tokens = tokenize(images, SPEC, "blur")
    assert tokens.patches.requires_grad
    assert not any(scores.requires_grad for scores in tokens.saliency)


@pytest.mark.parametrize("embed_dim", [-2, 0, 1, 7])
def test_a_width_that_x_and_y_cannot_share_is_refused_at_once(make, embed_dim):
    with pytest.raises(InputError, match=f"embed_dim {embed_dim} cannot be shared between x and y: it must be even"):
        make(embed_dim=embed_dim)


@pytest.mark.parametrize("embed_dim", [2, 6])
def test_the_narrowest_widths_work(make, embed_dim):
    assert make(embed_dim=embed_dim)(make_bytes()).isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(32, 46), (30, 48)])
def test_images_that_the_vanilla_grid_does_not_fit_are_refused(height, width):
    with pytest.raises(InputError, match=f"images are {height}×{width}: both sides must be multiples of patch_size 4"):
        VanillaTokenizer(4, embed_dim=12)(torch.zeros(1, 3, height, width))


def test_images_of_another_size_than_the_specs_are_refused():
    with pytest.raises(InputError, match="images are 48×32 .* and the spec says 32×48"):
        quadtree_tokenizer()(make_bytes().transpose(2, 3))


def test_any_function_may_be_the_scorer_and_its_saliency_is_kept():
    saliency = random_saliency(SPEC, batch=2)
    seen = []

    def scorer(images, spec):
        seen.append((images, spec))
        return saliency

    images = make_bytes()
    tokens = tokenize(images, SPEC, scorer)
    assert seen == [(images, SPEC)]
    assert all(a is b for a, b in zip(tokens.saliency, saliency, strict=True))
    assert_same_plan(tokens.plan, QUADTREES["dict"](saliency, SPEC))


@pytest.mark.parametrize("batch", [1, 3])
def test_saliency_for_another_number_of_images_is_refused(batch):
    def scorer(images, spec):
        return random_saliency(spec, batch)

    for run in (lambda: tokenize(make_bytes(), SPEC, scorer), lambda: quadtree_tokenizer(scorer=scorer)(make_bytes())):
        with pytest.raises(InputError, match=f"the scorer gave saliency for {batch} images, there are 2"):
            run()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda saliency: None, "saliency is None: it must be a list"),
        (lambda saliency: (scores for scores in saliency), "saliency is a generator: it must be a list"),
        (lambda saliency: [scores.numpy() for scores in saliency], "scale 1 is a numpy.ndarray: it must be a torch"),
        (lambda saliency: [scores.long() for scores in saliency], "scale 1 is torch.int64: it must be floating"),
        (lambda saliency: [scores.to("meta") for scores in saliency], "saliency on meta, the images are on cpu"),
    ],
)
@pytest.mark.parametrize("quadtree", sorted(QUADTREES))
def test_what_a_scorer_returns_by_mistake_is_a_sentence(quadtree, spoil, sentence):
    def scorer(images, spec):
        return spoil(random_saliency(spec, len(images)))

    for run in (
        lambda: tokenize(make_bytes(), SPEC, scorer, quadtree),
        lambda: quadtree_tokenizer(scorer=scorer, quadtree=quadtree)(make_bytes()),
    ):
        with pytest.raises(InputError, match=sentence):
            run()


def test_saliency_that_carries_gradients_is_taken_as_it_is():
    saliency = [scores.requires_grad_() for scores in random_saliency(SPEC, batch=2)]
    tokens = tokenize(make_bytes(), SPEC, lambda images, spec: saliency)
    assert_same_plan(tokens.plan, QUADTREES["dict"](saliency, SPEC))
    assert not tokens.patches.requires_grad


@pytest.mark.parametrize("quadtree", sorted(QUADTREES))
@pytest.mark.parametrize("batch", [1, 3])
def test_a_spec_of_one_scale_gives_every_image_the_uniform_grid(quadtree, batch):
    spec = Spec(32, 48, 16, 16, 6)
    tokens = tokenize(make_bytes(batch=batch), spec, "blur", quadtree)
    assert tokens.saliency == []
    assert tokens.plan.left.tolist() == [[0, 16, 32, 0, 16, 32]] * batch
    assert tokens.plan.top.tolist() == [[0, 0, 0, 16, 16, 16]] * batch
    assert (tokens.plan.scale == 0).all()
    assert tokens.patches.shape == (batch, 6, 3, 16, 16)


def test_a_batch_of_no_images_gives_no_tokens(make):
    assert make()(make_bytes(batch=0)).shape[::2] == (0, 12)
    assert len(tokenize(make_bytes(batch=0), SPEC, "blur")) == 0


def test_choose_and_the_tokenizers_refuse_names_that_are_not_there():
    with pytest.raises(InputError, match="no quadtree 'heap': choose one of dict, tensor, zcurve, parallel"):
        quadtree_tokenizer(quadtree="heap")
    with pytest.raises(InputError, match=f"no scorer 'gradcam': choose one of {', '.join(SCORERS)}"):
        quadtree_tokenizer(scorer="gradcam")
    with pytest.raises(InputError, match="no quadtree 'heap'"):
        choose(make_bytes(), SPEC, "blur", "heap")


def test_the_words_of_a_tokenizer_show_its_spec_its_scorer_and_its_quadtree():
    words = repr(quadtree_tokenizer(scorer=get_scorer("random", seed=7), quadtree="zcurve"))
    for part in (repr(SPEC), "scorer=RandomScorer(seed=7)", "quadtree='zcurve'", "Conv2d(3, 12"):
        assert part in words
    assert "patch_size=4" in repr(MAKERS["vanilla"]())


def two_maps(images, spec):
    return get_scorer("blur")(images, spec)


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        ("object", "scorer=ObjectScorer(weights='bundled', views=1)\n"),
        ("blur", "scorer=BlurScorer()\n"),
        (two_maps, "scorer=two_maps\n"),
        (LearnedScorer(), "scorer=LearnedScorer\n"),
        (functools.partial(two_maps), "scorer=partial\n"),
    ],
    ids=["net", "name", "function", "module", "partial"],
)
def test_the_scorer_can_be_read_and_has_one_line(scorer, words):
    tokenizer = quadtree_tokenizer(scorer=scorer)
    assert words in repr(tokenizer)
    saliency = tokenizer.scorer(make_bytes(), SPEC)
    assert_same_plan(get_quadtree()(saliency, SPEC), tokenizer(make_bytes(), return_plan=True)[1])
    assert set(tokenizer.state_dict()) == KEYS
