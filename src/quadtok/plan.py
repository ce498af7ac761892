"""Which boxes were chosen: integers, in one order, for every image of a batch.

The order is *forest z-order*: roots in raster order, and inside a root in Morton order (top-left, top-right,
bottom-left, bottom-right, recursively). Two facts make it worth having. Every subtree is one contiguous run. And if
the finest cells are numbered in it, a patch of scale k is the run of `4**k` cells that begins at its own first
cell: a plan is a list of cut points on a line.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.shown import SHOWN_IMAGES, as_png, in_words
from quadtok.spec import Spec
from quadtok.zorder import corners, from_z_order, number_of_cells

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


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
    """

    left: Tensor
    top: Tensor
    scale: Tensor
    spec: Spec

    @classmethod
    def from_boxes(cls, left: Tensor, top: Tensor, scale: Tensor, spec: Spec) -> Plan:
        """The plan of boxes given in any order: `[B, N]` integers each, in pixels; checked, then sorted.

        Raises:
            InputError: where they are not integers, or do not tile each image exactly once.
        """
        for name, field in (("left", left), ("top", top), ("scale", scale)):
            _check_integers(name, field)
        unsorted = cls(left.long(), top.long(), scale.long(), spec)
        unsorted.check_tiling()
        order = unsorted.first_cell().argsort(dim=1)
        return unsorted._with_fields(lambda field: field.gather(1, order))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` told, checked as data from elsewhere.

        Raises:
            InputError: where something is missing, of another type or unknown, or the boxes do not tile each image
                exactly once in forest z-order.
        """
        names = ["left", "scale", "spec", "top"]
        if not isinstance(content, Mapping) or sorted(map(str, content)) != names:
            found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
            raise InputError(f"a plan is told by a dict of {', '.join(names)} (see Plan.to_dict), got {found}")
        try:
            spec = Spec(**content["spec"])
        except TypeError as problem:  # no mapping, or of other names
            raise InputError(f"spec of a plan must be a dict of Spec's five integers: {problem}") from problem
        for name in ("left", "top", "scale"):
            _check_integers(name, content[name])
            _check_extent(name, content[name])
        plan = cls(content["left"].long(), content["top"].long(), content["scale"].long(), spec)
        plan.check_tiling()
        if not bool((plan.first_cell().diff(dim=1) > 0).all()):
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
    def from_first_cells(cls, first: Tensor, spec: Spec) -> Plan:
        """The plan whose patches begin at these cells.

        Args:
            first: `[B, N]` int64, strictly rising: the forest z-order number of each patch's first cell.
            spec: the integers of the run.

        The side of a patch follows from where the next one begins.
        """
        end = first.new_full((1, 1), spec.num_cells).expand(first.shape[0], 1)
        cells = torch.diff(first, dim=1, append=end)  # [B, N], each 4**scale
        borders = 1 << torch.arange(2, 2 * spec.num_scales, 2, device=first.device)
        scale = torch.bucketize(cells, borders, right=True)
        left, top = (corner.index_select(0, first.flatten()).view_as(first) for corner in corners(spec, first.device))
        return cls(left, top, scale, spec)

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
        return torch.stack([(self.scale == scale).sum(dim=1) for scale in range(self.spec.num_scales)], dim=1)

    @property
    def cell_to_token(self) -> Tensor:
        """`[B, H/p, W/p]` int64: which token covers each finest cell. Right for tokens in any order."""
        rows, cols = self.spec.grid(0)
        first = self.first_cell()
        batch, tokens = first.shape
        number = torch.arange(tokens, device=first.device).expand(batch, -1)
        token_at = first.new_zeros(batch, rows * cols).scatter_(1, first, number)
        begin = torch.zeros_like(token_at).scatter_(1, first, first).cummax(dim=1).values
        return from_z_order(token_at.gather(1, begin), rows, cols, self.spec.num_scales - 1)

    def first_cell(self) -> Tensor:
        """`[B, N]` int64: the forest z-order number of each patch's top-left cell; rising in canonical order."""
        return number_of_cells(self.top // self.spec.min_patch, self.left // self.spec.min_patch, self.spec)

    def check_tiling(self) -> None:
        """Look at the values: every patch on its own grid, and every cell of every image covered exactly once.

        Waits for the device.

        Raises:
            InputError: naming the first token that breaks the rule.
        """
        self._check_numbers("to be checked")
        batch = self.left.shape[0] if self.left.ndim else 1
        shape = (batch, self.spec.num_tokens)
        for name, field in (("left", self.left), ("top", self.top), ("scale", self.scale)):
            if tuple(field.shape) != shape:
                raise InputError(f"{name} has shape {list(field.shape)}, the spec asks for {list(shape)}")
            if field.device != self.left.device:
                raise InputError(f"{name} lies on {field.device} and left on {self.left.device}: move one of them")
        scale = self.scale.clamp(0, self.spec.num_scales - 1)
        size = self.spec.min_patch << scale
        fits = (scale == self.scale) & (self.left % size == 0) & (self.top % size == 0)
        fits &= (self.left >= 0) & (self.left <= self.spec.width - size)
        fits &= (self.top >= 0) & (self.top <= self.spec.height - size)
        if not fits.all():
            image, token = (~fits).nonzero()[0].tolist()
            raise InputError(f"token {token} of image {image} lies off the grid of its scale or outside the image")
        # With every patch on its own grid, two patches are disjoint or nested: distinct first cells whose runs of
        # cells add up to the whole line leave no room for either an overlap or a gap.
        first, order = self.first_cell().sort(dim=1)
        ends = first + (1 << (2 * self.scale.gather(1, order)))
        following = torch.cat([first[:, 1:], torch.full_like(first[:, :1], self.spec.num_cells)], dim=1)
        broken = (ends != following) | (first[:, :1] != 0)
        if broken.any():
            image, place = broken.nonzero()[0].tolist()
            token = int(order[image, place])
            raise InputError(f"tokens do not tile image {image} exactly once: the break is at token {token}")

    def _check_numbers(self, purpose: str) -> None:
        if self.left.is_meta or self.top.is_meta or self.scale.is_meta:
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
            `spec`, a dict of its five integers, and `left`, `top`, `scale`, copies of the tensors.
        """
        return {
            "spec": asdict(self.spec),
            **{name: getattr(self, name).clone() for name in ("left", "top", "scale")},
        }

    def _repr_png_(self) -> bytes | None:
        # A notebook asks for it unasked: where there is nothing to draw, the words have to do.
        with contextlib.suppress(Exception):
            return as_png(self[:SHOWN_IMAGES])
        return None

    def _with_fields(self, change: Callable[[Tensor], Tensor]) -> Plan:
        return Plan(change(self.left), change(self.top), change(self.scale), self.spec)

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
        pairs = ((self.left, other.left), (self.top, other.top), (self.scale, other.scale))
        return self.spec == other.spec and all(_same_integers(ours, theirs) for ours, theirs in pairs)

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


def _check_integers(name: str, field: object) -> None:
    found = field.dtype if isinstance(field, Tensor) else type(field).__name__
    if found not in INTEGERS:
        raise InputError(f"{name} of a plan must be integers (pixels; scale 0 for the finest), got {found}")
    if isinstance(field, Tensor) and (field.layout != torch.strided or field.is_meta or field.is_nested):
        kind = "nested" if field.is_nested else field.layout
        raise InputError(f"{name} of a plan must be numbers in memory, got a tensor {kind} on {field.device}")


def _check_extent(name: str, field: Tensor) -> None:
    """Refuse a tensor that is larger than its memory: a file of a kilobyte can declare a terabyte of one number."""
    if field.numel() * field.element_size() > field.untyped_storage().nbytes():
        raise InputError(f"{name} of a plan must be numbers in memory, got {list(field.shape)} of fewer: give .clone()")


def _same_integers(ours: Tensor, theirs: Tensor) -> bool:
    if ours is theirs or ours.shape != theirs.shape:
        return ours is theirs
    if ours.is_meta or theirs.is_meta:
        raise InputError("plans on the device meta hold no numbers that could be compared")
    return torch.equal(ours.long(), theirs.to(ours.device).long())
