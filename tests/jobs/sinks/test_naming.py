import os
from pathlib import Path

import pytest
from PIL import Image

from quadtok.errors import QuadtokError
from quadtok.jobs.sinks.naming import Naming, ignores_case, plan_outputs
from quadtok.jobs.sources import Source
from quadtok.jobs.words import Words
from quadtok.pictures.encode import encode_picture

FLAGS = Words(output="--output", output_dir="--output-dir", keep_ext="--keep-ext", relative_to="--relative-to")


def planned(sources, overlay=False, words=FLAGS, **naming):
    suffixes = (".pt", ".overlay.png") if overlay else (".pt",)
    return plan_outputs(sources, Naming(suffixes, words=words, **naming))[0]


def targets(sources, **naming):
    each = planned(sources, **naming)
    assert [outputs.refused for outputs in each] == [None] * len(each)
    return [outputs.result for outputs in each]


def refusals(sources, **naming):
    return [outputs.refused and str(outputs.refused) for outputs in planned(sources, **naming)]


def source(path: Path, root: Path | None = None) -> Source:
    return Source(path, path.relative_to(root) if root else Path(path.name))


def test_outputs_stand_beside_inputs_by_default(tmp_path):
    assert targets([source(tmp_path / "a" / "cat.jpg")]) == [tmp_path / "a" / "cat.pt"]


def test_an_output_folder_mirrors_the_tree(tmp_path):
    given = [
        source(tmp_path / "in/x/cat.jpg", tmp_path / "in"),
        source(tmp_path / "in/dog.png", tmp_path / "in"),
    ]
    assert targets(given, folder=tmp_path / "out") == [tmp_path / "out/x/cat.pt", tmp_path / "out/dog.pt"]


def test_keep_ext_keeps_it(tmp_path):
    assert targets([source(tmp_path / "cat.jpg")], keep_ext=True) == [tmp_path / "cat.jpg.pt"]


def test_only_the_last_ending_of_a_name_is_replaced(tmp_path):
    assert targets([source(tmp_path / "v1.2.final.jpg")]) == [tmp_path / "v1.2.final.pt"]


def test_one_output_file_for_one_input(tmp_path):
    assert targets([source(tmp_path / "cat.jpg")], file=tmp_path / "x.bin") == [tmp_path / "x.bin"]
    with pytest.raises(QuadtokError, match="--output names one file and there are 2 inputs"):
        targets([source(tmp_path / "a.jpg"), source(tmp_path / "b.jpg")], file=tmp_path / "x.pt")


def test_what_named_the_output_is_named(tmp_path):
    given = [source(tmp_path / "a.jpg"), source(tmp_path / "b.jpg")]
    words = Words(output="--html", output_dir="")
    with pytest.raises(QuadtokError, match="^--html names one file and there are 2 inputs: give one of them$"):
        targets(given, file=tmp_path / "x.html", words=words)
    with pytest.raises(QuadtokError, match="^output names one file and there are 2 inputs: use output_dir$"):
        targets(given, file=tmp_path / "x.html", words=Words())


def test_what_stands_beside_a_result_goes_by_its_name(tmp_path):
    def files(**naming):
        (outputs,) = planned([source(tmp_path / "v1.cat.jpg")], overlay=True, **naming)
        return [path.name for path in outputs.files.values()]

    assert files() == ["v1.cat.pt", "v1.cat.overlay.png"]
    assert files(keep_ext=True) == ["v1.cat.jpg.pt", "v1.cat.jpg.overlay.png"]
    assert files(file=tmp_path / "x") == ["x", "x.overlay.png"]


def test_two_endings_of_one_name_are_both_refused_alone_and_keep_ext_is_proposed(tmp_path):
    jpg, png, dog = (source(tmp_path / name) for name in ("cat.jpg", "cat.png", "dog.jpg"))
    would = f"would both write {tmp_path / 'cat.pt'}; use --keep-ext"
    assert refusals([jpg, png, dog]) == [
        f"{jpg.path} and {png.path} {would}",
        f"{png.path} and {jpg.path} {would}",
        None,
    ]
    assert len(targets([jpg, png, dog], keep_ext=True)) == 3


@pytest.mark.parametrize("second", ["cat.jpg", "cat.png"])
def test_two_roots_with_one_name_are_refused_and_the_folder_above_both_is_proposed(tmp_path, second):
    given = [
        source(tmp_path / "a" / "cat.jpg", tmp_path / "a"),
        source(tmp_path / "b" / second, tmp_path / "b"),
    ]
    way_out = f"use --relative-to {tmp_path} (or another folder above both)"
    for refusal in refusals(given, folder=tmp_path / "out"):
        assert refusal.endswith(f"would both write {tmp_path / 'out/cat.pt'}; {way_out}")


def test_a_photograph_and_its_token_file_are_not_drawn_as_one(tmp_path):
    given = [source(tmp_path / "cat.jpg"), source(tmp_path / "cat.pt")]
    for outputs in plan_outputs(given, Naming((".overlay.png",), words=FLAGS))[0]:
        assert str(outputs.refused).endswith("; give the photograph or its token file alone, or use --keep-ext")


def test_an_output_may_not_be_the_overlay_of_another(tmp_path):
    given = [source(tmp_path / "cat.jpg"), source(tmp_path / "cat.overlay.x.jpg")]
    assert refusals(given, overlay=True) == [None, None]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dog.pt").symlink_to(tmp_path / "out" / "cat.overlay.png")
    given = [source(tmp_path / "cat.jpg"), source(tmp_path / "dog.jpg")]
    refused = refusals(given, folder=tmp_path / "out", overlay=True)
    assert all("would both write" in refusal for refusal in refused)


def test_outputs_that_links_lead_to_one_file_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").symlink_to(tmp_path / "real.pt")
    refused = refusals([source(tmp_path / "a.jpg"), source(tmp_path / "b.jpg")])
    assert all("would both write" in refusal for refusal in refused)


def blind_to_case(monkeypatch):
    """A disk on which names that differ only in case are one file; such a one cannot be mounted here."""
    monkeypatch.setattr(os.path, "samefile", lambda a, b: str(a).casefold() == str(b).casefold())


def test_names_that_differ_in_case_collide_only_on_a_disk_that_ignores_case(tmp_path, monkeypatch):
    given = [source(tmp_path / "Cat.jpg"), source(tmp_path / "cat.jpg")]
    assert len(targets(given)) == 2
    blind_to_case(monkeypatch)
    assert all("would both write" in refusal for refusal in refusals(given))


def test_ignores_case_asks_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "Mixed"
    folder.mkdir()
    assert not ignores_case(folder)
    blind_to_case(monkeypatch)
    assert ignores_case(folder / "not" / "yet" / "there")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    image = tmp_path / "cat.pt"
    image.touch()
    (refusal,) = refusals([source(image)])
    assert refusal == f"{image}: output {image} is an input: choose another name or folder"
    (tmp_path / "link.jpg").symlink_to(image)
    with pytest.raises(QuadtokError, match="is an input"):
        targets([source(tmp_path / "link.jpg")], file=image)


def test_an_overlay_that_is_an_input_costs_its_own_photograph_alone(tmp_path):
    given = [source(tmp_path / name) for name in ("cat.jpg", "cat.overlay.png", "dog.jpg")]
    refused = refusals(given, overlay=True)
    assert refused[0] == (
        f"{tmp_path / 'cat.jpg'}: output {tmp_path / 'cat.overlay.png'} is an input: choose another name or folder"
    )
    assert refused[1:] == [None, None]
    assert refusals(given) == [None] * 3


class TestPicturesMadeByQuadtok:
    """Whether an input is one is asked only where it stands in another's way, or where the caller wants to know."""

    @pytest.fixture
    def cat(self, tmp_path):
        drawn = encode_picture(Image.new("RGB", (8, 8)))
        (tmp_path / "cat.overlay.png").write_bytes(drawn)
        (tmp_path / "lonely.png").write_bytes(drawn)
        Image.new("RGB", (8, 8)).save(tmp_path / "cat.jpg")
        return tmp_path

    def plan(self, folder, *names, found=True, **options):
        given = [Source(folder / name, Path(name), found) for name in names]
        each, passed_over = plan_outputs(given, Naming((".pt", ".overlay.png")), **options)
        assert not any(outputs.refused for outputs in each)
        return [outputs.source.path.name for outputs in each], [source.path.name for source in passed_over]

    def test_one_in_the_way_is_passed_over(self, cat):
        assert self.plan(cat, "cat.jpg", "cat.overlay.png") == (["cat.jpg"], ["cat.overlay.png"])

    def test_one_in_nobodys_way_is_left_for_later(self, cat):
        assert self.plan(cat, "cat.jpg", "lonely.png") == (["cat.jpg", "lonely.png"], [])
        assert self.plan(cat, "cat.jpg", "lonely.png", look_at_all=True) == (["cat.jpg"], ["lonely.png"])

    def test_one_that_was_named_gives_way_only_to_its_own_maker(self, cat):
        assert self.plan(cat, "cat.jpg", "cat.overlay.png", found=False) == (["cat.jpg"], ["cat.overlay.png"])
        assert self.plan(cat, "lonely.png", found=False, look_at_all=True) == (["lonely.png"], [])

    def test_one_with_the_name_of_a_photograph_gives_way_to_it(self, cat):
        (cat / "lonely.png").rename(cat / "cat.png")
        assert self.plan(cat, "cat.jpg", "cat.png") == (["cat.jpg"], ["cat.png"])


def test_places_that_cannot_be_written_to_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(QuadtokError, match=r"file is not a folder"):
        targets([source(tmp_path / "cat.jpg")], folder=tmp_path / "file" / "below")
    with pytest.raises(QuadtokError, match="is a folder: use --output-dir"):
        targets([source(tmp_path / "cat.jpg")], file=tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere, and tests may run as root
    with pytest.raises(QuadtokError, match="no permission to write"):
        targets([source(tmp_path / "cat.jpg")], folder=tmp_path / "out")
