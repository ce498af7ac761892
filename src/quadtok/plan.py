"""Which boxes were chosen: integers, in one order, for every image of a batch.

The order is *forest z-order*: roots in raster order, and inside a root in Morton order (top-left, top-right,
bottom-left, bottom-right, recursively). Two facts make it worth having. Every subtree is one contiguous run. And if
the finest cells are numbered in it, a patch of scale k is the run of `4**k` cells that begins at its own first
cell: a plan is a list of cut points on a line.

Where a threshold decides, images have different numbers of tokens. They share one shape all the same: `lengths` says
how many slots of an image hold tokens, and the slots behind them are padding.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok.errors import InputError
from quadtok.shown import SHOWN_IMAGES, as_png, in_words
from quadtok.spec import Spec
from quadtok.tiling import check_tiling, integers_of, same_integers
from quadtok.zorder import corners, from_z_order, number_of_cells


@dataclass(frozen=True, eq=False)
class Plan:
    """The patches that tile each image of a batch, in forest z-order (docs/reference.md section 2).

    B is the batch, N the tokens of an image. All tensors are int64, on one device. A plan built by a quadtree or by
    `from_boxes` tiles each image exactly once; the constructor itself takes the caller's word for it, because a look
    at the values would make the device wait (`check_tiling` looks).

    Two plans are equal where their spec and their integers are, on whatever devices they lie. A comparison waits for
    the devices, and so plans have no hash.

    Attributes:
        left: `[B, N]`, pixels from the image's left edge to the patch's.
        top: `[B, N]`, pixels from the image's top edge to the patch's.
        scale: `[B, N]`, 0 = finest: the side is `min_patch * 2**scale` pixels.
        spec: the integers of the run.
        lengths: `[B]`, how many of the N slots of each image hold tokens; those behind them are padding, at
            left = top = scale = 0. None: all of them.
    """

    left: Tensor
    top: Tensor
    scale: Tensor
    spec: Spec
    lengths: Tensor | None = None

    @classmethod
    def from_boxes(cls, left: Tensor, top: Tensor, scale: Tensor, spec: Spec, lengths: Tensor | None = None) -> Plan:
        """The plan of boxes given in any order: `[B, N]` integers each, in pixels; checked, then sorted.

        With `lengths` `[B]`, the first so many of each image are boxes, and the slots behind them are 0.

        Raises:
            InputError: where they are not integers, or do not tile each image exactly once.
        """
        fields = integers_of({"left": left, "top": top, "scale": scale, "lengths": lengths})
        unsorted = cls(**fields, spec=spec)
        unsorted.check_tiling()
        order = unsorted.first_cell().argsort(dim=1, stable=True)
        left, top, scale = (fields[name].gather(1, order) for name in ("left", "top", "scale"))
        return cls(left, top, scale, spec, unsorted.lengths)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` told, checked as data from elsewhere.

        Raises:
            InputError: where something is missing, of another type or unknown, or the boxes do not tile each image
                exactly once in forest z-order.
        """
        names = ["left", "scale", "spec", "top"]
        if not isinstance(content, Mapping) or sorted({*map(str, content)} - {"lengths"}) != names:
            found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
            raise InputError(f"a plan is told by a dict of {', '.join(names)} (see Plan.to_dict), got {found}")
        try:
            spec = Spec(**content["spec"])
        except TypeError as problem:  # no mapping, or of other names
            raise InputError(f"spec of a plan must be a dict of Spec's five integers: {problem}") from problem
        fields = {name: content[name] for name in ("left", "top", "scale")}
        plan = cls(**integers_of({**fields, "lengths": content.get("lengths")}, within_memory=True), spec=spec)
        plan.check_tiling()
        first = plan.first_cell()
        if not bool(((first.diff(dim=1) > 0) | (first[:, 1:] == spec.num_cells)).all()):
            raise InputError("tokens are not in forest z-order: Plan.from_boxes takes them in any order")
        return plan

    @classmethod
    def uniform(cls, spec: Spec, scale: int, batch: int = 1, device: torch.device | str = "cpu") -> Plan:
        """All patches of one scale, for `batch` images alike; `spec.num_tokens` must be their number.

        Raises:
            InputError: where the spec has no such scale, or another number of tokens.
        """
        if not 0 <= scale < spec.num_scales:
            raise InputError(f"scale {scale} is none of the spec's 0 to {spec.num_scales - 1}")
        rows, cols = spec.grid(scale)
        if rows * cols != spec.num_tokens:
            raise InputError(
                f"{rows}×{cols} patches of scale {scale} are {rows * cols} tokens, "
                f"the spec has num_tokens {spec.num_tokens}"
            )
        first = (torch.arange(rows * cols, device=device) << (2 * scale)).expand(batch, -1)
        return cls.from_first_cells(first, spec)

    @classmethod
    def from_first_cells(cls, first: Tensor, spec: Spec, lengths: Tensor | None = None) -> Plan:
        """The plan whose patches begin at these cells.

        Args:
            first: `[B, N]` int64, strictly rising: the forest z-order number of each patch's first cell; the number of
                all cells in the slots behind `lengths`.
            spec: the integers of the run.
            lengths: see `Plan`.

        The side of a patch follows from where the next one begins.
        """
        end = first.new_full((1, 1), spec.num_cells).expand(first.shape[0], 1)
        cells = torch.diff(first, dim=1, append=end)  # [B, N], each 4**scale
        borders = 1 << torch.arange(2, 2 * spec.num_scales, 2, device=first.device)
        scale = torch.bucketize(cells, borders, right=True)
        places = corners(spec, first.device)
        if lengths is not None:  # one corner more, at 0: where the slots behind the last token begin
            places = F.pad(places[0], (0, 1)), F.pad(places[1], (0, 1))
        left, top = (corner.index_select(0, first.flatten()).view_as(first) for corner in places)
        return cls(left, top, scale, spec, lengths)

    @property
    def valid(self) -> Tensor:
        """`[B, N]` bool: which slots hold tokens; all of them where there are no `lengths`."""
        if self.lengths is None:
            return torch.ones_like(self.scale, dtype=torch.bool)
        return torch.arange(self.spec.num_tokens, device=self.scale.device) < self.lengths[:, None]

    def cu_seqlens(self, prefix: int = 0) -> Tensor:
        """`[B + 1]` int32: where each image begins in a packed batch of all tokens, and where the last one ends.

        Args:
            prefix: tokens that a model puts in front of each image's own (cls, registers).
        """
        lengths = torch.full_like(self.scale[:, 0], self.spec.num_tokens) if self.lengths is None else self.lengths
        return F.pad((lengths + prefix).cumsum(0), (1, 0)).to(torch.int32)

    def max_seqlen(self, prefix: int = 0) -> int:
        """The tokens of the longest image, `prefix` included. Waits for the device where images differ.

        `spec.num_tokens + prefix` is never less, and waits for nothing.
        """
        if self.lengths is None or 0 in self.lengths.shape:
            return self.spec.num_tokens + prefix
        return int(self.lengths.max()) + prefix

    def unpadded(self, image: int) -> Plan:
        """The plan of one image (still a batch, of 1) without padding: its spec has its own `num_tokens`.

        Waits for the device where images differ.
        """
        alone = self[image]
        if alone.lengths is None:
            return alone
        count = int(alone.lengths[0])
        spec = replace(self.spec, num_tokens=count)
        return Plan(alone.left[:, :count], alone.top[:, :count], alone.scale[:, :count], spec)

    @property
    def size(self) -> Tensor:
        """`[B, N]` int64: the side of each patch in pixels."""
        return self.spec.min_patch << self.scale

    @property
    def centers(self) -> Tensor:
        """`[B, N, 2]` float32: (x, y) of each patch's centre, in units of `min_patch`: column 0 has x = 0.5."""
        # Whole numbers until the end: integers that are truly divided become torch's default dtype.
        corner = (torch.stack([self.left, self.top], dim=-1) // self.spec.min_patch).float()
        return corner + torch.exp2(self.scale.float() - 1)[..., None]

    @property
    def counts(self) -> Tensor:
        """`[B, S]` int64: how many tokens of each image have each of the spec's S scales, the finest first."""
        scale = self.scale if self.lengths is None else torch.where(self.valid, self.scale, -1)
        return torch.stack([(scale == which).sum(dim=1) for which in range(self.spec.num_scales)], dim=1)

    @property
    def cell_to_token(self) -> Tensor:
        """`[B, H/p, W/p]` int64: which token covers each finest cell. Right for tokens in any order."""
        rows, cols = self.spec.grid(0)
        first = self.first_cell()
        batch, tokens = first.shape
        number = torch.arange(tokens, device=first.device).expand(batch, -1)
        # Padding begins behind the last cell: in a column of its own, which is cut off.
        columns = rows * cols + (self.lengths is not None)
        token_at = first.new_zeros(batch, columns).scatter_(1, first, number)
        begin = torch.zeros_like(token_at).scatter_(1, first, first)[:, : rows * cols].cummax(dim=1).values
        return from_z_order(token_at.gather(1, begin), rows, cols, self.spec.num_scales - 1)

    def first_cell(self) -> Tensor:
        """`[B, N]` int64: the forest z-order number of each patch's top-left cell; rising in canonical order.

        The number of all cells in slots that hold no token.
        """
        first = number_of_cells(self.top // self.spec.min_patch, self.left // self.spec.min_patch, self.spec)
        return first if self.lengths is None else torch.where(self.valid, first, self.spec.num_cells)

    def check_tiling(self) -> None:
        """Look at the values: every patch on its own grid, and every cell of every image covered exactly once.

        Waits for the device.

        Raises:
            InputError: naming the first token that breaks the rule.
        """
        self._check_numbers("to be checked")
        check_tiling(self.left, self.top, self.scale, self.lengths, self.spec)

    def _check_numbers(self, purpose: str) -> None:
        if any(field.is_meta for field in self._tensors().values()):
            raise InputError(f"a plan on the device meta holds no numbers {purpose}")

    def to(self, device: torch.device | str) -> Plan:
        """The same plan on another device; there is no other dtype: its integers stay integers."""
        if isinstance(device, torch.dtype):
            raise InputError(f"a plan's integers have no other dtype, got {device}: give a device")
        return self._with_fields(lambda field: field.to(device))

    def cpu(self) -> Plan:
        """The same plan on the CPU."""
        return self.to("cpu")

    def to_dict(self) -> dict[str, Any]:
        """What a file may hold of it, tensors and integers alone: `Plan.from_dict` makes the plan of that again.

        `torch.save(plan.to_dict(), path)` is read by `torch.load(path, weights_only=True)`, which runs nothing that a
        file says.

        Returns:
            `spec`, a dict of its five integers, and `left`, `top`, `scale`, copies of the tensors; `lengths` where
            there are any.
        """
        return {"spec": asdict(self.spec), **{name: field.clone() for name, field in self._tensors().items()}}

    def _repr_png_(self) -> bytes | None:
        # A notebook asks for it unasked: where there is nothing to draw, the words have to do.
        with contextlib.suppress(Exception):
            return as_png(self[:SHOWN_IMAGES])
        return None

    def _tensors(self) -> dict[str, Tensor]:
        """All that hold a number an image, by name."""
        lengths = {} if self.lengths is None else {"lengths": self.lengths}
        return {"left": self.left, "top": self.top, "scale": self.scale, **lengths}

    def _with_fields(self, change: Callable[[Tensor], Tensor]) -> Plan:
        return Plan(**{name: change(field) for name, field in self._tensors().items()}, spec=self.spec)

    def __getitem__(self, image: int | slice) -> Plan:
        """The plan of one image (still a batch, of 1) or of a slice of the batch."""
        part = as_slice(image, len(self))
        return self._with_fields(lambda field: field[part])

    def __len__(self) -> int:
        """The number of images."""
        return self.left.shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        pairs = [(self.left, other.left), (self.top, other.top), (self.scale, other.scale)]
        if self.lengths is not None or other.lengths is not None:  # None says that all are full
            pairs.append((self.valid, other.valid))
        return self.spec == other.spec and all(same_integers(ours, theirs) for ours, theirs in pairs)

    def __repr__(self) -> str:
        return f"Plan({in_words(self)})"


def as_slice(image: int | slice, batch: int) -> slice:
    """What to cut out of a batch for an index: an integer stands for the batch of that one image.

    Raises:
        IndexError: where there is no such image; so that loops end.
    """
    if isinstance(image, slice):
        return image
    number = operator.index(image)
    if not -batch <= number < batch:
        raise IndexError(f"image {number} of a plan for {batch} images")
    return slice(number, number + 1 or None)
