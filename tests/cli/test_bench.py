import csv
import json
import subprocess
import sys
from functools import partial
from importlib import import_module

import pytest
import torch

from quadtok import __version__, get_quadtree
from quadtok.images import fit_image, read_image
from quadtok.quadtrees import QUADTREES

QUICK = ("-s", 64, "--max-patch", 32, "-n", 10, "-b", 2, "--min-time", 0, "--warmup", 0)


@pytest.fixture
def time_it(quadtok):
    return partial(quadtok, "bench", *QUICK)


@pytest.fixture
def one_is_wrong(monkeypatch):
    def backwards(saliency, spec):
        return get_quadtree("dict")([-scores for scores in saliency], spec)

    monkeypatch.setitem(QUADTREES, "zcurve", backwards)


def records(result):
    return [json.loads(line) for line in result.out.splitlines()]


def test_two_tables_under_the_machine_and_the_versions(time_it):
    result = time_it()
    assert (result.code, result.err) == (0, "")
    lines = [line.strip() for line in result.out.splitlines()]
    assert lines[0].count(" · ") == 1 and "thread" in lines[0]
    assert lines[1].startswith(f"quadtok {__version__} · torch {torch.__version__.split('+')[0]}")
    assert lines[3] == "2 images of 64×64 · 10 tokens of 16 to 32 px · scorer random · float32 on cpu"
    headers = [line.split() for line in lines if line.startswith("quadtree")]
    totals = ["quadtree", "ms/batch", "quartiles", "images/s", "×", "slowest", "peak", "MB"]
    assert headers == [totals, ["quadtree", "score", "ms", "select", "ms", "extract", "ms"]]
    named = [line.split()[0] for line in lines if line and line.split()[0] in QUADTREES]
    assert named == [*QUADTREES] * 2


def test_a_bar_stands_beside_each_number_and_the_longest_is_the_largest(time_it):
    lines = [line.split() for line in time_it("--impl", "dict").out.splitlines() if line.startswith("dict")]
    bars = [[cell for cell in line if set(cell) == {"█"}] for line in lines]
    assert [len(cells) for cells in bars] == [4, 3]
    assert len({len(bar) for cells in bars for bar in cells}) == 1


def test_what_is_piped_is_plain_and_fits_100_columns(time_it, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    result = time_it("--compile", "--scorer", "random,blur", "-s", "64,128x256", "-n", "50%")
    assert "\x1b" not in result.out
    assert max(map(len, result.out.splitlines())) <= 100
    assert result.out.count("parallel, compiled") == 2 * 2 * 2


def test_one_quadtree_can_be_timed_alone(time_it):
    rows = records(time_it("--impl", "zcurve", "--json"))[:-1]
    assert [(row["implementation"], row["speedup"], row["batch"]) for row in rows] == [("zcurve", 1.0, 2)]
    rows = records(time_it("--impl", "tensor,dict,tensor", "--json"))[:-1]
    assert [row["implementation"] for row in rows] == ["tensor", "dict"]


def test_the_defaults_are_those_of_the_references_notebook(quadtok):
    rows = records(quadtok("bench", "--json", "--device", "cpu", "--warmup", 0, "--min-time", 0))[:-1]
    assert [row["implementation"] for row in rows] == [*QUADTREES]
    for row in rows:
        assert (row["batch"], row["scorer"], row["dtype"], row["compiled"]) == (128, "random", "float32", False)
        assert [row[side] for side in ("height", "width", "min_patch", "max_patch")] == [256, 256, 16, 64]
        assert row["tokens"] == 100


def test_json_has_a_line_for_each_row_then_a_summary_and_csv_the_same_fields(time_it, tmp_path):
    result = time_it("--json", "-b", "1,2", "--scorer", "blur,random", "--csv", tmp_path / "new" / "rows.csv")
    *rows, summary = records(result)
    assert (result.code, result.err) == (0, "")
    assert [row.pop("type") for row in rows] == ["row"] * 16
    cases = [(row["batch"], row["scorer"], row["implementation"]) for row in rows]
    assert cases == [(batch, scorer, name) for batch in (1, 2) for scorer in ("blur", "random") for name in QUADTREES]
    assert (summary["type"], summary["rows"], summary["mismatches"]) == ("summary", 16, 0)
    assert {"processor", "torch", "threads", "platform"} <= summary["machine"].keys()
    with open(tmp_path / "new" / "rows.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert written == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


@pytest.mark.usefixtures("one_is_wrong")
def test_a_quadtree_that_disagrees_ends_the_command_with_1_and_is_named(time_it):
    result = time_it()
    assert result.code == 1
    (line,) = result.lines
    assert line.startswith("quadtok: error: zcurve and dict disagree: token ")
    assert line.endswith("; please report it, with what 'quadtok info' prints")
    (totals, stages) = (line.split() for line in result.out.splitlines() if line.startswith("zcurve"))
    assert totals[1:5] == ["–"] * 4 and stages[1:] == ["–"] * 3
    assert result.out.count("parallel") == 2


@pytest.mark.usefixtures("one_is_wrong")
def test_a_mismatch_stands_in_the_json_too(time_it):
    result = time_it("--json", "--impl", "parallel,zcurve")
    good, bad, summary = records(result)
    assert result.code == 1
    assert (good["mismatch"], bad["median_ms"], summary["mismatches"]) == (None, None, 1)
    assert bad["mismatch"].startswith("zcurve and parallel disagree: token ")


def test_a_quadtree_that_disagrees_with_itself_is_not_drawn(time_it, monkeypatch, tmp_path):
    calls = iter(range(100))
    monkeypatch.setitem(
        QUADTREES,
        "dict",
        lambda saliency, spec, real=QUADTREES["dict"]: real(
            [scores * (-1) ** next(calls) for scores in saliency], spec
        ),
    )
    result = time_it("--impl", "dict", "-b", "1,2", "--plot", tmp_path / "time.svg")
    assert result.code == 1
    assert [line.partition(": token ")[0] for line in result.lines] == [
        "quadtok: error: dict disagrees with itself"
    ] * 2
    assert not (tmp_path / "time.svg").exists()


def test_what_torch_cannot_compile_is_said_in_a_sentence(time_it, monkeypatch):
    def no_compiler(*arguments, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    result = time_it("--compile", "--impl", "parallel")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].strip() == "torch.compile failed for parallel: no C++ compiler"
    assert "compile s" in result.out


def test_an_image_that_cannot_be_read_ends_the_command_with_2_where_a_batch_takes_it(time_it, photos):
    (photos / "z.png").write_bytes(b"no image")
    assert time_it(photos, "-b", 3).code == 0
    result = time_it(photos, "-b", 4)
    assert (result.code, result.lines) == (2, [f"quadtok: error: {photos / 'z.png'}: not a supported image"])


def test_a_scorer_of_ones_own_can_be_timed(time_it, tmp_path, monkeypatch):
    (tmp_path / "flat.py").write_text(
        "import torch\n"
        "def score(images, spec):\n"
        "    return [torch.zeros(len(images), *spec.grid(scale)) for scale in range(1, spec.num_scales)]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert records(time_it("--scorer", "flat:score", "--json"))[0]["scorer"] == "flat:score"


def test_threads_are_torchs(time_it, monkeypatch):
    monkeypatch.setattr(
        torch, "set_num_threads", lambda number: monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    )
    result = time_it("--threads", 3)
    assert ", 3 threads · " in result.out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("-b", "1,2", "-s", "64,128x64", "-n", "50%"), {"random, 64×64", "random, 128×64", "images in a batch", "2"}),
        (
            ("-s", "64,64x128,128x64", "-n", "50%"),
            {"random, 2 images", "image size in pixels", "64×64", "64×128", "128×64"},
        ),
    ],
    ids=["against batch size", "against image size"],
)
def test_time_is_drawn_against_what_has_several_values(time_it, tmp_path, arguments, names):
    assert time_it(*arguments, "--plot", tmp_path / "time.svg").code == 0
    svg = (tmp_path / "time.svg").read_text()
    assert [name for name in (*names, *QUADTREES) if f"<!-- {name} -->" not in svg] == []
    assert time_it(*arguments, "--plot", tmp_path / "time.PNG").code == 0
    assert (tmp_path / "time.PNG").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--impl", "heap"], "--impl: there is no quadtree 'heap': choose from dict, tensor, zcurve, parallel, or all"),
        (["--scorer", "blurr"], "there is no scorer 'blurr': choose one of object, feature, blur, "),
        (["--scorer", "random,precomputed"], "--scorer precomputed: bench has no maps to read; time random, "),
        (["--scorer", "point"], "--scorer point: bench has no points to read; time random, "),
        (["--weights", "w.pth"], "--weights belongs to --scorer feature, not to random"),
        (["-s", "64,65"], "height 65 is not a multiple of max_patch 32"),
        (["-s", "native"], "--image-sizes native: the images of a batch have one size; give it as N or HxW"),
        (["-n", "11"], "num_tokens 11 cannot be reached from 4 roots: each split adds 3. Try 10 or 13."),
        (["--max-patch", "16", "-n", "16"], "both 16: nothing is to choose; use --max-patch 32"),
        (["-b", "8,0"], "--batch-sizes: '0' is not a number of images, such as 1,32,128"),
        (["--device", "tpu"], "--device 'tpu' is none of auto, cpu, cuda and cuda:N"),
        (["-b", "1,2", "--plot", "x.pdf"], "--plot x.pdf: the name must end in .png or .svg"),
        (["--plot", "x.png"], "--plot draws time against batch size or image size: give several, as in "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_anything_is_timed(time_it, arguments, message):
    result = time_it(*arguments)
    assert (result.code, result.out, len(result.lines)) == (2, "", 1)  # not even the heading
    assert message in result.err


def test_without_matplotlib_plot_is_refused_before_the_timing(time_it, monkeypatch):
    monkeypatch.setattr(import_module("quadtok.cli.bench_flags"), "find_spec", lambda name: None)
    result = time_it("-b", "1,2", "--plot", "x.png")
    assert (result.code, result.out) == (2, "")
    assert result.err == "quadtok: error: --plot needs matplotlib: pip install 'quadtok[plot]'\n"


def test_help_and_usage_errors_come_before_torch():
    code = (
        "import sys; from quadtok.cli import run; "
        "codes = run(['bench', '--help']), run(['bench', '-n', '101']), run(['bench', '--impl', 'heap']); "
        "print(codes, [name for name in ('torch', 'numpy', 'PIL', 'matplotlib') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "(0, 2, 2) []"


class TestPlaces:
    """bench replaces what bench wrote, and nothing else; it says so before the timing."""

    def write(self, time_it, tmp_path):
        return time_it("-b", "1,2", "--impl", "dict", "--csv", tmp_path / "x.csv", "--plot", tmp_path / "x.png")

    def test_what_it_wrote_is_written_anew(self, time_it, tmp_path):
        pytest.importorskip("matplotlib", reason="draws the plot")
        assert [self.write(time_it, tmp_path).code for _ in range(2)] == [0, 0]

    @pytest.mark.parametrize("name", ["x.csv", "x.png"])
    @pytest.mark.parametrize(
        ("content", "told"), [(b"a,b\n1,2\n", "a text file"), (b"\x89PNG\r\n\x1a\n\0IDAT", "a PNG image")]
    )
    def test_what_it_did_not_write_is_kept(self, time_it, tmp_path, name, content, told):
        pytest.importorskip("matplotlib", reason="is looked for before the places are")
        (tmp_path / name).write_bytes(content)
        result = self.write(time_it, tmp_path)
        assert (result.code, result.out, (tmp_path / name).read_bytes()) == (2, "", content)
        assert f"{tmp_path / name}: is {told} that bench did not write; it is kept" in result.err

    def test_an_empty_file_is_filled(self, time_it, tmp_path):
        (tmp_path / "x.csv").touch()
        assert time_it("--impl", "dict", "--csv", tmp_path / "x.csv").code == 0
        assert (tmp_path / "x.csv").stat().st_size


def test_pictures_of_plans_are_passed_over(quadtok, time_it, photo, tmp_path):
    quadtok("visualize", photo, "--scorer", "blur", "-o", tmp_path / "drawn")
    result = time_it(tmp_path / "drawn", "--impl", "dict")
    assert (result.code, "no photographs: 1 picture made by quadtok passed over" in result.err) == (2, True)
    (tmp_path / "drawn" / "photo.jpg").write_bytes(photo.read_bytes())
    assert time_it(tmp_path / "drawn", "--impl", "dict").code == 0


def test_images_that_cannot_be_had_are_a_sentence_since_others_would_be_another_benchmark(time_it, photos):
    (photos / "empty").mkdir()
    result = time_it(photos, photos / "empty", "-b", 2)
    assert (result.code, result.err) == (2, f"quadtok: error: no images found in {photos / 'empty'}\n")


def test_photographs_are_read_by_the_flags_by_which_tokenize_reads_them(quadtok, large, tmp_path, monkeypatch):
    (tmp_path / "watching.py").write_text(
        "import torch\n"
        "def score(images, spec):\n"
        "    torch.save(images.clone(), 'seen.pt')\n"
        "    return [torch.zeros(len(images), *spec.grid(scale)) for scale in range(1, spec.num_scales)]\n"
    )
    monkeypatch.chdir(tmp_path)
    quick = ("-b", 1, "--min-time", 0, "--warmup", 0, "--impl", "dict", "--dtype", "uint8", "--fit", "squash")
    seen = []
    for flags in ([], ["--draft"], ["--no-draft"]):
        assert quadtok("bench", large, *quick, "--scorer", "watching:score", *flags).code == 0
        seen.append(torch.load("seen.pt", weights_only=True))
    default, draft, whole = seen
    assert (torch.equal(default, draft), torch.equal(draft, whole)) == (True, False)
    assert torch.equal(whole[0], fit_image(read_image(large).image, 256, 256, "squash").pixels)


def test_too_large_a_photograph_is_refused_by_the_flag_that_tokenize_has(quadtok, large):
    result = quadtok("bench", large, "--max-pixels", 1000, "-b", 1)
    assert (result.code, f"{large}: " in result.err, "pixels exceed" in result.err) == (2, True, True)


def test_options_go_to_the_scorer_that_takes_them(time_it):
    option = ("--scorer-option", "error=cosine_distance", "--impl", "dict")
    result = time_it("--scorer", "feature,random", *option, "--json")
    assert (result.code, [row["scorer"] for row in records(result)[:-1]]) == (0, ["feature", "random"])
    assert time_it("--scorer", "feature,blur", *option).code == 0
    assert time_it("--scorer", "object,feature", *option, "--scorer-option", "views=2").code == 0


class TestModel:
    """--model, on timm's smallest."""

    @pytest.fixture
    def model(self):
        pytest.importorskip("timm", reason="timm has the ViTs that are timed; the extra timm brings it")
        return ("--model", "test_vit", "--impl", "parallel")

    def test_a_third_table_and_where_the_quadtree_pays(self, time_it, model):
        result = time_it(*model)
        assert (result.code, result.err) == (0, "")
        lines = [line.strip() for line in result.out.splitlines()]
        assert "model test_vit · quadtree parallel · float32 on cpu" in lines
        headers = "reads tokens ms/batch quartiles images/s prepare ms forward ms GFLOPs/image"
        assert headers in [" ".join(line.split()) for line in lines]
        cells = {line.split("  ")[0]: line.split() for line in lines}
        assert cells["full grid, 4×4"][3] == "16" and cells["uniform grid, 3×3"][3] == "9"
        assert [line for line in lines if line.startswith("quadtree ")][-1].split()[1] == "10"
        assert lines[-1].startswith("scorer, plan and patches pay for themselves ")
        assert max(map(len, result.out.splitlines())) <= 100

    def test_json_has_a_line_for_each_way(self, time_it, model):
        *lines, summary = records(time_it(*model, "--json", "--scorer", "random,blur", "--dtype", "bfloat16"))
        assert [line["type"] for line in lines] == ["row", "model", "model", "model"] * 2
        ways = [(line["scorer"], line["reads"], line["tokens"]) for line in lines if line["type"] == "model"]
        expected = [("full grid", 16), ("uniform grid", 9), ("quadtree", 10)]
        assert ways == [(scorer, *way) for scorer in ("random", "blur") for way in expected]
        assert {line["dtype"] for line in lines} == {"bfloat16"}
        assert summary["rows"] == 2

    def test_a_model_that_there_is_not_is_told_before_anything_is_timed(self, time_it, model):
        result = time_it("--model", "no_such_vit", "--json")
        assert (result.code, result.out) == (2, "")
        (line,) = result.lines
        assert line.startswith("quadtok: error: timm cannot make a 'no_such_vit' for images of 64×64: ")

    def test_patches_of_another_size_are_told_with_the_flags_that_the_model_needs(self, time_it, model):
        result = time_it(*model, "--min-patch", "8", "--max-patch", "32")
        assert (result.code, result.out.count("test_vit")) == (2, 0)
        assert result.lines[-1] == (
            "quadtok: error: --model test_vit: its patches are 16×16 pixels: "
            "give --min-patch 16 --max-patch 64, and an --image-size in multiples of that"
        )

    def test_without_timm_the_way_to_it_is_said(self, time_it, monkeypatch):
        flags = import_module("quadtok.cli.bench_flags")
        monkeypatch.setattr(flags, "find_spec", lambda name: None)
        result = time_it("--model", "test_vit")
        assert (result.code, result.lines) == (2, ["quadtok: error: --model needs timm: pip install 'quadtok[timm]'"])
