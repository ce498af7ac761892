"""Results depend on the arguments alone: not on torch's defaults and modes, and not on pickling or copying."""

import ast
import contextlib
import copy
import hashlib
import io
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import quadtok
from helpers import GOLDEN, SAMPLE_IMAGES, golden
from quadtok import (
    Plan,
    PlanStore,
    PlanStream,
    QuadtreeTokenizer,
    ShardDataset,
    Spec,
    TokenDataset,
    Tokens,
    VanillaTokenizer,
    calibrate,
    collate,
    denormalize,
    extract_patches,
    get_quadtree,
    get_scorer,
    levels_of,
    load_tokens,
    normalize,
    plan_streams,
    read_image,
    render,
    render_tokens,
    reverse,
    reverse_patches,
    save_tokens,
    tokenize,
)
from quadtok.geometry import make_geometry, parse_budget
from quadtok.models.embed import sinusoidal_embedding
from quadtok.preprocess import Preprocess
from quadtok.quadtrees import QUADTREES
from quadtok.quadtrees.order import split_order
from quadtok.scorers import SCORERS
from quadtok.storage.plan_format import Entry, Header
from quadtok.storage.plan_writer import PlanWriter
from quadtok.storage.sample import key_of, token_members
from shard_kinds import KINDS

SPEC = Spec(64, 96, 8, 32, 24)
BYTES = golden("tokens_256_16_64_100_blur")["images_u8"][:2, :, 96:160, :96].contiguous()
FLOATS = normalize(BYTES)
SOURCES = sorted(Path(quadtok.__file__).parent.rglob("*.py"))
OWN_SOURCE = ast.parse(Path(__file__).read_text())
MAPS = torch.rand(2, 8, 12, generator=torch.Generator().manual_seed(0))
SALIENCY = [torch.rand(2, *SPEC.grid(k), generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
PLAN = get_quadtree()(SALIENCY, SPEC)
TOKENS = tokenize(BYTES, SPEC, "blur")
PADDED = get_quadtree()(SALIENCY, SPEC, 0.5)
THRESHOLD = float(TOKENS.saliency[0].median())
SHORT = tokenize(BYTES, SPEC, "blur", threshold=THRESHOLD)
NARROW = Spec(14, 14 * 1024, 14, 14, 1024)  # columns that no half-precision number counts
POINTS = [[(20, 9.5)], [(3, 4), (80, 60)]]
SCORER_OPTIONS = {"point": {"points": POINTS}, "precomputed": {"maps": MAPS}, "random": {"seed": [3, 4]}}


def scorer_of(name, **options):
    return get_scorer(name, **SCORER_OPTIONS.get(name, {}), **options)


def modules():
    torch.manual_seed(0)
    return [QuadtreeTokenizer(SPEC, scorer_of(name), embed_dim=8) for name in SCORERS] + [
        VanillaTokenizer(8, embed_dim=8)
    ]


MODULES = modules()


def written_and_read(tmp_path):
    save_tokens(tmp_path / "x.pt", TOKENS[0])
    return (tmp_path / "x.pt").read_bytes(), load_tokens(tmp_path / "x.pt")


def stored_and_read(tmp_path):
    """Plans of a photograph, and the tokens that a dataset makes of them."""
    path, data = tmp_path / "plans.qts", (SAMPLE_IMAGES / "chelsea.jpg").read_bytes()
    steps = Preprocess(make_geometry((256, 256), parse_budget("100%"), None, 16, 64))
    photo = steps.decode(data, SAMPLE_IMAGES / "chelsea.jpg")
    (stream,) = plan_streams(get_scorer("blur")(photo.fitted.pixels[None], photo.spec), photo.spec, "float32")
    with PlanWriter(path, Header(16, 64, "float32", {"preprocess": steps.describe()})) as writer:
        writer.add(Entry("chelsea.jpg", hashlib.sha256(data).hexdigest(), stream))
    store = PlanStore(path)
    dataset = TokenDataset(SAMPLE_IMAGES, store, num_tokens=100, flip=0.5, crop=(128, 192))
    return path.read_bytes(), store["chelsea.jpg"].plan(threshold=0.1), dataset[0]


def sharded_and_read(tmp_path):
    samples = [(key_of(name), token_members(TOKENS[0], name, "uint8", {})) for name in ("a.jpg", "b.jpg")]
    KINDS["tar"].write(tmp_path / "shard-000000.tar", samples)
    return (tmp_path / "shard-000000.tar").read_bytes(), list(ShardDataset(tmp_path))


def streams(_):
    (first, second) = plan_streams(SALIENCY, SPEC, "float32")
    return [
        first.plan(24),
        second.plan(threshold=0.5),
        first.mirrored().plan(24),
        first.cropped(0, 32, 64, 64).plan(10),
        PlanStream(first.spec, first.order).plan(24),
    ]


def with_gradients(tmp_path):
    images = FLOATS.clone().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        return extract_patches(images, PLAN)


# Every public call, as (folder for files) → results. Inputs are made above, under torch's own defaults.
CALLS = {
    "values": lambda _: [Plan(PLAN.left, PLAN.top, PLAN.scale, SPEC), Tokens(PLAN, None)],
    "spec": lambda _: [Spec.at_most(64, 96, 8, 32, 25), Spec.full(64, 96, 8, 32)],
    **{f"scorer {name}": lambda _, name=name: scorer_of(name)(FLOATS, SPEC) for name in SCORERS},
    **{f"scorer {name}, bytes": lambda _, name=name: scorer_of(name)(BYTES, SPEC) for name in SCORERS},
    "scorer feature, other weights": lambda _: scorer_of("feature", weights=GOLDEN / "feature_net.pt")(FLOATS, SPEC),
    "scorer feature, folded": lambda _: scorer_of(
        "feature", weights=GOLDEN / "feature_net.pt", precision="float32", error="cosine_distance"
    )(FLOATS, SPEC),
    "scorer feature, smaller": lambda _: scorer_of("feature", high_res_fraction=0.5)(BYTES, SPEC),
    "scorer object, two views in half precision": lambda _: scorer_of("object", views=2, precision="bfloat16")(
        FLOATS, SPEC
    ),
    "weights": lambda _: [scorer_of(name).weights_sha256 for name in ("object", "feature")],
    **{f"quadtree {name}": lambda _, name=name: get_quadtree(name)(SALIENCY, SPEC) for name in QUADTREES},
    **{
        f"quadtree {name}, doubles": lambda _, name=name: get_quadtree(name)([s.double() for s in SALIENCY], SPEC)
        for name in QUADTREES
    },
    **{
        f"quadtree {name}, nothing to split": lambda _, name=name: get_quadtree(name)([], NARROW) for name in QUADTREES
    },
    **{
        f"quadtree {name}, above a threshold": lambda _, name=name: get_quadtree(name)(SALIENCY, SPEC, 0.5)
        for name in QUADTREES
    },
    "order of splits": lambda _: [split_order(SALIENCY, SPEC), split_order([], NARROW)],
    "a padded plan": lambda _: [
        PADDED, PADDED.valid, PADDED.counts, PADDED.cell_to_token, PADDED.cu_seqlens(1), PADDED.max_seqlen(1),
        PADDED.unpadded(0), Plan.from_dict(PADDED.to_dict()), repr(PADDED), extract_patches(BYTES, PADDED),
    ],
    "tokens above a threshold": lambda _: tokenize(BYTES, SPEC, "blur", threshold=THRESHOLD).normalized(),
    "one batch of several": lambda _: [collate([TOKENS, TOKENS[:1]]), collate([TOKENS, SHORT]), SHORT.unpadded(0)],
    "a threshold for a mean": lambda _: repr(calibrate(levels_of(SALIENCY, replace(SPEC, num_tokens=96)), 40)),
    "uniform plan": lambda _: Plan.uniform(NARROW, 0),
    "plan of boxes": lambda _: Plan.from_boxes(PLAN.left.flip(1), PLAN.top.flip(1), PLAN.scale.flip(1), SPEC),
    "plan of first cells": lambda _: Plan.from_first_cells(PLAN.first_cell(), SPEC),
    "properties": lambda _: [PLAN.size, PLAN.centers, PLAN.cell_to_token, PLAN.check_tiling()],
    "centers of many columns": lambda _: Plan.uniform(NARROW, 0).centers,
    "parts of a plan": lambda _: [PLAN[0], PLAN[:1], PLAN.to("cpu"), PLAN.cpu(), len(PLAN)],
    "a plan's dict": lambda _: Plan.from_dict(PLAN.to_dict()),
    "comparisons": lambda _: [PLAN[:2] == PLAN, PLAN[0] == PLAN[1], TOKENS[:] == TOKENS, TOKENS[0] == TOKENS[1]],
    "what a session shows": lambda _: [repr(PLAN), repr(TOKENS), PLAN._repr_png_(), TOKENS._repr_png_()],
    "patches of floats": lambda _: extract_patches(FLOATS, PLAN),
    "patches of bytes": lambda _: extract_patches(BYTES, PLAN),
    "patches of halves": lambda _: extract_patches(FLOATS.half(), PLAN),
    "patches of strided images": lambda _: extract_patches(FLOATS.transpose(2, 3).contiguous().transpose(2, 3), PLAN),
    "patches, normalised": lambda _: extract_patches(BYTES, PLAN, mean=(0.1, 0.5, 0.7), std=(0.2, 1.0, 0.3)),
    "patches with gradients": with_gradients,
    "tokens": lambda _: tokenize(BYTES, SPEC),
    "tokens as the paper's rows": lambda _: TOKENS.to_reference_layout(),
    "tokens, normalised": lambda _: [TOKENS.normalized(), TOKENS[0], TOKENS.to("cpu")],
    "reversed": lambda _: reverse(TOKENS.patches.flatten(2), TOKENS.plan),
    "reversed patches": lambda _: reverse_patches(TOKENS.patches, TOKENS.plan),
    "reversed patches, smooth": lambda _: reverse_patches(TOKENS.patches, TOKENS.plan, smooth=True),
    **{
        f"picture, {style}": lambda _, style=style: [
            render(BYTES[0], PLAN[0], style), render(BYTES[0] / 255, PLAN[0], style), render_tokens(TOKENS[0], style)
        ]
        for style in ("overlay", "blur", "mini", "levels")
    },
    "token file": written_and_read,
    "plan streams": streams,
    "stored plans": stored_and_read,
    "a shard": sharded_and_read,
    "image": lambda _: read_image(SAMPLE_IMAGES / "chelsea.jpg").image,
    "pixels": lambda _: [normalize(BYTES), denormalize(FLOATS)],
    "positions": lambda _: sinusoidal_embedding(PLAN.centers, 10),
    "positions of integers": lambda _: sinusoidal_embedding(torch.stack([PLAN.left, PLAN.top], dim=-1), 6),
    **{f"module {number}": lambda _, number=number: MODULES[number](BYTES) for number in range(len(MODULES))},
}  # fmt: skip


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "dtype float64": lambda: default_dtype(torch.float64),
    "dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "dtype float16": lambda: default_dtype(torch.float16),
    "default device": lambda: default_device("meta"),
    "device of a block": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def facts(result):
    """All that a result says, to the last bit, as plain values."""
    if isinstance(result, torch.Tensor):
        plain = result.detach().contiguous()
        return plain.dtype, plain.device.type, list(plain.shape), digest(plain.view(-1).view(torch.uint8).numpy())
    if isinstance(result, Plan):
        return [facts(field) for field in (result.left, result.top, result.scale)], result.spec
    if isinstance(result, Tokens):
        return facts(result.plan), facts(result.patches), facts(result.saliency), result.metadata
    if isinstance(result, list | tuple):
        return [facts(part) for part in result]
    if isinstance(result, Image.Image):
        return result.mode, result.size, digest(result.tobytes())
    if isinstance(result, bytes):
        return digest(result)
    assert isinstance(result, int | str | Spec | None), type(result)
    return result


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return {name: facts(call(tmp_path_factory.mktemp("plain"))) for name, call in CALLS.items()}


def test_every_public_call_is_in_the_table():
    called = {ast.unparse(node.func) for node in ast.walk(OWN_SOURCE) if isinstance(node, ast.Call)}
    assert {name for name in quadtok.__all__ if callable(getattr(quadtok, name))} - called == {"QuadtokError"}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("call", CALLS)
def test_a_result_is_the_same_to_the_last_bit_under_torchs_other_settings(call, setting, expected, tmp_path):
    with SETTINGS[setting]():
        result = CALLS[call](tmp_path)
    assert facts(result) == expected[call]


@pytest.mark.parametrize("call", CALLS)
def test_no_call_draws_from_or_seeds_a_global_generator(call, tmp_path):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    CALLS[call](tmp_path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert all(np.array_equal(*pair) for pair in zip(np.random.get_state(), before[2], strict=True))


MAKERS = {
    *("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "zeros"),
    *("as_tensor", "asarray", "scalar_tensor", "tensor"),
}


def tensors_made_without_a_device(tree):
    """Calls such as `torch.zeros(3)`; learned weights may follow the defaults, as all of torch's own do."""
    learned = {id(part) for node in ast.walk(tree) if is_call(node, {"Parameter"}) for part in ast.walk(node)}
    for node in ast.walk(tree):
        makes = is_call(node, MAKERS) and ast.unparse(node.func).startswith("torch.") and id(node) not in learned
        if makes and "device" not in {keyword.arg for keyword in node.keywords}:
            yield ast.unparse(node)


def is_call(node, names):
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_every_tensor_is_made_on_a_device_that_is_said(path):
    assert [*tensors_made_without_a_device(ast.parse(path.read_text()))] == []


def test_a_tensor_made_without_a_device_would_be_noticed():
    code = "x = torch.zeros(3) + torch.ones(3, device=x.device); w = nn.Parameter(torch.randn(2)); y = np.zeros(3)"
    assert [*tensors_made_without_a_device(ast.parse(code))] == ["torch.zeros(3)"]


NAMED = dict(zip([*SCORERS, "vanilla"], MODULES, strict=True))
THINGS = {
    "spec": SPEC,
    "plan": PLAN,
    "tokens": TOKENS,
    **{f"scorer {name}": scorer_of(name) for name in SCORERS},
    "scorer feature, folded": scorer_of("feature", weights=GOLDEN / "feature_net.pt", precision="bfloat16"),
    "scorer object, half precision": scorer_of("object", precision="bfloat16"),
    **{f"module {name}": module for name, module in NAMED.items()},
}
WAYS = {
    **{
        f"pickle protocol {protocol}": lambda thing, protocol=protocol: pickle.loads(pickle.dumps(thing, protocol))
        for protocol in range(2, 6)
    },
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "torch.save": lambda thing: saved_and_loaded(thing, weights_only=False),
}


def saved_and_loaded(thing, **options):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, **options)


def use(thing):
    """What a thing is good for: calling it, or itself."""
    if isinstance(thing, torch.nn.Module):
        return facts(thing(BYTES))
    return facts(thing(BYTES, SPEC)) if callable(thing) else facts(thing)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thing", THINGS)
def test_a_copy_does_what_the_thing_itself_does(thing, way):
    assert use(WAYS[way](THINGS[thing])) == use(THINGS[thing])


@pytest.mark.parametrize("name", NAMED)
def test_a_modules_weights_are_read_safely_into_another(name):
    state = saved_and_loaded(NAMED[name].state_dict(), weights_only=True)
    assert not any("scorer" in key for key in state)
    torch.manual_seed(1)
    fresh = copy.deepcopy(NAMED[name])
    for parameter in fresh.parameters():
        torch.nn.init.normal_(parameter)
    assert use(fresh) != use(NAMED[name])
    fresh.load_state_dict(state)
    assert use(fresh) == use(NAMED[name])


@contextlib.contextmanager
def no_parameter_has_memory():
    """As tools build models that are larger than the memory: whatever is registered loses its numbers."""
    register = torch.nn.Module.register_parameter

    def register_without_memory(module, name, parameter):
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    torch.nn.Module.register_parameter = register_without_memory
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register


BUILDERS = {
    "device of a block": lambda: torch.device("meta"),
    "default device": lambda: default_device("meta"),
    "no parameter has memory": no_parameter_has_memory,
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", NAMED)
def test_a_module_built_without_memory_works_once_it_has_weights(name, builder):
    with BUILDERS[builder]():
        *quadtrees, vanilla = modules()
    module = vanilla if name == "vanilla" else quadtrees[[*SCORERS].index(name)]
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    module.to_empty(device="cpu").load_state_dict(NAMED[name].state_dict())
    assert use(module) == use(NAMED[name])


WITH_NETS = {
    "object": ("object", {}),
    "object, bfloat16": ("object", {"precision": "bfloat16"}),
    "feature": ("feature", {}),
    "feature, float32": ("feature", {"precision": "float32"}),
    "shufflenet": ("feature", {"weights": GOLDEN / "feature_net.pt"}),
    "shufflenet, float32": ("feature", {"weights": GOLDEN / "feature_net.pt", "precision": "float32"}),
}


@pytest.mark.parametrize("setting", ["dtype float64", "dtype bfloat16", "inference"])
@pytest.mark.parametrize("builder", [None, *BUILDERS])
@pytest.mark.parametrize("made", WITH_NETS)
def test_a_scorer_is_the_same_wherever_it_was_built(made, builder, setting):
    name, options = WITH_NETS[made]
    with SETTINGS[setting](), BUILDERS.get(builder, contextlib.nullcontext)():
        scorer = get_scorer(name, **options)
    assert use(scorer) == use(get_scorer(name, **options))
    assert scorer.describe() == get_scorer(name, **options).describe()
