"""DALI's index of a shard: its `readers.webdataset` knows from it where samples lie, and need not read the tar first.

    v1.2 SAMPLES
    patches.npy 512 76928 KEY.patches.npy layout.npy 78336 1328 KEY.layout.npy json 80384 1113 KEY.json

One line for each sample; of each member its ending, where it begins, its bytes, and its name. It is what DALI's own
`wds2idx` makes of the same tar, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSION = "v1.2"
DALI_SUFFIX = ".idx"


def dali_index(samples: Mapping[str, Mapping[str, tuple[int, int]]]) -> bytes:
    """The index of samples in the order of their tar.

    Args:
        samples: by their keys; of each ending, from where and how many bytes.
    """
    lines = [f"{VERSION} {len(samples)}"]
    for key, members in samples.items():
        lines.append(" ".join(f"{ending} {begin} {size} {key}.{ending}" for ending, (begin, size) in members.items()))
    return "".join(f"{line}\n" for line in lines).encode()
