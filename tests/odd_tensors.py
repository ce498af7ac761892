"""Kinds of tensors that files may hold: those that can be used, and those that hold no numbers of use."""

import io
import pickle
import warnings

import torch

VALUES = torch.arange(64.0).view(8, 8).sin() + 2  # positive: quantised without loss of the order that matters


def quantized(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(values, 2**-6, 0, torch.quint8)


def sparse_rows(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return values.to_sparse_csr()


def nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([VALUES[0], VALUES[0, :3]])


def said_of_nested():
    """torch before 2.15 loads them, and later ones think them unsafe."""
    data = io.BytesIO()
    torch.save(nested(), data)
    data.seek(0)
    try:
        torch.load(data, weights_only=True)
    except pickle.UnpicklingError:
        return "not a tensor that can be loaded safely"
    return "holds a nested tensor, whose"


# What is saved, and the plain map that it stands for.
USABLE = {
    "requires grad": (lambda: VALUES.clone().requires_grad_(), VALUES),
    "a parameter": (lambda: torch.nn.Parameter(VALUES.clone()), VALUES),
    "sparse": (lambda: VALUES.to_sparse(), VALUES),
    "sparse rows": (lambda: sparse_rows(VALUES), VALUES),
    "quantised": (lambda: quantized(VALUES), quantized(VALUES).dequantize()),
    "a negative view": (lambda: torch.complex(VALUES, -VALUES).conj().imag, VALUES),
    "a strided view": (lambda: VALUES.repeat(2, 2)[::2, ::2], VALUES.repeat(2, 2)[::2, ::2]),
    "expanded": (lambda: VALUES[:1].expand(8, 8), VALUES[:1].repeat(8, 1)),
    "integers": (lambda: (VALUES * 50).long(), (VALUES * 50).long().float()),
    "bytes": (lambda: (VALUES * 50).byte(), (VALUES * 50).byte().float()),
    "bool": (lambda: VALUES > 2, (VALUES > 2).float()),
    "float64": (lambda: VALUES.double(), VALUES),
    "float16": (lambda: VALUES.half(), VALUES.half().float()),
    "float8": (lambda: VALUES.to(torch.float8_e5m2), VALUES.to(torch.float8_e5m2).float()),
    "a map a scale": (lambda: [VALUES, VALUES], VALUES),
    "a tuple": (lambda: (VALUES,), VALUES),
}
# What is saved, and what is said of it.
NO_TENSORS = {
    "a dict": (lambda: {"map": VALUES}, "holds a dict, not a tensor"),
    "a text": (lambda: "map", "holds a str, not a tensor"),
    "nothing": (lambda: None, "holds a NoneType, not a tensor"),
    "a list with a dict": (lambda: [VALUES, {}], "holds a list with a dict, not tensors alone"),
    "meta": (lambda: VALUES.to("meta"), "holds a tensor without numbers (saved on the device meta)"),
    "nested": (nested, said_of_nested()),
    "a terabyte": (lambda: VALUES[0, 0].expand(1 << 20, 1 << 20), "would take 4398046511104 bytes"),
    "a sparse terabyte": (
        lambda: torch.sparse_coo_tensor([[0], [0]], [1.0], (1 << 20, 1 << 20), check_invariants=True),
        "would take 4398046511104 bytes",
    ),
}
