"""Adapted models as programs: one compiled graph, torch.export with a free batch, and ONNX run by onnxruntime."""

import pytest
import torch
from torch import nn

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

from helpers import assert_same_plan
from quadtok import tokenize
from quadtok.models import adapt
from vits import FEW, SPEC, THRESHOLD, assert_close, make, make_bytes, make_images

BATCHES = (1, 5)
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler and exporters, about themselves


def adapted(kind, **options):
    return adapt(make(kind), SPEC, "blur", check=False, **options)


class WithThreshold(nn.Module):
    """Images of several lengths."""

    def __init__(self, kind):
        super().__init__()
        self.model = adapted(kind)

    def forward(self, images):
        logits, plan = self.model(images, threshold=THRESHOLD, return_plan=True)
        return logits, plan.lengths


@pytest.mark.parametrize("kind", ["cls", "DINOv3", "mixed rope"])
def test_scorer_plan_and_model_compile_to_one_graph(kind):
    torch._dynamo.reset()
    model = adapted(kind)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for batch in (2, 3):
        logits, plan = compiled(make_bytes(batch), return_plan=True)
        expected, same = model(make_bytes(batch), return_plan=True)
        assert_close(logits, expected)
        assert_same_plan(plan, same)


@pytest.mark.parametrize("kind", ["average", "DINOv3"])
def test_several_lengths_compile_to_one_graph(kind):
    torch._dynamo.reset()
    model = WithThreshold(kind)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    logits, lengths = compiled(make_bytes(4))
    expected, same = model(make_bytes(4))
    assert_close(logits, expected)
    assert torch.equal(lengths, same) and len(lengths.unique()) > 1


def test_tokens_and_plans_are_inputs_of_the_graph():
    torch._dynamo.reset()
    model = adapted("cls")
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    tokens = tokenize(make_bytes(), SPEC, "blur")
    expected = model(tokens)
    assert_close(compiled(tokens), expected)
    assert_close(compiled(make_bytes(), plan=tokens.plan), expected)


def test_training_compiles_to_one_graph():
    torch._dynamo.reset()
    model = adapted("cls").train()
    torch.compile(model, fullgraph=True, backend="aot_eager")(make_images()).square().sum().backward()
    compiled = [value.grad.clone() for value in model.parameters()]
    model.zero_grad()
    model(make_images()).square().sum().backward()
    for gradient, value in zip(compiled, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, value.grad, rtol=1e-4, atol=1e-5)


def export(model, strict=False):
    """The model as a program whose batch is free."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(model, (make_bytes(2),), dynamic_shapes=({0: batch},), strict=strict)


@pytest.mark.parametrize(
    ("kind", "strict"), [*((kind, False) for kind in FEW), ("distilled", True), ("mixed rope", True)]
)
def test_the_batch_of_an_exported_model_is_free(kind, strict):
    model = adapted(kind)
    program = export(model, strict).module()
    for batch in BATCHES:
        assert_close(program(make_bytes(batch)), model(make_bytes(batch)))


def test_several_lengths_are_exported():
    model = WithThreshold("average")
    program = export(model).module()
    for batch in BATCHES:
        (logits, lengths), (expected, same) = program(make_bytes(batch)), model(make_bytes(batch))
        assert_close(logits, expected)
        assert torch.equal(lengths, same)


@pytest.mark.parametrize("kind", ["attention pool past registers", "mixed rope"])
def test_a_model_in_onnx_takes_every_batch(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX programs; the extra test-all has it")
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript; the extra test-all has it")
    model, batch = adapted(kind), torch.export.Dim("batch", min=1, max=1024)
    program = torch.onnx.export(model, (make_bytes(2),), dynamic_shapes=({0: batch},), dynamo=True, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    for size in BATCHES:
        (logits,) = session.run(None, {entry.name: make_bytes(size).numpy()})
        assert_close(torch.from_numpy(logits), model(make_bytes(size)).detach())
