"""Procedural scenes: the same numbers give the same pixels, and the truth about the objects is true."""

import numpy as np
import pytest

from backgrounds import BACKGROUNDS
from materials import Materials
from objects import cut_out, drawn
from scenes import HELD_OUT, TRAINING, Recipe, scene


@pytest.fixture(scope="module")
def noise():
    return Materials.from_noise(0)


@pytest.fixture(scope="module")
def materials(noise):
    """As if something had been collected: a texture, and a red disc on a transparent ground."""
    down, across = np.mgrid[-40:40, -40:40]
    disc = np.zeros((80, 80, 4), np.uint8)
    disc[..., 0], disc[..., 3] = 200, 255 * (np.hypot(down, across) < 39)
    texture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    return Materials(noise.fields, [texture], [disc])


def test_a_scene_depends_on_recipe_seed_and_number_alone(materials):
    pixels, cells = scene(TRAINING, materials, 1, 2)
    again, cells_again = scene(TRAINING, materials, 1, 2)
    assert np.array_equal(pixels, again) and np.array_equal(cells, cells_again)
    assert not np.array_equal(pixels, scene(TRAINING, materials, 1, 3)[0])
    assert not np.array_equal(pixels, scene(TRAINING, materials, 2, 2)[0])
    assert (pixels.shape, pixels.dtype, cells.shape, cells.dtype) == ((256, 256, 3), np.uint8, (16, 16), np.uint8)


@pytest.mark.parametrize("name", BACKGROUNDS)
@pytest.mark.parametrize("source", ["noise", "materials"])
def test_every_background_is_a_picture_with_or_without_a_collection(name, source, request):
    picture = BACKGROUNDS[name](np.random.default_rng(3), request.getfixturevalue(source), 64)
    assert picture.shape == (64, 64, 3)
    assert np.isfinite(picture).all()


@pytest.mark.parametrize("make", [drawn, cut_out])
def test_a_thing_has_opaque_parts_and_a_transparent_ground(make, materials):
    thing = make(np.random.default_rng(5), materials)
    assert thing.shape[2] == 4
    assert thing[..., 3].max() == 1 and thing[..., 3].min() == 0


def test_the_cells_say_where_the_objects_are(materials):
    """One undisguised object before an even ground: what differs from the ground lies in the cells."""
    recipe = Recipe(("plain",), num_objects=(1, 1), object_side=(0.4, 0.5), noise=0, jpeg=(95, 96), focus=0)
    found = 0
    for number in range(12):
        pixels, cells = scene(recipe, materials, 9, number)
        contrast = pixels.astype(float).reshape(16, 16, 16, 16, 3).std(axis=(1, 3)).max(axis=2)
        border = (cells > 40) & (cells < 215)
        found += contrast[border].mean() > 1.5 * contrast[cells == 0].mean()
    assert found >= 9  # now and then object and ground are of one colour, or a shadow is sharper than the object


def test_held_out_scenes_differ_from_training_in_more_than_their_seed():
    assert not set(HELD_OUT.backgrounds) & set(TRAINING.backgrounds)
    others = {"photograph"}  # of training/object
    assert set(HELD_OUT.backgrounds) | set(TRAINING.backgrounds) | others == set(BACKGROUNDS)


def test_held_out_cut_outs_are_not_those_of_training(tmp_path, materials):
    marks = {f"cutout{number:05}": np.full((8, 8, 4), number, np.uint8) for number in range(30)}
    np.savez(tmp_path / "collection.npz", texture00000=materials.textures[0], **marks)
    train, held = (Materials.collected(tmp_path / "collection.npz", 0, held_out) for held_out in (False, True))
    numbers = [{cutout[0, 0, 0] for cutout in part.cutouts} for part in (train, held)]
    assert numbers[1] == {0, 10, 20}
    assert numbers[0] == set(range(30)) - numbers[1]
    assert len(train.textures) == 1
