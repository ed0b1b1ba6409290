"""Check the layers of the package by parsing its imports; nothing is imported.

Each check is a function from a parsed tree to a list of violations. It runs twice: on the real package, where the list
must be empty, and on a small planted tree with a violation that it must find.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "pixelwise"
SOURCE = REPOSITORY / "src" / PACKAGE

# A module imports from rows above its own, never from its own row or from rows below.
# docs/architecture.md has the same table.
LAYERS = (
    ("errors", "version"),
    ("arguments",),
    ("shapes", "config", "devices", "progress", "files", "import_paths", "tensors"),
    ("ops", "data", "metrics", "output_files"),
    ("networks", "losses", "checks"),
    ("model_file", "lowering", "conversion"),
    ("inference",),
    ("prediction", "evaluation"),
    ("quantization", "reports", "serving"),
    ("training", "exporting"),
    ("planning", "comparison", "labeling"),
    ("api",),
    ("cli",),
)
LAYER_OF = {name: number for number, row in enumerate(LAYERS) for name in row}

# These modules are above all layers: they only re-export names.
DOORS = ("__init__", "__main__")

DRAWERS = {"utils", "util", "helpers", "helper", "misc", "common", "core", "base"}

# Slow imports that `pixelwise --help` and errors in a configuration must not wait for.
HEAVY = {"torch", "torchvision", "timm", "cv2", "scipy", "matplotlib"}
LIGHT_MODULES = (
    "__init__",
    "__main__",
    "cli.main",
    "errors",
    "arguments",
    "config",
    "shapes",
    "version",
    "exporting.result",
    "prediction.result",
    "quantization.result",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name: `target` is dotted and absolute, and may end in a name that is not a module."""

    target: str
    line: int
    at_start: bool
    """Executed when the module is imported, not inside a function or for typing only."""
    in_function: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    name: str
    """Dotted, without the package: `data.images`; a package has the name of its folder: `data`."""
    path: Path
    """Relative to the folder of the package."""
    imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        """The entry of the layer table."""
        return self.name.partition(".")[0]


Tree = dict[str, Module]


def read_tree(root: Path) -> Tree:
    """Parse every file in `root`, the folder of the package."""
    modules = (_read_module(path, root) for path in sorted(root.rglob("*.py")))
    return {module.name: module for module in modules}


def _read_module(path: Path, root: Path) -> Module:
    inner = path.relative_to(root)
    parts = inner.with_suffix("").parts
    is_package = parts[-1] == "__init__" and len(parts) > 1
    name = ".".join(parts[:-1] if is_package else parts)
    body = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
    return Module(name=name, path=inner, imports=tuple(_imports(body, (PACKAGE, *parts[:-1]))))


def _imports(
    body: Iterable[ast.AST], package: tuple[str, ...], at_start: bool = True, in_function: bool = False
) -> Iterator[Import]:
    for node in body:
        for target in _targets(node, package):
            assert isinstance(node, ast.stmt)
            yield Import(target=target, line=node.lineno, at_start=at_start, in_function=in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.body, package, False, inside)
            yield from _imports(node.orelse, package, at_start, inside)
        else:
            yield from _imports(ast.iter_child_nodes(node), package, at_start and not inside, inside)


def _targets(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = package[: len(package) - node.level + 1] if node.level else ()
    source = ".".join((*start, *(node.module or "").split("."))).strip(".")
    return [f"{source}.{alias.name}" for alias in node.names]


def _inner_target(target: str) -> str | None:
    """Return `data.images` for `pixelwise.data.images`, "" for the package itself, None for other code."""
    top, _, rest = target.partition(".")
    return rest if top == PACKAGE else None


def misdirected_imports(tree: Tree) -> list[str]:
    """Return imports from the same row, from a row below, or through the package itself; also inside functions."""
    return [
        f"{module.path.as_posix()}:{line.line} {reason}"
        for module in tree.values()
        if module.name not in DOORS and module.part in LAYER_OF
        for line in module.imports
        if (reason := _misdirection(module.part, line.target))
    ]


def _misdirection(part: str, target: str) -> str | None:
    inner = _inner_target(target)
    if inner is None:
        return None
    other = inner.partition(".")[0]
    if other not in LAYER_OF:
        return f"imports {target}: import it from the module that defines it"
    if other == part:
        return None
    below, above = LAYER_OF[other], LAYER_OF[part]
    if below < above:
        return None
    place = "is on the same row" if below == above else f"is below, on row {below}"
    return f"imports {target}: {other} {place}; {part} is on row {above}"


def unlisted_modules(tree: Tree) -> list[str]:
    """Return top-level files and folders that are missing in the layer table."""
    parts = {module.part for module in tree.values()} - set(DOORS)
    return sorted(parts - set(LAYER_OF))


def drawers(tree: Tree) -> list[str]:
    """Return files and folders with a name that says nothing, at any depth."""
    return sorted(name for name in tree if DRAWERS & set(name.split(".")))


def import_cycles(tree: Tree) -> list[str]:
    """Return cycles of modules that import each other at import time."""
    graph = {name: set(_imported_modules(module, tree)) for name, module in tree.items()}
    reach = {name: _reachable(name, graph) for name in graph}
    rings = {
        tuple(sorted({name} | {other for other in reach[name] if name in reach[other]}))
        for name in graph
        if name in reach[name]
    }
    return sorted(" ↔ ".join(ring) for ring in rings)


def _imported_modules(module: Module, tree: Tree) -> Iterator[str]:
    """Yield modules of the tree that `module` imports at import time.

    Parent packages do not count: `data/__init__.py` may import `data.images`, whose own imports of
    `pixelwise.data.sample` pass through the package without needing a name from it.
    """
    for line in module.imports:
        inner = _inner_target(line.target)
        if inner is None or not line.at_start:
            continue
        owner = inner if inner in tree else inner.rpartition(".")[0] or "__init__"
        if owner in tree and owner != module.name:
            yield owner


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen


def heavy_starts(tree: Tree) -> list[str]:
    """Return chains of imports from a light module to a slow library at import time."""
    graph = {name: set(_started_modules(module, tree)) for name, module in tree.items()}
    return [
        f"{light} starts {library}, imported by {tree[name].path.as_posix()}:{line}"
        for light in LIGHT_MODULES
        if light in tree
        for name in sorted({light} | _reachable(light, graph))
        for library, line in _heavy_imports(tree[name])
    ]


def _started_modules(module: Module, tree: Tree) -> Iterator[str]:
    """Yield the modules of `_imported_modules` and their parent packages, which Python runs first."""
    yield from (name for name in DOORS[:1] if name in tree)
    for name in _imported_modules(module, tree):
        parts = name.split(".")
        prefixes = (".".join(parts[: end + 1]) for end in range(len(parts)))
        yield from (prefix for prefix in prefixes if prefix in tree)


def _heavy_imports(module: Module) -> Iterator[tuple[str, int]]:
    for line in module.imports:
        library = line.target.partition(".")[0]
        if line.at_start and library in HEAVY:
            yield library, line.line


MAX_LOCAL_IMPORTS = 10

OPTIONAL = {
    "pydicom", "pyarrow", "pycocotools", "onnx", "onnxscript", "onnxruntime", "openvino", "mlflow", "wandb", "fsspec",
    "rasterio", "zarr", "openslide", "av", "ray", "triton", "h5py", "pillow_heif",
}  # fmt: skip


def local_imports(tree: Tree) -> list[str]:
    """Return imports inside functions, except in `api` and `cli` and of optional packages."""
    found = {
        (module.path.as_posix(), line.line): line.target  # one entry for each statement
        for module in tree.values()
        if module.name not in DOORS and module.part not in ("api", "cli")
        for line in module.imports
        if line.in_function and line.target.partition(".")[0] not in OPTIONAL
    }
    return [f"{path}:{line} {target}" for (path, line), target in found.items()]


def documented_layers(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the table of docs/architecture.md: lines such as `    2  ops · data · losses · metrics`."""
    rows = re.findall(r"^ {4}(\d+) {1,2}(\S.*)$", text, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))
    return tuple(tuple(names.split(" · ")) for _, names in rows)


def documented_paths(text: str) -> list[str]:
    """Return the files that the document names: second cells of rows with a question."""
    rows = re.findall(r"^\| .*\?.* \| (.*) \|$", text, flags=re.MULTILINE)
    return re.findall(r"`([\w/]+(?:\.py|/))`", " ".join(rows))


@pytest.fixture(scope="module")
def tree() -> Tree:
    found = read_tree(SOURCE)
    assert found, f"no source in {SOURCE}"
    return found


def test_imports_point_one_way(tree: Tree) -> None:
    assert misdirected_imports(tree) == []


def test_the_table_has_every_module(tree: Tree) -> None:
    assert unlisted_modules(tree) == []


def test_no_module_is_a_drawer(tree: Tree) -> None:
    assert drawers(tree) == []


def test_no_modules_import_each_other(tree: Tree) -> None:
    assert import_cycles(tree) == []


def test_few_imports_are_inside_functions(tree: Tree) -> None:
    assert len(local_imports(tree)) <= MAX_LOCAL_IMPORTS, "\n".join(local_imports(tree))


def test_optional_packages_are_extras() -> None:
    extras = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    assert [name for name in OPTIONAL - {"triton"} if name.replace("_", "-") not in extras] == []


def test_light_modules_start_light(tree: Tree) -> None:
    assert heavy_starts(tree) == []


@pytest.fixture(scope="module")
def document() -> str:
    return (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_document_shows_the_same_layers(document: str) -> None:
    assert documented_layers(document) == LAYERS


def test_the_document_points_to_files_that_exist(document: str) -> None:
    paths = documented_paths(document)
    assert paths, "found no table of files"
    assert [path for path in paths if not (SOURCE / path).exists()] == []


def test_no_name_is_on_two_rows() -> None:
    assert len(LAYER_OF) == sum(len(row) for row in LAYERS)


# Tests of the checks. `plant` writes a small package and parses it.


def plant(root: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_tree(root)


SOUND = {
    "__init__.py": "import importlib\ndef load():\n    from pixelwise import cli\n",
    "errors.py": "import sys\n",
    "data/__init__.py": "from pixelwise.data.images import decode\nfrom . import sample\n",
    "data/images.py": "import cv2\nfrom pixelwise.data.sample import Sample\n",
    "data/sample.py": "from ..errors import DataError\n",
    "networks/unet.py": "import torch\nfrom pixelwise.data import decode\n",
    "cli.py": "from pixelwise.errors import DataError\ndef f():\n    import torch\n",
}


def test_a_sound_tree_passes(tmp_path: Path) -> None:
    planted = plant(tmp_path, SOUND)
    assert set(planted) == {
        "__init__", "errors", "data", "data.images", "data.sample", "networks.unet", "cli"
    }  # fmt: skip
    checks = (misdirected_imports, unlisted_modules, drawers, import_cycles, heavy_starts)
    assert [check(planted) for check in checks] == [[]] * len(checks)


@pytest.mark.parametrize(
    "line",
    [
        "from pixelwise.networks.unet import UNet",
        "from pixelwise.networks import unet",
        "from pixelwise import networks",
        "import pixelwise.networks.unet",
        "from ..networks import unet",
        "def late():\n    from pixelwise.networks import unet",
        "class Reader:\n    from pixelwise.networks import unet",
        "try:\n    import pixelwise.networks\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    from pixelwise.networks import unet",
    ],
)
def test_an_import_from_below_is_found(tmp_path: Path, line: str) -> None:
    (found,) = misdirected_imports(plant(tmp_path, {**SOUND, "data/splits.py": line}))
    assert found.startswith("data/splits.py:")
    assert found.endswith("networks is below, on row 4; data is on row 3")


def test_an_import_from_the_same_row_is_found(tmp_path: Path) -> None:
    planted = plant(tmp_path, {"data/a.py": "from pixelwise.metrics import iou", "metrics.py": ""})
    (found,) = misdirected_imports(planted)
    assert "data/a.py:1 imports pixelwise.metrics.iou: metrics is on the same row" in found


@pytest.mark.parametrize("line", ["import pixelwise", "from pixelwise import load"])
def test_an_import_through_the_package_is_found(tmp_path: Path, line: str) -> None:
    (found,) = misdirected_imports(plant(tmp_path, {"training/loop.py": line}))
    assert "import it from the module that defines it" in found


def test_an_unlisted_module_is_found(tmp_path: Path) -> None:
    planted = plant(tmp_path, {**SOUND, "tricks.py": "", "extras/one.py": ""})
    assert unlisted_modules(planted) == ["extras", "tricks"]


def test_a_drawer_is_found(tmp_path: Path) -> None:
    planted = plant(tmp_path, {"data/utils.py": "", "misc/one.py": "", "data/baseline.py": ""})
    assert drawers(planted) == ["data.utils", "misc.one"]


def test_a_cycle_is_found(tmp_path: Path) -> None:
    ring = {
        "data/a.py": "from pixelwise.data.b import f",
        "data/b.py": "from . import c",
        "data/c.py": "import pixelwise.data.a",
    }
    assert import_cycles(plant(tmp_path, ring)) == ["data.a ↔ data.b ↔ data.c"]


def test_a_submodule_that_imports_its_own_package_is_a_cycle(tmp_path: Path) -> None:
    ring = {
        "data/__init__.py": "from pixelwise.data.images import decode",
        "data/images.py": "from pixelwise.data import Sample",
    }
    assert import_cycles(plant(tmp_path, ring)) == ["data ↔ data.images"]


def test_a_cycle_inside_a_function_is_allowed(tmp_path: Path) -> None:
    pair = {
        "data/a.py": "from pixelwise.data.b import f",
        "data/b.py": "def f():\n    import pixelwise.data.a",
    }
    assert import_cycles(plant(tmp_path, pair)) == []


@pytest.mark.parametrize("light", LIGHT_MODULES)
@pytest.mark.parametrize("library", sorted(HEAVY))
def test_a_heavy_start_is_found(tmp_path: Path, light: str, library: str) -> None:
    path = f"{light.replace('.', '/')}.py"
    planted = plant(tmp_path, {path: f"import {library}.nested"})
    assert f"{light} starts {library}, imported by {path}:1" in heavy_starts(planted)


def test_a_heavy_start_is_found_through_other_modules(tmp_path: Path) -> None:
    way = {
        "cli/main.py": "from pixelwise.data.sample import Sample",
        "data/__init__.py": "from pixelwise.losses import dice",
        "data/sample.py": "",
        "losses.py": "from torch import nn",
    }
    expected = "cli.main starts torch, imported by losses.py:1"
    assert heavy_starts(plant(tmp_path, way)) == [expected]


def test_an_import_inside_a_function_is_found(tmp_path: Path) -> None:
    lines = "def f():\n    import torch\n    import zarr\n    def g():\n        from pixelwise.data import sample\n"
    planted = plant(tmp_path, {"networks/unet.py": lines, "api/train.py": lines, "data/typed.py": "import cv2\n"})
    assert local_imports(planted) == ["networks/unet.py:2 torch", "networks/unet.py:5 pixelwise.data.sample"]


def test_paths_are_found_in_the_document() -> None:
    text = "| File | - |\n| Who? | `data/images.py`, `x.py` |\n| What? | in `data/layouts/` |\n"
    assert documented_paths(text) == ["data/images.py", "x.py", "data/layouts/"]


def test_a_differing_document_is_found() -> None:
    assert documented_layers("    0  errors\n    1  shapes · recipe\n") != LAYERS


def test_heavy_modules_are_not_in_the_standard_library() -> None:
    assert not HEAVY & set(sys.stdlib_module_names)
