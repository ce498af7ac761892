"""Flags that contradict each other are usage errors: before anything is written, and before torch is loaded."""

import os
import subprocess
import sys

import pytest

CONTRADICTIONS = [
    ("tokenize x.jpg --if-exists skip --overwrite", "--if-exists skip and --overwrite contradict each other"),
    ("tokenize x.jpg --if-exists resume --overwrite", "--if-exists resume and --overwrite contradict each other"),
    ("visualize x.jpg --if-exists error --overwrite", "--if-exists error and --overwrite contradict each other"),
    ("reverse x.pt --if-exists skip --overwrite", "--if-exists skip and --overwrite contradict each other"),
    ("tokenize x.jpg --output x.pt -o d", "--output and --output-dir: one names the file"),
    ("visualize x.jpg --output x.png -o d", "--output and --output-dir: one names the file"),
    ("reverse x.pt --output x.png -o d", "--output and --output-dir: one names the file"),
    ("tokenize x.jpg --output x.pt --keep-ext", "--output and --keep-ext"),
    ("tokenize x.jpg -q -v", "--quiet and --verbose contradict each other"),
    ("tokenize x.jpg -0", "--null is about a list on stdin"),
    ("info x.pt -0", "--null is about a list on stdin"),
    ("bench x.jpg -0", "--null is about a list on stdin"),
    ("bench -0", "--null is about a list on stdin"),
    ("tokenize x.jpg --scorer random --scorer-option a=1", "--scorer-option a: random would not get it"),
    ("visualize x.jpg --compare= --output y.png", "there is no scorer ''"),
    ("visualize x.jpg --scorer random --scorer-option a=1", "--scorer-option a: random would not get it"),
    ("bench --scorer random --scorer-option a=1", "--scorer-option a: random would not get it"),
    ("bench --scorer blur,random --scorer-option a=1", "--scorer-option a: blur, random would not get it"),
    ("tokenize x.jpg --scorer precomputed --maps m.pt --scorer-option a=1", "precomputed would not get it"),
    ("tokenize x.jpg --scorer-option stride", "'stride' is not of the form key=value"),
    ("bench --scorer feature --scorer-option stride", "'stride' is not of the form key=value"),
    ("bench --scorer-option stride=16", "--scorer-option stride: random would not get it"),
    ("tokenize x.jpg --scorer blur --weights a.pth", "error: --weights belongs to --scorer feature, not to blur"),
    ("tokenize x.jpg --scorer m:f --weights a.pth", "error: --weights belongs to --scorer feature, not to m:f"),
    ("tokenize x.jpg --scorer object --weights lite0", "--weights lite0 belongs to --scorer feature, not to object"),
    ("calibrate x.jpg --scorer object --weights imagenet", "imagenet belongs to --scorer feature, not to object"),
    ("visualize x.jpg --compare object,blur --weights imagenet", "to --scorer feature, not to object, blur"),
    ("bench --weights imagenet", "error: --weights belongs to --scorer feature, not to random"),
    (
        "tokenize x.jpg --scorer-option thresholds=5,4",
        "error: thresholds is an option of entropy: give --scorer entropy",
    ),
    (
        "calibrate x.jpg --scorer-option stride=16 --scorer-option views=2",
        "error: stride is an option of feature, views is an option of object: no scorer has all of them",
    ),
    (
        "visualize x.jpg --weights bundled --scorer-option thresholds=5,4",
        "error: weights is an option of object and feature, thresholds is an option of entropy: no scorer has all",
    ),
    ("tokenize x.jpg --weights a.pth --scorer-option weights=b.pth", "both name the weights: give one"),
    ("tokenize x.jpg --scorer-option name=a", "no scorer of quadtok's has an option of that name"),
    ("tokenize x.jpg --scorer precomputed", "--maps and --scorer precomputed go together"),
    ("tokenize x.jpg --maps m.pt", "--maps and --scorer precomputed go together"),
    ("tokenize x.jpg --scorer point", "--points and --scorer point go together"),
    ("tokenize x.jpg --points p.csv", "--points and --scorer point go together"),
    ("tokenize x.jpg --scorer point --points p.csv --scorer-option a=1", "point would not get it"),
    ("visualize x.jpg --compare blur,point", "--points and --scorer point go together"),
    ("visualize x.pt --points p.csv --scorer point", "--points: the inputs are token files"),
    ("visualize x.jpg --scorer precomputed", "--maps and --scorer precomputed go together"),
    ("visualize x.jpg --compare blur,precomputed", "--maps and --scorer precomputed go together"),
    ("tokenize x.jpg --scorer sharp", "there is no scorer 'sharp'"),
    ("visualize x.jpg --compare blur,sharp", "there is no scorer 'sharp'"),
    ("tokenize x.jpg --device tpu", "--device 'tpu' is none of auto, cpu, cuda and cuda:N"),
    ("visualize x.jpg --device tpu", "--device 'tpu' is none of auto, cpu, cuda and cuda:N"),
    ("tokenize x.jpg --background nowhite", "'nowhite' is no colour"),
    ("visualize x.jpg --background nowhite", "'nowhite' is no colour"),
    ("visualize x.jpg --line-color nored", "'nored' is no colour"),
    ("bench x.jpg --background nowhite", "'nowhite' is no colour"),
    ("visualize x.jpg --output x.png --animate y.gif", "--animate and --output: the first is the whole name"),
    ("visualize x.jpg -o d --html y.html", "--html and --output-dir: the first is the whole name"),
    ("visualize x.jpg --keep-ext --html y.html", "--html and --keep-ext: the first is the whole name"),
    ("visualize x.jpg --animate y.gif --html y.html", "are different pictures: give one"),
    ("visualize x.jpg --animate y.gif --sheet", "are different pictures: give one"),
    ("visualize x.jpg --animate y.gif --compare blur", "are different pictures: give one"),
    ("visualize x.jpg --html y.html --tokens 40,100", "are different pictures: give one"),
    ("visualize x.jpg --html y.html --style blur", "--html and --style"),
    ("visualize x.jpg --html y.html --line-color red", "--html and --line-color"),
    ("visualize x.jpg --output y.html --line-color red", "--output and --line-color: the page has controls"),
    ("visualize x.jpg --output y.HTM --style blur", "--output and --style: the page has controls of its own"),
    (
        "visualize x.jpg --output y.html --sheet",
        "--output y.html: a sheet (--sheet, --compare, several --tokens) ends in .png",
    ),
    (
        "visualize x.jpg --output y.html --compare blur",
        "--output y.html: a sheet (--sheet, --compare, several --tokens) ends in .png",
    ),
    (
        "visualize x.jpg --output y.html --tokens 40,100",
        "--output y.html: a sheet (--sheet, --compare, several --tokens) ends in .png",
    ),
    ("visualize x.jpg --output y.html --keep-ext", "--output and --keep-ext"),
    ("visualize x.jpg --output y.gif --html z.html", "--html and --output: the first is the whole name already"),
    ("visualize x.jpg x.pt --output y.html", "--output y.html names one file and there are 2 inputs: give one"),
    ("visualize x.jpg x.pt --output y.gif", "--output y.gif names one file and there are 2 inputs: give one"),
    ("visualize x.jpg --html y.html --scale 2", "--html and --scale"),
    ("visualize x.jpg --sheet --style blur", "--style and --sheet"),
    ("visualize x.jpg --compare blur --style mini", "--style and --compare"),
    ("visualize x.jpg --compare blur,random --scorer blur", "--compare and --scorer"),
    ("visualize x.jpg --compare blur,random --scorer-option a=1", "--scorer-option a: blur, random would not get it"),
    ("visualize x.jpg --compare object,feature --scorer-option view=2", "view: object, feature would not get it"),
    ("visualize x.jpg --compare object,blur --scorer-option stride=16", "stride: object, blur would not get it"),
    ("visualize x.jpg --compare blur,random --maps m.pt", "--maps and --scorer precomputed go together"),
    ("visualize x.jpg --line-width 0 --line-color red", "no line is drawn"),
    ("visualize x.pt --weights imagenet", "--weights: the inputs are token files"),
    ("visualize x.pt --impl dict --fit pad", "--impl, --fit: the inputs are token files"),
    ("visualize x.pt --no-draft", "error: --no-draft: the inputs are token files"),
    ("visualize x.pt --exif", "error: --exif: the inputs are token files"),
    ("reverse x.pt --to features --features f --smooth", "--smooth and --against go with --to image"),
    ("info --check", "--check is about token files"),
    ("info -q", "--quiet is about token files"),
    ("bench --fit crop", "--fit is about image files"),
    ("bench --no-draft", "--no-draft is about image files"),
    ("bench --max-pixels 5 --background red", "--background is about image files"),
    ("tokenize x.jpg --output -", "--output -: nothing is written to stdout"),
    ("tokenize x.jpg -o -", "--output-dir -: nothing is written to stdout"),
    ("visualize x.jpg --output -", "--output -: nothing is written to stdout"),
    ("visualize x.jpg --animate -", "--animate -: nothing is written to stdout"),
    ("visualize x.jpg --html -", "--html -: nothing is written to stdout"),
    ("reverse x.pt --output -", "--output -: nothing is written to stdout"),
    ("bench --csv -", "--csv -: nothing is written to stdout"),
    ("bench --plot -", "--plot -: nothing is written to stdout"),
    ("bench -b 1,2 --plot x.svg --csv x.svg", "--plot and --csv name one file"),
    ("tokenize x.jpg --output x.jpg", "that is the name of an image; a token file ends in .pt"),
    ("tokenize x.jpg --output y.TIFF --overwrite", "that is the name of an image; a token file ends in .pt"),
    ("tokenize x.jpg --output y.heic", "that is the name of an image; a token file ends in .pt"),
    (
        "visualize x.jpg --output y.svg",
        "a picture or a page ends in .png, .webp, .tif, .tiff, .jpg, .jpeg, .gif, .html, .htm",
    ),
    ("visualize x.jpg --output y.pdf", "a picture or a page ends in .png, .webp,"),
    ("visualize x.jpg --output y.bmp", "a picture or a page ends in .png, .webp,"),
    ("visualize x.jpg --output y", "a picture or a page ends in .png, .webp,"),
    ("visualize x.jpg --output y.pt", "a picture or a page ends in .png, .webp,"),
    ("visualize x.jpg --sheet --output y.svg", "a sheet (--sheet, --compare, several --tokens) ends in .png, .webp,"),
    ("visualize x.jpg --animate y.mp4", "an animation ends in .gif, .webp"),
    ("visualize x.jpg --html y.png", "a page ends in .html, .htm"),
    ("reverse x.pt --output y.jpg", "is kept without loss, ends in .png, .webp, .tif, .tiff"),
    ("reverse x.pt --output y", "is kept without loss, ends in .png, .webp, .tif, .tiff"),
    ("reverse x.pt --to features --features f --output y.png", "that is the name of an image; a tensor ends in .pth"),
]


@pytest.mark.parametrize(("line", "sentence"), CONTRADICTIONS, ids=[line for line, _ in CONTRADICTIONS])
def test_contradictions_are_usage_errors_and_nothing_is_written(quadtok, tmp_path, monkeypatch, line, sentence):
    monkeypatch.chdir(tmp_path)
    for name in ("x.jpg", "x.pt"):
        (tmp_path / name).write_bytes(b"untouched")
    result = quadtok(*line.split())
    assert (result.code, len(result.lines), result.out) == (2, 1, "")
    assert sentence in result.err
    assert sorted(os.listdir(tmp_path)) == ["x.jpg", "x.pt"]
    assert (tmp_path / "x.jpg").read_bytes() == (tmp_path / "x.pt").read_bytes() == b"untouched"


def test_contradictions_come_before_torch(tmp_path):
    (tmp_path / "x.jpg").touch()
    (tmp_path / "x.pt").touch()
    code = "import sys; from quadtok.cli import run\n" + "\n".join(
        f"assert run({line.split()!r}) == 2; assert 'torch' not in sys.modules, {line!r}" for line, _ in CONTRADICTIONS
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "tokenize x.jpg --if-exists overwrite --overwrite --dry-run",
        "tokenize x.jpg -q --json --dry-run",
        "tokenize x.jpg -o d --keep-ext --dry-run",
        "tokenize x.jpg --output x.bin --dry-run",
        "tokenize x.jpg --seed 7 --dry-run",
    ],
)
def test_what_does_not_contradict_passes(quadtok, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jpg").touch()
    assert quadtok(*line.split()).code == 0


def test_the_environment_contradicts_nobody(quadtok, tmp_path, monkeypatch):
    """QUADTOK_SEED is set for a whole session, and is no wish about this one file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUADTOK_SEED", "7")
    (tmp_path / "x.pt").write_bytes(b"PK text")
    result = quadtok("visualize", "x.pt")
    assert (result.code, "--seed" in result.err) == (1, False)
