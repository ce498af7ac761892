"""Adapted models on a GPU: what they make of images there is what they make of them on a CPU."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

from dataclasses import replace

from helpers import assert_same_plan, random_saliency
from quadtok import get_quadtree
from quadtok.models import adapt
from quadtok.models.packing import KERNEL_DTYPES
from vits import FEW, KINDS, SPEC, THRESHOLD, assert_close, make, make_bytes, make_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

TALL = replace(SPEC, num_tokens=24)
WAYS = ["padded", "packed"]


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """TF32, torch's default for convolutions, keeps ten bits; what is compared here is not that."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def several_lengths():
    plan = get_quadtree()(random_saliency(TALL, 4), TALL, torch.tensor([0.8, 0.3, 2.0, 0.6]))
    assert plan.lengths.unique().numel() > 2
    return plan


@pytest.mark.parametrize("attention", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_several_lengths_are_what_they_are_on_a_cpu(kind, attention):
    model = adapt(make(kind), TALL, "blur", check=False, attention=attention)
    plan, images = several_lengths(), make_images(4)
    with torch.no_grad():
        expected = model(images, plan=plan)
        assert_close(model.cuda()(images.cuda(), plan=plan.to("cuda")).cpu(), expected, 2e-5)


@pytest.mark.parametrize("threshold", [None, THRESHOLD])
def test_scorer_plan_and_model_are_those_of_a_cpu(threshold):
    model = adapt(make("cls"), SPEC, "blur", check=False)
    expected, plan = model(make_bytes(4), threshold=threshold, return_plan=True)
    output, same = model.cuda()(make_bytes(4).cuda(), threshold=threshold, return_plan=True)
    assert_same_plan(same, plan)
    assert_close(output.cpu(), expected, 2e-5)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("kind", FEW)
def test_the_kernel_of_half_precision_attends_as_padding_does(kind, dtype):
    plan, images = several_lengths().to("cuda"), make_images(4).cuda().to(dtype)
    outputs = {}
    for way in (*WAYS, "auto"):
        model = adapt(make(kind).cuda().to(dtype), TALL, "blur", check=False, attention=way)
        outputs[way] = model(images, plan=plan)
    assert_close(outputs["packed"], outputs["padded"], 8 * torch.finfo(dtype).eps)
    assert torch.equal(outputs["auto"], outputs["padded"])  # which is the quicker one, and does not wait


@pytest.mark.parametrize("kind", FEW)
def test_gradients_come_through_the_kernel(kind):
    plan, gradients = several_lengths().to("cuda"), {}
    for way in WAYS:
        model = adapt(make(kind).cuda(), TALL, "blur", check=False, attention=way)
        images = make_images(4).cuda().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            output = model(images, plan=plan)
        output.float().square().sum().backward()
        gradients[way] = images.grad
        assert all(value.grad is None or value.grad.isfinite().all() for value in model.parameters())
    assert_close(gradients["packed"], gradients["padded"], 0.1)
    assert gradients["packed"].abs().max() > 0


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
@pytest.mark.parametrize("threshold", [None, THRESHOLD])
@pytest.mark.parametrize("kind", ["cls", "DINOv3"])
def test_scorer_plan_and_model_compile_to_one_program(kind, threshold):
    torch._dynamo.reset()
    model = adapt(make(kind).cuda(), SPEC, "blur", check=False)
    run = WithThreshold(model, threshold)
    expected, plan = run(make_bytes(4).cuda())
    output, same = torch.compile(run, fullgraph=True)(make_bytes(4).cuda())
    assert_same_plan(same, plan)
    assert_close(output, expected, 2e-5)


class WithThreshold(nn.Module):
    """The threshold is part of the program."""

    def __init__(self, model, threshold):
        super().__init__()
        self.model, self.threshold = model, threshold

    def forward(self, images):
        return self.model(images, threshold=self.threshold, return_plan=True)


def test_a_model_moved_there_and_back_is_what_it_was():
    model = adapt(make("cls"), SPEC, "object", check=False, scale_embedding=True, detail="subpatch")
    expected, before = model(make_bytes()), copy.deepcopy(model.state_dict())
    model.cuda()(make_bytes().cuda())
    assert torch.equal(model.cpu()(make_bytes()), expected)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
