"""torchvision's VisionTransformer reads mixed-resolution tokens: on the full grid it is the original."""

import copy
import io

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer, interpolate_embeddings

from helpers import random_saliency
from quadtok import Plan, Spec, get_quadtree, reverse
from quadtok.errors import InputError
from quadtok.models import adapt

SPEC = Spec(48, 48, 8, 16, 24)
SIZES = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 5}


def make(image_size=48, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(image_size, **{**SIZES, **options})
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "pos_embedding" in name or "token" in name:
                    value.normal_(std=0.5)
                elif value.ndim < 2:
                    value.add_(0.1 * torch.randn(value.shape))
                else:
                    value.normal_(std=1.5 * value[0].numel() ** -0.5)
    return model.eval()


def make_images(batch=2, size=(48, 48)):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))


def full_grid(height=48, width=48, batch=2):
    return Plan.uniform(Spec.full(height, width, 8, 16), 0, batch)


def assert_close(ours, theirs, relative=1e-5):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= relative * theirs.abs().max()


@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with"])
@pytest.mark.parametrize("options", [{}, {"representation_size": 16}], ids=str)
def test_on_the_full_grid_in_any_order_the_adapted_model_is_the_original(options, gradients):
    original, images, plan = make(**options), make_images(), full_grid()
    model = adapt(original, SPEC, "blur", check=False)
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    other = Plan(plan.left[:, order], plan.top[:, order], plan.scale[:, order], plan.spec)
    with torch.set_grad_enabled(gradients):
        assert_close(model(images, plan=plan), original(images))
        assert_close(model(images, plan=other), original(images))


def test_at_another_size_it_is_the_original_as_torchvision_resizes_it():
    original = make()
    other = make(64)
    other.load_state_dict(interpolate_embeddings(64, 8, copy.deepcopy(original.state_dict())))
    images = make_images(2, (64, 64))
    with torch.no_grad():
        model = adapt(original, SPEC, "blur", check=False)
        assert_close(model(images, plan=full_grid(64, 64)), other(images))


def test_a_rectangle_is_read_too():
    assert adapt(make(), SPEC, "blur")(make_images(2, (32, 64)), plan=full_grid(32, 64)).shape == (2, 5)


def test_images_of_several_lengths_are_read_as_each_alone():
    model, images = adapt(make(), SPEC, "blur", check=False), make_images(4)
    saliency = random_saliency(SPEC, 4)
    plan = get_quadtree("parallel")(saliency, SPEC, threshold=torch.tensor([0.2, 0.5, 0.7, 1.0]))
    assert len(plan.lengths.unique()) > 2
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            together = model(images, plan=plan)
            for image in range(4):
                one = slice(image, image + 1)
                assert_close(together[one], model(images[one], plan=plan.unpadded(image)))


def test_maps_and_features_are_those_of_the_encoder():
    original, images, features = make(), make_images(), []
    model = adapt(original, SPEC, "blur", check=False)
    original.encoder.register_forward_hook(lambda module, inputs, output: features.append(output))
    with torch.no_grad():
        original(images)
        ours = model.forward_features(images, plan=full_grid())
        final, (first, last) = model.forward_intermediates(images, plan=full_grid(), norm=True)
    assert_close(ours[:, :1], features[0][:, :1])
    assert_close(reverse(ours[:, 1:], full_grid()).flatten(2).transpose(1, 2), features[0][:, 1:])
    assert first.shape == last.shape == (2, 32, 6, 6)
    assert torch.equal(final, ours)
    assert_close(last.flatten(2).transpose(1, 2), features[0][:, 1:])


def test_state_dict_gradients_copies_and_modes_are_the_originals():
    original = make().train()
    model = adapt(original, SPEC, "blur")
    assert isinstance(model, VisionTransformer) and model.training and original.training
    assert list(model.state_dict()) == list(original.state_dict())
    original.load_state_dict(model.state_dict(), strict=True)
    model(make_images()).square().sum().backward()
    assert all(value.grad is not None for value in model.parameters())
    file = io.BytesIO()
    torch.save(model.eval(), file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert torch.equal(other(make_images()), model(make_images()))


def test_a_convolutional_stem_is_refused():
    stem = [ConvStemConfig(16, 3, 2), ConvStemConfig(16, 3, 2), ConvStemConfig(16, 3, 2)]
    with pytest.raises(
        InputError, match="embeds patches by a Sequential, which may read beyond the patch: take a model"
    ):
        adapt(make(conv_stem_configs=stem), SPEC, "blur")


def test_a_table_of_another_size_is_refused():
    model = make()
    model.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 50, 32))
    with pytest.raises(
        InputError, match=r"pos_embedding is \[1, 50, 32\], its grid of 6×6 patches asks for \[1, 37, D\]"
    ):
        adapt(model, SPEC, "blur")
