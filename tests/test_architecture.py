"""The rules of the house: who may import whom, no loops, light imports, complete `__all__`."""

import ast
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"armorm": "armorm", "features": "armorm.features", "flows": "armorm.flows"}
"""Folder at the top to the name by which it is imported, through a link in `armorm/`."""

MATHEMATICS = ("armorm.maths", "armorm.errors", "armorm.config")
"""What the mathematics may know of ours."""

AT_MOST_LOOSE = {"armorm": 4, "armorm.features": 8, "armorm.flows": 10}
"""Files beside the rooms of a folder: words that all of it needs."""

HEAVY = ("torch", "transformers", "duckdb", "prefect", "openlineage", "ray")


def modules() -> dict[str, Path]:
    """Module name to file, of the three folders."""
    found = {}
    for folder, package in FOLDERS.items():
        for directory, _, names in os.walk(ROOT / folder):  # which follows no links
            for path in (Path(directory, name) for name in sorted(names) if name.endswith(".py")):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Everything that a module imports, at its top or inside a function; own modules by their full name."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module is not None
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (within & MODULES.keys()) or {node.module}
    return found


def own_imports(name: str) -> set[str]:
    return {imported for imported in imports(name) if imported in MODULES and imported != name}


def room(name: str) -> str:
    """The folder that a module stands in; what begins the program stands in that of the command line."""
    if below(name, "armorm.features", "armorm.flows"):
        return name.split(".")[1]
    return "flows" if name == "armorm.__main__" else name.split(".")[0]


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("name", MODULES)
def test_each_room_knows_only_what_it_may(name: str) -> None:
    for imported in imports(name):
        assert room(imported) not in ("features", "flows") or imported.startswith("armorm."), (
            f"{name} imports {imported}, which may be a folder of the user's"
        )
        if room(name) == "features":
            assert room(imported) not in ("armorm", "flows", "prefect")
        if room(name) == "armorm":
            assert room(imported) not in ("flows", "prefect")
            if below(name, *MATHEMATICS):
                assert room(imported) not in FOLDERS or below(imported, *MATHEMATICS), (
                    f"{name} is mathematics and imports {imported}"
                )
        if room(name) == "flows":
            assert room(imported) not in ("numpy", "torch", "pyarrow", "duckdb", "polars", "scipy")


def test_the_code_that_is_shipped_with_a_model_knows_torch_and_transformers_alone() -> None:
    shipped = {name.split(".")[0] for name in imports("armorm.export.modeling_armorm")}
    assert shipped - sys.stdlib_module_names == {"torch", "transformers"}


def folder(name: str) -> str:
    """The package that a module's file stands in."""
    if name == "armorm.__main__":
        return "armorm.flows.cli"
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


def loop(graph: Mapping[str, set[str]]) -> tuple[str, ...] | None:
    """Nodes that lead from one to the next and back to the first, if there are any."""
    done: set[str] = set()

    def loop_from(node: str, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if node in path:
            return (*path[path.index(node) :], node)
        if node not in done:
            for following in sorted(graph[node]):
                if found := loop_from(following, (*path, node)):
                    return found
            done.add(node)
        return None

    return next((found for node in graph if (found := loop_from(node, ()))), None)


def test_there_are_no_loops_between_modules() -> None:
    assert loop({name: own_imports(name) for name in MODULES}) is None


def test_there_are_no_loops_between_folders() -> None:
    graph: dict[str, set[str]] = {folder(name): set() for name in MODULES}
    for name in MODULES:
        graph[folder(name)] |= {folder(imported) for imported in own_imports(name)} - {folder(name)}
    assert loop(graph) is None


def test_few_files_stand_beside_the_rooms() -> None:
    loose = Counter(folder(name) for name, path in MODULES.items() if path.name not in ("__init__.py", "__main__.py"))
    assert {name: loose[name] for name, most in AT_MOST_LOOSE.items() if loose[name] > most} == {}


@pytest.mark.parametrize("package", ["armorm.features", "armorm", "armorm.flows.configuration.settings"])
def test_importing_is_light(package: str) -> None:
    heavy = [name for name in HEAVY if not (package == "armorm.flows.configuration.settings" and name == "duckdb")]
    code = f"import sys, json, {package}; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(loaded.stdout) == []


def test_importing_has_no_effects(tmp_path: Path) -> None:
    light = ("armorm", "armorm.features.ingest.dataset", "armorm.flows.configuration.settings", "armorm.flows.cli.app")
    code = f"import {', '.join(light)}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": ""})
    assert list(tmp_path.iterdir()) == []


WITH_ALL = [n for n, path in MODULES.items() if path.name == "__init__.py" and "__all__" in path.read_text()]


@pytest.mark.parametrize("name", WITH_ALL)
def test_all_is_sorted_and_complete(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == list(module.__all__)
    for exported in module.__all__:
        assert getattr(module, exported) is not None
    public = {n for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", name) == name}
    assert {n for n in public if callable(getattr(module, n))} <= set(module.__all__)


def test_every_sql_file_states_grain_and_key() -> None:
    for path in (ROOT / "sql").rglob("*.sql"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith(f"-- {path.stem}: "), path
        assert any(line.startswith("-- grain: ") for line in lines), path
        assert any(line.startswith("-- key: ") for line in lines), path


LOADERS = ("from_pretrained", "from_config")


def test_every_loader_says_that_no_code_is_run() -> None:
    """Where nothing is said, transformers asks, and a pipe may answer."""
    files = [*MODULES.values(), *(ROOT / "benchmarks").glob("*.py")]
    calls = [
        (file, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADERS
    ]
    assert len(calls) >= 6
    for file, call in calls:
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert said.get("trust_remote_code") == "False", f"{file}:{call.lineno}"
        if call.func.attr == "from_pretrained":
            assert said.get("local_files_only") == "True", f"{file}:{call.lineno}"
