import numpy as np
import pytest

from image_scenes import GRAY, HEIGHT, PALETTE, WIDTH, off
from image_writers import gif
from quadtok.images import decode_image

INDICES = GRAY[..., 0]
ORANGE = (255, 128, 0)


def shown(*frames, canvas=(WIDTH, HEIGHT), background=0):
    return decode_image(gif(canvas, PALETTE, frames, background), "x.gif", background="#ff8000")


@pytest.mark.parametrize("clear", [None, 0, int(INDICES[5, 7])])
@pytest.mark.parametrize("background", [0, 9])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 2), (30, 0)])
def test_nothing_is_drawn_around_a_first_frame_that_is_smaller_than_the_canvas(left, top, background, clear):
    read = shown((INDICES, left, top, clear), canvas=(WIDTH + 40, HEIGHT + 5), background=background)
    pixels = np.empty((HEIGHT + 5, WIDTH + 40, 3))
    pixels[:] = ORANGE
    seen = np.where((clear == INDICES)[..., None], ORANGE, PALETTE[INDICES]) if clear is not None else PALETTE[INDICES]
    pixels[top : top + HEIGHT, left : left + WIDTH] = seen
    assert off(read.image, pixels) == 0


@pytest.mark.parametrize("clear", [None, int(INDICES[5, 7])])
def test_a_frame_of_the_whole_canvas_is_read(clear):
    seen = np.where((clear == INDICES)[..., None], ORANGE, PALETTE[INDICES]) if clear is not None else PALETTE[INDICES]
    read = shown((INDICES, 0, 0, clear), (255 - INDICES, 0, 0, None))
    assert off(read.image, seen.astype(float)) == 0
    assert (read.frames, read.left_out) == (2, 1)
