"""Which boxes were chosen: integers, in one order, for every image of a batch.

The order is *forest z-order*: roots in raster order, and inside a root in Morton order (top-left, top-right,
bottom-left, bottom-right, recursively). Two facts make it worth having. Every subtree is one contiguous run. And if
the finest cells are numbered in it, a patch of scale k is the run of `4**k` cells that begins at its own first
cell: a plan is a list of cut points on a line.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.spec import Spec


@dataclass(frozen=True, eq=False)
class Plan:
    """The patches that tile each image of a batch, in forest z-order (docs/reference.md section 2).

    B is the batch, N the tokens of an image. All tensors are int64, on one device. A plan built by a quadtree or by
    `from_boxes` tiles each image exactly once; the constructor itself takes the caller's word for it, because a look
    at the values would make the device wait (`check_tiling` looks).

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
        if any(field.is_floating_point() for field in (left, top, scale)):
            raise InputError("boxes must be integers: left and top in pixels, scale 0 for the finest")
        unsorted = cls(left.long(), top.long(), scale.long(), spec)
        unsorted.check_tiling()
        order = unsorted.first_cell().argsort(dim=1)
        left, top, scale = (field.gather(1, order) for field in (unsorted.left, unsorted.top, unsorted.scale))
        return cls(left, top, scale, spec)

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
        left, top = (corner.index_select(0, first.flatten()).view_as(first) for corner in _corners(spec, first.device))
        return cls(left, top, scale, spec)

    @property
    def size(self) -> Tensor:
        """`[B, N]` int64: the side of each patch in pixels."""
        return self.spec.min_patch << self.scale

    @property
    def centers(self) -> Tensor:
        """`[B, N, 2]` float32: (x, y) of each patch's centre, in units of `min_patch`: column 0 has x = 0.5."""
        # Explicitly float32: integers that are divided become torch's default dtype.
        corner = torch.stack([self.left, self.top], dim=-1).float() / self.spec.min_patch
        return corner + torch.exp2(self.scale.float() - 1)[..., None]

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
        # By arithmetic: a table of all cells would be large for a small file that declares a large image.
        depth, root_cols = self.spec.num_scales - 1, self.spec.grid(self.spec.num_scales - 1)[1]
        row, col = self.top // self.spec.min_patch, self.left // self.spec.min_patch
        root = (row >> depth) * root_cols + (col >> depth)
        inside = (1 << depth) - 1
        spread = _spread_bits(depth, row.device)
        return (root << (2 * depth)) + 2 * spread[row & inside] + spread[col & inside]

    def check_tiling(self) -> None:
        """Look at the values: every patch on its own grid, and every cell of every image covered exactly once.

        Waits for the device.

        Raises:
            InputError: naming the first token that breaks the rule.
        """
        shape = (self.left.shape[0], self.spec.num_tokens)
        for name, field in (("left", self.left), ("top", self.top), ("scale", self.scale)):
            if tuple(field.shape) != shape:
                raise InputError(f"{name} has shape {list(field.shape)}, the spec asks for {list(shape)}")
        scale = self.scale.clamp(0, self.spec.num_scales - 1)
        size = self.spec.min_patch << scale
        fits = (scale == self.scale) & (self.left % size == 0) & (self.top % size == 0)
        fits &= (self.left >= 0) & (self.left + size <= self.spec.width)
        fits &= (self.top >= 0) & (self.top + size <= self.spec.height)
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

    def to(self, device: torch.device | str) -> Plan:
        """The same plan on another device."""
        return Plan(self.left.to(device), self.top.to(device), self.scale.to(device), self.spec)

    def __getitem__(self, image: int | slice) -> Plan:
        """The plan of one image (still a batch, of 1) or of a slice of the batch."""
        if not isinstance(image, slice):
            number = operator.index(image)
            if not -len(self) <= number < len(self):
                raise IndexError(f"image {number} of a plan for {len(self)} images")
            image = slice(number, number + 1 or None)
        return Plan(self.left[image], self.top[image], self.scale[image], self.spec)

    def __len__(self) -> int:
        """The number of images."""
        return self.left.shape[0]


def to_z_order(grid: Tensor, depth: int) -> Tensor:
    """Raster to forest z-order: `[..., rows, cols]` → `[..., rows * cols]`, where a root is `2**depth` wide."""
    *batch, rows, cols = grid.shape
    bits = grid.reshape(*batch, rows >> depth, *[2] * depth, cols >> depth, *[2] * depth)
    return bits.permute(*range(len(batch)), *_interleaved(len(batch), depth)).reshape(*batch, rows * cols)


def from_z_order(values: Tensor, rows: int, cols: int, depth: int) -> Tensor:
    """The inverse of `to_z_order`: `[..., rows * cols]` → `[..., rows, cols]`."""
    batch = values.shape[:-1]
    bits = values.reshape(*batch, rows >> depth, cols >> depth, *[2] * (2 * depth))
    axes = _interleaved(len(batch), depth)
    inverse = sorted(range(len(axes)), key=axes.__getitem__)
    return bits.permute(*range(len(batch)), *(len(batch) + axis for axis in inverse)).reshape(*batch, rows, cols)


def _corners(spec: Spec, device: torch.device) -> tuple[Tensor, Tensor]:
    """(left, top) in pixels of the finest cells, `[num_cells]` int64 each, in forest z-order."""
    side = torch.arange(0, spec.max_patch, spec.min_patch, device=device)
    square = (len(side), len(side))
    depth, (root_rows, root_cols) = spec.num_scales - 1, spec.grid(spec.num_scales - 1)
    left_in_root, top_in_root = (
        to_z_order(grid, depth) for grid in (side.expand(square), side[:, None].expand(square))
    )
    root_left = torch.arange(0, spec.width, spec.max_patch, device=device).expand(root_rows, root_cols)
    root_top = torch.arange(0, spec.height, spec.max_patch, device=device)[:, None].expand(root_rows, root_cols)
    left, top = root_left[..., None] + left_in_root, root_top[..., None] + top_in_root
    return left.flatten(), top.flatten()


def _spread_bits(depth: int, device: torch.device) -> Tensor:
    """`[2**depth]` int64: each number with a zero bit put in front of each of its bits."""
    number = torch.arange(1 << depth, device=device)
    spread = torch.zeros_like(number)
    for bit in range(depth):
        spread += (number >> bit & 1) << (2 * bit)
    return spread


def _interleaved(before: int, depth: int) -> list[int]:
    """The axes (root row, root column, y bit, x bit, y bit, x bit, …) of a grid whose sides were cut into bits."""
    root_row, root_col = before, before + depth + 1
    bits = [axis + offset for offset in range(1, depth + 1) for axis in (root_row, root_col)]
    return [root_row, root_col, *bits]
