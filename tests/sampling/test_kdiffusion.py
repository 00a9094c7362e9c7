"""The samplers in use are those of the installed k-diffusion, unmodified."""

import base64
import hashlib
import importlib.util
import inspect
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import torch

from tileup.plan.samplers import SAMPLERS
from tileup.sampling import kdiffusion


def test_every_sampler_comes_from_the_installed_file() -> None:
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None
    assert found.submodule_search_locations is not None
    installed = Path(next(iter(found.submodule_search_locations))) / "sampling.py"
    for name in SAMPLERS:
        function = inspect.unwrap(kdiffusion.sample_function(name))
        assert function.__name__ == f"sample_{name}"
        assert Path(inspect.getsourcefile(function) or "").samefile(installed)


def test_the_file_is_the_one_that_was_published() -> None:
    path = kdiffusion.installed_file("sampling.py")
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=")
    recorded = next(
        file.hash
        for file in distribution("k-diffusion").files or []
        if str(file) == "k_diffusion/sampling.py"
    )
    assert recorded is not None
    assert recorded.value == digest.decode()


def test_append_dims_is_the_one_of_k_diffusion() -> None:
    """Its own utils.py cannot be imported here, so its function is cut out of the text."""
    source = kdiffusion.installed_file("utils.py").read_text()
    start = source.index("def append_dims")
    scope: dict[str, object] = {}
    exec(source[start : source.index("\ndef ", start + 1)], scope)
    theirs = scope["append_dims"]
    assert callable(theirs)
    for shape, dimensions in (((), 4), ((3,), 4), ((2, 3), 3), ((2, 3), 2)):
        x = torch.rand(shape)
        assert torch.equal(kdiffusion.append_dims(x, dimensions), theirs(x, dimensions))


LOADED = """
import sys
import torch
from tileup.sampling import kdiffusion
kdiffusion.sample_function("euler")
slow = [name for name in ("scipy.integrate", "torchsde", "torchdiffeq") if name in sys.modules]
assert not slow, slow
kdiffusion.sample_function("lms")(
    lambda x, sigma: x / 2, torch.ones(1, 1, 2, 2), torch.tensor([2.0, 1.0, 0.5]), disable=True
)
assert "scipy.integrate" in sys.modules
kdiffusion.brownian_tree(torch.ones(1, 1, 2, 2), 0.1, 1.0, 5)(torch.tensor(0.5), torch.tensor(0.4))
assert "torchsde" in sys.modules
"""


def test_what_single_samplers_need_is_loaded_when_they_are_used() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
