"""timm's NaFlexVit reads quadtree tokens exactly: against the plain ViT, an own definition, and its own other ways."""

import copy
import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quadtok import Plan, Spec, Tokens, extract_patches, get_scorer, load_tokens, normalize, save_tokens, tokenize
from quadtok.errors import InputError
from quadtok.models import adapt, check_naflex, naflex, to_naflex

timm = pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("timm.models.naflexvit", reason="this timm has no NaFlexVit")

SMALL = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
SPEC = Spec(32, 32, 4, 16, 64)  # the full grid of SMALL
MIXED = replace(SPEC, num_tokens=31)
# float32 rounds in every block; in float64 it is timm's own read of the table alone, which it does in float32.
PRECISIONS = [(torch.float32, 2e-6), (torch.float64, 1e-7)]
NAMES = [
    "vit_tiny_patch16_224",  # cls
    "vit_medium_patch16_reg4_gap_256",  # registers, mean pooling
    "vit_base_patch16_siglip_224",  # attention pooling
    "vit_base_patch16_clip_224",  # a norm before the blocks
    "vit_small_patch14_reg4_dinov2",  # cls and registers, without positions of their own
]


@functools.cache
def pair(name="vit_tiny_patch16_224"):
    """A plain ViT with random weights, all of which matter, and the NaFlexVit that timm makes of the same weights."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        plain = timm.create_model(name, **SMALL)
        for parameter in plain.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    weights = {name: value.clone() for name, value in plain.state_dict().items()}  # timm adds to some of them
    overlay = {"state_dict": weights, "num_classes": SMALL["num_classes"]}
    flexible = timm.create_model(name, use_naflex=True, pretrained=True, pretrained_cfg_overlay=overlay, **SMALL)
    return plain.eval(), flexible.eval()


def make_flexible(**settings):
    """A small NaFlexVit that was not trained."""
    small = {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 5}
    return timm.create_model(
        "naflexvit_base_patch16_gap", **(small | {"pos_embed_grid_size": (8, 8)} | settings)
    ).eval()


def make_bytes(spec=SPEC, batch=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, channels, spec.height, spec.width), generator=generator, dtype=torch.uint8)


def make_tokens(spec=MIXED, batch=2, seed=0):
    return tokenize(make_bytes(spec, batch, seed=seed), spec, "blur")


def make_tokens_of_lengths():
    """Three images, of 64 tokens, of fewer and of 4."""
    images = make_bytes(batch=3)
    images[1, :, 10:] = images[2] = 7
    tokens = tokenize(images, SPEC, "blur", threshold=0.1)
    first, second, third = tokens.plan.lengths.tolist()
    assert (first, third) == (64, 4) and 4 < second < 64
    return tokens


def wanted(model):
    return model.pretrained_cfg["mean"], model.pretrained_cfg["std"]


def assert_close(found, expected, tolerance=2e-6):
    """To the tolerance, relative to the largest number."""
    assert found.shape == expected.shape
    difference = (found - expected).abs().max()
    assert difference <= tolerance * max(1, expected.abs().max()), difference


def shuffled(tokens, seed=0):
    """The same tokens, each image's in another order."""
    plan = tokens.plan
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(plan.left.shape, generator=generator).argsort(dim=1)
    fields = (field.gather(1, order) for field in (plan.left, plan.top, plan.scale))
    patches = torch.stack([patches[places] for patches, places in zip(tokens.patches, order, strict=True)])
    return Tokens(Plan(*fields, plan.spec), patches)


def bilinear_by_definition(table, centers):
    """`[rows, cols, D]` at `[B, N, 2]` (x, y): an entry weighs 1 less its distance in rows, times that in columns."""
    weights = [
        (1 - (centers[..., axis, None] - 0.5 - torch.arange(size)).abs()).clamp(min=0)
        for axis, size in ((1, table.shape[0]), (0, table.shape[1]))
    ]
    return torch.einsum("bnr,bnc,rcd->bnd", *(weight.to(table.dtype) for weight in weights), table)


def plain_on_tokens(plain, tokens):
    """What the plain ViT says of tokens: its own parts in its own order, with positions by the definition above."""
    size, prefix = plain.patch_embed.grid_size, 0 if plain.no_embed_class else plain.num_prefix_tokens
    projection = plain.patch_embed.proj
    patches = normalize(tokens.patches.to(projection.weight.dtype), *wanted(plain))
    embedded = F.linear(patches.flatten(2), projection.weight.flatten(1), projection.bias)
    first = [token for token in (plain.cls_token, plain.reg_token) if token is not None]
    table = plain.pos_embed[0, prefix:].unflatten(0, size)
    embedded = embedded + bilinear_by_definition(table, tokens.plan.centers)
    if first:
        first = torch.cat(first, dim=1).expand(len(embedded), -1, -1)
        embedded = torch.cat([first + plain.pos_embed[:, :prefix] if prefix else first, embedded], dim=1)
    return plain.forward_head(plain.norm(plain.blocks(plain.norm_pre(embedded))))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
@pytest.mark.parametrize("arrange", [lambda tokens: tokens, shuffled], ids=["in z-order", "shuffled"])
@pytest.mark.parametrize("name", NAMES)
def test_on_the_full_grid_it_is_the_plain_vit(name, arrange, dtype, tolerance):
    plain, flexible = (copy.deepcopy(model).to(dtype) for model in pair(name))
    model = naflex(flexible, SPEC)
    expected = plain(normalize(make_bytes().to(dtype), *wanted(plain)))
    assert_close(model(to_naflex(arrange(make_tokens(SPEC)), model)), expected, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
@pytest.mark.parametrize("arrange", [lambda tokens: tokens, shuffled], ids=["in z-order", "shuffled"])
@pytest.mark.parametrize("name", NAMES)
def test_mixed_tokens_have_the_positions_of_their_centres(name, arrange, dtype, tolerance):
    plain, flexible = (copy.deepcopy(model).to(dtype) for model in pair(name))
    model, tokens = naflex(flexible, MIXED), arrange(make_tokens())
    assert len(tokens.plan.counts.unique()) > 1
    assert_close(model(to_naflex(tokens, model)), plain_on_tokens(plain, tokens), tolerance)


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (24, 48)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_the_adapted_plain_vit_says(name, size):
    plain, flexible = pair(name)
    spec = Spec(*size, 4, 8, size[0] * size[1] // 64 + 9)
    images = make_bytes(spec)
    expected, plan = adapt(plain, spec, "blur")(images, return_plan=True)
    model = naflex(flexible, spec)
    assert_close(model(to_naflex(Tokens(plan, extract_patches(images, plan)), model)), expected)


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (16, 32), (24, 16)], ids=str)
def test_at_another_size_it_is_what_both_models_make_of_images_of_that_size(size):
    spec = Spec(*size, 4, 8, size[0] * size[1] // 16)
    plain, flexible = pair()
    dynamic = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **SMALL).eval()
    dynamic.load_state_dict(plain.state_dict())
    images = normalize(make_bytes(spec), *wanted(plain))
    model = naflex(flexible, spec)
    found = model(to_naflex(make_tokens(spec), model))
    assert_close(found, dynamic(images))
    assert_close(found, flexible(images))
    assert model.embeds.pos_embed.shape[1:3] == model.embeds.pos_embed_grid_size == spec.grid(0)


@pytest.mark.parametrize("grid", [(8, 8), (8, 4), (3, 6)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {"pos_embed_ar_preserving": True},
        {"pos_embed_align_corners": True, "pos_embed_antialias": False},
        {"pos_embed_interp_mode": "bilinear", "pos_embed_use_grid_sample": True},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_a_table_is_resized_as_the_model_is_set(settings, grid):
    flexible = make_flexible(**settings)
    rows, cols = grid
    spec = Spec(rows * 4, cols * 4, 4, 4, rows * cols)
    model = naflex(flexible, spec)
    images = normalize(make_bytes(spec), *wanted(flexible))
    assert_close(model(to_naflex(make_tokens(spec), model)), flexible(images))


def test_without_the_corner_coarse_patches_at_the_border_would_be_misplaced():
    plain, flexible = pair()
    spec = replace(SPEC, num_tokens=16)  # 4 roots + 4 splits
    images = make_bytes(spec, batch=1)
    images[:, :, 16:] = images[:, :, :, 16:] = 7  # flat: stays coarse
    tokens = tokenize(images, spec, "blur")
    assert tokens.plan.scale[0, -1] == 2
    model = naflex(flexible, spec)
    entries = to_naflex(tokens, model)
    expected = plain_on_tokens(plain, tokens)
    assert_close(model(entries), expected)
    cut = {name: entry[:, :-1] for name, entry in entries.items()}
    assert (model(cut) - expected).abs().max() > 1e-2


def test_the_corner_is_last_and_counts_for_nothing():
    _, flexible = pair()
    spec = Spec(32, 48, 4, 16, 42)
    tokens, model = make_tokens(spec), naflex(flexible, spec)
    entries = to_naflex(tokens, model)
    shapes = {name: (entry.dtype, tuple(entry.shape)) for name, entry in entries.items()}
    assert shapes == {
        "patches": (torch.float32, (2, 43, 48)),
        "patch_coord": (torch.float32, (2, 43, 2)),
        "patch_valid": (torch.bool, (2, 43)),
    }
    assert torch.equal(entries["patch_coord"][:, -1], torch.tensor([[7.0, 11.0]] * 2))
    assert torch.equal(entries["patch_coord"][:, :-1], tokens.plan.centers.flip(-1) - 0.5)
    assert not entries["patches"][:, -1].any()
    assert torch.equal(entries["patch_valid"].sum(dim=1), torch.tensor([42, 42]))
    expected = model(entries)
    entries["patches"][:, -1] = 1e3
    assert torch.equal(model(entries), expected)


def test_the_given_model_stays_as_it_is():
    _, flexible = pair()
    before = {name: value.clone() for name, value in flexible.state_dict().items()}
    settings = dict(vars(flexible.embeds))
    for spec in (SPEC, Spec(64, 32, 4, 16, 32)):
        model = naflex(flexible, spec)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0)
    assert all(torch.equal(value, before[name]) for name, value in flexible.state_dict().items())
    assert {name: value for name, value in vars(flexible.embeds).items() if name in settings} == settings
    assert [*naflex(flexible, SPEC).state_dict()] == [*before]


def test_a_copy_keeps_class_mode_and_what_is_trained():
    flexible = make_flexible().train()
    flexible.embeds.pos_embed.requires_grad_(False)
    model = naflex(flexible, Spec(64, 32, 4, 16, 32))
    assert type(model) is type(flexible) and model.training
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in flexible.parameters()]
    assert isinstance(model.embeds.pos_embed, nn.Parameter)


def test_the_full_grids_copy_loads_the_originals_weights():
    _, flexible = pair()
    naflex(flexible, SPEC).load_state_dict(flexible.state_dict())


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    _, flexible = pair()
    model, tokens = naflex(flexible, MIXED), make_tokens(batch=3)
    together = model(to_naflex(tokens, model))
    for number in range(3):
        assert_close(model(to_naflex(tokens[number], model)), together[number : number + 1])


@pytest.mark.parametrize("name", NAMES)
def test_images_of_different_lengths_are_as_each_alone(name):
    plain, flexible = pair(name)
    tokens = make_tokens_of_lengths()
    model = naflex(flexible, tokens.plan.spec)
    together = model(to_naflex(tokens, model))
    for number in range(len(tokens)):
        alone = tokens.unpadded(number)
        assert_close(together[number : number + 1], model(to_naflex(alone, model)))
        assert_close(together[number : number + 1], plain_on_tokens(plain, alone))


@pytest.mark.parametrize("normalized", [False, True])
def test_padding_is_not_valid_and_0(normalized):
    tokens = make_tokens_of_lengths()
    model = naflex(make_flexible(), tokens.plan.spec)
    padding = ~tokens.plan.valid
    assert padding.any()
    tokens.patches[padding] = 7
    entries = {name: entry[:, :-1] for name, entry in to_naflex(tokens, model, normalized=normalized).items()}
    assert torch.equal(entries["patch_valid"], ~padding)
    assert not entries["patch_coord"][padding].any() and not entries["patches"][padding].any()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_clip_224"])
def test_pixels_are_normalised_as_the_model_says(name):
    _, flexible = pair(name)
    model, images = naflex(flexible, MIXED), make_bytes()
    tokens = tokenize(images, MIXED, "blur")
    expected = to_naflex(tokens, model)
    by_hand = replace(tokens, patches=tokens.normalized(*wanted(flexible)))
    assert torch.equal(to_naflex(by_hand, model, normalized=True)["patches"], expected["patches"])
    rows = by_hand.patches.permute(0, 1, 3, 4, 2).flatten(2)
    assert torch.equal(expected["patches"][:, :-1], rows)
    floats = tokenize(normalize(images, *wanted(flexible)), SPEC, "blur")
    bytes_ = tokenize(images, SPEC, "blur")
    assert_close(to_naflex(floats, model, normalized=True)["patches"], to_naflex(bytes_, model)["patches"])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stored_tokens_are_as_good_as_fresh_ones(dtype, tmp_path):
    _, flexible = pair()
    model, tokens = naflex(flexible, MIXED), make_tokens(batch=1)
    save_tokens(tmp_path / "tokens.pt", tokens, dtype=dtype)
    stored = to_naflex(load_tokens(tmp_path / "tokens.pt"), model)
    for name, entry in to_naflex(tokens, model).items():
        assert torch.equal(stored[name], entry), name


def test_patches_may_be_wanted_channels_first():
    tokens, model = make_tokens(), naflex(make_flexible(patchify_channels_last=False), MIXED)
    images = normalize(make_bytes(), *wanted(model))
    full = naflex(model, SPEC)
    assert_close(full(to_naflex(make_tokens(SPEC), full)), model(images))
    rows = tokens.normalized(*wanted(model)).flatten(2)
    assert torch.equal(to_naflex(tokens, model)["patches"][:, :-1], rows)


def test_gradients_reach_the_images_and_every_weight():
    _, flexible = pair("vit_medium_patch16_reg4_gap_256")
    model = naflex(flexible, MIXED)
    images = make_bytes().float().requires_grad_()
    model(to_naflex(tokenize(images, MIXED, "blur"), model)).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_half_precision_rounds_and_does_not_move():
    _, flexible = pair()
    wide = Spec(16, 4 * 1024, 4, 8, 2050)  # columns that bfloat16 does not count
    for spec in (MIXED, wide):
        single = naflex(flexible, spec)
        half = copy.deepcopy(single).bfloat16()
        tokens = make_tokens(spec)
        entries, expected = to_naflex(tokens, half), to_naflex(tokens, single)
        assert torch.equal(entries["patches"], expected["patches"].bfloat16())  # normalised first, then rounded
        assert torch.equal(entries["patch_coord"], expected["patch_coord"])
        assert_close(half(entries).float(), single(expected), 3e-2)  # bfloat16 has 8 bits
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(single(to_naflex(tokens, single)).float(), half(entries).float(), 3e-2)


def test_torchs_defaults_play_no_part():
    _, flexible = pair()
    tokens, model = make_tokens(), naflex(flexible, MIXED)
    expected = to_naflex(tokens, model)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = to_naflex(tokens, naflex(flexible, MIXED))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for name, entry in expected.items():
        assert torch.equal(found[name], entry) and found[name].dtype == entry.dtype


@pytest.mark.parametrize("threshold", [None, 2.5])
def test_the_compiler_takes_tokens_and_model_whole(threshold):
    _, flexible = pair()
    model, images, scorer = naflex(flexible, MIXED), make_bytes(), get_scorer("blur")

    def classify(images):
        return model(to_naflex(tokenize(images, MIXED, scorer, threshold=threshold), model))

    with torch.no_grad():
        compiled = torch.compile(classify, fullgraph=True, backend="aot_eager")
        assert_close(compiled(images), classify(images))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "takes them for a raster .pos_embed_use_grid_sample is False.: quadtok.models.naflex"),
        ({"pos_embed_use_grid_sample": True}, "pos_embed_interp_mode is 'bicubic', not 'bilinear'.: quadtok.models.na"),
    ],
)
def test_a_model_is_refused_until_its_switches_are_set(settings, sentence):
    model = make_flexible(**settings)
    with pytest.raises(InputError, match=sentence):
        check_naflex(model)
    with pytest.raises(InputError, match=sentence):
        to_naflex(make_tokens(), model)
    mended = naflex(model, MIXED)
    check_naflex(mended)
    check_naflex(mended, MIXED)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rope_type": "axial"}, r"takes its rope \(RotaryEmbeddingCat\) from the grid's size .* quadtok.models.adapt"),
        ({"rope_type": "mixed"}, r"takes its rope \(RotaryEmbeddingMixed\)"),
        ({"rope_type": "dinov3", "pos_embed": "none"}, r"takes its rope \(RotaryEmbeddingDinoV3\)"),
        ({"pos_embed": "factorized"}, "positions are 'factorized' .* use a model with pos_embed='learned'"),
        ({"pos_embed": "none"}, "positions are 'none'"),
        ({"embed_proj_type": "conv"}, "create it with embed_proj_type='linear'"),
    ],
)
def test_what_no_switch_can_mend_is_refused(settings, sentence):
    settings = {"embed_dim": 48, "pos_embed_use_grid_sample": True, "pos_embed_interp_mode": "bilinear"} | settings
    model = make_flexible(**settings)
    for refuse in (check_naflex, lambda model: naflex(model, SPEC), lambda model: to_naflex(make_tokens(), model)):
        with pytest.raises(InputError, match=sentence):
            refuse(model)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pair()[0],
        lambda: nn.Linear(2, 2),
        lambda: nn.DataParallel(make_flexible()),
        lambda: "naflexvit_base_patch16_gap",
    ],
    ids=["plain", "linear", "wrapped", "name"],
)
def test_other_models_are_refused_by_their_type(make):
    model = make()
    sentence = f"must be timm's NaFlexVit itself, got {type(model).__name__}: .* use_naflex=True.* quadtok.models.adapt"
    for refuse in (check_naflex, lambda model: naflex(model, SPEC), lambda model: to_naflex(make_tokens(), model)):
        with pytest.raises(InputError, match=sentence):
            refuse(model)


@pytest.mark.parametrize(
    ("spec", "settings", "sentence"),
    [
        (Spec(32, 32, 8, 16, 16), {}, "patches are 4×4 pixels and the spec's min_patch is 8"),
        (Spec(32, 64, 4, 16, 32), {}, "table is for 8×8 patches and the spec's grid is 8×16: quadtok.models.naflex"),
        (
            Spec(32, 64, 4, 16, 32),
            {"pos_embed_grid_size": (8, 16), "pos_embed_ar_preserving": True},
            "stretch its position table to a square for the spec's grid of 8×16",
        ),
    ],
)
def test_a_model_for_another_spec_is_refused(spec, settings, sentence):
    switches = {"pos_embed_use_grid_sample": True, "pos_embed_interp_mode": "bilinear"}
    model = make_flexible(**switches, **settings)
    check_naflex(model)
    with pytest.raises(InputError, match=sentence):
        check_naflex(model, spec)
    with pytest.raises(InputError, match=sentence):
        to_naflex(make_tokens(spec), model)


def test_the_patch_size_is_no_matter_of_a_copy():
    with pytest.raises(InputError, match="patches are 4×4 pixels and the spec's min_patch is 8"):
        naflex(make_flexible(), Spec(32, 32, 8, 16, 16))


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda tokens: replace(tokens, patches=None), {}, "hold no pixels"),
        (
            lambda tokens: replace(tokens, patches=tokens.normalized()),
            {},
            "must be on the scale 0…255 and go down to -.*say normalized=True",
        ),
        (lambda tokens: replace(tokens, patches=tokens.patches[:1]), {}, "patches have shape .* and their plan has"),
        (lambda tokens: replace(tokens, patches=tokens.patches[:, :, :1]), {}, "have 1 channels and the model takes 3"),
        (
            lambda tokens: replace(tokens, patches=tokens.patches.byte()),
            {"normalized": True},
            "normalized pixels are floating, these are torch.uint8",
        ),
    ],
)
def test_tokens_that_the_model_cannot_read_are_refused(change, options, sentence):
    model = naflex(make_flexible(), MIXED)
    with pytest.raises(InputError, match=sentence):
        to_naflex(change(make_tokens()), model, **options)


@pytest.mark.parametrize("config", [None, {}, {"mean": (0.5,) * 3}])
def test_a_model_that_does_not_say_how_it_wants_its_pixels_gets_them_normalised(config):
    model, tokens = naflex(make_flexible(), MIXED), make_tokens()
    expected = to_naflex(tokens, model)
    mean, std = wanted(model)
    model.pretrained_cfg = config
    with pytest.raises(InputError, match="normalise them .* normalized=True"):
        to_naflex(tokens, model)
    tokens = replace(tokens, patches=tokens.normalized(mean, std))
    assert torch.equal(to_naflex(tokens, model, normalized=True)["patches"], expected["patches"])
