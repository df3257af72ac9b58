"""What docs/model.md names exists: functions, tests, and both for every equation."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "model.md").read_text()
NAMED = sorted(set(re.findall(r"`([^`]+\.py::[^`]+)`", " ".join(PAGE.split()))))
EQUATIONS = re.split(r"^```math\n", PAGE, flags=re.MULTILINE)[1:]
"""Each with the text below it, to the next one."""


@cache
def definitions(path: str) -> frozenset[str]:
    """Functions and classes of a file, and methods as `Class.method`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return frozenset(found)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name: str) -> None:
    path, _, definition = name.partition("::")
    assert definition in definitions(path)
    assert definition.startswith("test_") == path.startswith("tests/")


def test_no_name_is_written_in_another_way() -> None:
    assert PAGE.count("::") == sum(PAGE.count(f"`{name}`") for name in NAMED) + PAGE.count("`file::function`")


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda text: text.strip()[:30])
def test_every_equation_has_its_source_function_and_test(equation: str) -> None:
    _, _, text = equation.partition("```\n")
    stated = re.search(r"^- Source: .+?\n- Code: (.+?)\n- Tests?: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert stated
    for names, folder in zip(stated.groups(), ("(?!tests/)", "tests/"), strict=True):
        assert re.fullmatch(rf"`{folder}[^`]+`(,\s+`{folder}[^`]+`)*\.\s*", names), names
