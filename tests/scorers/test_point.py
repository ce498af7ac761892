"""Foveation: saliency by distance, told by hand, and what budgets and thresholds make of it."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from quadtok import Spec, get_quadtree, get_scorer
from quadtok.errors import InputError

SPEC = Spec(64, 96, 8, 32, 24)  # grids 8×12 of 8, 4×6 of 16, 2×3 of 32
IMAGES = torch.zeros(2, 3, 64, 96)


def score(points=None, boxes=None, spec=SPEC, images=IMAGES):
    return get_scorer("point", points=points, boxes=boxes)(images, spec)


class LargestTensor(TorchDispatchMode):
    """How many numbers the largest tensor has that is made inside."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def distance(patch, target):
    """Between two boxes (left, top, right, bottom)."""
    across = max(target[0] - patch[2], patch[0] - target[2], 0)
    down = max(target[1] - patch[3], patch[1] - target[3], 0)
    return math.hypot(across, down)


def expected(targets, scale):
    """The saliency of one image, a patch at a time."""
    (rows, cols), size = SPEC.grid(scale), SPEC.patch_size(scale)
    patches = [[(c * size, r * size, (c + 1) * size, (r + 1) * size) for c in range(cols)] for r in range(rows)]
    return torch.tensor(
        [[size / (min(distance(patch, target) for target in targets) + 8) for patch in row] for row in patches]
    )


POINTS = [[(10.5, 20)], [(0, 0), (90, 3.25), (200, -50)]]
BOXES = [[(40, 10, 60, 33)], []]


@pytest.mark.parametrize(("points", "boxes"), [(POINTS, None), (None, BOXES[:1] * 2), (POINTS, BOXES)])
def test_saliency_is_the_side_over_the_distance_to_the_nearest_target(points, boxes):
    saliency = score(points, boxes)
    for image in range(2):
        targets = [(x, y, x, y) for x, y in (points or [[], []])[image]] + list((boxes or [[], []])[image])
        for scale, scores in enumerate(saliency, start=1):
            torch.testing.assert_close(scores[image], expected(targets, scale), rtol=1e-6, atol=0)


def test_what_a_target_touches_is_at_no_distance():
    finest, coarsest = score([[(16, 16)], [(16.5, 16.5)]])
    assert (finest[0] == 2).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (finest[1] == 2).nonzero().tolist() == [[1, 1]]
    assert (coarsest[0] == 4).nonzero().tolist() == [[0, 0]]


def test_tensors_and_lists_give_the_same():
    points, boxes = [[(1, 2), (3, 4)], [(50, 6), (70, 60)]], [[(1, 2, 3, 4)], [(50, 6, 70, 60)]]
    for dtype in (torch.float64, torch.int32):
        tensors = score(torch.tensor(points, dtype=dtype), torch.tensor(boxes, dtype=dtype))
        assert all(map(torch.equal, tensors, score(points, boxes)))


def test_a_point_and_a_box_without_extent_are_the_same():
    assert all(map(torch.equal, score([[(7, 9)], [(3, 4)]]), score(boxes=[[(7, 9, 7, 9)], [(3, 4, 3, 4)]])))


def test_many_points_are_worked_on_in_parts():
    # 20,000 points and 128 × 128 patches: all distances at once would be 1.3 GB, several times over.
    spec = Spec(256, 256, 1, 2, 128 * 128)
    points = torch.full((1, 20_000, 2), 1e6)
    points[0, ::7_000] = torch.tensor([[200.0, 70.0], [3.0, 4.0], [90.0, 250.0]])
    few = points[:, [0, 7_000, 14_000, 1]]
    images = torch.zeros(1, 3, 256, 256)
    with LargestTensor() as largest:
        (scores,) = get_scorer("point", points=points)(images, spec)
    assert torch.equal(scores, get_scorer("point", points=few)(images, spec)[0])
    assert largest.numbers <= 1 << 22


def test_an_image_without_targets_is_split_evenly():
    for scores in score([[], [(3, 4)]]):
        assert (scores[0] == 0).all()
    plan = get_quadtree()(score([[], [(3, 4)]]), SPEC)
    assert plan.counts[0].tolist() == [0, 24, 0]


def test_a_budget_is_spent_around_the_point():
    spec = Spec(256, 256, 16, 64, 40)
    plan = get_quadtree()(score([[(200, 70)]], spec=spec, images=torch.zeros(1, 3, 256, 256)), spec)
    centers = plan.centers[0] * 16
    away = (centers - torch.tensor([200.0, 70.0])).norm(dim=-1)
    means = [away[plan.scale[0] == scale].mean().item() for scale in range(3)]
    assert means == sorted(means)
    assert away[plan.scale[0] == 0].max() < away[plan.scale[0] == 2].max()


def test_no_patch_has_more_than_the_one_that_it_lies_in():
    finest, coarsest = score(POINTS, BOXES)
    above = coarsest.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    assert (finest < above).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
def test_the_images_give_only_their_number_and_their_device(dtype):
    assert all(map(torch.equal, score(POINTS, images=torch.ones(2, 1, 64, 96).to(dtype)), score(POINTS)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "the point scorer needs points or boxes"),
        ({"points": [(10, 20)]}, r"points of image 0 must be \(x, y\) in finite numbers, got 10"),
        ({"points": [[(1, 2, 3, 4)]]}, r"points of image 0 must be \(x, y\) in finite numbers, got \(1, 2, 3, 4\)"),
        ({"points": [[], [(1, math.nan)]]}, r"points of image 1 must be \(x, y\) in finite numbers"),
        ({"points": [[(1, 10**400)]]}, r"points of image 0 must be \(x, y\) in finite numbers"),
        ({"points": [[("1", "2")]]}, r"points of image 0 must be \(x, y\) in finite numbers"),
        ({"boxes": [[(1, 2)]]}, r"boxes of image 0 must be \(left, top, right, bottom\) in finite numbers"),
        ({"boxes": [[(5, 0, 4, 9)]]}, r"boxes of image 0 must be .*right and bottom are the larger numbers"),
        ({"boxes": [[(0, 5, 9, 4)]]}, r"boxes of image 0 must be .*right and bottom are the larger numbers"),
        (
            {"points": {"a": (1, 2)}},
            r"points must be a list of \(x, y\) for each image, or a tensor \[B, K, 2\], got {",
        ),
        ({"points": torch.zeros(2, 2)}, r"points must be \[B, K, 2\], with \(x, y\) of each, got \[2, 2\]"),
        ({"points": torch.zeros(2, 0, 2)}, r"points must be \[B, K, 2\], .*got \[2, 0, 2\]"),
        ({"boxes": torch.zeros(2, 1, 2)}, r"boxes must be \[B, K, 4\], .*got \[2, 1, 2\]"),
        ({"boxes": torch.zeros(2, 1, 4, dtype=torch.complex64)}, "boxes must be .*got complex numbers"),
        ({"points": torch.zeros(2, 1, 2).to_sparse()}, "points must be dense, got a tensor torch.sparse_coo"),
        ({"points": [[(1, 2)]], "boxes": [[], []]}, "there are points of 1 images and boxes of 2: give both for each"),
    ],
)
def test_what_are_no_points_and_boxes_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        get_scorer("point", **options)


def test_there_are_points_for_each_image():
    with pytest.raises(InputError, match="there are points of 1 images and 2 images"):
        score([[(1, 2)]])
    with pytest.raises(InputError, match="the points are on the meta device and hold no numbers"):
        score(torch.zeros(2, 1, 2, device="meta"))
