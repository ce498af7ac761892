"""The names that users type: they are there, they explain themselves, and the tables agree with the lists of names."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

import quadtok
from quadtok import names
from quadtok.pictures.render import STYLES
from quadtok.quadtrees import QUADTREES
from quadtok.scorers import SCORERS
from quadtok.scorers.feature import ERRORS

SOURCE = Path(quadtok.__file__).parent
CALLABLES = [name for name in quadtok.__all__ if callable(getattr(quadtok, name))]
FIXED = {  # design.md, "Public API": these do not move
    *("Spec", "get_scorer", "get_quadtree", "extract_patches", "tokenize", "reverse", "render"),
    *("save_tokens", "load_tokens", "QuadtreeTokenizer", "VanillaTokenizer", "QuadtokError"),
}
FIXED_MEMBERS = {
    "Plan": ["left", "top", "scale", "spec", "size", "centers", "cell_to_token"],
    "Tokens": ["plan", "patches", "to_reference_layout"],
    "Spec": ["height", "width", "min_patch", "max_patch", "num_tokens"],
}
FIXED_OPTIONS = {
    "object": ["weights", "views", "precision"],
    "feature": ["weights", "net", "stride", "error", "high_res_fraction", "precision"],
    "precomputed": ["maps"],
    "random": ["seed"],
    "blur": [],
    "entropy": ["thresholds"],
    "duplicate": [],
    "point": ["points", "boxes"],
}


def test_the_fixed_names_are_there():
    assert set(quadtok.__all__) >= FIXED


@pytest.mark.parametrize("name", FIXED_MEMBERS)
def test_the_fixed_members_are_there(name):
    value = getattr(quadtok, name)
    assert set(FIXED_MEMBERS[name]) <= {*dir(value), *value.__dataclass_fields__}


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_have_their_fixed_options(name):
    assert [*inspect.signature(SCORERS[name]).parameters] == FIXED_OPTIONS[name]


@pytest.mark.parametrize("name", [name for name in SCORERS if name not in names.WITHOUT_OPTIONS])
def test_the_options_to_type_are_those_of_the_scorers(name):
    assert list(names.SCORER_OPTIONS.get(name, ())) == [*inspect.signature(SCORERS[name]).parameters]


def test_no_scorer_without_options_has_some_to_type():
    assert names.SCORER_OPTIONS.keys() <= set(SCORERS) - set(names.WITHOUT_OPTIONS)


def test_the_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert {"__version__", *seen} == set(quadtok.__all__)
    assert all(getattr(quadtok, name) is getattr(import_module(home), name) for name, home in seen.items())


def test_a_star_import_gives_the_public_names():
    namespace = {}
    exec("from quadtok import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(quadtok.__all__)
    assert len(set(quadtok.__all__)) == len(quadtok.__all__)
    assert dir(quadtok) == sorted(quadtok.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'quadtok' has no attribute 'tokenise'"):
        _ = quadtok.tokenise


@pytest.mark.parametrize(
    ("literal", "table"),
    [
        (names.ScorerName, SCORERS),
        (names.QuadtreeName, QUADTREES),
        (names.StyleName, STYLES),
        (names.ErrorName, ERRORS),
    ],
    ids=["scorers", "quadtrees", "styles", "errors"],
)
def test_the_names_to_type_are_the_keys_of_the_tables(literal, table):
    assert get_args(literal) == tuple(table)


@pytest.mark.parametrize("name", CALLABLES)
def test_docstrings_speak_of_every_argument(name):
    value = getattr(quadtok, name)
    doc = inspect.getdoc(value)
    assert doc and doc[0].isupper()
    if not (inspect.isclass(value) and issubclass(value, Exception)):
        for argument in inspect.signature(value).parameters:
            assert f"{argument}:" in doc, f"{name}'s docstring does not explain {argument}"


@pytest.mark.parametrize("name", [name for name in CALLABLES if name[0].islower()])
def test_docstrings_of_functions_say_what_they_raise(name):
    value = getattr(quadtok, name)
    if "raise " in inspect.getsource(value) or "check_" in inspect.getsource(value):
        assert "Raises:" in inspect.getdoc(value)


def public_definitions(body, prefix=""):
    """Public functions and classes, and the public methods of public classes; overloads aside."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if "overload" not in map(ast.unparse, node.decorator_list):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_and_all_that_is_public_in_them_have_docstrings(path):
    tree = ast.parse(path.read_text())
    bare = [name for name, node in [("module", tree), *public_definitions(tree.body)] if not ast.get_docstring(node)]
    assert bare == []


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["quadtok", "quadtok.errors", "quadtok.names", "quadtok.spec", "quadtok.files"])
def test_what_the_help_needs_loads_without_torch(module):
    heavy = "sorted({'torch', 'numpy', 'PIL', 'torchvision'} & sys.modules.keys())"
    assert run_python(f"import sys, {module}; print({heavy})") == "[]\n"


def test_a_name_loads_no_more_than_its_module():
    assert (
        run_python("import sys, quadtok; quadtok.Spec; quadtok.QuadtokError; print('torch' in sys.modules)")
        == "False\n"
    )
    assert run_python("import sys, quadtok; quadtok.tokenize; print('torchvision' in sys.modules)") == "False\n"
