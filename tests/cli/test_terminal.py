import pytest

from quadtok.cli.terminal import printable, say_error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("Grüße/猫.jpg", "Grüße/猫.jpg"),
        ("a[/]b.jpg", "a[/]b.jpg"),
        ("new\nline", "new\\nline"),
        ("esc\x1b[31m", "esc\\x1b[31m"),
        ("\udcff\udcfe", "\\udcff\\udcfe"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
    ],
)
def test_names_cannot_move_the_cursor(text, shown):
    assert printable(text) == shown


def test_an_error_is_one_line_on_stderr(capsys):
    say_error("x.jpg: two\nlines")
    assert capsys.readouterr() == ("", "quadtok: error: x.jpg: two\\nlines\n")
