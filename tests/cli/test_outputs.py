from pathlib import Path

import pytest

from quadtok.cli import outputs
from quadtok.cli.inputs import Source
from quadtok.cli.outputs import plan_outputs
from quadtok.errors import QuadtokError


def targets(sources, folder=None, file=None, keep_ext=False):
    tasks = plan_outputs(sources, folder=folder, file=file, keep_ext=keep_ext, suffix=".pt")
    return [task.target for task in tasks]


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


def test_two_endings_of_one_name_collide_and_keep_ext_is_proposed(tmp_path):
    given = [source(tmp_path / "cat.jpg"), source(tmp_path / "cat.png")]
    with pytest.raises(QuadtokError, match=r"cat\.jpg and .*cat\.png would both write .*cat\.pt; use --keep-ext"):
        targets(given)
    assert len(targets(given, keep_ext=True)) == 2


def test_two_roots_with_one_name_collide(tmp_path):
    given = [
        source(tmp_path / "a" / "cat.jpg", tmp_path / "a"),
        source(tmp_path / "b" / "cat.jpg", tmp_path / "b"),
    ]
    with pytest.raises(QuadtokError, match=r"a/cat\.jpg and .*b/cat\.jpg would both write .*separate output folders"):
        targets(given, folder=tmp_path / "out")


def test_names_that_differ_in_case_collide_only_on_a_disk_that_ignores_case(tmp_path, monkeypatch):
    given = [source(tmp_path / "Cat.jpg"), source(tmp_path / "cat.jpg")]
    assert len(targets(given)) == 2
    monkeypatch.setattr(outputs, "ignores_case", lambda folder: True)
    with pytest.raises(QuadtokError, match="would both write"):
        targets(given)


def test_ignores_case_asks_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "Mixed"
    folder.mkdir()
    assert not outputs.ignores_case(folder)
    monkeypatch.setattr(outputs.os.path, "samefile", lambda a, b: True)  # such a disk cannot be mounted here
    assert outputs.ignores_case(folder / "not" / "yet" / "there")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    image = tmp_path / "cat.pt"
    image.touch()
    with pytest.raises(QuadtokError, match=r"cat\.pt is an input"):
        targets([source(image)])
    (tmp_path / "link.jpg").symlink_to(image)
    with pytest.raises(QuadtokError, match="is an input"):
        targets([source(tmp_path / "link.jpg")], file=image)


def test_places_that_cannot_be_written_to_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(QuadtokError, match=r"file is not a folder"):
        targets([source(tmp_path / "cat.jpg")], folder=tmp_path / "file" / "below")
    with pytest.raises(QuadtokError, match="is a folder: use --output-dir"):
        targets([source(tmp_path / "cat.jpg")], file=tmp_path)
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)  # root may write everywhere, and tests may run as root
    with pytest.raises(QuadtokError, match="no permission to write"):
        targets([source(tmp_path / "cat.jpg")], folder=tmp_path / "out")
