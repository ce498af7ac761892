"""The net of the object scorer: what it sees, and that it prefers no place of an image, whatever its weights are."""

import pytest
import torch

from helpers import photographs
from quadtok.scorers.object.net import ImportanceNet, log_saliency, seen, view_size

# The weights were trained with these: another number asks for other weights.
SPREAD, EPS = 0.5, 0.02


def random_net(symmetric=False):
    """Weights that let something through all layers; `symmetric`: each kernel is its own mirror image."""
    torch.manual_seed(0)
    net = ImportanceNet().eval().requires_grad_(False)
    for weight in net.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)
        if weight.ndim == 4 and symmetric:
            weight.add_(weight.flip(-1)).div_(2)
    net.head.out.weight.mul_(0.1)  # so that no map is at its bounds
    return net


def view_of(images):
    return seen(images, *view_size(*images.shape[2:]))[0]


@torch.no_grad()
def maps_of(net, images):
    return net(view_of(images))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (256, 256, (128, 128)),
        (224, 224, (112, 112)),
        (512, 512, (256, 256)),
        (256, 1024, (128, 512)),
        (512, 544, (128, 144)),  # at a quarter, as its half would have more pixels than 256 × 256
        (1024, 1024, (256, 256)),
        (4000, 3000, (256, 192)),
        (192, 192, (96, 96)),
        (128, 128, (128, 128)),  # whole, as its half would have fewer pixels than 90 × 90
        (64, 96, (128, 192)),
        (40, 72, (80, 144)),
        (16, 16, (128, 128)),
        (8, 24, (64, 192)),
    ],
)
def test_the_view_is_half_an_image_or_less_of_a_large_and_more_of_a_small_one_in_whole_strides(height, width, expected):
    assert view_size(height, width) == expected
    view, spread = seen(torch.rand(2, 3, height, width), *expected)
    assert (view.shape, spread.shape) == ((2, 3, *expected), (2,))


def test_a_pixel_of_the_view_is_the_mean_of_those_that_it_covers():
    images = photographs(192, 192)
    means = images.unflatten(3, (96, 2)).unflatten(2, (96, 2)).mean(dim=(3, 5))
    spread = means.std(dim=(1, 2, 3), correction=0)
    expected = (means - means.mean(dim=(1, 2, 3), keepdim=True)) / spread.view(2, 1, 1, 1) * SPREAD
    view, measured = seen(images, 96, 96)
    torch.testing.assert_close(view, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(measured, spread, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("height", "width", "of_the_first_row"),
    [
        (200, 200, [0, 1]),  # 112 of 200: rows 0 to 1.8
        (100, 96, [0]),  # 112 of 100, and 96 of 96
        (32, 32, None),  # 128 of 32
    ],
)
def test_a_side_that_is_no_whole_number_of_strides_is_stretched(height, width, of_the_first_row):
    ramp = torch.arange(float(height)).view(1, 1, -1, 1).expand(1, 3, height, width)
    size = view_size(height, width)
    view, spread = seen(ramp, *size)
    rows = (view * spread / SPREAD)[0, 0, :, 0]  # but for the mean
    assert (rows.diff() >= 0).all()
    torch.testing.assert_close(view, -view.flip(2), rtol=0, atol=1e-5)  # the ends are alike
    if of_the_first_row is not None:
        first = torch.tensor(of_the_first_row).float().mean() - (height - 1) / 2
        torch.testing.assert_close(rows[0], first, rtol=0, atol=1e-3)


def test_the_view_of_an_image_is_the_same_in_a_batch_and_in_threads():
    images, before = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found += [view_of(images), torch.cat([view_of(image) for image in images.split(1)])]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(view, found[0]) for view in found)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48), (128, 112)])
def test_a_view_gives_two_maps_at_a_stride_of_8_within_bounds(height, width):
    net = random_net()
    net.head.out.weight.mul_(1e4)
    maps = net(torch.randn(3, 3, height, width) * 100)
    assert maps.shape == (3, 2, height // 8, width // 8)
    assert maps.abs().max() == 12


def test_what_is_smaller_than_its_view_is_enlarged_with_values_between_its_own():
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = 1
    view, spread = seen(step, 96, 96)
    values = (view * spread / SPREAD)[0, 0, 0]
    found = values - values.min()
    assert ((found > 0.01) & (found < 0.99)).sum() >= 2  # bilinear, and not the nearest one's
    assert (found.diff() >= -1e-6).all()


def test_maps_do_not_know_the_border():
    colour = torch.tensor([1.0, 0.2, -0.7]).view(1, 3, 1, 1)
    view = colour.expand(1, 3, 96, 80)
    maps = random_net()(view)
    assert maps.std(dim=(2, 3)).max() <= 1e-5 * maps.abs().max()
    assert random_net()(view + torch.randn(1, 3, 96, 80)).std(dim=(2, 3)).min() > 0.1  # not alike whatever it sees


def test_kernels_that_are_their_own_mirror_images_give_mirrored_maps():
    """So the middle of what a place sees is its own middle; with odd kernels and strides it would lie beside it."""
    images = photographs(192, 192)
    ours, mirrored = (maps_of(random_net(symmetric=True), pixels) for pixels in (images, images.flip(-1)))
    assert (ours - mirrored.flip(-1)).abs().max() <= 1e-4 * ours.abs().max()
    assert (ours - mirrored).abs().max() > 0.1 * ours.abs().max()
    other = [maps_of(random_net(), pixels) for pixels in (images, images.flip(-1))]
    assert (other[0] - other[1].flip(-1)).abs().max() > 0.1 * other[0].abs().max()


def test_the_last_digits_alone_depend_on_the_batch_and_on_gradients():
    net, images = random_net(), photographs(128, 128)
    together = maps_of(net, images)
    for image in range(2):
        alone = maps_of(net, images[image : image + 1])
        torch.testing.assert_close(alone, together[image : image + 1], rtol=0, atol=1e-4)
    with_gradients = net.requires_grad_(True)(view_of(images))
    torch.testing.assert_close(with_gradients.detach(), together, rtol=0, atol=1e-4)
    with_gradients.sum().backward()
    assert all(weight.grad is not None for name, weight in net.named_parameters() if name not in ("power", "step"))


def test_the_net_with_norms_has_the_same_layers():
    plain, with_norms = (set(ImportanceNet(norms=norms).state_dict()) for norms in (False, True))
    assert {name for name in plain if name.endswith("weight")} <= with_norms
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in with_norms - plain} == {"norm"}


def test_the_saliency_is_the_mean_importance_times_a_power_of_the_detail_by_its_definition():
    torch.manual_seed(0)
    maps, power, step = torch.randn(2, 2, 8, 12), torch.tensor([0.4, 0.7]), torch.tensor([0.5, -0.2])
    details = [torch.rand(2, 4, 6), torch.rand(2, 2, 3)]
    found = log_saliency(maps, details, power, step)
    assert [scores.shape for scores in found] == [(2, 2, 4, 6), (2, 2, 2, 3)]
    for scale, (scores, detail) in enumerate(zip(found, details, strict=True), start=1):
        side = 2**scale
        for kind in range(2):
            blocks = maps[:, kind].exp().unflatten(2, (-1, side)).unflatten(1, (-1, side))
            importance = blocks.mean(dim=(2, 4))
            expected = importance * (detail + EPS) ** power[kind] * torch.exp(step[kind] * scale)
            torch.testing.assert_close(scores[:, kind].exp(), expected, rtol=1e-5, atol=0)
