import re
from pathlib import Path

import pytest

from quadtok.errors import InputError
from quadtok.jobs.sources import find_sources
from quadtok.names import IMAGE_SUFFIXES


def names(arguments, **options):
    return [source.relative.as_posix() for source in find_sources(arguments, IMAGE_SUFFIXES, **options).sources]


def paths(arguments, **options):
    return [str(source.path) for source in find_sources(arguments, IMAGE_SUFFIXES, **options).sources]


def refused(arguments, **options):
    return [str(refusal.problem) for refusal in find_sources(arguments, IMAGE_SUFFIXES, **options).refused]


def test_a_folder_is_walked_sorted_without_hidden_files(tree):
    assert names(["."]) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/e.tif"]


def test_names_are_relative_to_the_folder_that_was_given(tree):
    assert names(["sub"]) == ["c.webp", "deep/e.tif"]


def test_a_file_is_taken_whatever_its_ending(tree):
    assert names(["notes.txt"]) == ["notes.txt"]


def test_a_folder_named_like_an_image_is_walked(tree):
    (tree / "x.jpg").mkdir()
    (tree / "x.jpg" / "inside.png").touch()
    assert names(["x.jpg"]) == ["inside.png"]


def test_a_glob_mirrors_below_its_fixed_part(tree):
    assert names(["sub/*"]) == ["c.webp", "deep/e.tif"]
    assert names(["*/c.webp"]) == ["sub/c.webp"]
    assert names(["**/*.tif"]) == ["sub/deep/e.tif"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    (tree / "[1].jpg").touch()
    assert names(["[1].jpg"]) == ["[1].jpg"]


def test_one_path_is_one_input_however_it_is_spelled(tree):
    spellings = [
        "b.jpg",
        "./b.jpg",
        ".//b.jpg",
        "sub/../b.jpg",
        str(tree / "b.jpg"),
        str(tree / "sub" / ".." / "b.jpg"),
    ]
    assert names(spellings) == ["b.jpg"]
    assert names(["sub", "sub/c.webp", "sub/"]) == ["c.webp", "deep/e.tif"]


def test_two_dots_behind_a_link_lead_where_the_link_does(tree):
    (tree / "elsewhere" / "inner").mkdir(parents=True)
    (tree / "elsewhere" / "b.jpg").touch()
    (tree / "link").symlink_to("elsewhere/inner")
    assert paths(["b.jpg", "link/../b.jpg"]) == ["b.jpg", "link/../b.jpg"]


def test_two_paths_that_lead_to_one_file_are_two_inputs(tree):
    (tree / "link.jpg").symlink_to("b.jpg")
    assert names(["b.jpg", "link.jpg"]) == ["b.jpg", "link.jpg"]
    (tree / "pet").symlink_to("sub")
    assert names(["pet", "sub"]) == ["c.webp", "deep/e.tif"] * 2
    assert names(["."]) == [
        "a.PNG",
        "b.jpg",
        "link.jpg",
        "pet/c.webp",
        "pet/deep/e.tif",
        "sub/c.webp",
        "sub/deep/e.tif",
    ]
    assert names(["*/*.webp"]) == ["pet/c.webp", "sub/c.webp"]
    assert names(["**/*.webp"]) == ["pet/c.webp", "sub/c.webp"]


def test_missing_and_dangling_paths_are_kept_to_fail_on_their_own(tree):
    (tree / "dangling.jpg").symlink_to("nowhere")
    assert names(["gone.jpg", "dangling.jpg", "b.jpg"]) == ["gone.jpg", "dangling.jpg", "b.jpg"]


NOTHING = [
    ("empty", "no images found in empty"),
    ("x*y", "no images match x*y"),
    ("notes[.]txt", "no images match notes[.]txt"),
    ("", "an input has no name: an empty text was given"),
]


@pytest.mark.parametrize(("argument", "message"), NOTHING)
def test_where_nothing_is_found_at_all_that_is_an_error(tree, argument, message):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        names([argument])
    with pytest.raises(InputError, match=r"no images match z\*z \(and 1 more inputs that cannot be taken\)"):
        names(["z*z", argument])


@pytest.mark.parametrize(("argument", "message"), NOTHING)
def test_beside_others_it_costs_itself_alone(tree, argument, message):
    (tree / "empty").mkdir()
    for arguments in (["b.jpg", argument], [argument, "b.jpg"], [argument, "b.jpg", argument]):
        assert (names(arguments), refused(arguments)) == (["b.jpg"], [message])


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "b.jpg/inside.jpg", "x" * 300 + "/y.jpg"])
def test_names_that_no_file_can_have_are_kept_to_fail_on_their_own(tree, name):
    assert paths(["b.jpg", name]) == ["b.jpg", name]


def test_a_list_stands_in_the_place_of_a_dash(tree):
    assert names(["-"], listed=["b.jpg", "sub"]) == ["b.jpg", "sub/c.webp", "sub/deep/e.tif"]
    assert names(["sub/c.webp", "-", "-"], listed=["b.jpg"]) == ["c.webp", "b.jpg"]


def test_without_a_list_a_dash_is_a_name(tree):
    assert paths(["-", "b.jpg"]) == ["-", "b.jpg"]


def test_a_list_mirrors_the_tree_that_holds_all_of_it(tree):
    for name in ("cat/1.jpg", "dog/1.jpg", "dog/more/2.jpg"):
        (tree / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "classes" / name).touch()
    spelled = ["classes/cat/1.jpg", f"{tree}/classes/dog/1.jpg", "./classes/dog/../dog/more/2.jpg"]
    assert names(["-"], listed=spelled) == ["cat/1.jpg", "dog/1.jpg", "dog/more/2.jpg"]
    assert names(["-"], listed=["classes/dog", "classes/cat"]) == ["dog/1.jpg", "dog/more/2.jpg", "cat/1.jpg"]
    assert names(["-"], listed=["classes/dog/1.jpg"]) == ["1.jpg"]
    assert names(["-"], listed=["classes/dog"]) == ["1.jpg", "more/2.jpg"]
    gone = ["classes/dog/gone.jpg", "classes/cat/1.jpg"]
    assert names(["sub/c.webp", "-"], listed=gone) == ["c.webp", "dog/gone.jpg", "cat/1.jpg"]


def test_names_are_relative_to_the_folder_that_is_asked_for(tree):
    root = {"relative_to": tree}
    assert names(["sub/c.webp"], **root) == ["sub/c.webp"]
    assert names(["sub", "*.jpg", "sub/deep/../c.webp"], **root) == ["sub/c.webp", "sub/deep/e.tif", "b.jpg"]
    assert names(["sub/deep"], relative_to=Path("sub")) == ["deep/e.tif"]
    assert names(["-"], listed=["sub/c.webp"], **root) == ["sub/c.webp"]
    (tree / "link").symlink_to(tree / "sub")
    assert names(["link"], **root) == ["link/c.webp", "link/deep/e.tif"]
    assert names(["sub"], relative_to=Path("link")) == ["c.webp", "deep/e.tif"]


def test_what_lies_elsewhere_has_no_name_below_that_folder(tree):
    assert refused(["sub", "b.jpg"], relative_to=Path("sub")) == ["b.jpg: does not lie in relative_to sub"]
    with pytest.raises(InputError, match="does not lie in relative_to sub/deep"):
        names(["b.jpg"], relative_to=Path("sub/deep"))
    for no_folder, what in (("nowhere", "no such folder"), ("b.jpg", "not a folder")):
        with pytest.raises(InputError, match=f"relative_to {no_folder}: {what}"):
            names(["b.jpg"], relative_to=Path(no_folder))


def test_an_entry_of_a_list_is_a_path_and_no_pattern(tree):
    (tree / "x1.jpg").touch()
    entries = ["x1.jpg", "x[1].jpg", "*.webp"]
    assert paths(["-"], listed=entries) == entries


def test_an_empty_or_closed_folder_in_a_list_costs_itself_alone(tree, close):
    for name in ("empty", "lost+found"):
        (tree / name).mkdir()
    close("lost+found")
    for entries in (["empty", "b.jpg", "lost+found"], ["empty", "b.jpg", "lost+found", "empty"]):
        found = find_sources(["-"], IMAGE_SUFFIXES, entries)
        assert [str(source.path) for source in found.sources] == ["b.jpg"]
        assert [str(refusal.problem) for refusal in found.refused] == [
            "no images found in empty",
            "lost+found: permission denied",
        ]


def test_an_empty_list_is_an_error(tree):
    with pytest.raises(InputError, match="no inputs: the list is empty"):
        names(["-"], listed=[])
