"""Whatever kind of tensor was saved, a plain one is loaded, or it is said what the file holds instead."""

import warnings

import pytest
import torch

from odd_tensors import NO_TENSORS, USABLE, VALUES
from quadtok.errors import InputError
from quadtok.jobs.tensors import load_tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pt"


@pytest.mark.parametrize(("saved", "stands_for"), USABLE.values(), ids=USABLE)
def test_a_tensor_of_any_kind_is_loaded_as_a_plain_one(path, saved, stands_for):
    torch.save(saved(), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_tensors(path, "x")
    for tensor in found if isinstance(found, list) else [found]:
        assert type(tensor) is torch.Tensor
        assert (tensor.layout, tensor.device.type, tensor.requires_grad) == (torch.strided, "cpu", False)
        assert not (tensor.is_quantized or tensor.is_neg() or tensor.is_conj())
        assert torch.equal(tensor.float(), stands_for.float())


@pytest.mark.parametrize(("saved", "said"), NO_TENSORS.values(), ids=NO_TENSORS)
@pytest.mark.filterwarnings("ignore")  # torch's, about nested tensors
def test_what_holds_no_numbers_of_use_is_refused_with_what_it_holds(path, saved, said):
    torch.save(saved(), path)
    with pytest.raises(InputError) as refused:
        load_tensors(path, "map of cat.png")
    assert str(refused.value).startswith("map of cat.png: ") and said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_read_begins_with_what_the_caller_calls_it(path):
    for make, said in (
        (lambda: None, "no such file"),
        (path.touch, "not a tensor that can be loaded safely; write it with torch.save(tensor, path)"),
    ):
        make()
        with pytest.raises(InputError) as refused:
            load_tensors(path, "map of cat.png")
        assert str(refused.value) == f"map of cat.png: {said}"


def test_a_file_of_before_there_were_archives_is_read(path):
    torch.save(VALUES, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_tensors(path, "x"), VALUES)
