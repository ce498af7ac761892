"""What the source looks like: imports point only to a lower level, sentences fit their level, nothing grows too long.

Read off the source; nothing is imported.
"""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "quadtok"

# A folder stands for all its files. The package itself, `quadtok/__init__`, is outside: it loads names on first use.
LEVELS = [
    {"errors", "names", "quiet", "places"},
    {"spec", "files", "colors", "thumbnail", "environment", "own_code"},
    {"zorder", "geometry", "marks", "stores", "download", "tracing", "shown"},
    {"tiling", "precision"},
    {"plan", "pixels"},
    {"patches", "images", "scorers", "quadtrees"},
    {"tokens", "reversal", "preprocess", "calibration"},
    {"batches", "decoders"},
    {"models", "pictures", "storage"},
    {"oracle"},
    {"jobs"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
# Inside a folder, the lowest first: who stands here may be imported by those behind it, and by all that are not named.
WITHIN = {
    "quadtok.quadtrees": ["base", "order", "parallel_numpy"],
    "quadtok.oracle": ["checks", "layers", "cam"],
    "quadtok.decoders": ["room", "child", "processes"],
    "quadtok.scorers": ["base", "nets", "blur"],
    "quadtok.scorers.feature": ["lite0", "object_net", "shufflenet", "weights"],
    "quadtok.scorers.object": ["net"],
    "quadtok.models": [
        *("embed", "packing", "attention", "detail", "pooling", "positions", "rope", "reading"),
        *("adapted", "selfcheck", "timm", "torchvision", "families"),
    ],
    "quadtok.pictures": ["encode", "render", "sheet", "growing", "explorer"],
    "quadtok.jobs": [
        *(
            "words",
            "arguments",
            "device",
            "walk",
            "archives",
            "parquet",
            "shard_inputs",
            "store_inputs",
            "sources",
            "parts",
            "manifest",
            "tensors",
            "features",
            "asked_for",
            "scorer_options",
            "own_scorer",
            "faults",
            "points",
            "classes",
            "map_scoring",
            "scoring",
            "scored",
        ),
        *(
            "photograph",
            "tokenize",
            "plans",
            "samples",
            "draw",
            "calibrate",
            "oracle",
            "restore",
            "sinks",
            "engines",
            "targets",
            "destination",
            "summary",
            "from_python",
        ),
    ],
    "quadtok.jobs.sinks": ["writable", "naming", "existing", "rooms", "alone", "manifest", "shard_index", "shelves"],
    "quadtok.jobs.engines": [
        "pool",
        "pump",
        "signals",
        "address",
        "reading",
        "finish",
        "ledger",
        "threads",
        "away",
        "witness",
        "ray",
    ],
    "quadtok.storage": [
        "safetensors_file",
        "archive",
        "record",
        "content",
        "npy",
        "plan_stream",
        "torn",
        "plan_format",
        "plan_store",
        "container",
        "sample",
        "tar",
        "dali",
        "tar_shard",
        "parquet_file",
        "parquet_shard",
        "shards",
        "items",
    ],
    "quadtok.cli": [
        "terminal",
        "given",
        "stdin",
        "grouped",
        "flags",
        "bench_flags",
        "visualize_flags",
        "running",
        "plans",
        "collected",
    ],
    "quadtok.bench": ["rows", "memory", "clocks", "referee", "plot", "timing", "model"],
}

LONGEST_FILE, LONGEST_FUNCTION = 300, 40  # lines; of a function without its docstring
LONG_FUNCTIONS = {
    "quadtok.patches.fused": {"_gather_kernel"},  # a GPU kernel is one function
}

MODULES = {
    ".".join(["quadtok", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def part_of(module):
    """`quadtok.scorers.blur` → `scorers`."""
    return module.split(".")[1]


def is_module(name):
    return name in MODULES or any(module.startswith(f"{name}.") for module in MODULES)


def imported(tree):
    """(module, name or None) of every import of quadtok's own, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield (inner, None) if is_module(inner) else (module, alias.name)


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def complaints(module, source):
    """One sentence for each import that the layout forbids."""
    tree = ast.parse(source)
    if module == "quadtok":
        tree.body = [node for node in tree.body if not is_type_checking(node)]
    for target, name in imported(tree):
        if target.startswith("."):
            yield f"{module} imports {target}: write the whole name, quadtok.…"
        elif target == "quadtok" and name != "__version__":
            yield f"{module} imports {name or 'quadtok itself'} from quadtok: only __version__ may come from there"
        elif target.startswith("quadtok.") and (sentence := forbidden(module, target)):
            yield sentence


def forbidden(module, target):
    if module == "quadtok":
        return f"quadtok/__init__ imports {target}: names are loaded on first use"
    ours, theirs = part_of(module), part_of(target)
    for name, part in ((module, ours), (target, theirs)):
        if part not in LEVEL:
            return f"{name} is in no level: give {part!r} its place in LEVELS of tests/test_architecture.py"
    if LEVEL[theirs] < LEVEL[ours]:
        return None
    if ours != theirs:
        return f"{module} (level {LEVEL[ours]}) imports {target} (level {LEVEL[theirs]}): imports point to lower levels"
    if target.startswith(f"{module}.") or target in bases(module) or is_within(module, target):
        return None
    return f"{module} imports its neighbour {target}: files of a folder import only their own base"


def bases(module):
    """`quadtok.images.tiff.blocks` → the base of its folder, and those of the folders around it."""
    parts = module.split(".")
    return {".".join([*parts[:length], "base"]) for length in range(2, len(parts))}


def is_within(module, target):
    """Whether `WITHIN` puts the target, or a folder that it is in, below the module, or below what the module is in."""
    parts = target.split(".")
    for length in range(2, len(parts)):
        folder, name = ".".join(parts[:length]), parts[length]
        order = WITHIN.get(folder, [])
        if not module.startswith(f"{folder}.") or name not in order:
            continue
        own = module.removeprefix(f"{folder}.").partition(".")[0]
        if own != name and (own not in order or order.index(name) < order.index(own)):
            return True
    return False


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_lower_levels(module):
    assert list(complaints(module, MODULES[module].read_text())) == []


@pytest.mark.parametrize("module", [module for module in MODULES if module != "quadtok"])
def test_every_module_has_its_level(module):
    part = part_of(module)
    assert part in LEVEL, f"{module} is in no level: give {part!r} its place in LEVELS of tests/test_architecture.py"


def test_no_part_has_two_levels():
    assert sum(map(len, LEVELS)) == len(LEVEL)


def test_a_stranger_reads_in_contributing_what_every_part_is_for():
    rows = re.findall(
        r"^\| (`.*?) \|", (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = [name.rstrip("/") for row in rows for name in re.findall(r"`([\w/]+)`", row)]
    assert sorted(LEVEL.keys() - set(told)) == ["__main__"]
    assert sorted(told) == sorted(set(told)) and all((SOURCE / name).exists() or name in LEVEL for name in told)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("quadtok.plan", "from quadtok.errors import InputError\nfrom quadtok.spec import Spec"),
        ("quadtok.plan", "import torch\nfrom torch import nn\nimport quadtok.spec"),
        ("quadtok.scorers", "from quadtok.scorers.blur import BlurScorer"),
        ("quadtok.scorers.blur", "from quadtok.scorers.base import pool_to_grid"),
        ("quadtok.scorers.blur", "from quadtok.scorers import base"),
        ("quadtok.images.tiff.blocks", "import quadtok.images.base, quadtok.images.tiff.base"),
        ("quadtok.images.tiff", "from quadtok.images.tiff.blocks import read_samples"),
        ("quadtok.models.tokenizers", "from quadtok.scorers import get_scorer"),
        ("quadtok.storage.token_file", "from quadtok import __version__"),
        (
            "quadtok.cli.tokenize",
            "import quadtok.cli.terminal\ndef run():\n    import quadtok.storage.token_file",
        ),
        ("quadtok", "if TYPE_CHECKING:\n    from quadtok.plan import Plan"),
    ],
)
def test_what_the_layout_allows_passes(module, source):
    assert list(complaints(module, source)) == []


@pytest.mark.parametrize(
    ("module", "source", "sentence"),
    [
        (
            "quadtok.spec",
            "from quadtok.plan import Plan",
            f"spec (level {LEVEL['spec']}) imports quadtok.plan (level {LEVEL['plan']})",
        ),
        (
            "quadtok.plan",
            "import quadtok.pixels",
            f"plan (level {LEVEL['plan']}) imports quadtok.pixels (level {LEVEL['pixels']})",
        ),
        (
            "quadtok.plan",
            "from quadtok import pixels",
            f"plan (level {LEVEL['plan']}) imports quadtok.pixels (level {LEVEL['pixels']})",
        ),
        (
            "quadtok.patches",
            "def f():\n    import quadtok.models.tokenizers",
            "imports quadtok.models.tokenizers",
        ),
        (
            "quadtok.scorers.blur",
            "from quadtok.quadtrees import get_quadtree",
            f"imports quadtok.quadtrees (level {LEVEL['quadtrees']})",
        ),
        ("quadtok.scorers.blur", "from quadtok.scorers.feature import resize", "its neighbour quadtok.scorers.feature"),
        ("quadtok.scorers.blur", "from quadtok.scorers import get_scorer", "its neighbour quadtok.scorers:"),
        ("quadtok.images.png", "import quadtok.images.tiff.base", "its neighbour quadtok.images.tiff.base"),
        ("quadtok.images.tiff.blocks", "import quadtok.images.tiff", "its neighbour quadtok.images.tiff:"),
        ("quadtok.scorers.base", "from quadtok.scorers.blur import BlurScorer", "its neighbour quadtok.scorers.blur"),
        (
            "quadtok.bench",
            "from quadtok.cli.terminal import say",
            f"bench (level {LEVEL['bench']}) imports quadtok.cli.terminal (level {LEVEL['cli']})",
        ),
        ("quadtok.plan", "from .spec import Spec", "imports .spec: write the whole name"),
        ("quadtok.plan", "from . import spec", "imports .: write the whole name"),
        ("quadtok.plan", "from quadtok import Spec", "imports Spec from quadtok: only __version__"),
        ("quadtok.plan", "import quadtok", "imports quadtok itself from quadtok: only __version__"),
        (
            "quadtok.plan",
            "if TYPE_CHECKING:\n    from quadtok.cli import app",
            f"imports quadtok.cli (level {LEVEL['cli']})",
        ),
        (
            "quadtok.stranger",
            "from quadtok.spec import Spec",
            "stranger is in no level: give 'stranger' its place",
        ),
        ("quadtok.plan", "import quadtok.stranger", "stranger is in no level: give 'stranger' its place"),
        (
            "quadtok",
            "from quadtok.plan import Plan",
            "imports quadtok.plan: names are loaded on first use",
        ),
    ],
)
def test_what_the_layout_forbids_gets_its_sentence(module, source, sentence):
    (complaint,) = complaints(module, source)
    assert sentence in complaint


def long_functions(tree):
    """Names of functions that have more lines than they may, and how many."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > LONGEST_FUNCTION:
                yield node.name, lines


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_too_long_to_be_read_at_once(module):
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST_FILE, "find its second idea, and give that a file"


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_too_long_to_be_read_at_once(module):
    found = long_functions(ast.parse(MODULES[module].read_text()))
    assert [(name, lines) for name, lines in found if name not in LONG_FUNCTIONS.get(module, ())] == []


def test_a_functions_length_is_counted_without_its_docstring():
    body = "    x = 1\n" * (LONGEST_FUNCTION - 1)
    docstring = '    """One\n\n    Two.\n    """\n'
    assert list(long_functions(ast.parse(f"def f():\n{docstring}{body}"))) == []
    assert list(long_functions(ast.parse(f"class C:\n  async def f():\n{docstring}{body}    return x\n"))) == [
        ("f", LONGEST_FUNCTION + 1)
    ]


def flags_in_sentences(tree):
    """Texts that name a flag of the command line, but for docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name and LEVEL[part_of(name)] < LEVEL["cli"]])
def test_a_sentence_of_the_library_names_arguments_and_no_flags(module):
    assert list(flags_in_sentences(ast.parse(MODULES[module].read_text()))) == []


def private_names(tree):
    """What a test takes from quadtok that begins with an underscore: imported, asked of a module, or replaced in it."""
    modules = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).partition(".")[0] == "quadtok"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "quadtok":
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield from [node.attr] if is_private(node.attr) else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            yield from (
                text.value
                for text in node.args
                if isinstance(text, ast.Constant)
                and isinstance(text.value, str)
                and is_private(text.value.rpartition(".")[2])
            )


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_no_test_takes_anything_private_from_quadtok(path):
    assert list(private_names(ast.parse(path.read_text()))) == []


def test_private_names_are_found_however_they_are_taken():
    source = (
        "from quadtok.plan import Plan, _same_integers\nfrom quadtok import files\nimport quadtok\n"
        "files._flags, quadtok.__version__, quadtok._HOME, other._x, Plan.counts\n"
        "monkeypatch.setattr(files, '_READ', 1)\nmonkeypatch.setattr('quadtok.marks._CHUNK', 1)\n"
    )
    assert sorted(private_names(ast.parse(source))) == [
        *("_HOME", "_READ", "_flags", "_same_integers", "quadtok.marks._CHUNK")
    ]


def test_flags_are_found_in_sentences_and_not_in_docstrings():
    source = 'def f(x):\n    """As `--help`."""\n    raise ValueError(f"{x}: use --over-write, a--b or --- then")'
    assert list(flags_in_sentences(ast.parse(source))) == ["--over-write"]
