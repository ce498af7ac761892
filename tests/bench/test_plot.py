import builtins

import pytest

from quadtok.bench.plot import Line, Point, draw_lines
from quadtok.errors import InputError

LINES = [
    Line("parallel", [Point(64, 9.0, 8.5, 11.0), Point(1, 1.0, 0.9, 1.2)]),
    Line("dict", [Point(1, 0.5, 0.4, 0.8), Point(64, 30.0, 29.0, 33.0)]),
]


def draw(panels, file_format="svg"):
    return draw_lines(
        panels,
        title="a machine\nand its versions",
        x_label="images",
        y_label="ms",
        ticks={1: "one", 64: "sixty-four"},
        file_format=file_format,
    )


def texts(svg):
    """What matplotlib draws as outlines it also writes as comments."""
    return [line.strip().removeprefix("<!-- ").removesuffix(" -->") for line in svg.splitlines() if "<!--" in line]


def test_the_format_is_the_one_asked_for():
    assert draw({"blur": LINES}, "png").startswith(b"\x89PNG\r\n")
    assert b"<svg" in draw({"blur": LINES})


def test_points_may_come_in_any_order():
    backwards = [Line(line.label, line.points[::-1]) for line in LINES]
    assert draw({"blur": backwards}, "png") == draw({"blur": LINES}, "png")


def test_every_panel_line_and_tick_has_its_name():
    written = texts(draw({"blur": LINES, "random": LINES[:1]}).decode())
    assert {"a machine", "and its versions", "blur", "random", "images", "ms", "parallel", "dict"} <= set(written)
    assert [written.count(name) for name in ("one", "sixty-four", "parallel", "ms")] == [2, 2, 1, 1]


def test_a_line_keeps_its_colour_from_panel_to_panel():
    only_dict = draw({"blur": LINES, "random": LINES[1:]}).decode()
    both = draw({"blur": LINES, "random": LINES}).decode()
    colors = [svg.lower().count("stroke: #0072b2") for svg in (only_dict, both)]
    assert 0 < colors[0] < colors[1]


def test_without_matplotlib_a_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"plots need matplotlib: pip install 'quadtok\[plot\]'"):
        draw({"blur": LINES})
