"""The tests mean the same with any versions that pyproject.toml allows."""

import re
import tomllib
import warnings
from itertools import chain
from pathlib import Path

import pytest

import quadtok

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def warn(module):
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["quadtok", "quadtok.spec", "quadtok.cli.info"])
def test_a_warning_about_a_line_of_quadtok_is_an_error(module):
    with pytest.raises(DeprecationWarning):
        warn(module)


@pytest.mark.parametrize("module", ["matplotlib._mathtext", "torch", "quadtoken", "tests.quadtok"])
def test_a_warning_about_anybody_elses_line_is_none(module):
    with warnings.catch_warnings(record=True) as seen:
        warn(module)
    assert [str(warning.message) for warning in seen] == ["old"]


def test_every_requirement_has_a_floor():
    for requirement in chain(PROJECT["dependencies"], *EXTRAS.values()):
        assert re.fullmatch(r"quadtok\[[\w,-]+\]|[\w-]+(\[\w+\])?>=[\d.]+", requirement), requirement


def test_the_extra_test_asks_for_nothing_that_only_some_tests_need():
    names = {re.split(r"[>\[]", requirement)[0] for requirement in EXTRAS["test"]}
    assert names == {"quadtok", "pytest", "hypothesis", "pytest-xdist"}


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    facts = dict(re.findall(r"^([\w-]+): \"?(.*?)\"?$", citation, re.MULTILINE))
    assert (facts["title"], facts["version"]) == ("quadtok", quadtok.__version__)
    assert facts["abstract"] == PROJECT["description"]
    # One licence, that of the code: a list would leave the choice, and "AND" the format cannot say.
    assert re.findall(r"^license: (\S+)", citation, re.MULTILINE) == [PROJECT["license"].split(" AND ")[0]] == ["MIT"]
    assert "arXiv:2304.00287" in citation


def test_the_licence_of_the_object_scorers_weights_comes_with_them():
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE", "LICENSES/*"}
    notice, weights = (ROOT / "NOTICE").read_text(encoding="utf-8"), "quadtok/scorers/object/importance_net.pt"
    assert f"src/{weights}" in notice and (ROOT / "src" / weights).is_file()
    assert "Apache License" in (ROOT / "LICENSES" / "Apache-2.0.txt").read_text(encoding="utf-8")
