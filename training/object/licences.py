"""What a package says about the licences of its files: Debian's copyright files (DEP-5) and the credits of GCompris.

Nothing is guessed: words that name no licence of `KNOWN` give none, and a file that no statement names has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

STRICT = re.compile(r"public-domain|CC0-1\.0|CC-BY-[1-4]\.\d")
KNOWN = re.compile(rf"{STRICT.pattern}|CC-BY-SA-[1-4]\.\d|GPL-[23]\+?")
FIELD = re.compile(r"([A-Z][A-Za-z-]*):\s*(.*)")


@dataclass(frozen=True)
class Statement:
    """One paragraph.

    Attributes:
        files: patterns (Debian) or names (credits).
        authors: as it names them.
        licence: as `named` spells it; None where it is none of those that we know.
        source: an address, or "".
    """

    files: tuple[str, ...]
    authors: str
    licence: str | None
    source: str


def named(words: str) -> str | None:
    """The licence that the words name, in Debian's spelling, or None: `CC-BY-SA 4.0`, `GPLv2+`, `Public Domain`."""
    spelled = re.sub(r"\s+", "-", words.strip())
    spelled = re.sub(r"^GPLv", "GPL-", spelled)
    if spelled.lower() == "public-domain":
        spelled = "public-domain"
    return spelled if KNOWN.fullmatch(spelled) else None


def is_strict(licence: str) -> bool:
    """Does it ask for no more than a name: public domain, CC0, CC-BY?"""
    return STRICT.fullmatch(licence) is not None


def debian_statements(text: str) -> list[Statement]:
    """The `Files:` paragraphs of a machine-readable copyright file, in its order."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        if "Files" in fields:
            licence = fields.get("License", "").split("\n")[0]
            found.append(_statement(fields["Files"].split(), fields, licence, fields.get("Comment", "")))
    return found


def stated_for(path: str, statements: Iterable[Statement]) -> Statement | None:
    """The last statement that names the path, as DEP-5 has it: later paragraphs are finer."""
    last = None
    for statement in statements:
        if any(_pattern(pattern).fullmatch(path) for pattern in statement.files):
            last = statement
    return last


def credited(text: str) -> dict[str, Statement]:
    """Name → paragraph of a credits file of GCompris (`README`); names are those of its own folder, or below it.

    Fields stand in any order, and file names on the line of `Files:`, or below it, or below the licence without it.
    A name that two paragraphs give different licences has none.
    """
    found: dict[str, Statement] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        licence, *rest = fields.get("License", "").split("\n")
        names = [name for line in [*fields.get("Files", "").split("\n"), *rest] if (name := line.strip())]
        comment = fields.get("Comment", "")
        statement = _statement(names, fields, licence, fields.get("Source", "") or comment)
        for name in names:
            again = found.get(name, statement).licence != statement.licence
            found[name] = Statement(statement.files, statement.authors, None, "") if again else statement
    return found


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in paragraph.strip().splitlines():
        if match := FIELD.match(line):
            last, fields[match[1]] = match[1], match[2]
        elif last:
            fields[last] += "\n" + line.strip()
    return fields


def _statement(files: list[str], fields: dict[str, str], licence: str, said: str) -> Statement:
    authors = [_name(holder) for holder in fields.get("Copyright", "").split("\n")]
    if based := re.search(r"based on (?:an original|a) (?:image|photo) by (.+?),", said):
        authors.append(f"after {based[1]}")
    address = re.search(r"https?://\S+", said)
    return Statement(tuple(files), "; ".join(filter(None, authors)), named(licence), address[0] if address else "")


def _name(holder: str) -> str:
    """The name alone: `2002-2022 by Bill Kendrick <bill@…>` is `Bill Kendrick`; nobody's address goes into the list."""
    name = re.sub(r"\s*[<(][^<>()\s]*@[^<>()\s]*[>)].*", "", " ".join(holder.split()))
    return re.sub(r"^(Copyright\b|©|\d{4}(\s?-\s?\d{4})?\b|by\b|[\s,])+", "", name)


def _pattern(pattern: str) -> re.Pattern[str]:
    """A DEP-5 pattern: `*` goes across folders, `?` is one character, nothing else is special."""
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
