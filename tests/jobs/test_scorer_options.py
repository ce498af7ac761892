"""Options without a scorer say which one is meant; of several scorers each gets its own."""

import pytest

from quadtok.errors import InputError
from quadtok.jobs.scorer_options import meant_scorer, options_for, takes_weights
from quadtok.names import DEFAULT_SCORER, SCORER_OPTIONS

ALL = {"weights": "w.pt", "precision": "bfloat16", "views": 2, "stride": 16, "thresholds": [5, 4], "colour": "red"}


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ([], DEFAULT_SCORER),
        (["weights"], "feature"),
        (["precision"], "feature"),
        (["weights", "precision"], "feature"),
        *[([option], "feature") for option in SCORER_OPTIONS["feature"]],
        (["views"], "object"),
        (["views", "weights"], "object"),
        (["views", "precision", "weights"], "object"),
        (["colour"], DEFAULT_SCORER),
        (["stride", "colour"], "feature"),
    ],
    ids=str,
)
def test_options_mean_the_scorer_that_has_them_and_the_papers_before_the_default(options, meant):
    assert meant_scorer(options) == meant


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["thresholds"], "^thresholds is an option of entropy: give scorer entropy$"),
        (
            ["views", "error"],
            "^views is an option of object, error is an option of feature: no scorer has all of them$",
        ),
        (["thresholds", "weights"], "weights is an option of object and feature: no scorer has all of them$"),
    ],
    ids=str,
)
def test_options_of_another_scorer_or_of_several_are_refused_by_name(options, sentence):
    with pytest.raises(InputError, match=sentence):
        meant_scorer(options)


@pytest.mark.parametrize(
    ("name", "names", "gets"),
    [
        ("object", ["object"], ALL),
        ("blur", ["blur"], ALL),  # and refuses them
        ("mine:scorer", ["mine:scorer"], ALL),
        ("random", ["random"], {}),
        ("object", ["object", "blur"], ["weights", "precision", "views"]),
        ("object", ["object", "feature"], ["precision", "views"]),
        ("feature", ["object", "feature"], ["weights", "precision", "stride"]),
        ("entropy", ["entropy", "object"], ["thresholds"]),
        ("blur", ["blur", "object"], []),
        ("mine:scorer", ["mine:scorer", "blur"], []),
    ],
    ids=str,
)
def test_the_only_scorer_gets_all_options_and_one_of_several_those_that_it_has(name, names, gets):
    assert options_for(name, names, ALL) == {option: ALL[option] for option in gets}


@pytest.mark.parametrize(
    ("name", "weights", "takes"),
    [
        ("feature", "imagenet", True),
        ("feature", "w.pt", True),
        ("object", "bundled", True),
        ("object", "w.pt", True),
        ("object", "imagenet", False),
        ("object", "lite0", False),
        ("blur", "w.pt", False),
        ("mine:scorer", "w.pt", False),
    ],
)
def test_weights_are_of_the_feature_scorer_and_files_of_the_object_scorer_too(name, weights, takes):
    assert takes_weights(name, weights) == takes
