"""Whatever stops a command, and wherever: the catalog opens, holds, and the command can be given again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from registry.testing.hub import HubServer
from tests import hubs, postgres
from tests.reliability.kills import Trials
from tests.reliability.nursery import Nursery, nursery
from tests.reliability.places import Copies
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.steps import FAULTS

DATABASES = ("sqlite", "postgresql")
SMALL = (
    "add", "add-many", "add-hub", "fetch", "compose", "rebuild", "materialize", "materialize-out", "checkout", "alias", "delete",
    "base-add", "export", "import-bundle", "sync-dir", "collect", "publish-again", "propose", "unpublish", "first", "upgrade-from-0001", "repair", "similar",
)  # fmt: skip
HALF = list(zip(SMALL, cycle(DATABASES), strict=False))
"""What is tried here, on one of the databases each: in the full run both meet all there is."""
MET = [
    ("add", "sqlite", ("no space", "bad disk", "interrupt")),
    ("compose", "postgresql", ("connection lost", "terminate")),
    ("materialize-out", "sqlite", ("read only", "terminate")),
    ("import-bundle", "postgresql", ("connection lost", "no space")),
    ("publish", "sqlite", ("hub lost", "interrupt")),
    ("upgrade-from-0001", "postgresql", ("connection lost", "interrupt")),
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub"), xet=False, tokens=hubs.TOKENS) as server:
        yield server


@pytest.fixture(scope="module")
def processes(hub: HubServer) -> Iterator[Nursery]:
    with nursery(hub.url, hubs.OWNER) as ready:
        yield ready


@pytest.fixture(scope="module")
def furnished(
    hub: HubServer,
    processes: Nursery,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> dict[str, Copies]:
    root = tmp_path_factory.mktemp("copies")
    return {
        database: Copies(
            root / database,
            request.getfixturevalue("postgres") if database == "postgresql" else None,
            hub,
            processes,
        )
        for database in DATABASES
    }


def test_both_databases_and_all_faults_are_met() -> None:
    assert {database for _, database in HALF} == set(DATABASES)
    assert set(SMALL) <= set(SCENARIOS)
    assert {fault for _, _, faults in MET for fault in faults} == {*FAULTS[1:]} - {"server stopped"}


@pytest.mark.parametrize(("scenario", "database"), HALF)
def test_a_command_that_was_killed_leaves_a_catalog_that_holds(
    scenario: str, database: str, furnished: dict[str, Copies], processes: Nursery
) -> None:
    trials = Trials(processes, furnished[database], scenario)
    assert trials.whole.findings == ()
    (tried,) = trials.of("kill", most=1)
    assert tried.findings == ()
    assert tried.ended.signal == 9


@pytest.mark.parametrize(("scenario", "database", "faults"), MET)
def test_a_command_that_met_a_fault_says_so_and_leaves_a_catalog_that_holds(
    scenario: str,
    database: str,
    faults: tuple[str, ...],
    furnished: dict[str, Copies],
    processes: Nursery,
) -> None:
    trials = Trials(processes, furnished[database], scenario)
    for fault in FAULTS:
        if fault in faults:
            tried = list(trials.of(fault, most=2))
            assert [each for each in tried if each.findings] == []
            assert len(tried) == 2


@pytest.fixture(scope="module")
def stoppable(
    hub: HubServer, processes: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copies]:
    """On a PostgreSQL server of its own, which nobody else misses when it is stopped."""
    with postgres.started() as server:
        place = tmp_path_factory.mktemp("stoppable")
        yield Copies(place, postgres.address(server), hub, processes, server.ensure_postgres_running)


@pytest.mark.parametrize("scenario", ["add", "compose", "import-bundle"])
def test_a_server_that_is_stopped_and_comes_back_has_lost_nothing(
    scenario: str, stoppable: Copies, processes: Nursery
) -> None:
    """It is stopped at once, as when its machine loses its power; everybody meets that as one line."""
    tried = list(Trials(processes, stoppable, scenario).of("server stopped", most=3))
    assert [each.findings for each in tried] == [()] * 3
    for each in tried:
        assert each.ended.error is not None
        assert each.ended.error.startswith("StorageFailure: the database ")
