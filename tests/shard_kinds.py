"""The kinds of files that shards are, for tests that hold for each, and for those of one alone."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from quadtok.storage.container import Container
from quadtok.storage.shards import PARQUET, TAR


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        format: what asks for it.
        container: what writes and reads it.
    """

    format: str
    container: Container

    @property
    def other(self) -> str:
        """What asks for the other kind; where it is an extra that is missing, the test is passed over."""
        (other,) = KINDS.keys() - {name for name, kind in KINDS.items() if kind == self}
        return kind_of(other).format

    @property
    def suffix(self) -> str:
        """Of a shard's name."""
        return self.container.suffix

    @property
    def endings(self) -> list[str]:
        """Of all files of one shard, itself among them."""
        return sorted([*self.container.beside, ".json", self.suffix])

    def shards_of(self, folder: Path) -> list[Path]:
        """The shards of a folder."""
        return sorted(folder.glob(f"*{self.suffix}"))

    def write(self, path: Path, samples) -> None:
        """A file of these samples: pairs of keys and members."""
        with path.open("wb") as stream:
            writer = self.container.writer(stream)
            for key, members in samples:
                writer.add(key, members)
            writer.close()


KINDS = {"tar": Kind("shards", TAR), "parquet": Kind("parquet", PARQUET)}


def kind_of(name: str) -> Kind:
    """One of them; where it is an extra that is missing, the test is passed over."""
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="writes and reads Parquet files; the extra parquet has it")
    return KINDS[name]


tar_alone = pytest.mark.parametrize("kind", ["tar"], indirect=True)
parquet_alone = pytest.mark.parametrize("kind", ["parquet"], indirect=True)
