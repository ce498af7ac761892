"""`quadtok tokenize --part I/N`: several processes, each input once."""

import pytest

from quadtok import load_tokens


@pytest.mark.parametrize("flags", [[], ["--scorer", "random", "--seed", "3"]], ids=["blur", "random"])
def test_parts_together_are_the_whole(quadtok, photos, tmp_path, flags, monkeypatch):
    flags = flags or ["--scorer", "blur"]
    assert quadtok("tokenize", photos, "-o", tmp_path / "whole", *flags).code == 0
    written = 0
    for number in (1, 2):
        monkeypatch.setenv("QUADTOK_PART", f"{number}/2")
        result = quadtok("tokenize", photos, "-o", tmp_path / "parts", *flags)
        assert result.code == 0
        written += int(result.err.split("done: ")[1].split(" written")[0])
    assert written == 3
    for path in (tmp_path / "whole").rglob("*.pt"):
        same = tmp_path / "parts" / path.relative_to(tmp_path / "whole")
        assert load_tokens(same) == load_tokens(path)
        assert same.read_bytes() == path.read_bytes()


def test_two_inputs_of_one_name_are_refused_by_one_part(quadtok, photos, tmp_path):
    (photos / "coffee.png").write_bytes((photos / "rocket.png").read_bytes())
    said = ""
    for number in (1, 2, 3):
        result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "--part", f"{number}/3")
        said += result.err
    assert said.count("coffee.pt") == 2
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.pt")) == ["cat.pt", "rocket.pt"]


def test_a_part_that_there_is_not_is_a_usage_error(quadtok, photo, tmp_path):
    result = quadtok("tokenize", photo, "-o", tmp_path / "out", "--part", "3/2")
    assert (result.code, "--part 3/2: there is no such part" in result.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_an_array_of_slurm_is_understood(quadtok, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for number in ("0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", number)
        assert quadtok("tokenize", photos, "-o", tmp_path, "--scorer", "blur", "--part", "auto").code == 0
    assert len(list(tmp_path.rglob("*.pt"))) == 3
