"""Nothing waits for a device, and torch's compiler and exporter take selection and extraction whole."""

import shutil

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from helpers import assert_same_plan, random_saliency
from quadtok import Plan, Spec, extract_patches, get_quadtree

SPEC = Spec(32, 48, 4, 16, 21)
MEAN, STD = (0.1, 0.5, 0.7), (0.2, 1.0, 0.3)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def make_images(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(batch, 3, SPEC.height, SPEC.width, generator=generator) * 256).to(dtype)


def select(*saliency):
    plan = get_quadtree("parallel")(saliency, SPEC)
    return plan.left, plan.top, plan.scale


def extract(images, left, top, scale):
    return extract_patches(images, Plan(left, top, scale, SPEC))


def extract_normalized(images, left, top, scale):
    return extract_patches(images, Plan(left, top, scale, SPEC), mean=MEAN, std=STD)


def tensors_in(value):
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors_in(entry)


TAKES_HOST_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy)


class StaysOnDevice(TorchFunctionMode):
    """Fails on calls of torch that move data between devices, or between a device and Python's numbers.

    Run on tensors of the device "meta", which have no data: what needs values (`item`, `nonzero`, `unique`, a boolean
    mask) raises by itself there. It sees the calls, not what a release of torch makes of them.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in TAKES_HOST_NUMBERS, f"{function.__name__} copies numbers from the host"
        result = function(*args, **(kwargs or {}))
        devices = {tensor.device.type for tensor in tensors_in([args, kwargs, result])}
        assert devices <= {"meta"}, f"{function} works on {sorted(devices)}"
        return result


@pytest.mark.parametrize("quadtree", ["tensor", "zcurve", "parallel"])
def test_selection_and_extraction_need_nothing_from_the_host(quadtree):
    saliency = [scores.to("meta") for scores in random_saliency(SPEC, 2)]
    for dtype in (torch.uint8, torch.float32):
        images = make_images(dtype=dtype).to("meta")
        with StaysOnDevice():
            for threshold in (0.5, torch.empty(2, device="meta")):
                padded = get_quadtree(quadtree)(saliency, SPEC, threshold)
                assert extract_patches(images, padded).shape == (2, 21, 3, 4, 4)
                assert padded.cell_to_token.shape == (2, 8, 12)
                assert padded.cu_seqlens(1).shape == (3,)
            plan = get_quadtree(quadtree)(saliency, SPEC)
            assert extract_patches(images, plan).shape == (2, 21, 3, 4, 4)
            assert extract_patches(images, plan, mean=MEAN, std=STD).shape == (2, 21, 3, 4, 4)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: x.cpu(),
        lambda x: bool(x.any()),
        lambda x: x + torch.arange(3).to(x.device),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device),
        lambda x: x + torch.as_tensor(1.0, device=x.device),
        lambda x: x.tolist(),
    ],
)
def test_what_needs_the_host_would_be_noticed(work):
    # Which of the two it is differs between torch's releases.
    with pytest.raises((RuntimeError, AssertionError)), StaysOnDevice():
        work(torch.empty(3, device="meta"))


@pytest.mark.parametrize("dynamic", [False, True])
def test_selection_compiles_to_one_graph(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(select, fullgraph=True, backend="eager", dynamic=dynamic)
    for batch in (2, 3):
        saliency = random_saliency(SPEC, batch, seed=batch)
        assert_same_plan(Plan(*compiled(*saliency), SPEC), get_quadtree("dict")(saliency, SPEC))


def select_above(saliency, threshold):
    plan = get_quadtree("parallel")(saliency, SPEC, threshold)
    return plan.left, plan.top, plan.scale, plan.lengths


@pytest.mark.parametrize("dynamic", [None, False, True])
@pytest.mark.parametrize("threshold", [0.4, torch.tensor([0.2, 0.8])], ids=["a number", "one an image"])
def test_selection_above_a_threshold_compiles_to_one_graph(threshold, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(select_above, fullgraph=True, backend="eager", dynamic=dynamic)
    for shift in (0, 0.125, 0.25):
        saliency = random_saliency(SPEC, 2, seed=3)
        left, top, scale, lengths = compiled(saliency, threshold + shift)
        expected = get_quadtree("dict")(saliency, SPEC, threshold + shift)
        assert_same_plan(Plan(left, top, scale, SPEC), expected)
        assert torch.equal(lengths, expected.lengths)


@pytest.mark.parametrize("function", [extract, extract_normalized])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_extraction_compiles_to_one_graph(function, dtype):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    for batch in (2, 3):
        boxes = select(*random_saliency(SPEC, batch))
        images = make_images(batch, dtype)
        assert torch.equal(compiled(images, *boxes), function(images, *boxes))


def tokens_of(images, *saliency):
    boxes = select(*saliency)
    return extract_normalized(images, *boxes), *boxes


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_inductors_code_gives_the_same_tokens():
    pytest.importorskip("setuptools", reason="torch's compiler builds with setuptools")
    torch._dynamo.reset()
    images, saliency = make_images(dtype=torch.uint8), random_saliency(SPEC, 2)
    patches, *boxes = torch.compile(tokens_of, fullgraph=True)(images, *saliency)
    expected, *expected_boxes = tokens_of(images, *saliency)
    assert_same_plan(Plan(*boxes, SPEC), Plan(*expected_boxes, SPEC))
    torch.testing.assert_close(patches, expected, rtol=0, atol=1e-6)


class Tokenize(nn.Module):
    def forward(self, images, saliency):
        return tokens_of(images, *saliency)


def test_the_batch_of_an_exported_module_is_dynamic():
    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes = {"images": {0: batch}, "saliency": [{0: batch}] * 2}
    program = torch.export.export(Tokenize(), (make_images(), random_saliency(SPEC, 2)), dynamic_shapes=shapes)
    for size in (1, 2, 5):
        images, saliency = make_images(size), random_saliency(SPEC, size, seed=size)
        results, expected = program.module()(images, saliency), tokens_of(images, *saliency)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True))


@needs_gpu
def test_a_gpu_is_not_waited_for():
    images, saliency = make_images(dtype=torch.uint8).cuda(), [scores.cuda() for scores in random_saliency(SPEC, 2)]
    tokens_of(images, *saliency)  # the kernel is compiled and loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        patches, *_ = tokens_of(images, *saliency)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, *_ = tokens_of(images.cpu(), *(scores.cpu() for scores in saliency))
    torch.testing.assert_close(patches.cpu(), expected, rtol=0, atol=1e-6)


@needs_gpu
def test_a_cuda_graph_replays_with_new_images_and_saliency():
    images, saliency = make_images(dtype=torch.uint8).cuda(), [scores.cuda() for scores in random_saliency(SPEC, 2)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        tokens_of(images, *saliency)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        patches, *boxes = tokens_of(images, *saliency)
    new_images, new_saliency = make_images(dtype=torch.uint8).flip(2), random_saliency(SPEC, 2, seed=1)
    for kept, new in zip([images, *saliency], [new_images, *new_saliency], strict=True):
        kept.copy_(new)
    graph.replay()
    expected, *expected_boxes = tokens_of(new_images, *new_saliency)
    assert_same_plan(Plan(*boxes, SPEC), Plan(*expected_boxes, SPEC))
    torch.testing.assert_close(patches.cpu(), expected, rtol=0, atol=1e-6)
