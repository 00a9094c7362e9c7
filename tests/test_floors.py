"""Imports only point down: read from the source of every module, functions and all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tileup

PACKAGE = Path(tileup.__file__).parent
FLOORS = {
    "meanwhile": 0,
    "errors": 0,
    "contracts": 0,
    "resources": 0,
    "settings": 0,
    "storage": 0,
    "torchvision_shield": 0,
    "wording": 0,
    "devices": 1,
    "images": 1,
    "tensors": 1,
    "enlarge": 2,
    "plan": 2,
    "sampling": 3,
    "tiling": 2,
    "codec": 2,
    "text": 2,
    "denoise": 4,
    "families": 3,
    "checkpoints": 4,
    "ready": 3,
    "canvas": 5,
    "upscaling": 6,
    "model_settings": 5,
    "api": 7,
    "engine": 7,
    "cli": 8,
    "": 9,  # the package's own root and __main__: they may name everything
    "__main__": 9,
}
"""Floor of each part: a package, or a module at the root."""
GROUND = {"meanwhile", "errors", "contracts", "resources", "settings", "storage", "wording"}
"""Parts of floor 0 build on one another; the loop test sees that this stays free of loops."""
NO_TORCH = {"cli", "engine", "plan", "images", "api", "model_settings", "ready", *GROUND}
"""Parts that import torch in functions at most."""


def part(module: str) -> str:
    """`tileup.plan.tiles` is of part `plan`, `tileup` of part ``."""
    return [*module.split("."), ""][1]


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*.py")):
        names = path.relative_to(root.parent).with_suffix("").parts
        yield ".".join(names[:-1] if names[-1] == "__init__" else names), path


def imports(path: Path, module: str, known: set[str]) -> Iterator[str]:
    """Everything of tileup that a module imports, wherever in it: absolute module names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package=path.name == "__init__.py")
            for each in node.names:
                inner = f"{base}.{each.name}"
                # `from tileup import __version__` names no part: the root defines it itself.
                if inner in known:
                    yield inner
                elif inner != "tileup.__version__":
                    yield base


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def violations(root: Path) -> list[str]:
    """Each import that does not point down, as `module -> imported`."""
    found = dict(modules(root))
    known = set(found)
    result: list[str] = []
    for module, path in found.items():
        for target in imports(path, module, known):
            if target.split(".")[0] != "tileup" or part(target) == part(module):
                continue
            down = FLOORS[part(target)] < FLOORS[part(module)]
            ground = {part(target), part(module)} <= GROUND
            if not down and not ground:
                result.append(f"{module} -> {target}")
    return result


def test_imports_only_point_down() -> None:
    assert violations(PACKAGE) == []


def test_every_part_has_a_floor() -> None:
    assert {part(module) for module, _ in modules(PACKAGE)} == set(FLOORS)


def test_many_imports_were_looked_at() -> None:
    found = dict(modules(PACKAGE))
    inside = [
        target
        for module, path in found.items()
        for target in imports(path, module, set(found))
        if target.startswith("tileup.") and part(target) != part(module)
    ]
    assert len(inside) > 100


def test_no_module_imports_itself_through_others() -> None:
    assert loops(PACKAGE) == []


def loops(root: Path) -> list[str]:
    """Modules that lie on a loop of imports, or only behind one."""
    found = dict(modules(root))
    graph = {
        name: loaded(set(imports(path, name, set(found))) & set(found), name)
        for name, path in found.items()
    }
    graph.pop("tileup")
    while leaves := {name for name, targets in graph.items() if not targets & set(graph)}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    return sorted(graph)


def loaded(targets: set[str], module: str) -> set[str]:
    """What importing these loads: the packages that they lie in too, but those of the module."""
    above = {
        ".".join(parts[:count])
        for parts in (target.split(".") for target in targets)
        for count in range(2, len(parts))
    }
    return targets | {name for name in above if not module.startswith(f"{name}.")}


def test_a_loop_through_a_package_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "tileup" / "images" / "formats"
    room.mkdir(parents=True)
    for folder in (room, room.parent, room.parent.parent):
        (folder / "__init__.py").write_text("")
    (room / "png.py").write_text("from tileup.images import extras\n")
    (room / "values.py").write_text("")
    (room.parent / "extras.py").write_text("from tileup.images.formats import values\n")
    assert loops(tmp_path / "tileup") == []
    (room / "__init__.py").write_text("from tileup.images.formats import png\n")
    assert "tileup.images.extras" in loops(tmp_path / "tileup")


def test_torch_is_imported_in_functions_only_where_it_is_not_always_needed() -> None:
    for module, path in modules(PACKAGE):
        if part(module) not in NO_TORCH:
            continue
        for node in ast.parse(path.read_text()).body:
            names = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert "torch" not in names, f"{module}: {names}"
            assert "tileup.upscaling" not in names, f"{module}: {names}"
            assert "tileup.canvas" not in names, f"{module}: {names}"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("plan/tiles.py", "import tileup.cli.app\n"),
        ("plan/tiles.py", "from tileup import upscaling\n"),
        ("plan/tiles.py", "def late():\n    from tileup.engine.jobs import find_jobs\n"),
        ("plan/tiles.py", "from ..tiling import tiled\n"),
        ("plan/__init__.py", "from ..denoise import schedule\n"),
        ("images/reading.py", "from tileup.plan import tiles\n"),
        ("settings.py", "from tileup.plan.tiles import Tile\n"),
        (
            "api.py",
            "if TYPE_CHECKING:\n    import tileup.engine.jobs\n",
        ),
        ("engine/jobs.py", "from tileup import upscale\n"),
    ],
)
def test_a_violation_is_seen(tmp_path: Path, where: str, text: str) -> None:
    root = tmp_path / "tileup"
    for name in ("__init__", "upscaling", "settings", "api"):
        (root / f"{name}.py").parent.mkdir(exist_ok=True)
        (root / f"{name}.py").write_text("")
    for name in ("plan/tiles", "engine/jobs", "tiling/tiled", "denoise/schedule", "images/reading"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).parent.joinpath("__init__.py").write_text("")
        (root / f"{name}.py").write_text("from tileup.errors import TileupError\n")
    assert violations(root) == []
    (root / where).write_text(text)
    assert len(violations(root)) == 1
