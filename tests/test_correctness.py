"""docs/correctness.md names a test in every row, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "correctness.md"
ROWS = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| case ", "| --- "))
]
DEFECTS = Path(__file__).parent / "oracles" / "test_peer_defects.py"


def functions(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| "))
def test_every_row_is_whole_and_names_tests_that_exist(row: str) -> None:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 5
    assert all(cells)
    named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", cells[-1])
    assert named
    for name, file in named:
        assert name in functions(PAGE.parent / file), f"{file} has no {name}"


def test_every_test_of_a_defect_has_a_row() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in functions(DEFECTS):
        assert not name.startswith("test_") or f"[`{name}`](../tests/oracles/test_peer_defects.py)" in page, (
            name
        )
    for row in re.findall(r'defect\("([^"]+)"\)', DEFECTS.read_text(encoding="utf-8")):
        assert re.search(rf"^\| `?{re.escape(row)}`? \|", page, re.MULTILINE), f"no row is called {row}"
