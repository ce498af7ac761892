"""How an adapted model is called, what it is told of the images, and which models are refused."""

import subprocess
import sys
import threading
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

import timm
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer

import quadtok
from helpers import assert_same_plan, random_saliency
from quadtok import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Plan,
    Spec,
    Tokens,
    denormalize,
    get_quadtree,
    get_scorer,
    normalize,
    reverse,
    tokenize,
)
from quadtok.errors import InputError, QuadtokError
from quadtok.models import Adapted, adapt
from vits import FEW, KINDS, SPEC, THRESHOLD, TINY, assert_close, make, make_bytes, make_images

HALF = (0.5, 0.5, 0.5)


def adapted(kind="cls", spec=SPEC, scorer="blur", **options):
    return adapt(make(kind), spec, scorer, check=False, **options)


def with_config(model, mean=HALF, std=HALF):
    model.pretrained_cfg = {"mean": mean, "std": std}
    return model


def refuse_to_score(images, spec):
    raise AssertionError("scored")


# What goes in.


def test_the_function_is_found_where_the_readme_says():
    assert quadtok.models.adapt is adapt
    assert isinstance(adapted(), Adapted)
    with pytest.raises(AttributeError, match="module 'quadtok.models' has no attribute 'adopt'"):
        _ = quadtok.models.adopt


def test_images_are_scored_planned_and_read():
    model, images = adapted(), make_bytes()
    logits, plan = model(images, return_plan=True)
    tokens = tokenize(images, SPEC, "blur")
    assert_same_plan(plan, tokens.plan)
    assert torch.equal(model(images, plan=plan), logits)
    assert torch.equal(model(images), logits)
    assert logits.shape == (2, 5)


def test_tokens_of_bytes_or_of_a_file_enter_without_scoring():
    model, images = adapted(scorer=refuse_to_score), make_bytes()
    tokens = tokenize(images, SPEC, "blur")
    expected = model(images, plan=tokens.plan)
    logits, plan = model(tokens, return_plan=True)
    assert plan is tokens.plan
    assert_close(logits, expected, 1e-6)
    half = Tokens(tokens.plan, tokens.patches.half())
    assert_close(model(half), expected, 1e-2)  # 11 bits of a number up to 255


@pytest.mark.parametrize("kind", FEW)
def test_a_stored_plan_of_another_size_is_read(kind):
    model = adapted(kind, scorer=refuse_to_score)
    spec = Spec(64, 32, 8, 32, 14)
    plan = get_quadtree("parallel")(random_saliency(spec, 2), spec)
    assert model(make_images(2, spec), plan=plan).isfinite().all()


@pytest.mark.parametrize("num_tokens", [6, 9, 12, 15, 18, 21, 24])
def test_every_call_may_have_its_own_budget(num_tokens):
    model, images = adapted(), make_bytes()
    features, plan = model.forward_features(images, num_tokens=num_tokens, return_plan=True)
    assert features.shape == (2, 1 + num_tokens, 32)
    assert_same_plan(plan, tokenize(images, Spec(32, 48, 8, 16, num_tokens), "blur").plan)
    assert model.spec == SPEC


def test_the_full_grid_is_not_scored():
    model = adapted(scorer=refuse_to_score)
    assert model(make_bytes(), num_tokens=SPEC.num_cells).shape == (2, 5)
    with pytest.raises(AssertionError, match="scored"):
        model(make_bytes())


def test_another_quadtree_and_a_scorer_of_ones_own_are_used():
    seen = []

    def scorer(images, spec):
        seen.append(images)
        return get_scorer("blur")(images, spec)

    model = adapted(scorer=scorer, quadtree="dict")
    model(make_bytes())
    assert model.quadtree == "dict" and model.scorer is scorer
    assert torch.equal(seen[0], make_bytes())


def test_bytes_are_normalised_as_the_model_says():
    images = make_bytes()
    model = adapt(with_config(make("cls"), HALF, (0.5, 0.25, 1.0)), SPEC, "blur", check=False)
    plan = tokenize(images, SPEC, "blur").plan
    assert_close(model(images), model(normalize(images, HALF, (0.5, 0.25, 1.0)), plan=plan))
    assert_close(model(images), model(tokenize(images, SPEC, "blur")))


@pytest.mark.parametrize(
    ("config", "given", "expected"),
    [
        (None, {}, (IMAGENET_MEAN, IMAGENET_STD)),
        ((HALF, HALF), {}, (HALF, HALF)),
        ((HALF, HALF), {"mean": (0, 0, 0), "std": (1, 1, 1)}, ((0, 0, 0), (1, 1, 1))),
    ],
)
def test_what_is_given_goes_before_the_config_and_that_before_imagenets_numbers(config, given, expected):
    model = make("cls")
    model = model if config is None else with_config(model, *config)
    model = adapt(model, SPEC, "blur", check=False, **given)
    plan = tokenize(make_bytes(), SPEC, "blur").plan
    assert_close(model(make_bytes()), model(normalize(make_bytes(), *expected), plan=plan))


@pytest.mark.parametrize("numbers", [(HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD)], ids=["half", "ImageNet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_floats_are_the_models_and_the_scorer_sees_them_as_imagenets(numbers, dtype):
    seen = []

    def scorer(images, spec):
        seen.append(images)
        return get_scorer("blur")(images, spec)

    model = adapt(with_config(make("cls"), *numbers), SPEC, scorer, check=False)
    images = normalize(make_bytes(), *numbers).to(dtype)
    model(images)
    # What the images of this type hold, without another rounding.
    expected = normalize(denormalize(images.float(), *numbers))
    torch.testing.assert_close(seen[0].float(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("numbers", [(1, 1, 0), (1, 1, -1), (1, 1, torch.nan), "abc", (None,) * 3, (10**400,) * 3])
@pytest.mark.parametrize("given", [True, False], ids=["given", "of the config"])
def test_what_no_pixel_can_be_divided_by_is_refused(numbers, given):
    model = make("cls") if given else with_config(make("cls"), HALF, numbers)
    with pytest.raises(InputError, match="std must be positive numbers, one a channel"):
        adapt(model, SPEC, "blur", check=False, **({"mean": HALF, "std": numbers} if given else {}))


def test_a_config_that_says_nothing_is_none():
    plain, silent = (adapt(model, SPEC, "blur") for model in (make("cls"), with_config(make("cls"), None, None)))
    assert torch.equal(plain(make_bytes()), silent(make_bytes()))


def test_models_of_other_channels_are_read():
    with torch.random.fork_rng():
        model = VisionTransformer(**TINY, in_chans=1).eval()
    images = make_images(2, channels=1)
    reads = adapt(model, SPEC, "blur")
    assert reads(images).shape == (2, 5)
    sentence = "the model takes 1 channels and is said to normalise 3: give adapt mean= and std= of 1 numbers"
    with pytest.raises(InputError, match=sentence):
        reads(make_bytes()[:, :1])
    assert adapt(model, SPEC, "blur", mean=[0.5], std=[0.5])(make_bytes()[:, :1]).shape == (2, 5)


# Images of several lengths.


def padded_plan(spec=SPEC):
    return get_quadtree("parallel")(random_saliency(spec, 4), spec, threshold=torch.tensor([0.2, 0.5, 0.7, 1.0]))


@pytest.mark.parametrize("attention", ["padded", "packed"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no pool"])
def test_images_of_several_lengths_are_read_as_each_alone(kind, attention):
    model, images, plan = adapted(kind, attention=attention), make_images(4), padded_plan()
    assert len(plan.lengths.unique()) > 2
    with torch.no_grad():
        together = model(images, plan=plan)
        for image in range(4):
            one = slice(image, image + 1)
            assert_close(together[one], model(images[one], plan=plan.unpadded(image)))


@pytest.mark.parametrize("kind", ["attention pool", "Eva, attention pool", "rope", "cls"])
def test_attention_that_is_not_fused_hides_padding_too(kind):
    timm.layers.set_fused_attn(False)
    try:
        model, images, plan = adapted(kind), make_images(4), padded_plan()
    finally:
        timm.layers.set_fused_attn(True)
    with torch.no_grad():
        together = model(images, plan=plan)
        for image in range(4):
            one = slice(image, image + 1)
            assert_close(together[one], model(images[one], plan=plan.unpadded(image)))


def test_a_threshold_gives_every_image_its_length():
    model, images = adapted(attention="padded"), make_bytes(4)
    tokens = tokenize(images, SPEC, "blur", threshold=THRESHOLD)
    logits, plan = model(images, threshold=THRESHOLD, return_plan=True)
    assert_same_plan(plan, tokens.plan)
    assert plan.lengths.tolist() == tokens.plan.lengths.tolist() == [15, 12, 6, 15]
    assert_close(model(tokens), logits, 1e-6)
    assert_close(model.forward_features(tokens), model.forward_features(images, plan=plan), 1e-6)  # padding, too
    _, most = model(images, threshold=-1.0, num_tokens=12, return_plan=True)
    assert most.lengths.tolist() == [12] * 4


def test_the_full_grid_with_a_threshold_is_scored():
    _, plan = adapted()(make_bytes(), num_tokens=24, threshold=torch.inf, return_plan=True)
    assert plan.lengths.tolist() == [6, 6]


@pytest.mark.parametrize("kind", FEW)
def test_padding_changes_nothing_and_gets_no_gradient(kind):
    model, plan = adapted(kind, attention="padded"), padded_plan()
    patches = torch.rand(4, 15, 3, 8, 8) * 255
    junk = patches.masked_fill(~plan.valid[..., None, None, None], 1e4).requires_grad_()
    output = model(Tokens(plan, junk))
    output.square().sum().backward()
    assert_close(output, model(Tokens(plan, patches)), 1e-6)
    assert not junk.grad[~plan.valid].any()
    assert junk.grad[plan.valid].any()


def test_the_head_leaves_padding_out_where_it_is_told_the_plan():
    model, images, plan = adapted("average", attention="padded"), make_images(4), padded_plan()
    features = model.forward_features(images, plan=plan)
    assert torch.equal(model.forward_head(features, plan=plan), model(images, plan=plan))
    assert not torch.allclose(model.forward_head(features), model(images, plan=plan), atol=1e-2)
    assert model.forward_head(features, pre_logits=True, plan=plan).shape == (4, 32)


def test_a_pool_that_takes_no_mask_is_refused_only_for_several_lengths():
    with torch.random.fork_rng():
        model = adapt(VisionTransformer(**TINY, global_pool="prr").eval(), SPEC, "blur")
    assert model(make_images()).shape == (2, 5)
    with pytest.raises(InputError, match="pooling 'prr' takes no mask"):
        model(make_images(4), plan=padded_plan())


# Maps.


def test_maps_lay_each_token_over_its_cells():
    model, images, plan = adapted("DINOv3"), make_images(4), padded_plan()
    features, (first, last) = model.forward_intermediates(images, plan=plan, norm=True)
    assert first.shape == last.shape == (4, 32, 4, 6)
    assert torch.equal(last, reverse(features[:, 5:], plan))
    _, tokens = model.forward_intermediates(images, plan=plan, dense=False)
    assert tokens[0].shape == (4, 15, 32)
    assert not torch.equal(tokens[0], tokens[1])


@pytest.mark.parametrize(
    ("indices", "blocks"),
    [(None, [0, 1]), (1, [1]), (2, [0, 1]), ([0], [0]), ([-1], [1]), ([-2], [0]), ((-1, 0), [0, 1])],
    ids=str,
)
def test_indices_name_blocks_as_timms_do(indices, blocks):
    model, images = adapted(), make_images()
    every = model.forward_intermediates(images, intermediates_only=True)
    (found, plan) = model.forward_intermediates(images, indices, intermediates_only=True, return_plan=True)
    assert isinstance(plan, Plan)
    assert len(found) == len(blocks)
    assert all(torch.equal(ours, every[block]) for ours, block in zip(found, blocks, strict=True))


def test_blocks_behind_the_last_one_wanted_do_not_run():
    model, calls = adapted(), []
    model.blocks[1].register_forward_hook(lambda *arguments: calls.append(1))
    model.forward_intermediates(make_images(), [0], intermediates_only=True)
    assert calls == []
    model.forward_intermediates(make_images(), [0])
    assert calls == [1]


@pytest.mark.parametrize("indices", [0, 3, [2], [-3], []], ids=str)
def test_blocks_that_there_are_not_are_refused(indices):
    with pytest.raises(InputError, match=r"indices .* blocks.* 2"):
        adapted().forward_intermediates(make_images(), indices)


# Scorers stay outside.


def test_a_scorer_is_neither_trained_nor_saved_nor_seen():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))
            self.eval()

        def forward(self, images, spec):
            return [scores * self.gain for scores in get_scorer("blur")(images, spec)]

    scorer = Learned()
    model = adapted(scorer=scorer).train().double()
    assert not scorer.training and scorer.gain.dtype == torch.float32
    assert scorer not in set(model.modules()) and scorer.gain not in set(model.parameters())
    assert list(model.state_dict()) == list(make("cls").state_dict())
    model(make_bytes()).sum().backward()
    assert scorer.gain.grad is None


@pytest.mark.parametrize("scorer", ["object", "feature"])
def test_a_scorer_with_a_net_goes_along_to_another_device(scorer, device):
    model = adapted(scorer=scorer)
    expected = model(make_bytes())
    assert_close(model.to(device)(make_bytes().to(device)).cpu(), expected, 1e-4)
    shapes = model.to("meta")(make_bytes().to("meta"))
    assert shapes.shape == expected.shape


def test_it_says_what_it_reads():
    assert f"spec={SPEC}" in repr(adapted()) and "quadtree='parallel'" in repr(adapted())


# What is refused at a call.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"plan": padded_plan(), "num_tokens": 9}, "a plan is chosen already: leave out num_tokens"),
        ({"plan": padded_plan(), "threshold": 1.0}, "a plan is chosen already: leave out threshold"),
        ({"plan": (1, 2)}, "plan must be a Plan, got tuple: tokens go in the images' place"),
        ({"num_tokens": 10}, "num_tokens 10 cannot be reached from 6 roots.*9 or 12"),
        ({"num_tokens": 27}, "num_tokens 27 is more than the 24"),
        ({"plan": padded_plan()}, "the plan is for 4 images and was given 2"),
        ({"threshold": "high"}, "threshold"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, sentence):
    with pytest.raises(QuadtokError, match=sentence):
        adapted()(make_bytes(), **arguments)


def test_images_that_do_not_fit_are_refused():
    model = adapted()
    with pytest.raises(InputError, match="images have 4 channels, the model takes 3"):
        model(make_images(channels=4))
    with pytest.raises(InputError, match="images are 48×32 .* and the spec says 32×48"):
        model(make_images().transpose(2, 3))
    with pytest.raises(InputError, match="images must be one tensor"):
        model([make_images()])
    spec = Spec.full(32, 48, 4, 16)
    with pytest.raises(InputError, match=r"patches are \[3, 4, 4\] \(C, p, p\), the embedding takes \[3, 8, 8\]"):
        model(make_images(), plan=Plan.uniform(spec, 0, 2))


def test_images_on_another_device_are_refused():
    with pytest.raises(InputError, match=r"the images are on cpu, the model is on meta: move one \(model.to\)"):
        adapted().to("meta")(make_bytes())


def test_tokens_that_do_not_fit_are_refused():
    model, tokens = adapted(), tokenize(make_bytes(), SPEC, "blur")
    for name, value in (("plan", tokens.plan), ("num_tokens", 9), ("threshold", 1.0)):
        with pytest.raises(InputError, match=f"tokens are chosen already: leave out {name}"):
            model(tokens, **{name: value})
    with pytest.raises(InputError, match="hold no pixels, only their layout: give the images, and plan=tokens.plan"):
        model(Tokens(tokens.plan, None))
    with pytest.raises(InputError, match="images have 1 channels, the model takes 3"):
        model(Tokens(tokens.plan, tokens.patches[:, :, :1]))
    with pytest.raises(InputError, match=r"got a list of 2 tokens: quadtok.collate makes one batch of them"):
        model([tokens, tokens])
    for patches in (tokens.patches[:1], tokens.patches[:, :9], tokens.patches[0]):
        with pytest.raises(InputError, match=r"the tokens' patches have shape .* expected \[2, 15, C, p, p\]"):
            model(Tokens(tokens.plan, patches))


def test_tokens_of_normalised_images_are_not_taken_for_levels():
    model, tokens = adapted(), tokenize(normalize(make_bytes()), SPEC, "blur")
    with pytest.raises(InputError, match=r"0…255 and go down to -2.*give tokens of uint8 images, or the images and"):
        model(tokens)


# Which models are refused.


class Subclass(VisionTransformer):
    pass


def with_overlapping_patches():
    model = make("cls")
    model.patch_embed.proj = nn.Conv2d(3, 32, 10, stride=8, padding=1)
    return model


def with_patches_of(**options):
    model = make("cls")
    model.patch_embed.proj = nn.Conv2d(3, 36, 8, stride=8, **options)
    return model


def with_a_patch_embedding_of_ones_own():
    model = make("cls")
    model.patch_embed = type("Hybrid", (PatchEmbed,), {})(img_size=(32, 48), patch_size=8, embed_dim=32)
    return model


def without_positions():
    return VisionTransformer(**TINY, pos_embed="none")


def with_a_table_of_another_size():
    model = make("cls")
    model.pos_embed = nn.Parameter(torch.zeros(1, 17, 32))
    return model


def with_unknown_rope():
    model = make("rope")
    model.rope = nn.Identity()
    return model


def with_spectral_norm():
    model = make("cls")
    nn.utils.spectral_norm(model.patch_embed.proj)
    return model


def pruned():
    model = make("cls")
    prune.l1_unstructured(model.blocks[0].attn.qkv, "weight", 0.5)
    return model


def with_a_lock():
    model = make("cls")
    model.lock = threading.Lock()
    return model


def with_a_method_of_its_own():
    model = make("cls")
    model.forward_features = model.forward_features
    return model


def on_meta():
    return make("cls").to("meta")


def oblong():
    return VisionTransformer(**{**TINY, "patch_size": (8, 4)})


REFUSED = {
    "a name": (lambda: "vit_tiny_patch16_224", "adapt takes a model, got str: make it with timm.create_model"),
    "nothing": (lambda: None, "adapt takes a model, got NoneType"),
    "an adapted model": (adapted, "adapted already: call it with another plan or num_tokens, or adapt the original"),
    "DataParallel": (lambda: nn.DataParallel(make("cls")), "wrapped in DataParallel: adapt model.module"),
    "torch.compile": (lambda: torch.compile(make("cls")), "wrapped in OptimizedModule: adapt model._orig_mod"),
    "on meta": (on_meta, 'on the device "meta" and holds no numbers: load its weights first'),
    "Linear": (lambda: nn.Linear(2, 2), "torch's Linear cannot be adapted.*use timm's VisionTransformer"),
    "a subclass": (lambda: Subclass(**TINY), "is a subclass of VisionTransformer, and what it overrides"),
    "a method of its own": (with_a_method_of_its_own, "the model's own forward_features was put in place"),
    "overlapping patches": (with_overlapping_patches, "kernel 10×10, stride \\(8, 8\\), padding \\(1, 1\\)"),
    "patches with gaps": (lambda: with_patches_of(dilation=2), "dilation \\(2, 2\\).*side by side"),
    "channels apart": (lambda: with_patches_of(groups=3), "groups 3: .* all channels together"),
    "oblong patches": (oblong, "kernel 8×4.*must be square"),
    "no blocks": (lambda: make("cls", depth=0), "has no blocks .*depth of at least 1"),
    "a hybrid": (with_a_patch_embedding_of_ones_own, "patch embedding is Hybrid, which may read beyond the patch"),
    "no positions": (without_positions, "no positions \\(pos_embed and rope are None\\)"),
    "a table of another size": (with_a_table_of_another_size, "pos_embed is \\[1, 17, 32\\].*asks for \\[1, 25, D\\]"),
    "unknown rope": (with_unknown_rope, "rotary positions are Identity"),
    "hooks that make the weights": (with_spectral_norm, "patch convolution has hooks .*take the hooks off first"),
    "weights that are computed": (pruned, "holds what Python cannot copy.*pruning.*take that off first"),
    "what cannot be copied": (with_a_lock, "holds what Python cannot copy.*TypeError"),
    "patch dropout": (lambda: KINDS["cls"](patch_drop_rate=0.5), "drops patches at random.*patch_drop_rate=0"),
    "patch dropout of Eva": (lambda: KINDS["rope"](patch_drop_rate=0.5), "drops patches at random.*patch_drop_rate=0"),
    "other patches": (
        lambda: make("cls", patch_size=16),
        "patches are 16×16 .* min_patch is 8: make a Spec with min_patch=16",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_the_full_grid_is_refused_in_a_sentence(case):
    build, sentence = REFUSED[case]
    with pytest.raises(InputError, match=sentence) as problem:
        adapt(build(), SPEC, "blur")
    assert "\n" not in str(problem.value)


OTHERS = {
    "beit_base_patch16_224": "timm's Beit cannot be adapted",
    "samvit_base_patch16": "timm's VisionTransformerSAM cannot be adapted",
    "vit_relpos_small_patch16_224": "timm's VisionTransformerRelPos cannot be adapted",
    "swin_tiny_patch4_window7_224": "timm's SwinTransformer cannot be adapted",
    "hiera_tiny_224": "timm's Hiera cannot be adapted",
    "cait_xxs24_224": "timm's Cait cannot be adapted",
    "xcit_nano_12_p16_224": "timm's Xcit cannot be adapted",
    "resnet18": "timm's ResNet cannot be adapted",
    "naflexvit_base_patch16_gap": "timm's NaFlexVit has a way of its own .* quadtok.models.to_naflex",
    "vit_tiny_r_s16_p8_224": "patch embedding is HybridEmbed, which may read beyond the patch",
}


@pytest.mark.parametrize("name", OTHERS)
def test_timms_other_families_are_refused_in_a_sentence(name):
    with torch.device("meta"):  # nothing is drawn, and it is refused for what it is first
        model = timm.create_model(name)
    with pytest.raises(InputError, match=OTHERS[name]):
        adapt(model, Spec(224, 224, 16, 32, 49), "blur")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quadtree": "octree"}, "octree"),
        ({"scorer": "loudness"}, "there is no scorer 'loudness'"),
        ({"mean": [0.5, 0.5, 0.5]}, "mean and std go together"),
        ({"mean": [0.5], "std": [0.5]}, "mean and std must have a number a channel: got 1 for 3"),
        ({"spec": (32, 48)}, "spec must be a Spec, got tuple"),
    ],
)
def test_other_arguments_are_checked_at_once(options, sentence):
    with pytest.raises(InputError, match=sentence):
        adapt(**{"model": make("cls"), "spec": SPEC, "scorer": "blur", **options})


def test_a_model_that_fails_by_itself_is_told_in_a_sentence():
    model = make("cls")
    model.blocks[0].attn.qkv = nn.Linear(7, 96)
    with pytest.raises(InputError, match="the original fails for an image 32×48, torch.float32: RuntimeError"):
        adapt(model, SPEC, "blur")


def test_weights_that_are_not_finite_are_found():
    model = make("cls")
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(InputError, match="or its weights are not finite"):
        adapt(model, SPEC, "blur")


def test_neither_timm_nor_torchvision_is_loaded_without_a_model_of_theirs():
    code = (
        "import sys, torch, quadtok\n"
        "try: quadtok.models.adapt(torch.nn.Linear(2, 2), quadtok.Spec(32, 32, 8, 16, 4))\n"
        "except quadtok.QuadtokError as problem: print(problem)\n"
        "try: quadtok.models.check_naflex(torch.nn.Linear(2, 2))\n"
        "except quadtok.QuadtokError as problem: print(problem)\n"
        "print('timm' in sys.modules, 'torchvision' in sys.modules)"
    )
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("torch's Linear cannot be adapted")
    assert lines[1].startswith("model must be timm's NaFlexVit itself, got Linear")
    assert lines[2] == "False False"


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_a_family_says_everything_that_is_asked_of_it(family):
    classes = import_module(f"quadtok.models.{family}").CLASSES.values()
    left_open = [
        name for kind in classes for name in dir(kind) if getattr(getattr(kind, name), "__isabstractmethod__", 0)
    ]
    assert classes and left_open == []
