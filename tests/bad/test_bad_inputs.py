"""All 62 cases of hostile input against table.py: what can be is tried in one run of one process."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad.rows import FAILED, WRITTEN, Alone, Elsewhere, Image, Library, Processes, TokenFile
from bad.runs import Bench
from bad.table import CASES
from bad.tokens import TRAP, Evil
from helpers import files_in
from quadtok import load_tokens
from quadtok.errors import QuadtokError

ROOT = Path(__file__).parents[2]


def rows_of(kind):
    return [(number, row) for number, (_, rows) in CASES.items() for row in rows if type(row) is kind]


def named(rows):
    return [pytest.param(row, id=f"{number}-{_name(row)}") for number, row in rows]


def _name(row):
    return row.test if isinstance(row, Elsewhere) else getattr(row, "run", row).__class__.__name__


def test_the_table_has_all_62_cases_and_each_has_a_row():
    assert list(CASES) == list(range(1, 63))
    assert [number for number, (_, rows) in CASES.items() if not rows] == []


@dataclass(frozen=True)
class Expected:
    """What is to be said of an input."""

    path: Path
    status: str
    error: str | None
    lines: list[str]  # of stderr, with -v


def shown(text):
    """As the command line shows what a terminal cannot."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def expected_of(row, path, folder, out):
    output = out / path.relative_to(folder).with_suffix("")
    said = row.said if "{input}" in row.said else f"{{input}}: {row.said}"
    for name, value in (("folder", path.parent), ("out", output), ("input", path)):
        said = said.replace(f"{{{name}}}", str(value))
    notes = [f"quadtok: {path}: {row.note}"] if row.note else []
    line = f"quadtok: error: {said}" if row.status == FAILED else f"quadtok: written: {path}, output {output}.pt, "
    return Expected(path, row.status, said if row.status == FAILED else None, [*map(shown, [*notes, line])])


@pytest.fixture
def made(tmp_path) -> tuple[list[str], list[Expected]]:
    """All inputs of the one run: what is typed, and what is to be said of each, in this order."""
    typed, expected = [], []
    for place, (number, row) in enumerate(rows_of(Image)):
        own = tmp_path / "in" / f"{number:02}" / f"{place:03}"
        own.mkdir(parents=True)
        path = row.make(own)
        typed += row.given(path)
        expected.append(expected_of(row, path, tmp_path / "in", tmp_path / "out"))
    # What is known before any work is said before it.
    return typed, sorted(expected, key=lambda one: "no images found" not in (one.error or ""))


@pytest.mark.parametrize("decoders", [[], ["--decoders", "1"]], ids=["threads", "a process"])
def test_one_run_over_all_inputs_says_of_each_what_the_table_says(quadtok, made, tmp_path, decoders):
    typed, expected = made
    written = [one for one in expected if one.status == WRITTEN]
    place = ["-o", tmp_path / "out", "--relative-to", tmp_path / "in"]
    result = quadtok("tokenize", *typed, *place, *decoders, "--scorer", "blur", "-v", "--json")
    *said, summary = map(json.loads, result.out.splitlines())
    assert [(one["input"], one["status"], one["error"] and one["error"]["message"]) for one in said] == [
        (str(one.path), one.status, one.error) for one in expected
    ]
    assert result.code == 1
    assert (summary["written"], summary["failed"], summary["left"]) == (len(written), len(expected) - len(written), 0)
    lines = [line for one in expected for line in one.lines]
    assert len(result.lines) == len(lines) + 1
    for line, begin in zip(result.lines, lines, strict=False):
        assert line == begin or (begin.endswith(".pt, ") and line.startswith(begin))
    assert f"done: {len(written)} written, 0 skipped, {len(expected) - len(written)} failed" in result.lines[-1]
    outputs = {(tmp_path / "out" / one.path.relative_to(tmp_path / "in")).with_suffix(".pt") for one in written}
    assert {tmp_path / "out" / name for name in files_in(tmp_path / "out")} == outputs
    for path in outputs:
        assert load_tokens(path).plan.spec.num_tokens == 100

    again = quadtok("tokenize", *typed, *place, "--scorer", "blur", "--json")
    statuses = [json.loads(line)["status"] for line in again.out.splitlines()[:-1]]
    assert statuses == ["skipped" if one.status == WRITTEN else FAILED for one in expected]


@pytest.fixture
def token_files(tmp_path, monkeypatch) -> dict[Path, TokenFile]:
    monkeypatch.setenv(TRAP, str(tmp_path / "sprung"))
    files = {}
    for place, (number, row) in enumerate(rows_of(TokenFile)):
        path = tmp_path / "tokens" / f"{number}_{place}.pt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(row.make())
        files[path] = row
    return files


@pytest.mark.parametrize("command", ["info", "reverse", "visualize"])
def test_one_run_over_all_token_files_says_of_each_what_the_table_says(quadtok, token_files, tmp_path, command):
    flags = {"info": ["--check"], "reverse": ["-o", tmp_path / "out"], "visualize": ["-o", tmp_path / "out"]}
    result = quadtok(command, *token_files, *flags[command], "--json")
    said = {
        path: row.drawn if command == "visualize" and row.drawn is not None else row.said
        for path, row in token_files.items()
    }
    failed = [f"quadtok: error: {path}: {sentence}" for path, sentence in said.items() if sentence]
    assert result.code == 1
    assert [line for line in result.lines if "error" in line] == failed
    *files, summary = map(json.loads, result.out.splitlines())
    assert [one["input"] for one in files] == list(map(str, said))
    good = len(said) - len(failed)
    assert (summary.get("good", summary.get("written")), summary.get("bad", summary.get("failed"))) == (
        good, len(failed)
    )  # fmt: skip
    if command != "info":
        assert len(files_in(tmp_path / "out")) == good
    assert not (tmp_path / "sprung").exists()


def test_the_trap_in_a_token_file_works(tmp_path, monkeypatch):
    monkeypatch.setenv(TRAP, str(tmp_path / "sprung"))
    function, arguments = Evil().__reduce__()
    function(*arguments)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("row", named(rows_of(Alone) + rows_of(Processes)))
def test_a_run_of_its_own_ends_as_the_table_says(quadtok, photo, tmp_path, monkeypatch, row):
    folder = tmp_path / "run"
    folder.mkdir()
    result = row.run(Bench(quadtok, folder, photo, monkeypatch))
    said = row.said.replace("{folder}", str(folder)).replace("{photo}", str(photo))
    assert (result.code, said in result.err) == (row.code, True), result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("row", named(rows_of(Library)))
def test_a_call_of_the_library_is_refused_as_the_table_says(row):
    if row.said:
        with pytest.raises(QuadtokError) as caught:
            row.call()
        assert row.said in str(caught.value) and "\n" not in str(caught.value)
    else:
        row.call()


@pytest.mark.parametrize("row", named(rows_of(Elsewhere)))
def test_a_row_that_another_test_holds_names_one_that_is_there(row):
    file, _, name = row.test.partition("::")
    defined = [
        node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
    ]
    assert name in defined
