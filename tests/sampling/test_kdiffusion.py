"""The samplers in use are those of the installed k-diffusion, unmodified."""

import base64
import hashlib
import importlib.util
import inspect
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
