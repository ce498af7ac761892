"""Options of scorers: which scorer they ask for where none is named, and whose they are where there are several."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from quadtok.errors import InputError
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import DEFAULT_SCORER, FEATURE_WEIGHTS, SCORER_OPTIONS, WITHOUT_OPTIONS

# Who is meant by options alone. The paper's comes first: it was the default once, and commands of that time go on.
_MEANT = ("feature", DEFAULT_SCORER)


def meant_scorer(options: Collection[str], words: Words = ARGUMENTS) -> str:
    """The scorer that is meant where none is named: the default one, or else the one that has these options.

    Args:
        options: their names; what no scorer has decides nothing.
        words: what sentences call these.

    Raises:
        InputError: for options of another scorer, or of several.
    """
    owners = {option: [name for name, has in SCORER_OPTIONS.items() if option in has] for option in options}
    known = {option: names for option, names in owners.items() if names}
    if not known:
        return DEFAULT_SCORER
    whole = [name for name, has in SCORER_OPTIONS.items() if known.keys() <= set(has)]
    for name in _MEANT:
        if name in whole:
            return name
    said = ", ".join(f"{option} is an option of {' and '.join(names)}" for option, names in known.items())
    raise InputError(f"{said}: " + (f"give {words.scorer} {whole[0]}" if whole else "no scorer has all of them"))


def options_for(name: str, names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """What one of the scorers gets of the options: all where it is the only one, or else those that it has.

    Weights are of one net: among several scorers they are the feature scorer's where it is one of them.

    Args:
        name: of the scorer.
        names: of all scorers.
        options: by their names.
    """
    if len(names) == 1:
        return {} if name in WITHOUT_OPTIONS else dict(options)
    is_anothers = {"weights"} if name != "feature" and "feature" in names else set()
    mine = set(SCORER_OPTIONS.get(name, ())) - is_anothers
    return {option: value for option, value in options.items() if option in mine}


def takes_weights(name: str, weights: object) -> bool:
    """Whether these weights, a name or a file, may be of this scorer."""
    return name == "feature" or ("weights" in SCORER_OPTIONS.get(name, ()) and str(weights) not in FEATURE_WEIGHTS)
