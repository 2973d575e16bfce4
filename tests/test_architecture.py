"""The direction of imports, and what may not be loaded, read from the code itself."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vfs_ops

ROOT = Path(vfs_ops.__file__).parents[1]
FORBIDDEN = {
    "vfs_ops": {"catalog", "flows", "prefect", "click", "rich"},
    "catalog": {"flows", "prefect", "click", "rich"},
    "flows": set(),
}
ROOMS = (
    *("errors", "progress", "sizes", "identity", "store", "images", "datasets", "models", "kernel"),
    *("caches", "scans", "builds", "sharing", "overlays", "widgets"),
)
"""The modules and packages of vfs_ops, each importing only from those before it."""
LINES_AT_MOST = 400


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports(path, top_level_only=False):
    """Yield the modules that a file imports; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_in_one_direction(package):
    for path in modules(package):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & FORBIDDEN[package], path


def test_modules_import_in_one_direction_without_cycles():
    graph = {}
    for package in FORBIDDEN:
        for path in modules(package):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            graph[name] = {other for other in imports(path) if other != name}
    graph = {name: others & set(graph) for name, others in graph.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_rooms_import_only_from_those_before_them():
    found = {path.stem for path in modules("vfs_ops") if path.parent.name == "vfs_ops"}
    found |= {path.parent.name for path in modules("vfs_ops")}
    assert found - {"__init__", "vfs_ops"} == set(ROOMS)
    for path in modules("vfs_ops"):
        room = path.relative_to(ROOT / "vfs_ops").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports(path):
            top, _, inner = name.partition(".")
            other = inner.partition(".")[0]
            if top == "vfs_ops" and other in ROOMS:
                assert ROOMS.index(other) <= ROOMS.index(room), f"{path} imports {name}"


@pytest.mark.parametrize(
    "name", ["vfs_ops", "vfs_ops.identity.spec", "vfs_ops.store.workspace", "catalog", "flows.cli"]
)
def test_light_modules_stay_light(name):
    script = f"import sys, {name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"torch", "dask", "prefect", "pandas", "xarray"} & set(done.stdout.split())


def test_public_names_are_where_the_package_says():
    for name in vfs_ops.__all__:
        assert getattr(vfs_ops, name).__name__ == name
    tree = ast.parse(Path(vfs_ops.__file__).read_text())
    checked = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert checked == set(vfs_ops.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        vfs_ops.nothing  # noqa: B018


def test_modules_are_small():
    long = {
        str(path): count
        for package in FORBIDDEN
        for path in modules(package)
        if (count := len(path.read_text().splitlines())) > LINES_AT_MOST
    }
    assert long == {}


def test_nothing_runs_code_from_text_or_unpickles():
    for package in FORBIDDEN:
        for path in modules(package):
            for node in ast.walk(ast.parse(path.read_text())):
                assert not isinstance(node, ast.Assert), f"{path}: assert"
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    given = {f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords}
                    assert called not in ("eval", "exec", "compile", "__import__"), path
                    assert not called.endswith((".query", "pickle.load", "pickle.loads")), path
                    assert not given & {"allow_pickle=True", "weights_only=False"}, path
