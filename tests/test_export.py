"""Whole tokenizers as programs: torch.export and ONNX, any batch, the eager module's integers.

torch takes an example of one image for a program of one image, whatever it exports: examples have two.
"""

import io
import math

import pytest
import torch
from torch import nn

from helpers import GOLDEN, saliency_of_kind
from quadtok import QuadtreeTokenizer, Spec, VanillaTokenizer, get_quadtree, get_scorer, tokenize
from quadtok.errors import InputError
from quadtok.scorers import PointScorer, PrecomputedScorer

SPEC = Spec(32, 48, 4, 16, 21)
BATCHES = (1, 7, 33)
TOLERANCE = 1e-5  # of tokens: sums of a few dozen float32 products, added in another order
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporters, about themselves


def make_images(batch, dtype=torch.float32, spec=SPEC):
    generator = torch.Generator().manual_seed(batch)
    images = torch.randint(256, (batch, 3, spec.height, spec.width), generator=generator, dtype=torch.uint8)
    return images if dtype == torch.uint8 else (images / 128 - 1).to(dtype)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())


class PatchesOf(nn.Module):
    """The boxes and patches that the maps ask for."""

    def forward(self, images, maps):
        tokens = tokenize(images, SPEC, PrecomputedScorer(maps))
        return tokens.patches, tokens.plan.left, tokens.plan.top, tokens.plan.scale


class WithPlan(nn.Module):
    """A tokenizer that gives the plan's tensors beside the tokens."""

    def __init__(self, scorer, spec=SPEC, **options):
        super().__init__()
        torch.manual_seed(0)
        self.tokenizer = QuadtreeTokenizer(spec, scorer, embed_dim=12, **options)

    def forward(self, images):
        tokens, plan = self.tokenizer(images, return_plan=True)
        return tokens, plan.left, plan.top, plan.scale


SCORERS = {
    "blur": lambda: get_scorer("blur"),
    "entropy": lambda: get_scorer("entropy", thresholds=(3.0, 4.0)),
    "duplicate": lambda: get_scorer("duplicate"),
    "random": lambda: get_scorer("random", seed=2**40 + 7),
    "object": lambda: get_scorer("object"),
    "object, two views": lambda: get_scorer("object", views=2),
    "object, half precision": lambda: get_scorer("object", precision="bfloat16"),
    "feature": lambda: get_scorer("feature"),
    "feature, ShuffleNet": lambda: get_scorer("feature", weights=GOLDEN / "feature_net.pt", stride=16),
    "feature, a net of the user's": lambda: get_scorer("feature", net=small_net(), stride=8),
    "feature, quick": lambda: get_scorer("feature", precision="float32"),
    "feature, half precision": lambda: get_scorer("feature", precision="bfloat16"),
    "feature, small": lambda: get_scorer("feature", high_res_fraction=0.5, error="cosine_distance"),
    "a function": lambda: lambda images, spec: random_maps(images, spec),
}


def random_maps(images, spec):
    """Something cheap of the images: their mean over each patch."""
    return PrecomputedScorer(images.float().mean(dim=1))(images, spec)


def export(module, *examples, strict=False, **options):
    """The module as a program whose batch is free."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes = tuple({0: batch} for _ in examples)
    return torch.export.export(module, examples, dynamic_shapes=shapes, strict=strict, **options)


def assert_same_results(results, expected):
    """Tokens to a tolerance, boxes to the last bit."""
    tokens, *boxes = results
    expected_tokens, *expected_boxes = expected
    torch.testing.assert_close(tokens, expected_tokens, rtol=0, atol=TOLERANCE)
    assert len(boxes) == len(expected_boxes)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(boxes, expected_boxes, strict=True))


def assert_equal_for_every_batch(program, module, dtype=torch.float32, spec=SPEC):
    for batch in BATCHES:
        images = make_images(batch, dtype, spec)
        assert_same_results(program(images), module(images))


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_batch_of_an_exported_tokenizer_is_free(scorer):
    module = WithPlan(SCORERS[scorer]())
    assert_equal_for_every_batch(export(module, make_images(2)).module(), module)


@pytest.mark.parametrize("spec", [Spec(192, 192, 48, 96, 7), Spec(200, 200, 50, 100, 7)], ids=["whole", "stretched"])
def test_a_tokenizer_of_images_that_the_object_scorer_sees_smaller_is_exported(spec):
    """Its view of the images of `SPEC` is larger than they are."""
    module = WithPlan("object", spec)
    program, images = export(module, make_images(2, spec=spec)).module(), make_images(3, spec=spec)
    assert_same_results(program(images), module(images))


@pytest.mark.parametrize(
    "scorer", ["blur", "entropy", "duplicate", "random", "object", "feature", "feature, a net of the user's"]
)
def test_the_batch_of_a_strictly_exported_tokenizer_is_free(scorer):
    if scorer.startswith(("feature", "object")) and torch.__version__ < (2, 14):
        pytest.skip("the strict exporter of torch 2.10 loses a net that no module owns; that of 2.14 does not")
    module = WithPlan(SCORERS[scorer]())
    assert_equal_for_every_batch(export(module, make_images(2), strict=True).module(), module)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float64], ids=str)
def test_a_tokenizer_is_exported_for_the_images_that_it_gets(dtype):
    module = WithPlan("blur")
    assert_equal_for_every_batch(export(module, make_images(2, dtype)).module(), module, dtype)


@pytest.mark.parametrize("quadtree", ["tensor", "zcurve"])
def test_the_quadtrees_with_a_loop_are_exported_too(quadtree):
    module = WithPlan("blur", quadtree=quadtree)
    assert_equal_for_every_batch(export(module, make_images(2)).module(), module)


@pytest.mark.parametrize("spec", [Spec(32, 48, 4, 4, 96), Spec(64, 64, 4, 64, 40)], ids=["one scale", "five scales"])
def test_a_tokenizer_of_any_number_of_scales_is_exported(spec):
    module = WithPlan("blur", spec)
    assert_equal_for_every_batch(export(module, make_images(2, spec=spec)).module(), module, spec=spec)


def test_more_images_than_are_scored_at_a_time_go_through_a_program_at_once():
    """Eager scorers work through a few images at a time; a program must not know how often they did so."""
    spec = Spec(256, 256, 16, 64, 100)
    module = WithPlan("blur", spec)
    assert_equal_for_every_batch(export(module, make_images(9, spec=spec)).module(), module, spec=spec)


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_maps_are_an_input_of_the_exported_program(strict):
    module = PatchesOf()
    program = export(module, make_images(2), torch.rand(2, 32, 48), strict=strict).module()
    for batch in BATCHES:
        inputs = make_images(batch), torch.rand(batch, 32, 48)
        assert_same_results(program(*inputs), module(*inputs))


class AroundPoints(nn.Module):
    """The boxes and patches around points."""

    def forward(self, images, points):
        tokens = tokenize(images, SPEC, PointScorer(points))
        return tokens.patches, tokens.plan.left, tokens.plan.top, tokens.plan.scale


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_points_are_an_input_of_the_exported_program(strict):
    module = AroundPoints()
    program = export(module, make_images(2), torch.rand(2, 3, 2) * 40, strict=strict).module()
    for batch in BATCHES:
        inputs = make_images(batch), torch.rand(batch, 3, 2) * 40
        assert_same_results(program(*inputs), module(*inputs))


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_the_batch_of_an_exported_vanilla_tokenizer_is_free(strict):
    module = VanillaTokenizer(4, embed_dim=12)
    program = export(module, make_images(2), strict=strict).module()
    for batch in BATCHES:
        torch.testing.assert_close(program(make_images(batch)), module(make_images(batch)), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("scorer", ["blur", "entropy", "duplicate", "random", "object", "feature"])
def test_a_saved_program_is_what_it_was(scorer):
    module, file = WithPlan(SCORERS[scorer]()), io.BytesIO()
    torch.export.save(export(module, make_images(2)), file)
    file.seek(0)
    assert_equal_for_every_batch(torch.export.load(file).module(), module)


class Select(nn.Module):
    """A quadtree as a module."""

    def __init__(self, spec):
        super().__init__()
        self.spec = spec

    def forward(self, saliency):
        plan = get_quadtree("parallel")(saliency, self.spec)
        return plan.left, plan.top, plan.scale


class SelectAbove(Select):
    """As above, with a threshold for each image."""

    def forward(self, saliency, threshold):
        plan = get_quadtree("parallel")(saliency, self.spec, threshold)
        return plan.left, plan.top, plan.scale, plan.lengths, plan.valid, plan.cu_seqlens(1)


class TokenizeAbove(nn.Module):
    """Tokens, and how many there are of each image, at a fixed threshold."""

    def forward(self, images):
        tokens = tokenize(images, SPEC, "blur", threshold=45.0)
        return tokens.normalized(), tokens.plan.left, tokens.plan.lengths


KINDS = ["random", "tied", "constant", "signed zeros", "infinite", "nan", "nans of both signs", "shifted by +1e12"]


@pytest.mark.parametrize("spec", [SPEC, Spec(64, 64, 1, 64, 1000)], ids=["few scales", "many scales"])
def test_an_exported_quadtree_settles_ties_and_nan_like_the_eager_one(spec):
    batch = torch.export.Dim("batch", min=1, max=1024)
    module, programs = Select(spec), {}
    for kind in KINDS:
        saliency = saliency_of_kind(kind, spec)
        dtype = saliency[0].dtype
        if dtype not in programs:
            shapes = {"saliency": [{0: batch}] * len(saliency)}
            programs[dtype] = torch.export.export(module, (saliency,), dynamic_shapes=shapes).module()
        results, expected = programs[dtype](saliency), module(saliency)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True)), kind


@pytest.mark.parametrize("spec", [SPEC, Spec(64, 64, 1, 64, 1000)], ids=["few scales", "many scales"])
def test_an_exported_quadtree_splits_what_is_above_a_threshold_that_it_is_given(spec):
    batch = torch.export.Dim("batch", min=1, max=1024)
    module, programs = SelectAbove(spec), {}
    for kind in KINDS:
        saliency = saliency_of_kind(kind, spec)
        dtype = saliency[0].dtype
        if dtype not in programs:
            shapes = {"saliency": [{0: batch}] * len(saliency), "threshold": {0: batch}}
            programs[dtype] = torch.export.export(module, (saliency, torch.rand(3)), dynamic_shapes=shapes).module()
        for threshold in (torch.tensor([0.3, 0.6, 2.0]), torch.tensor([math.nan, math.inf, -math.inf])):
            results, expected = programs[dtype](saliency, threshold), module(saliency, threshold)
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True)), kind


def test_a_tokenizer_with_a_threshold_is_exported():
    module = TokenizeAbove()
    program = export(module, make_images(2, torch.uint8)).module()
    for batch in BATCHES:
        images = make_images(batch, torch.uint8)
        assert_same_results(program(images), module(images))


def test_a_quadtree_that_looks_at_values_says_so_when_it_is_exported():
    with pytest.raises(InputError, match="the dict quadtree looks at the saliency's values .*: use parallel"):
        export(WithPlan("blur", quadtree="dict"), make_images(2))


class TokenizeByName(nn.Module):
    def __init__(self, scorer):
        super().__init__()
        self.scorer = scorer

    def forward(self, images):
        return tokenize(images, SPEC, self.scorer).patches


@pytest.mark.parametrize(("scorer", "called"), [("object", "an object scorer"), ("feature", "a feature scorer")])
def test_weights_are_not_loaded_into_an_export(scorer, called):
    with pytest.raises(InputError, match=f"{called} cannot be made while torch exports: make it before"):
        export(TokenizeByName(scorer), make_images(2))


@pytest.mark.parametrize("scorer", ["blur", "entropy", "duplicate", "object", "feature, a net of the user's", "random"])
def test_a_compiled_tokenizer_takes_every_batch(scorer):
    torch._dynamo.reset()
    module = WithPlan(SCORERS[scorer]())
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    assert_equal_for_every_batch(compiled, module)


def by_onnxruntime(program, folder):
    """The ONNX program as a function of tensors, run by onnxruntime."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX programs; the extra test-all has it")
    program.save(folder / "program.onnx")
    session = runtime.InferenceSession(folder / "program.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs):
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(result) for result in session.run(None, feeds)]

    return run


def to_onnx(module, examples, shapes):
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript; the extra test-all has it")
    return torch.onnx.export(module, examples, dynamic_shapes=shapes, dynamo=True, verbose=False)


@pytest.mark.parametrize(
    ("scorer", "dtype"),
    [
        ("blur", torch.float32),
        ("entropy", torch.uint8),
        ("duplicate", torch.uint8),
        ("random", torch.uint8),
        ("object", torch.uint8),
        ("feature", torch.uint8),
    ],
    ids=str,
)
def test_a_tokenizer_in_onnx_takes_every_batch(scorer, dtype, tmp_path):
    module, batch = WithPlan(SCORERS[scorer]()), torch.export.Dim("batch", min=1, max=1024)
    program = to_onnx(module, (make_images(2, dtype),), ({0: batch},))
    assert_equal_for_every_batch(by_onnxruntime(program, tmp_path), module, dtype)


def test_an_exported_program_goes_on_to_onnx(tmp_path):
    module = WithPlan("blur", quadtree="zcurve")
    program = to_onnx(export(module, make_images(2)), (), None)
    assert_equal_for_every_batch(by_onnxruntime(program, tmp_path), module)


def test_a_threshold_in_onnx_is_one_for_each_image(tmp_path):
    module, batch = SelectAbove(SPEC), torch.export.Dim("batch", min=1, max=1024)
    saliency = saliency_of_kind("tied", SPEC)
    program = to_onnx(module, (saliency, torch.rand(3)), ([{0: batch}] * len(saliency), {0: batch}))
    run = by_onnxruntime(program, tmp_path)
    for batch_size in BATCHES:
        saliency = saliency_of_kind("tied", SPEC, batch=batch_size, seed=batch_size)
        threshold = torch.linspace(-1, 5, batch_size)
        results, expected = run(*saliency, threshold), module(saliency, threshold)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True))


@pytest.mark.parametrize("spec", [SPEC, Spec(64, 64, 1, 64, 1000)], ids=["few scales", "many scales"])
def test_a_quadtree_in_onnx_settles_ties_and_nan_like_the_eager_one(spec, tmp_path):
    module, batch = Select(spec), torch.export.Dim("batch", min=1, max=1024)
    kinds = [kind for kind in KINDS if not kind.startswith("shifted")]  # which are float64
    example = saliency_of_kind("random", spec)
    program = to_onnx(module, (example,), ([{0: batch}] * len(example),))
    run = by_onnxruntime(program, tmp_path)
    for kind in kinds:
        saliency = saliency_of_kind(kind, spec)
        results, expected = run(*saliency), module(saliency)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True)), kind
