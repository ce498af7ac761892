"""Grad-CAM: what the papers' packages give, batch as single, on convnets, ViTs and adapted ViTs."""

import copy
import warnings

import pytest
import torch
import torchvision
from torch import nn

from quadtok import Plan, Spec, get_quadtree, get_scorer, normalize
from quadtok.errors import InputError
from quadtok.models import adapt
from quadtok.oracle import default_layer, grad_cam

timm = pytest.importorskip("timm", reason="the extra timm")


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


def with_varied_weights(model):
    """Random networks say the same of all images; a stronger last layer and norms tell them apart."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


MODELS = {
    "resnet18": lambda: torchvision.models.resnet18(),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(),
    "torchvision vit": lambda: torchvision.models.VisionTransformer(96, 16, 3, 2, 48, 96),
    "timm vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=96, depth=3),
    "timm vit, mean of its patches": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=96, depth=3, global_pool="avg", class_token=False
    ),
    "timm convnext": lambda: timm.create_model("convnext_atto"),
    "timm resnet": lambda: timm.create_model("resnet18"),
    "timm swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=96, window_size=3, depths=(1, 1, 1, 1)
    ),
}
CHANNELS_FIRST = ("resnet18", "mobilenet", "timm convnext", "timm resnet")


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return with_varied_weights(seeded(MODELS[request.param]))


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def classes(model, images):
    """The likeliest class of the first image, the second of the second, the third of the third: all have a map."""
    with torch.no_grad():
        return model(images).topk(3).indices.diagonal().tolist()


def by_hand(model, images, classes, layer):
    """The definition, one image at a time, with torch's own gradients of the images' graph."""
    kept, maps = [], []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    for image, wanted in zip(images, classes, strict=True):
        logits = model(image[None].clone().requires_grad_())
        (slopes,) = torch.autograd.grad(logits[0, wanted], kept[-1])
        maps.append((kept[-1].detach()[0], slopes[0]))
    handle.remove()
    return maps


def test_it_is_the_definition(model, images, classes):
    layer = default_layer(model)
    found = grad_cam(model, images, classes)
    for ours, (values, slopes) in zip(found, by_hand(model, images, classes, layer), strict=True):
        if values.ndim == 2:  # tokens
            prefix = len(values) - ours.numel()
            values, slopes = values[prefix:].T.unflatten(1, ours.shape), slopes[prefix:].T.unflatten(1, ours.shape)
        elif tuple(values.shape[:2]) == tuple(ours.shape):  # channels last
            values, slopes = values.permute(2, 0, 1), slopes.permute(2, 0, 1)
        wanted = (slopes.mean((1, 2))[:, None, None] * values).sum(0).relu()
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min()).clamp(min=1e-30)
        assert torch.allclose(ours, wanted, atol=1e-4)


def test_an_image_in_a_batch_is_as_it_is_alone(model, images):
    together = grad_cam(model, images, size=(96, 96))
    alone = torch.cat([grad_cam(model, image[None], size=(96, 96)) for image in images])
    assert together.shape == (3, 96, 96) and torch.allclose(together, alone, atol=1e-4)
    assert float(together.amin()) >= 0 and float(together.amax()) <= 1


def test_the_model_is_left_as_it_was(model, images):
    before = copy.deepcopy(model.state_dict())
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert torch.allclose(grad_cam(model, images), grad_cam(frozen, images), atol=1e-6)
    with torch.no_grad():
        grad_cam(model, images)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_no_target_is_the_largest_logit(model, images):
    with torch.no_grad():
        classes = model(images).argmax(1)
    assert torch.equal(grad_cam(model, images), grad_cam(model, images, classes))
    assert torch.equal(grad_cam(model, images, 2), grad_cam(model, images, [2, 2, 2]))


@pytest.mark.parametrize("model", CHANNELS_FIRST, indirect=True)  # torchcam takes nothing else
def test_it_is_what_torchcam_gives(model, images, classes):
    torchcam = pytest.importorskip("torchcam.methods", reason="torchcam, of the extra test-all")
    layer = default_layer(model)
    with torchcam.GradCAM(model, target_layer=layer) as extractor:
        logits = model(images.clone().requires_grad_())
        wanted = extractor(classes, logits)[0].float()
    assert wanted.amax() > 0.9 and torch.allclose(grad_cam(model, images, classes), wanted, atol=1e-4)


def test_it_is_what_the_package_grad_cam_gives(model, images, classes):
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam, of the extra test-all")
    targets = [package.utils.model_targets.ClassifierOutputTarget(wanted) for wanted in classes]
    with package.GradCAM(model, [default_layer(model)], as_maps(model)) as cam:
        wanted = torch.from_numpy(cam(images, targets))
    assert wanted.amax() > 0.9 and torch.allclose(grad_cam(model, images, classes, size=(96, 96)), wanted, atol=1e-4)


def as_maps(model):
    """What the package wants to be told of models whose layers give no maps `[B, D, h, w]`."""
    if isinstance(model, timm.models.SwinTransformer):
        return lambda output: output.permute(0, 3, 1, 2)
    if isinstance(model, (timm.models.VisionTransformer, torchvision.models.VisionTransformer)):
        return lambda output: output[:, output.shape[1] - 36 :].transpose(1, 2).unflatten(2, (6, 6))
    return None


@pytest.fixture(scope="module")
def vit():
    return with_varied_weights(seeded(MODELS["timm vit"]))


class TestAdapted:
    @pytest.mark.parametrize("name", ["timm vit", "timm vit, mean of its patches", "torchvision vit"])
    def test_on_the_full_grid_it_is_the_models_own(self, images, name):
        vit = with_varied_weights(seeded(MODELS[name]))
        adapted = adapt(vit, Spec.full(96, 96, 16, 32), "random", check=False)
        expected = grad_cam(vit, images, [1, 2, 3])
        assert bool(expected.any()) and torch.allclose(grad_cam(adapted, images, [1, 2, 3]), expected, atol=1e-4)

    def test_tokens_are_laid_out_by_their_plan(self, vit, images):
        spec = Spec(96, 96, 16, 32, 21)
        adapted = adapt(vit, spec, "blur", check=False)
        found = grad_cam(adapted, images, 1)
        _, plan = adapted(images, return_plan=True)
        assert found.shape == (3, 6, 6)
        for row, image in enumerate(found):
            for token in range(spec.num_tokens):
                own = image[plan.cell_to_token[row] == token]
                assert torch.all(own == own[0])

    def test_bytes_are_what_they_are_normalised(self, vit):
        pixels = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        adapted = adapt(vit, Spec(96, 96, 16, 32, 21), "blur", check=False)
        mean = [0.5, 0.5, 0.5]
        assert torch.allclose(
            grad_cam(adapted, pixels, 1), grad_cam(adapted, normalize(pixels, mean, mean), 1), atol=1e-4
        )


def test_maps_choose_tokens(images):
    model, spec = seeded(MODELS["resnet18"]), Spec(96, 96, 16, 32, 21)
    maps = grad_cam(model, images, size=(96, 96))
    plan = get_quadtree()(get_scorer("precomputed", maps=maps)(images, spec), spec)
    assert isinstance(plan, Plan) and plan.scale.shape == (3, 21)


def test_the_last_norm_of_a_vit_that_reads_its_class_token_is_refused(images):
    vit = seeded(MODELS["timm vit"])
    with pytest.raises(InputError, match="first norm of the last block"):
        grad_cam(vit, images, layer="norm")
    assert grad_cam(vit, images, layer="blocks.1").shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layer": "no.such"}, "there is no layer 'no.such': the model has conv1, bn1"),
        ({"layer": ""}, "there is no layer ''"),
        ({"layer": nn.Identity()}, "no part of the model"),
        ({"layer": "fc"}, "expected maps"),
        ({"target": 1000}, "classes 0 to 999"),
        ({"target": -1}, "classes 0 to 999"),
        ({"target": [1, 2]}, "names 2 classes and there are 3 images"),
        ({"target": 0.5}, "target must be a class"),
        ({"target": True}, "target must be a class"),
        ({"target": "cat"}, "target must be a class"),
        ({"target": [None, 1, 2]}, "target must be a class"),
        ({"target": 10**30}, "target must be a class"),
        ({"size": (0, 4)}, "size must be"),
        ({"size": 4}, "size must be"),
        ({"size": (4.0, 4)}, "size must be"),
        ({"layer": 4}, "no part of the model"),
        ({"images": torch.full((1, 3, 64, 64), float("nan"))}, "are not finite"),
        ({"images": torch.zeros(1, 3, 96, 96, dtype=torch.uint8)}, "images are uint8"),
        ({"images": torch.zeros(3, 96, 96)}, "must be a batch"),
    ],
)
def test_what_cannot_be_is_one_sentence(images, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        grad_cam(seeded(MODELS["resnet18"]), **{"images": images, **arguments})


def test_a_model_in_training_mode_and_one_that_is_no_classifier_are_refused(images):
    with pytest.raises(InputError, match=r"call model.eval\(\)"):
        grad_cam(torchvision.models.resnet18(), images)
    part = seeded(MODELS["resnet18"])
    part.layer3.train()
    with pytest.raises(InputError, match="or a part of it, is in training mode"):
        grad_cam(part, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, which will do without
        traced = torch.jit.trace(seeded(MODELS["resnet18"]), images)
    with pytest.raises(InputError, match="cannot be listened to"):
        grad_cam(traced, images, layer="layer4")
    with torch.inference_mode():
        made_there = seeded(MODELS["resnet18"])
    with pytest.raises(InputError, match="made in inference mode"):
        grad_cam(made_there, images)
    with pytest.raises(InputError, match="expected logits"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), images, layer="0")
    with pytest.raises(InputError, match="which layer of a Sequential"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), images)


def test_an_image_that_says_nothing_of_the_class_has_a_map_of_zeros_in_every_batch(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model[0].bias.data.zero_()
    together = grad_cam(model, torch.cat([images[:1], torch.zeros_like(images[:1])]), 1, "0")
    assert bool(together[0].any()) and not bool(together[1].any())
    assert torch.equal(grad_cam(model, torch.zeros_like(images[:1]), 1, "0")[0], together[1])


def test_a_layer_that_runs_twice_is_refused(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images):
            return self.conv(self.conv(images)).mean((2, 3))

    with pytest.raises(InputError, match="runs 2 times"):
        grad_cam(Twice().eval(), images, layer="conv")


def test_a_layer_that_is_not_called_is_refused(images):
    with pytest.raises(InputError, match="is not called by the model as a whole"):
        grad_cam(with_blocks(nn.ModuleList([nn.Conv2d(3, 4, 3)])), images, layer="blocks")


def with_blocks(blocks):
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = blocks

        def forward(self, images):
            for block in self.blocks:
                images = block(images)
            return images.mean((2, 3))

    return Blocks().eval()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_layer_gives_its_map_or_says_why_not(images, reentrant):
    from torch.utils.checkpoint import checkpoint

    model = seeded(MODELS["resnet18"])
    expected, layer = grad_cam(model, images), model.layer4
    plain = layer.forward
    layer.forward = lambda inputs: checkpoint(plain, inputs, use_reentrant=reentrant)
    assert torch.allclose(grad_cam(model, images), expected, atol=1e-6)
    inner = layer[1].bn2
    if reentrant:
        with pytest.raises(InputError, match="without gradients"):
            grad_cam(model, images, layer=inner)
    else:
        found, layer.forward = grad_cam(model, images, layer=inner), plain
        assert torch.allclose(found, grad_cam(model, images, layer=inner), atol=1e-6)


def test_torchs_modes_and_types_play_no_part(images):
    expected = grad_cam(seeded(MODELS["resnet18"]), images)
    model = seeded(MODELS["resnet18"])
    with torch.inference_mode():
        assert torch.equal(grad_cam(model, images), expected)
        assert torch.equal(grad_cam(model, images.clone()), expected)
    assert torch.allclose(grad_cam(model.double(), images.double()), expected, atol=1e-5)
    low = grad_cam(model.bfloat16(), images.bfloat16())
    assert low.dtype == torch.float32 and torch.allclose(low, expected, atol=0.1)


def test_what_writes_over_the_layer_changes_nothing(images):
    models = []
    for inplace in (False, True):
        torch.manual_seed(0)
        parts = nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        models.append(nn.Sequential(*parts, nn.Linear(32, 5)).eval())
    for layer in ("1", "2"):
        first, second = (grad_cam(model, images, 1, layer) for model in models)
        assert torch.equal(first, second)


def test_a_wide_image_has_a_wide_map():
    wide = torch.randn(2, 3, 64, 160, generator=torch.Generator().manual_seed(0))
    assert grad_cam(seeded(MODELS["resnet18"]), wide).shape == (2, 2, 5)
    vit = seeded(lambda: timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, depth=2))
    assert grad_cam(vit, wide).shape == (2, 4, 10)


OTHERS = {
    "levit_128s": (224, (4, 4)),
    "mixer_s32_224": (224, (7, 7)),
    "volo_d1_224": (224, (14, 14)),
    "mambaout_femto": (96, (3, 3)),
    "maxvit_t of torchvision": (224, (7, 7)),
    "regnet_y_400mf of torchvision": (96, (3, 3)),
    "shufflenet_v2_x0_5 of torchvision": (96, (3, 3)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_layer_of_others_is_found_and_its_places_are_not_channels(name):
    (side, shape), (name, _, library) = OTHERS[name], name.partition(" of ")
    make = torchvision.models.get_model if library else timm.create_model
    torch.manual_seed(0)
    model = make(name, **({"weights": None} if library else {})).eval()
    assert grad_cam(model, torch.randn(1, 3, side, side)).shape == (1, *shape)


def test_windows_and_lists_are_no_places(images):
    swin = seeded(MODELS["timm swin"])
    with pytest.raises(InputError, match="parts of them alone"):
        grad_cam(swin, images, layer="layers.0.blocks.0.attn.qkv")
    assert grad_cam(swin, images, layer="patch_embed.proj").shape == (3, 24, 24)  # channels first, others last
    with pytest.raises(InputError, match="expected maps"):
        grad_cam(timm.create_model("hrnet_w18_small").eval(), images)


def test_a_vit_of_hugging_face_gives_its_map_where_the_layer_is_named(images):
    transformers = pytest.importorskip("transformers", reason="transformers, of the extra test-all")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=96)).eval()
    names = [name for name, _ in model.named_modules() if name.endswith("layernorm_before")]
    assert grad_cam(model, images, 0, names[-1]).shape == (3, 6, 6)
