"""The training pictures of the object scorer: what packages say of licences, and what goes onto the list."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import listing
from licences import Statement, credited, debian_statements, is_strict, named, stated_for
from pictures import LIST, Picture


@pytest.mark.parametrize(
    ("words", "licence"),
    [
        ("Public Domain", "public-domain"),
        ("Public domain", "public-domain"),
        ("CC0-1.0", "CC0-1.0"),
        ("CC-BY 2.0", "CC-BY-2.0"),
        ("CC-BY-SA 4.0", "CC-BY-SA-4.0"),
        ("GPLv2+", "GPL-2+"),
        ("GPLv3", "GPL-3"),
        ("CC-BY-NC-SA-3.0", None),
        ("CC-BY-ND 2.0", None),
        ("GFDL-NIV-1.2", None),
        ("GFDL or CC-BY-SA 2.5", None),
        ("LGPLv3", None),
        ("free", None),
        ("", None),
    ],
)
def test_a_licence_is_known_by_its_words_or_it_is_none(words, licence):
    assert named(words) == licence


def test_the_strict_licences_ask_for_no_more_than_a_name():
    strict = ("public-domain", "CC0-1.0", "CC-BY-4.0")
    assert all(is_strict(licence) for licence in strict)
    assert not any(is_strict(licence) for licence in ("CC-BY-SA-4.0", "GPL-2", "GPL-3+"))


DEBIAN = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2002-2022 by Bill Someone <bill@example.com>
License: GPL-2+

Files: nature/*.jpg
       abstract/Wave?.png
Copyright: 2008, Ann Other <ann@example.com>´
           2009, Third
License: CC-BY-SA-4.0
Comment: https://example.com/picture

Files: nature/deep/[x].jpg
Copyright: none
License: GFDL-1.2

License: GPL-2+
 Long text.
"""


def test_debians_copyright_file_gives_the_last_paragraph_that_names_a_path():
    statements = debian_statements(DEBIAN)
    assert len(statements) == 3
    assert stated_for("README", statements).licence == "GPL-2+"
    assert stated_for("README", statements).authors == "Bill Someone"
    for path in ("nature/a.jpg", "nature/deep/b.jpg", "abstract/Wave1.png"):
        said = stated_for(path, statements)
        assert (said.licence, said.authors) == ("CC-BY-SA-4.0", "Ann Other; Third")
        assert said.source == "https://example.com/picture"
    assert stated_for("abstract/Wave12.png", statements).licence == "GPL-2+"
    assert stated_for("nature/deep/[x].jpg", statements).licence is None
    assert stated_for("nature/deep/x.jpg", statements).licence == "CC-BY-SA-4.0"
    assert stated_for("README", statements[1:]) is None


CREDITS = """Copyright: Karelj
Source: https://example.com/1
License: Public Domain
Files:
fish1.webp
 fish2.webp

Files: heron.webp
Copyright: © 2014 Jee & Rani
License: CC-BY-SA-4.0
Comments: cropping

Copyright:
  Copyright 2011 NASA
  Copyright 2018 Someone
License: CC-BY 4.0
castle.webp
Comment: based on a photo by G. Piolle, license CC-BY 3.0, source at https://example.com/2

Copyright: A
License: CC0-1.0
Files: twice.webp

Copyright: B
License: GPLv3
Files: twice.webp
"""


def test_the_credits_of_an_activity_name_its_files():
    said = credited(CREDITS)
    assert set(said) == {"fish1.webp", "fish2.webp", "heron.webp", "castle.webp", "twice.webp"}
    fish, heron, castle = (said[name] for name in ("fish2.webp", "heron.webp", "castle.webp"))
    assert (fish.authors, fish.licence, fish.source) == ("Karelj", "public-domain", "https://example.com/1")
    assert (heron.authors, heron.licence, heron.source) == ("Jee & Rani", "CC-BY-SA-4.0", "")
    assert castle.authors == "NASA; Someone; after G. Piolle"
    assert (castle.licence, castle.source) == ("CC-BY-4.0", "https://example.com/2")


def test_a_file_that_two_paragraphs_license_differently_has_no_licence():
    assert credited(CREDITS)["twice.webp"].licence is None


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def drawn(height, width, share, colours=256):
    """A cut-out of noise: opaque corners, and the share of its rows that are opaque."""
    noise = np.random.default_rng(0).integers(0, colours, (height, width, 4), dtype=np.uint8)
    noise[..., 3] = 0
    noise[: round(share * height), :, 3] = 255
    noise[-1, -1, 3] = 255
    return encoded(noise)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("photograph", encoded(np.zeros((120, 200, 3), np.uint8)), True),
        ("photograph", encoded(np.zeros((119, 200, 3), np.uint8)), False),
        ("photograph", b"no picture", False),
        ("cut-out", drawn(80, 80, 0.5), True),
        ("cut-out", drawn(80, 80, 0.5, colours=2), False),
        ("cut-out", drawn(30, 80, 0.5), False),
        ("cut-out", drawn(80, 80, 1), False),
        ("cut-out", drawn(80, 80, 0.1), False),
        ("cut-out", encoded(np.zeros((80, 80, 4), np.uint8)), False),
        ("cut-out", encoded(np.full((80, 80, 3), 9, np.uint8)), False),
    ],
)
def test_what_shows_nothing_stays_off_the_list(kind, data, shown):
    assert listing.shows(listing.Found("x", kind, data, None)) == shown


def test_a_picture_without_a_clear_licence_stays_off_the_list_and_is_counted():
    data = encoded(np.zeros((120, 120, 3), np.uint8))
    licences = ("CC-BY-2.0", None, "GPL-2")
    said = [Statement((), "Someone", licence, "") for licence in licences]
    source = [listing.Found(str(number), "photograph", data, one) for number, one in enumerate([*said, None])]
    left_out = Counter()
    rows = list(listing.collected("some-data", "1.0", lambda root: iter(source), LIST.parent, left_out))
    assert [(row.path, row.licence, row.strict) for row in rows] == [("0", "CC-BY-2.0", "yes"), ("2", "GPL-2", "no")]
    assert rows[0].source == "usr/share/doc/some-data/copyright"
    assert left_out.total() == 2 and "licence" in next(iter(left_out))


def test_the_same_file_or_address_comes_once():
    about = ("photograph", "Someone", "CC0-1.0", "yes")
    first, same_file, same_address, other = (
        Picture("some-data", "1.0", path, *about, f"https://example.com/{address}", sha256)
        for path, address, sha256 in (("a", "1", "11"), ("b", "2", "11"), ("c", "1", "22"), ("d", "3", "33"))
    )
    left_out = Counter()
    assert listing.once_each([other, same_address, same_file, first], left_out) == [first, other]
    assert left_out.total() == 2
