"""Which cases a benchmark has, and what the quadtrees are given in each."""

from fractions import Fraction

import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES
from quadtok import get_scorer
from quadtok.bench.cases import Benchmark
from quadtok.errors import InputError, QuadtokError
from quadtok.geometry import Budget, Geometry
from quadtok.jobs.scoring import make_scoring
from quadtok.jobs.sources import Source
from quadtok.names import DEFAULT_BACKGROUND, MAX_PIXELS
from quadtok.pixels import normalize
from quadtok.preprocess import Preprocess
from quadtok.quadtrees import QUADTREES


def geometry(*size):
    return Geometry(size or None, "crop", 16, 32, Budget(share=Fraction(1, 2)))


def benchmark(scorers=("random",), **changes):
    geometries = changes.pop("geometries", [geometry(64, 64)])
    changes = {
        "batches": [2],
        "seed": 0,
        "sources": [],
        "dtype": "uint8",
        **changes,
    }
    scorings = {
        name: make_scoring(name, maps=None, seed=changes["seed"], options={}, sources=[], tell=print)
        for name in scorers
    }
    return Benchmark(
        implementations=["dict"],
        sizes=[Preprocess(geometry, MAX_PIXELS, DEFAULT_BACKGROUND, exif=True) for geometry in geometries],
        scorings=scorings,
        device="cpu",
        compiled=False,
        warmup=0,
        min_time=0,
        **changes,
    )


def workloads(*scorers, **changes):
    run = benchmark(scorers or ("random",), **changes)
    return [run.workload(case) for case in run.cases()]


@pytest.fixture
def photographs(tmp_path):
    """Three of them, and one that is none."""
    names = ("coffee", "rocket", "chelsea")
    for name in names:
        with Image.open(SAMPLE_IMAGES / f"{name}.jpg") as image:
            image.resize((96, 80)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    return [Source(tmp_path / f"{name}.png", tmp_path) for name in (*names, "broken")]


def test_every_size_comes_with_every_batch_size_and_every_scorer():
    run = benchmark(("blur", "random"), geometries=[geometry(64, 64), geometry(64, 96)], batches=[1, 3])
    assert [str(case) for case in run.cases()] == [
        f"{scorer}, a batch of {batch}, {size}"
        for size in ("64×64", "64×96")
        for batch in (1, 3)
        for scorer in ("blur", "random")
    ]


def test_the_spec_is_the_geometrys():
    (workload,) = workloads(geometries=[geometry(64, 96)])
    assert (workload.images.shape, workload.spec) == ((2, 3, 64, 96), geometry(64, 96).spec(64, 96))


def test_native_sizes_have_no_batches():
    with pytest.raises(InputError, match="the images of a batch have one size"):
        list(benchmark(geometries=[geometry()]).cases())


def test_photographs_are_repeated_to_fill_the_batch(photographs):
    (workload,) = workloads("blur", sources=photographs[:3], batches=[5])
    images = workload.images
    assert (images.shape, images.dtype) == ((5, 3, 64, 64), torch.uint8)
    assert torch.equal(images[3:], images[:2])
    assert len(images.flatten(1).unique(dim=0)) == 3


def test_only_as_many_photographs_are_read_as_the_largest_batch_takes(photographs):
    assert len(workloads(sources=photographs, batches=[1, 3])) == 2
    with pytest.raises(QuadtokError, match=r"broken\.png: not a supported image"):
        workloads(sources=photographs, batches=[1, 4])


def test_the_photographs_of_a_size_are_read_once(photographs):
    cases = benchmark(sources=photographs[:3], batches=[1, 3]).cases()
    first = next(cases)
    for source in photographs:
        source.path.unlink()
    (second,) = cases
    assert torch.equal(first.pixels, second.pixels)


def test_whatever_reading_raises_names_the_photograph(photographs, monkeypatch):
    def broken(image, *arguments, **options):
        raise ZeroDivisionError("odd\nimage")

    monkeypatch.setattr(Image.Image, "resize", broken)
    with pytest.raises(QuadtokError) as caught:
        workloads(sources=photographs[:1])
    assert str(caught.value) == f"{photographs[0].path}: ZeroDivisionError: odd image"


def test_random_images_depend_on_the_seed_and_not_on_the_other_batch_sizes():
    (alone,), (small, large), (other,) = workloads(), workloads(batches=[2, 4]), workloads(seed=1)
    assert torch.equal(alone.images, small.images) and torch.equal(large.images[:2], small.images)
    assert not torch.equal(alone.images, other.images)


def test_the_random_scorer_gives_each_image_its_own_layout():
    (workload,) = workloads(seed=7)
    drawn = workload.score(workload.images, workload.spec)
    expected = get_scorer("random", seed=[7, 8])(workload.images, workload.spec)
    assert all(map(torch.equal, drawn, expected))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_floats_are_normalized(dtype):
    (pixels,), (images,) = workloads(), workloads(dtype=dtype)
    assert torch.equal(images.images, normalize(pixels.images).to(getattr(torch, dtype)))


def test_a_batch_that_is_too_large_is_a_sentence(monkeypatch):
    def full(saliency, spec):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

    monkeypatch.setitem(QUADTREES, "dict", full)
    run = benchmark()
    with pytest.raises(InputError) as caught:
        run.rows(next(run.cases()))
    assert str(caught.value) == (
        "random, a batch of 2, 64×64: does not fit into the memory of cpu; use smaller batches or images"
    )
