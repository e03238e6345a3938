"""Whatever stops a command, and wherever: the catalog opens, holds, and the command can be given again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.kills import trials
from tests.reliability.nursery import Nursery, nursery
from tests.reliability.places import Copies, copies
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.steps import FAULTS, Fault

POINTS = 3


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery() as ready:
        yield ready


@pytest.fixture(params=["sqlite", "postgresql"])
def catalogs(request: pytest.FixtureRequest, tmp_path: Path) -> Copies:
    if request.param == "sqlite":
        return copies(tmp_path, None, None)
    return copies(tmp_path, request.getfixturevalue("postgres"), request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_command_that_was_killed_leaves_a_catalog_that_holds(
    scenario: str, catalogs: Copies, processes: Nursery
) -> None:
    tried = list(trials(processes, scenario, catalogs, fault="kill", most=POINTS))
    assert [each for each in tried if each.findings] == []
    assert sum(each.ended.signal == 9 for each in tried) == len(tried) - 1 > 0


@pytest.mark.parametrize("fault", FAULTS[1:])
@pytest.mark.parametrize("scenario", ["add", "compose", "materialize-out", "import-bundle"])
def test_a_command_that_met_a_fault_says_so_and_leaves_a_catalog_that_holds(
    scenario: str, fault: Fault, catalogs: Copies, processes: Nursery
) -> None:
    tried = list(trials(processes, scenario, catalogs, fault=fault, most=POINTS))
    assert [each for each in tried if each.findings] == []
