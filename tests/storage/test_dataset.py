"""Photographs and stored plans give the tokens that scoring anew would, at any budget, turned and cut."""

import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers import SAMPLE_IMAGES
from quadtok import Plan, Spec, Tokens, extract_patches, get_scorer, tokenize
from quadtok.errors import ImageError, InputError, SpecError, TokenFileError
from quadtok.geometry import make_geometry, parse_budget
from quadtok.preprocess import Preprocess
from quadtok.storage.dataset import TokenDataset
from quadtok.storage.plan_format import Entry, Header
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.plan_stream import plan_streams
from quadtok.storage.plan_writer import PlanWriter

NAMES = ("astronaut.jpg", "cats/chelsea.jpg", "rocket.jpg")


def preprocess(size=(256, 256)):
    return Preprocess(make_geometry(size, parse_budget("100%"), None, 16, 64))


@pytest.fixture
def photos(tmp_path):
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(SAMPLE_IMAGES / path.name) as image:
            image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def plans(photos, tmp_path):
    return stored(photos, tmp_path / "plans.qts", preprocess())


def stored(photos, path, steps):
    geometry = steps.geometry
    described = {key: value for key, value in steps.describe().items() if "patch" not in key and key != "tokens"}
    header = Header(geometry.min_patch, geometry.max_patch, "float32", {"preprocess": described})
    with PlanWriter(path, header) as writer:
        for name in NAMES:
            data = (photos / name).read_bytes()
            photo = steps.decode(data, photos / name)
            (stream,) = plan_streams(get_scorer("blur")(photo.fitted.pixels[None], photo.spec), photo.spec, "float32")
            writer.add(Entry(name, hashlib.sha256(data).hexdigest(), stream))
    return path


def scored(photos, name, num_tokens, steps=None, **more):
    """Tokens without a store."""
    photo = (steps or preprocess()).decode((photos / name).read_bytes(), photos / name)
    return tokenize(photo.fitted.pixels[None], replace(photo.spec, num_tokens=num_tokens), "blur", **more)


def same(ours, theirs):
    assert ours.plan == theirs.plan
    assert torch.equal(ours.patches, theirs.patches)


@pytest.mark.parametrize("num_tokens", [16, 64, 100, 256])
def test_a_number_of_tokens_gives_what_scoring_gives(num_tokens, photos, plans):
    dataset = TokenDataset(photos, plans, num_tokens=num_tokens)
    assert [dataset[number].metadata["source"]["name"] for number in range(len(dataset))] == list(NAMES)
    for number, name in enumerate(NAMES):
        same(dataset[number], scored(photos, name, num_tokens))


def test_a_threshold_gives_what_scoring_gives_and_a_cap(photos, plans):
    for cap in (None, 100):
        dataset = TokenDataset(photos, plans, threshold=0.9, num_tokens=cap)
        for number, name in enumerate(NAMES):
            same(dataset[number], scored(photos, name, cap or 256, threshold=0.9).unpadded(0))


def test_native_sizes_have_the_next_smaller_number(photos, tmp_path):
    steps = preprocess(None)
    dataset = TokenDataset(photos, stored(photos, tmp_path / "native.qts", steps), num_tokens=101)
    for number, name in enumerate(NAMES):
        spec = dataset[number].plan.spec
        assert spec.num_tokens == Spec.at_most(spec.height, spec.width, 16, 64, 101).num_tokens
        same(dataset[number], scored(photos, name, spec.num_tokens, steps))


def test_budgets_differ_by_epoch_and_image_and_lie_between(photos, plans):
    dataset = TokenDataset(photos, plans, budgets=(64, 160))
    seen = []
    for epoch in range(6):
        dataset.set_epoch(epoch)
        seen.append([dataset[number].plan.spec.num_tokens for number in range(3)])
    assert {64 <= number <= 160 for epoch in seen for number in epoch} == {True}
    assert len({number for epoch in seen for number in epoch}) > 6
    dataset.set_epoch(2)
    assert [dataset[number].plan.spec.num_tokens for number in range(3)] == seen[2]


@pytest.mark.parametrize(
    ("budgets", "possible"),
    [
        ((65, 72), {67, 70}),
        ((64, 65), {64}),
        ((65, 66), {64}),  # none between: the next smaller
        ((250, 9999), {250, 253, 256}),
        ((1000, 2000), {256}),
    ],
)
def test_budgets_are_those_between_that_the_image_can_have(budgets, possible, photos, plans):
    dataset, seen = TokenDataset(photos, plans, budgets=budgets), set()
    for epoch in range(40):
        dataset.set_epoch(epoch)
        seen.add(dataset[0].plan.spec.num_tokens)
        if seen == possible:
            break
    assert seen == possible


def test_what_is_drawn_does_not_depend_on_workers_or_batches(photos, plans):
    dataset = TokenDataset(photos, plans, budgets=(64, 160), flip=0.5, crop=(192, 128), label=len, seed=3)
    batches = [dataset.collate([dataset[number] for number in range(3)])]
    for size, workers in ((1, 0), (3, 2)):
        loader = DataLoader(dataset, batch_size=size, num_workers=workers, collate_fn=dataset.collate)
        found = [(tokens.unpadded(row), int(labels[row])) for tokens, labels in loader for row in range(len(tokens))]
        for row, (tokens, label) in enumerate(found):
            same(tokens, batches[0][0].unpadded(row))
            assert label == len(NAMES[row])


def test_a_mirrored_image_has_the_mirrored_boxes_and_their_pixels(photos, plans):
    straight, mirrored = (TokenDataset(photos, plans, num_tokens=100, flip=flip) for flip in (0.0, 1.0))
    for number in range(3):
        ours, plan = mirrored[number], straight[number].plan
        left = plan.spec.width - plan.left - (plan.spec.min_patch << plan.scale)
        assert ours.plan == Plan.from_boxes(left, plan.top, plan.scale, plan.spec)
        image = preprocess().decode((photos / NAMES[number]).read_bytes(), Path()).fitted.pixels
        assert torch.equal(ours.patches, extract_patches(image.flip(-1)[None], ours.plan))


def test_a_crop_is_of_whole_roots_and_states_its_own_number_of_tokens(photos, plans):
    dataset = TokenDataset(photos, plans, num_tokens=100, crop=(192, 128))
    seen = set()
    for epoch in range(8):
        dataset.set_epoch(epoch)
        tokens = dataset[0]
        assert tokens.plan.spec == Spec(192, 128, 16, 64, 96)  # all that there are
        seen.add(tuple(tokens.patches.flatten()[:20].tolist()))
    assert len(seen) > 2
    with pytest.raises(InputError, match=r"astronaut\.jpg: .*not inside"):
        TokenDataset(photos, plans, num_tokens=100, crop=(512, 256))[0]


def test_a_crop_shows_the_pixels_of_the_place_that_its_plan_is_of(photos, plans):
    dataset = TokenDataset(photos, plans, num_tokens=96, crop=(192, 128), flip=0.5)
    image = preprocess().decode((photos / NAMES[0]).read_bytes(), Path()).fitted.pixels
    whole, places = TokenDataset(photos, plans, num_tokens=256).store[NAMES[0]], set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        ours = dataset[0]
        for turned, stream in ((image, whole), (image.flip(-1), whole.mirrored())):
            for top in (0, 64):
                for left in (0, 64, 128):
                    part = turned[:, top : top + 192, left : left + 128][None]
                    plan = stream.cropped(top, left, 192, 128).plan(96)
                    if torch.equal(extract_patches(part, plan), ours.patches):
                        assert ours.plan == plan
                        places.add((turned is image, top, left))
    assert len(places) > 6
    assert {place[0] for place in places} == {True, False}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"num_tokens": 40}, {"num_tokens": 39}),  # of 6 roots
        ({"threshold": 0.9}, {"threshold": 0.9}),
        ({"threshold": 0.9, "num_tokens": 40}, {"threshold": 0.9, "num_tokens": 39}),
    ],
)
def test_the_budget_of_a_crop_is_of_what_it_keeps(asked, given, photos, plans):
    dataset = TokenDataset(photos, plans, crop=(128, 192), **asked)
    stream = dataset.store[NAMES[1]]
    of_all_places = [stream.cropped(top, left, 128, 192).plan(**given) for top in (0, 64, 128) for left in (0, 64)]
    assert dataset[1].plan in of_all_places


def test_an_image_is_refused_by_its_size_as_the_command_would(photos, plans):
    with pytest.raises(ImageError, match=r"astronaut\.jpg: .*pixels"):
        TokenDataset(photos, plans, num_tokens=100, max_pixels=1000)[0]
    assert len(TokenDataset(photos, plans, num_tokens=100, max_pixels=10**12)[0]) == 1
    with pytest.raises(InputError, match="max_pixels"):
        TokenDataset(photos, plans, num_tokens=100, max_pixels=0)


def test_a_file_that_is_not_the_one_that_was_scored_is_refused(photos, plans):
    Image.new("RGB", (300, 300)).save(photos / NAMES[0])
    with pytest.raises(InputError, match=r"astronaut\.jpg: is another file than the plans"):
        TokenDataset(photos, plans, num_tokens=100)[0]


def test_names_choose_and_paths_may_lie_anywhere(photos, plans, tmp_path):
    (photos / NAMES[2]).rename(tmp_path / "elsewhere.jpg")
    dataset = TokenDataset({NAMES[2]: tmp_path / "elsewhere.jpg"}, plans, num_tokens=64, names=[NAMES[2]])
    assert len(dataset) == 1
    assert dataset[0].plan.spec.num_tokens == 64
    with pytest.raises(IndexError):
        dataset[1]


REFUSED = {
    "no budget": ({}, "give one of num_tokens, budgets and threshold"),
    "two budgets": ({"num_tokens": 100, "budgets": (64, 100)}, "give one of"),
    "a budget range and a threshold": ({"threshold": 0.5, "budgets": (64, 100)}, "give one of"),
    "a budget range upside down": ({"budgets": (100, 64)}, "budgets"),
    "flip": ({"num_tokens": 100, "flip": 2}, "0 to 1"),
    "a name that is not there": ({"num_tokens": 100, "names": ["x.jpg"]}, r"has no plans of x\.jpg"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_together_is_refused_at_once(what, photos, plans):
    arguments, sentence = REFUSED[what]
    with pytest.raises(InputError, match=sentence):
        TokenDataset(photos, plans, **arguments)


def test_fewer_tokens_than_roots_are_refused(photos, plans):
    with pytest.raises(SpecError, match=r"astronaut\.jpg: .*roots"):
        TokenDataset(photos, plans, num_tokens=4)[0]


def test_a_store_that_does_not_say_how_images_were_read_is_refused(photos, tmp_path):
    for made in ({}, {"preprocess": 3}, {"preprocess": {"image_size": [256, 256], "fit": "no"}}):
        with PlanWriter(tmp_path / "bare.qts", Header(16, 64, "none", made)):
            pass
        with pytest.raises(TokenFileError, match="does not say how its images"):
            TokenDataset(photos, PlanStore(tmp_path / "bare.qts"), num_tokens=100)
        (tmp_path / "bare.qts").unlink()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"budgets": 64}, "budgets are the fewest tokens and the most, got 64"),
        ({"budgets": (64,)}, "budgets are the fewest"),
        ({"budgets": (64, 100, 160)}, "budgets are the fewest"),
        ({"budgets": (64.5, 100)}, "budgets are the fewest"),
        ({"num_tokens": 100, "crop": 64}, r"crop is \(height, width\) in pixels, got 64"),
        ({"num_tokens": 100, "crop": (64,)}, "crop is"),
        ({"num_tokens": 100, "crop": (64.0, 64)}, "crop is"),
        ({"num_tokens": 100, "crop": (0, 64)}, "crop is"),
        ({"num_tokens": 100, "crop": (64, 100)}, r"in multiples of 64 pixels, got \(64, 100\)"),
        ({"num_tokens": 100, "seed": -1}, "seed is an integer from 0 on, got -1"),
    ],
)
def test_arguments_of_another_kind_are_refused_at_once(arguments, sentence, photos, plans):
    with pytest.raises(InputError, match=sentence):
        TokenDataset(photos, plans, **arguments)


def test_an_epoch_below_0_and_a_name_without_a_path_are_refused(photos, plans):
    with pytest.raises(InputError, match="epoch is an integer from 0 on"):
        TokenDataset(photos, plans, num_tokens=100).set_epoch(-1)
    with pytest.raises(InputError, match="images do not say the path of"):
        TokenDataset({}, plans, num_tokens=100)[0]


@pytest.fixture
def archives(photos, tmp_path):
    """The photographs in two tar files, and their plans under the names that `tokenize` gives."""
    for stem, names in (("first", NAMES[:2]), ("second", NAMES[2:])):
        with tarfile.open(tmp_path / f"{stem}.tar", "w") as archive:
            for name in names:
                archive.add(photos / name, name)
    return [tmp_path / "first.tar", tmp_path / "second.tar"]


@pytest.fixture
def plans_of_archives(plans, tmp_path):
    store = PlanStore(plans)
    with PlanWriter(tmp_path / "archives.qts", store.header) as writer:
        for entry in store.entries():
            writer.add(entry._replace(name=f"{'second' if entry.name == NAMES[2] else 'first'}/{entry.name}"))
    return tmp_path / "archives.qts"


def test_photographs_in_tar_files_are_read_where_they_lie(photos, archives, plans_of_archives):
    dataset = TokenDataset(archives, plans_of_archives, num_tokens=64)
    for number, name in enumerate(NAMES):
        same(dataset[number], scored(photos, name, 64))
    loader = DataLoader(dataset, batch_size=3, collate_fn=dataset.collate, num_workers=1)
    assert len(next(iter(loader)).plan) == 3


def test_one_tar_file_needs_no_list(photos, archives, plans_of_archives):
    name = f"first/{NAMES[0]}"
    for images in (archives[0], str(archives[0])):
        dataset = TokenDataset(images, plans_of_archives, names=[name], num_tokens=64)
        same(dataset[0], scored(photos, NAMES[0], 64))


@pytest.mark.parametrize("form", [str, lambda path: [path]])
def test_a_parquet_file_is_called_one(plans, tmp_path, form):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet: images of a Parquet file are not read here: give a folder"):
        TokenDataset(form(tmp_path / "x.parquet"), plans, num_tokens=64)


def test_what_is_not_in_the_tar_files_or_not_whole_is_named(archives, plans_of_archives, tmp_path):
    dataset = TokenDataset(archives[:1], plans_of_archives, num_tokens=64)
    with pytest.raises(InputError, match=r"do not say the path of second/rocket\.jpg"):
        dataset[2]
    (tmp_path / "other").mkdir()
    twin = (tmp_path / "other" / "first.tar").resolve()
    twin.write_bytes(archives[0].read_bytes())
    with pytest.raises(InputError, match=r"first/astronaut\.jpg is in .*, too"):
        TokenDataset([archives[0], twin], plans_of_archives, num_tokens=64)
    archives[0].write_bytes(archives[0].read_bytes()[:5000])
    with pytest.raises(InputError, match=r"first\.tar: is no tar file as it is, or is cut short"):
        TokenDataset(archives, plans_of_archives, num_tokens=64)
    with pytest.raises(ImageError, match=r"first/cats/chelsea\.jpg: the archive is cut short"):
        dataset[1]


def test_what_tokens_are_made_of_gives_them_at_every_budget(photos, plans):
    dataset = TokenDataset(photos, plans, num_tokens=100, flip=0.5, crop=(192, 128), seed=3)
    for number in range(len(NAMES)):
        pixels, stream = dataset.planned(number)
        plan = stream.plan(dataset[number].plan.spec.num_tokens)
        assert dataset[number] == Tokens(plan, extract_patches(pixels[None], plan))
        assert stream.plan(stream.spec.num_cells).spec.num_cells == 192 * 128 // 256
