import builtins
import re
import subprocess
import sys

import torch

from quadtok import __version__
from quadtok.environment import environment, machine


def test_it_names_what_a_bug_report_needs():
    facts = environment()
    assert list(facts) == [
        *("quadtok", "python", "platform"),
        *("torch", "torchvision", "pillow", "numpy", "typer", "rich"),
        *("cuda", "devices", "threads"),
    ]
    assert (facts["quadtok"], facts["devices"][0]) == (__version__, "cpu")
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_numbers_belong_to_a_processor_and_its_threads():
    facts = machine("cpu")
    assert facts.items() >= environment().items()
    assert re.fullmatch(rf".+, {torch.get_num_threads()} threads?", facts["processor"])


def test_a_torchvision_that_does_not_fit_is_told(monkeypatch):
    real = builtins.__import__

    def broken(name, *arguments, **keywords):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand more")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert environment()["torchvision"].endswith(" (does not import: operator torchvision::nms does not exist)")


def test_it_loads_no_torch_before_it_is_asked():
    code = "import sys, quadtok.environment; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
