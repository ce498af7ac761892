"""Documentation cannot go stale: generated pages are up to date, links lead somewhere, examples run."""

import importlib.util
import re
import shlex
import shutil
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image

import quadtok
from quadtok import normalize
from quadtok.cli import app, commands, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
PAGES += [ROOT / "examples" / "README.md", *sorted(ROOT.glob("training/*/README.md"))]


def command_called(name):
    """As typer made it; of `plans merge`, the inner one."""
    found = typer.main.get_command(app)
    for part in name.split():
        found = found.commands[part]
    return found


COMMANDS = {name: command_called(name) for name in commands()}


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_command_line_page_is_what_the_app_says():
    page = script("make_command_line").page()
    assert page == (DOCS / "command-line.md").read_text(encoding="utf-8"), "run python docs/make_command_line.py"
    for name in commands():
        assert f"## quadtok {name}\n" in page


def options_of(command):
    return {option for parameter in COMMANDS[command].params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_lists_the_options_that_a_command_takes_and_no_others(command):
    section = (
        (DOCS / "command-line.md").read_text(encoding="utf-8").split(f"## quadtok {command}\n")[1].split("\n## ")[0]
    )
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    listed = {option for cell in cells for option in re.findall(r"`(--?[\w-]+)`", cell)}
    assert listed == {option for option in options_of(command) if option.startswith("-")} - {"--help"}


def commands_on(page):
    """(name, its words) of each quadtok command in code on the page."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"\bquadtok ({'|'.join(COMMANDS)})\b([^`\n|>]*)", text):
        yield found[1], shlex.split(found[2], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent in (ROOT, DOCS) else page.parent.name)
def test_commands_on_a_page_use_options_that_exist(page):
    for command, words in commands_on(page):
        used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z0-9][\w-]*(=.*)?", word)}
        assert used <= options_of(command) | {"--help"}, f"quadtok {command} {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent in (ROOT, DOCS) else page.parent.name)
def test_commands_on_a_page_name_files_that_a_clone_has(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"\b(?:python3?|bash) ((?!-)[\w./-]+)|\b(sample_images/[\w.-]+)", text)
    for name in filter(None, chain.from_iterable(names)):
        found = [folder / name for folder in (ROOT, page.parent) if (folder / name).exists()]
        assert found and found[0].resolve().is_relative_to(ROOT), name


def test_every_option_has_a_help_text():
    for line in script("make_command_line").page().splitlines():
        if line.startswith("| `"):
            assert line.split(" | ")[1].strip(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent in (ROOT, DOCS) else page.parent.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_picture_of_the_quadtree_was_made_by_a_command_on_the_page():
    commands = [" ".join(command) for command in script("make_pictures").picture_commands()]
    shown = {target for page in PAGES for target in re.findall(r"pictures/([\w.-]+)", page.read_text(encoding="utf-8"))}
    assert {path.name for path in (DOCS / "pictures").iterdir()} == shown
    for name in shown - {"psnr.png"}:  # that one is made by docs/plot_psnr.py
        assert sum(f"docs/pictures/{name}" in command for command in commands) == 1, name


def test_picture_commands_work(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in script("make_pictures").picture_commands():
        *inputs, output = command
        name = Path(output).name
        assert run([*inputs, output.replace("docs/pictures", str(tmp_path)), "--quiet"]) == 0
        with Image.open(tmp_path / name) as made, Image.open(DOCS / "pictures" / name) as committed:
            assert made.size == committed.size


def test_the_readme_has_two_commands_of_one_line_each():
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    install, test = block.splitlines()
    assert install.startswith("python3 -m venv ") and "quadtok tokenize sample_images" in install
    assert test.startswith("python3 -m venv ") and "pytest" in test


def test_the_readmes_library_example_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    names = {"images": torch.rand(2, 3, 256, 256), "model": torch.nn.Identity()}
    exec(example, names)  # our own README
    assert names["patches"].shape == (2, 100, 3, 16, 16)
    assert names["tokens"].shape == (2, 101, 768)
    assert names["volume"].shape == (2, 768, 16, 16)


def test_the_readmes_pretrained_vit_runs():
    pytest.importorskip("timm", reason="timm is not installed")
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    names = {"Spec": quadtok.Spec, "photographs": torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8)}
    exec(example.replace("pretrained=True", "pretrained=False"), names)  # our own README, without a download
    assert names["logits"].shape == (2, 1000)


def test_the_library_pages_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {"images": torch.randint(256, (2, 3, 256, 256), dtype=torch.uint8)}
    for block in blocks:
        exec(block, names)  # our own page
    assert names["tokens"].patches.shape == (2, 100, 3, 16, 16)
    assert torch.equal(names["tokenizer"](names["images"]), names["trained"](names["images"]))
    assert {path.name for path in tmp_path.iterdir()} == {"plan.pt", "blur.png", "overlay.png", "mini.png"}


def test_the_block_on_thresholds_runs():
    page = DOCS / "choosing-the-number-of-tokens.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {"spec": quadtok.Spec(256, 256, 16, 64, 100), "scorer": quadtok.get_scorer("blur")}
    names["images"] = torch.randint(256, (3, 3, 256, 256), dtype=torch.uint8)
    exec(block, names)  # our own page
    assert names["found"].mean == names["tokens"].plan.lengths.double().mean()


def test_the_models_pages_blocks_run_one_after_the_other():
    pytest.importorskip("timm", minversion="1.0.29", reason="timm is not installed, or too old for NaFlexVit")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "models.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {"images": torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8)}
    exec(blocks[0], names)  # our own page
    vit, images, logits = names["vit"], names["images"], names["logits"]
    whole = vit(normalize(images, vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"]))
    torch.testing.assert_close(names["all_patches"], whole, rtol=0, atol=1e-5)
    assert [tuple(map.shape) for map in names["maps"]] == [(2, 192, 14, 14)] * 2
    exec(blocks[1], names)
    torch.testing.assert_close(names["by_hand"], logits, rtol=0, atol=1e-5)
    for block in blocks[2:]:
        exec(block, names)
    assert names["logits"].shape == (2, 1000)


def test_the_jobs_pages_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A GPU's convolutions round differently in another batch, and the bytes of two runs are compared here.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for folder, sample in (("photos", "coffee"), ("more", "rocket")):
        (tmp_path / folder).mkdir()
        shutil.copy(ROOT / "sample_images" / f"{sample}.jpg", tmp_path / folder)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "jobs.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)  # our own page
    assert names["summary"].written == 1
    assert {path.name for path in (tmp_path / "tokens").iterdir()} >= {"coffee.pt", "coffee.overlay.png", "rocket.pt"}
    assert names["sink"].files == {"coffee.jpg": (tmp_path / "tokens" / "coffee.pt").read_bytes()}


@pytest.mark.parametrize("page", ["plans", "shards", "training"])
def test_what_the_page_stores_its_blocks_read(page, tmp_path, monkeypatch):
    if page == "shards":
        pytest.importorskip("webdataset", reason="the page opens a shard with it; the extra test-all has it")
    monkeypatch.chdir(tmp_path)
    for name, sample in (("cats/chelsea", "chelsea"), ("rocket", "rocket")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "sample_images" / f"{sample}.jpg", tmp_path / "photos" / f"{name}.jpg")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    if page == "plans":  # the second command of the page: with minima
        assert run(shlex.split(commands_of(text)[1], comments=True)[1:]) == 0
    else:
        assert run(shlex.split(commands_of(text)[0], comments=True)[1:]) == 0
    if page == "shards":
        pytest.importorskip("pyarrow", reason="the page opens a table with it; the extra parquet has it")
        assert run(["tokenize", "photos", "-o", "tables", "--format", "parquet"]) == 0
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if not re.search(r"^from (nvidia|megatron)\b", block, re.MULTILINE):  # of which only wheels for Linux exist
            exec(block, names)  # our own page
    assert sum(len(tokens.plan) for tokens in names["loader"]) == 2


def commands_of(text):
    """The lines of a page's first block of commands."""
    return re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()


def test_the_changelog_has_this_version_or_what_is_to_come():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {quadtok.__version__}" in text
