"""What is there already: pictures of plans are known again, and nobody's file is replaced."""

import json
import os

import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES, files_in
from quadtok import Spec, load_tokens, save_tokens, tokenize
from quadtok.marks import mark_of_file

JPEG = (SAMPLE_IMAGES / "chelsea.jpg").read_bytes()
IS_JPEG = "is a JPEG image, not {}; it is kept: choose another name or folder"


@pytest.fixture
def run(quadtok, photo):
    """Tokenize the one photograph with its overlay, beside it."""

    def run(*arguments):
        return quadtok("tokenize", photo, "--scorer", "blur", "--overlay", *arguments)

    return run


@pytest.fixture
def overlay(photo):
    return photo.with_suffix(".overlay.png")


def picture(path, color="red"):
    Image.new("RGB", (64, 64), color).save(path)
    return path.read_bytes()


DAMAGE = {
    "empty": lambda data: b"",
    "NUL": lambda data: bytes(len(data)),
    "cut at once": lambda data: data[:20],
    "cut": lambda data: data[: len(data) // 2],
    "NUL at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}


class TestOverlay:
    """Every output of a task is checked like the first."""

    @pytest.mark.parametrize("policy", ["resume", "skip", "overwrite", "error"])
    def test_a_users_picture_of_that_name_stays(self, run, photo, overlay, policy):
        before = picture(overlay)
        result = run("--if-exists", policy)
        assert overlay.read_bytes() == before
        if policy == "skip":
            assert (result.code, photo.with_suffix(".pt").exists()) == (0, True)
        else:
            assert (result.code, photo.with_suffix(".pt").exists()) == (1, False)
            assert f"{photo}: {overlay}" in result.err

    @pytest.mark.parametrize("policy", ["resume", "skip", "overwrite", "error"])
    def test_a_users_picture_that_is_an_input_stays_and_is_tokenized(self, quadtok, photos, photo, overlay, policy):
        before = picture(overlay)
        result = quadtok("tokenize", photos, "--scorer", "blur", "--overlay", "--if-exists", policy)
        assert (result.code, overlay.read_bytes()) == (1, before)
        assert f"{photo}: output {overlay} is an input: choose another name or folder" in result.err
        assert "3 written, 0 skipped, 1 failed" in result.err
        assert overlay.with_suffix(".pt").exists()

    def test_other_settings_are_refused_for_each_alone(self, run, photo, overlay):
        assert run().code == 0
        result = run("-n", "64")
        assert (
            f"{photo.with_suffix('.pt')} exists with other settings, or of another image of this name; use --overwrite"
            in result.err
        )
        photo.with_suffix(".pt").unlink()
        result = run("-n", "64")
        assert (
            result.code,
            f"{overlay} exists with other settings, or of another image of this name; use --overwrite" in result.err,
        ) == (1, True)
        assert not photo.with_suffix(".pt").exists()
        assert run("-n", "64", "--overwrite").code == 0
        assert "1 skipped" in run("-n", "64").err

    def test_a_picture_of_visualize_is_not_said_to_have_other_settings(self, quadtok, run, photo, overlay):
        assert quadtok("visualize", photo, "--scorer", "blur").code == 0
        before = overlay.read_bytes()
        result = run()
        sentence = f"{photo}: {overlay} was drawn by quadtok visualize; use --overwrite, or another output folder"
        assert (result.code, sentence in result.err, overlay.read_bytes()) == (1, True, before)
        assert (run("--overwrite").code, overlay.read_bytes() == before) == (0, False)

    def test_nor_is_an_overlay_where_visualize_would_draw(self, quadtok, run, photo, overlay):
        assert run().code == 0
        before = overlay.read_bytes()
        result = quadtok("visualize", photo, "--scorer", "blur")
        sentence = "was drawn by quadtok tokenize; use --overwrite, or another output folder"
        assert (result.code, f"{photo}: {overlay} {sentence}" in result.err, overlay.read_bytes()) == (1, True, before)

    def test_what_is_missing_is_drawn_and_the_rest_is_left(self, run, photo, overlay):
        assert run().code == 0
        drawn, written = overlay.read_bytes(), photo.with_suffix(".pt").stat().st_mtime_ns
        overlay.unlink()
        assert "1 written" in run().err
        assert (overlay.read_bytes(), photo.with_suffix(".pt").stat().st_mtime_ns) == (drawn, written)

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    @pytest.mark.parametrize("policy", ["resume", "overwrite"])
    def test_a_torn_one_is_healed(self, run, overlay, damage, policy):
        run()
        whole = overlay.read_bytes()
        overlay.write_bytes(damage(whole))
        assert (run("--if-exists", policy).code, overlay.read_bytes()) == (0, whole)

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    @pytest.mark.parametrize("command", [["tokenize", "--overlay"], ["visualize"]], ids=" ".join)
    def test_a_torn_one_among_the_photographs_of_a_folder_is_healed(self, quadtok, photos, overlay, command, damage):
        assert quadtok(*command, photos, "--scorer", "blur").code == 0
        whole = overlay.read_bytes()
        overlay.write_bytes(damage(whole))
        result = quadtok(*command, photos, "--scorer", "blur")
        assert (result.code, overlay.read_bytes() == whole, "1 written, 2 skipped, 0 failed" in result.err) == (
            0,
            True,
            True,
        )

    def test_an_empty_photograph_does_not_give_way_to_another_of_its_name(self, quadtok, photos, photo):
        photo.with_suffix(".png").touch()
        result = quadtok("tokenize", photos, "--scorer", "blur")
        assert (result.code, result.err.count("would both write")) == (1, 2)

    def test_a_dry_run_shows_every_output_and_every_refusal(self, quadtok, photos, photo, overlay):
        picture(overlay)
        result = quadtok("tokenize", photos, "--overlay", "--dry-run")
        assert (result.code, "is an input: choose another" in result.err) == (1, True)
        rocket = photos / "rocket.png"
        shown = f"{rocket} -> {rocket.with_suffix('.pt')}, {rocket.with_suffix('.overlay.png')}"
        assert shown in result.out.splitlines()
        result = quadtok("tokenize", photos, "--overlay", "--dry-run", "--json")
        planned = [json.loads(line) for line in result.out.splitlines()]
        assert {record["status"] for record in planned} == {"planned", "failed"}
        assert planned[-1]["overlay"] == str(rocket.with_suffix(".overlay.png"))
        assert planned[-1]["overlay_exists"] is False


class TestWhatElseIsRead:
    """Maps, features, weights and photographs are inputs, too, and no `--overwrite` replaces them."""

    def test_maps_are_not_replaced_by_the_token_files_of_their_photographs(self, quadtok, photo, tmp_path):
        (tmp_path / "maps").mkdir()
        torch.save(torch.rand(16, 16), tmp_path / "maps" / "coffee.pt")
        before = (tmp_path / "maps" / "coffee.pt").read_bytes()
        given = ["--scorer", "precomputed", "--maps", tmp_path / "maps", "-o", tmp_path / "maps", "--overwrite"]
        result = quadtok("tokenize", photo, *given)
        assert (result.code, (tmp_path / "maps" / "coffee.pt").read_bytes()) == (1, before)
        assert "coffee.pt is an input: choose another name or folder" in result.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["tokenize", "coffee.jpg", "--scorer", "precomputed", "--maps", "OUT"],
            ["tokenize", "coffee.jpg", "--scorer", "point", "--points", "OUT"],
            ["tokenize", "coffee.jpg", "--weights", "OUT"],
            ["reverse", "coffee.pt", "--to", "features", "--features", "OUT"],
        ],
        ids=lambda arguments: arguments[-2],
    )
    def test_a_file_that_is_read_is_not_replaced(self, quadtok, photo, tmp_path, monkeypatch, arguments):
        monkeypatch.chdir(photo.parent)
        quadtok("tokenize", photo, "--scorer", "blur")
        torch.save(torch.rand(100, 3), tmp_path / "x.pth")
        before = (tmp_path / "x.pth").read_bytes()
        given = [tmp_path / "x.pth" if word == "OUT" else word for word in arguments]
        result = quadtok(*given, "--output", tmp_path / "x.pth", "--overwrite")
        assert (result.code, (tmp_path / "x.pth").read_bytes()) == (2, before)
        assert "x.pth is an input: choose another name or folder" in result.err


class TestPicturesOfPlans:
    """Folders and globs pass over them, and the same command again finds itself done."""

    @pytest.mark.parametrize(
        "command",
        [
            ["tokenize", "--overlay"],
            ["visualize"],
            ["visualize", "--style", "levels"],
            ["visualize", "--sheet"],
            ["visualize", "--compare", "blur", "--tokens", "40,100"],
        ],
        ids=" ".join,
    )
    @pytest.mark.parametrize("given", ["folder", "glob", "names"])
    def test_the_same_command_again_finds_itself_done(self, quadtok, photos, command, given, monkeypatch):
        monkeypatch.chdir(photos)
        (photos / "pets" / "cat.jpg").unlink()
        scorer = [] if "--compare" in command else ["--scorer", "blur"]

        def once():
            named = sorted(str(path) for path in photos.iterdir() if path.suffix in (".jpg", ".png"))
            inputs = {"folder": [photos], "glob": ["*.[jp][pn]g"], "names": named}[given]
            return quadtok(*command, *inputs, *scorer)

        assert once().code == 0
        files = sorted(os.listdir(photos))
        for _ in range(2):
            result = once()
            assert (result.code, sorted(os.listdir(photos))) == (0, files)
            assert "0 written, 2 skipped, 0 failed" in result.err
            assert result.err.endswith("; 2 pictures made by quadtok passed over\n")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".tif"])
    def test_they_are_passed_over_in_every_format(self, quadtok, photo, tmp_path, suffix):
        folder = tmp_path / "drawn"
        assert quadtok("visualize", photo, "--scorer", "blur", "--output", folder / f"x{suffix}").code == 0
        (folder / "photo.jpg").write_bytes(photo.read_bytes())
        result = quadtok("tokenize", folder, "--scorer", "blur")
        assert "1 written, 0 skipped, 0 failed" in result.err
        assert result.err.endswith("; 1 picture made by quadtok passed over\n")
        assert sorted(os.listdir(folder)) == ["photo.jpg", "photo.pt", f"x{suffix}"]

    @pytest.mark.parametrize("suffix", [".gif", ".webp"])
    def test_animations_are_passed_over(self, quadtok, photos, photo, suffix):
        assert quadtok("visualize", photo, "--scorer", "blur", "--animate", photos / f"x{suffix}").code == 0
        assert quadtok("tokenize", photos, "--scorer", "blur").err.endswith("passed over\n")
        assert not (photos / "x.pt").exists()

    def test_one_that_is_named_is_taken(self, run, quadtok, overlay):
        run()
        assert quadtok("tokenize", overlay, "--scorer", "blur").code == 0
        assert load_tokens(overlay.with_suffix(".pt")).metadata["source"]["name"] == overlay.name

    def test_restored_images_are_pictures_as_others_are(self, quadtok, photo, tmp_path):
        quadtok("tokenize", photo, "-o", tmp_path / "t", "--scorer", "blur")
        quadtok("reverse", tmp_path / "t", "-o", tmp_path / "r")
        result = quadtok("tokenize", tmp_path / "r", "--scorer", "blur")
        assert "1 written" in result.err and "passed over" not in result.err

    def test_they_are_counted_in_json(self, run, quadtok, photos):
        run()
        out = quadtok("tokenize", photos, "--scorer", "blur", "--json").out
        *files, summary = [json.loads(line) for line in out.splitlines()]
        assert summary["passed_over"] == 1 and summary["left"] == 0
        assert [record["status"] for record in files].count("passed over") == 1

    def test_a_row_of_maps_belongs_to_a_photograph(self, run, quadtok, photos, tmp_path):
        run()
        torch.save(torch.rand(3, 16, 16), tmp_path / "maps.pt")
        given = ["--scorer", "precomputed", "--maps", tmp_path / "maps.pt", "-o", tmp_path / "out"]
        assert "3 written, 0 skipped, 0 failed" in quadtok("tokenize", photos, *given).err

    def test_a_folder_of_nothing_else_is_done_at_once(self, quadtok, photo, tmp_path):
        quadtok("visualize", photo, "--scorer", "blur", "-o", tmp_path / "drawn")
        result = quadtok("tokenize", tmp_path / "drawn", "--scorer", "blur")
        assert (result.code, "0 written, 0 skipped, 0 failed" in result.err) == (0, True)


FOREIGN = {
    "text": (b"precious", "is a text file, not {}; use --overwrite"),
    "photograph": (JPEG, IS_JPEG),
    "cut photograph": (JPEG[:5000], IS_JPEG),
    "archive": (b"PK\3\4 no token file" + bytes(range(256)), "is a zip archive, not {}; use --overwrite"),
    "program": (b"\x7fELF\2\1\1" + bytes(range(200)), "is a file of another kind, not {}; use --overwrite"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("command", ["tokenize", "visualize", "reverse"])
def test_a_foreign_file_is_told_what_it_is_and_is_kept(quadtok, photo, tmp_path, command, kind):
    content, sentence = FOREIGN[kind]
    quadtok("tokenize", photo, "-o", tmp_path / "t", "--scorer", "blur")
    source = tmp_path / "t" / "coffee.pt" if command == "reverse" else photo
    target = tmp_path / ("x.pt" if command == "tokenize" else "x.png")
    target.write_bytes(content)
    given = [command, source, "--output", target, *(["--scorer", "blur"] if command != "reverse" else [])]
    wanted = "a quadtok token file" if command == "tokenize" else "made by quadtok"
    result = quadtok(*given)
    assert (result.code, target.read_bytes()) == (1, content)
    assert result.lines[0] == f"quadtok: error: {source}: {target} {sentence.format(wanted)}"
    result = quadtok(*given, "--overwrite")
    if sentence == IS_JPEG:
        assert (result.code, target.read_bytes()) == (1, content)
        assert "it is kept: choose another name or folder" in result.err
    else:
        assert (result.code, target.read_bytes() == content) == (0, False)


def test_a_token_file_of_somebody_else_has_other_settings(quadtok, photo):
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    save_tokens(photo.with_suffix(".pt"), tokenize(images, Spec(64, 64, 16, 32, 7), "blur"))
    result = quadtok("tokenize", photo, "--scorer", "blur")
    assert (
        result.code,
        "exists with other settings, or of another image of this name; use --overwrite" in result.err,
    ) == (1, True)


def test_a_token_file_of_a_newer_quadtok_is_not_taken_for_a_torn_one(quadtok, photo):
    path = photo.with_suffix(".pt")
    quadtok("tokenize", photo, "--scorer", "blur")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "version": 2}, path)
    newer = path.read_bytes()
    result = quadtok("tokenize", photo, "--scorer", "blur")
    assert (result.code, path.read_bytes()) == (1, newer)
    assert "has format version 2, this quadtok reads 1; upgrade it, or use --overwrite" in result.err


@pytest.mark.parametrize("share", [0, 0.0005, 0.002, 0.3, 0.99])
@pytest.mark.parametrize("rest", ["gone", "NUL"])
def test_a_torn_token_file_is_healed_wherever_it_was_cut(quadtok, photo, share, rest):
    path = photo.with_suffix(".pt")
    quadtok("tokenize", photo, "--scorer", "blur")
    whole = path.read_bytes()
    kept = whole[: int(len(whole) * share)]
    path.write_bytes(kept + bytes(len(whole) - len(kept)) * (rest == "NUL"))
    result = quadtok("tokenize", photo, "--scorer", "blur")
    assert (result.code, path.read_bytes()) == (0, whole)


@pytest.mark.parametrize(
    ("target", "share", "flags"),
    [
        *((target, share, []) for target in ("x.png", "x.webp", "x.html") for share in (0, 0.01, 0.5)),
        # Made with other settings: what is left of it must still say whose it was.
        *((target, share, ["-n", "64"]) for target in ("x.png", "x.html") for share in (0, 0.5)),
    ],
)
def test_a_torn_picture_is_healed(quadtok, photo, tmp_path, target, share, flags):
    path = tmp_path / target
    common = ["visualize", photo, "--scorer", "blur", "--html" if path.suffix == ".html" else "--output", path]
    assert quadtok(*common).code == 0
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert quadtok(*common, *flags).code == 0
    assert (path.read_bytes() == whole) == (not flags)


COMMANDS = {
    "tokenize": ["tokenize", "IMAGE", "--output"],
    "visualize": ["visualize", "IMAGE", "--output"],
    "animate": ["visualize", "IMAGE", "--animate"],
    "html": ["visualize", "IMAGE", "--html"],
    "reverse": ["reverse", "TOKENS", "--output"],
    "csv": ["bench", "--csv"],
    "plot": ["bench", "-b", "1,2", "--plot"],
}
SUFFIX = {"tokenize": ".pt", "animate": ".gif", "html": ".html", "csv": ".csv", "plot": ".svg"}


class TestNoRegularFiles:
    """What stands in an output's place and is no regular file is refused at once, and stays."""

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a pipe"])
    @pytest.mark.parametrize("command", COMMANDS)
    def test_it_is_a_usage_error(self, quadtok, photo, tmp_path, command, kind, overwrite):
        (tmp_path / "x.pt").touch()
        path = tmp_path / f"out{SUFFIX.get(command, '.png')}"
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/full")
        else:
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        before = os.lstat(path).st_ino
        inputs = {"IMAGE": photo, "TOKENS": tmp_path / "x.pt"}
        given = [inputs.get(word, word) for word in COMMANDS[command]]
        more = ["--overwrite"] if overwrite and "bench" not in given else []
        result = quadtok(*given, path, *more)
        assert (result.code, len(result.lines)) == (2, 1)
        assert "not a regular file" in result.err or "is a folder" in result.err
        assert os.lstat(path).st_ino == before

    def test_an_overlay_that_is_a_pipe_fails_alone(self, run, overlay):
        os.mkfifo(overlay)
        result = run("--overwrite")
        assert (result.code, f"{overlay}: is a pipe, not a regular file" in result.err) == (1, True)

    def test_a_link_is_written_through(self, quadtok, photo, tmp_path):
        link, real = tmp_path / "link.pt", tmp_path / "real.pt"
        link.symlink_to(real)
        for expected in ("1 written", "1 skipped"):
            assert expected in quadtok("tokenize", photo, "--scorer", "blur", "--output", link).err
        assert link.is_symlink() and load_tokens(real).plan.spec.num_tokens == 100

    def test_a_link_to_the_input_is_the_input(self, quadtok, photo, tmp_path):
        link = tmp_path / "link.pt"
        link.symlink_to(photo)
        result = quadtok("tokenize", photo, "--scorer", "blur", "--output", link, "--overwrite")
        assert (result.code, "is an input" in result.err) == (2, True)

    def test_a_library_call_refuses_it_too(self, tmp_path):
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        tokens = tokenize(images, Spec(64, 64, 16, 32, 7), "blur")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="is a pipe, not a regular file"):
            save_tokens(tmp_path / "pipe", tokens)
        (tmp_path / "photo").write_bytes(JPEG)
        with pytest.raises(ValueError, match="is a JPEG image, not a quadtok token file"):
            save_tokens(tmp_path / "photo", tokens)
        assert (tmp_path / "photo").read_bytes() == JPEG


def test_what_a_killed_run_left_is_removed_by_the_next(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "--scorer", "blur", "-o", tmp_path / "out")
    left = tmp_path / "out" / ".quadtok-00000000-0123456789ab.tmp"
    left.touch()
    os.utime(left, (1, 1))
    quadtok("tokenize", photo, "--scorer", "blur", "-o", tmp_path / "out")
    assert list(files_in(tmp_path / "out")) == ["coffee.pt"]


def test_what_a_killed_run_left_behind_a_link_is_removed_too(quadtok, photo, tmp_path):
    (tmp_path / "other disk").mkdir()
    (tmp_path / "x.pt").symlink_to(tmp_path / "other disk" / "tokens")
    left = tmp_path / "other disk" / ".quadtok-00000000-0123456789ab.tmp"
    left.touch()
    os.utime(left, (1, 1))
    assert quadtok("tokenize", photo, "--scorer", "blur", "--output", tmp_path / "x.pt").code == 0
    assert os.listdir(tmp_path / "other disk") == ["tokens"]


def test_restored_images_can_be_made_again(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "--scorer", "blur", "-n", "100%", "-o", tmp_path)
    common = ["reverse", tmp_path / "coffee.pt"]
    assert "1 written" in quadtok(*common).err
    assert "1 skipped" in quadtok(*common).err
    assert mark_of_file(tmp_path / "coffee.reversed.png").kind == "restored image"
    quadtok("tokenize", photo, "--scorer", "blur", "-n", "16", "-o", tmp_path, "--overwrite")
    assert "exists with other settings, or of another image of this name; use --overwrite" in quadtok(*common).err
    assert "1 written" in quadtok(*common, "--overwrite").err


class TestAnotherPhotograph:
    """Beside tokens that record another one: done, and said."""

    @pytest.fixture
    def tokens(self, quadtok, photo, tmp_path):
        quadtok("tokenize", photo, "--scorer", "blur", "-o", tmp_path)
        return tmp_path / "coffee.pt"

    @pytest.mark.parametrize("command", [["visualize", "--image"], ["reverse", "--against"]], ids=" ".join)
    def test_it_is_warned_of(self, quadtok, photos, tokens, command):
        other = photos / "rocket.png"
        result = quadtok(command[0], tokens, command[1], other)
        assert (result.code, "1 written" in result.err) == (0, True)
        warning = f"{other}: is another file than the tokens were made from (coffee.jpg, sha256 "
        assert result.lines[0].startswith(f"quadtok: warning: {warning}")
        record = json.loads(quadtok(command[0], tokens, command[1], other, "--json", "--overwrite").out.splitlines()[0])
        assert record["warning"].startswith(warning)

    @pytest.mark.parametrize("command", [["visualize", "--image"], ["reverse", "--against"]], ids=" ".join)
    def test_the_right_one_is_known_under_any_name(self, quadtok, photo, tokens, tmp_path, command):
        renamed = photo.rename(tmp_path / "other name.jpeg")
        assert "warning" not in quadtok(command[0], tokens, command[1], renamed).err

    def test_tokens_that_record_none_go_with_any(self, quadtok, photo, tmp_path):
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        for source in (None, "coffee.jpg", {"sha256": 5}):
            tokens = tokenize(images, Spec(64, 64, 16, 32, 7), "blur")
            save_tokens(tmp_path / "x.pt", tokens, metadata={"source": source})
            assert "warning" not in quadtok("visualize", tmp_path / "x.pt", "--image", photo, "--overwrite").err
