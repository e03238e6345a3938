"""Lineage: the graph up and down, diamonds, depth, tombstones."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from registry import Registry
from registry.catalog.database import Database
from registry.errors import NotFound, StorageFailure, UsageError
from registry.results import Lineage
from tests.catalog.drafts import add, statements


@pytest.fixture
def diamond(catalog: Registry) -> Registry:
    """``d`` from ``b`` and ``c``, both from ``a``; ``e`` from ``d`` and directly from ``a``."""
    database = catalog._database
    add(database, "a", "a")
    add(database, "b", "b", parents=["a"])
    add(database, "c", "c", parents=["a"])
    add(database, "d", "d", parents=["b", "c"])
    add(database, "e", "e", parents=["d", "a"])
    return catalog


def nodes(found: Lineage) -> dict[str, int]:
    return {node.ref: node.depth for node in found.nodes}


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(edge.child, edge.parent) for edge in found.edges}


EDGES = {("b@1", "a@1"), ("c@1", "a@1"), ("d@1", "b@1"), ("d@1", "c@1"), ("e@1", "d@1"), ("e@1", "a@1")}


def test_upstream_is_everything_it_came_from_each_once_at_its_nearest(diamond: Registry) -> None:
    found = diamond.lineage("e")
    assert nodes(found) == {"e@1": 0, "a@1": 1, "d@1": 1, "b@1": 2, "c@1": 2}
    assert len(found.nodes) == 5
    assert edges(found) == EDGES
    assert len(found.edges) == 6
    assert (found.ref, found.direction) == ("e@1", "up")


def test_downstream_is_everything_that_came_from_it(diamond: Registry) -> None:
    found = diamond.lineage("a", direction="down")
    assert nodes(found) == {"a@1": 0, "b@1": 1, "c@1": 1, "e@1": 1, "d@1": 2}
    assert edges(found) == EDGES
    assert nodes(diamond.lineage("e", direction="down")) == {"e@1": 0}


def test_depth_cuts_the_graph(diamond: Registry) -> None:
    assert nodes(diamond.lineage("d", depth=0)) == {"d@1": 0}
    one = diamond.lineage("d", depth=1)
    assert nodes(one) == {"d@1": 0, "b@1": 1, "c@1": 1}
    assert edges(one) == {("d@1", "b@1"), ("d@1", "c@1")}
    assert nodes(diamond.lineage("d", depth=2)) == nodes(diamond.lineage("d", depth=10**20))
    with pytest.raises(UsageError):
        diamond.lineage("d", depth=-1)
    with pytest.raises(UsageError, match="no direction 'sideways'"):
        diamond.lineage("d", direction="sideways")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        diamond.lineage("nosuch")


def test_tombstones_stay_in_the_graph_and_are_marked(diamond: Registry) -> None:
    diamond.delete("b@1")
    diamond.delete("d@1")
    found = diamond.lineage("e")
    assert edges(found) == EDGES
    assert {node.ref for node in found.nodes if node.deleted} == {"b@1", "d@1"}
    assert nodes(diamond.lineage("d@1"))["a@1"] == 2


def test_nodes_tell_what_they_are(diamond: Registry) -> None:
    diamond.set_alias("a", "prod", 1)
    (root,) = (node for node in diamond.lineage("b").nodes if node.ref == "a@1")
    assert (root.aliases, root.kind, root.digest) == (("prod",), "lora", diamond.show("a").digest)


def test_a_declared_parent_has_no_coefficient(diamond: Registry) -> None:
    assert {(edge.relation, edge.coefficient) for edge in diamond.lineage("e").edges} == {("declared", None)}


def test_a_parent_said_twice_is_one_parent(catalog: Registry, database: Database) -> None:
    add(database, "a", "a")
    with pytest.raises(StorageFailure):
        add(database, "b", "b", parents=["a", "a@1"])
    assert [version.ref for version in catalog.list().versions] == ["a@1"]


def test_a_cycle_cannot_be_written(diamond: Registry) -> None:
    """Parents are older than children: the database itself says so."""
    for child, parent in ((1, 5), (2, 2)):
        insert = text("INSERT INTO lineage VALUES (:child, 9, :parent, 'declared', NULL, NULL)")
        with pytest.raises(StorageFailure, match="acyclic"), diamond._database.write() as session:
            session.execute(insert, {"child": child, "parent": parent})


def grow(database: Database, versions: int, edges: str) -> None:
    """So many versions, the first called ``root``, with an edge for every row that the query over ``n(i)`` gives."""
    add(database, "root", "root")
    count = f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {versions})"  # noqa: S608
    version = "SELECT i, i, i, 1, artifact_digest, base_model_id, created_at, created_by FROM versions, n"
    rows = {
        "adapters (id, name, name_key, last_version, created_at, created_by)": (
            "SELECT i, 'b' || i, 'b' || i, 1, created_at, created_by FROM adapters, n WHERE id = 1"
        ),
        (
            "versions (id, adapter_id, latest_of, number, artifact_digest, base_model_id, created_at, created_by)"
        ): f"{version} WHERE id = 1",
        "lineage (child_id, position, parent_id, relation)": edges,
    }
    with database.write() as session:
        for columns, select in rows.items():
            session.execute(text(f"INSERT INTO {columns} {count} {select}"))


def test_a_ladder_of_diamonds_costs_no_more_statements_and_no_exponential_time(catalog: Registry) -> None:
    """Sixty rungs have 2^60 paths."""
    database = catalog._database
    add(database, "n0", "n0")
    for rung in range(1, 61):
        for side in "lr":
            below = ["n0"] if rung == 1 else [f"l{rung - 1}", f"r{rung - 1}"]
            add(database, f"{side}{rung}", f"{side}{rung}", parents=below)
    with statements(database) as deep:
        found = catalog.lineage("l60")
    assert len(found.nodes) == 120
    assert nodes(found)["n0@1"] == 60
    assert nodes(catalog.lineage("l60", depth=30)) == {ref: d for ref, d in nodes(found).items() if d <= 30}
    with statements(database) as shallow:
        catalog.lineage("l60", depth=1)
    assert len(deep) == len(shallow) == 3  # the reference, the edges, the versions


def test_a_deep_chain_with_short_cuts_is_read_once(catalog: Registry) -> None:
    """Ten thousand versions, each from the one before and from the one before that: as many depths as steps."""
    grow(
        catalog._database,
        10_000,
        "SELECT i, 0, i - 1, 'declared' FROM n UNION ALL SELECT i, 1, i - 2, 'declared' FROM n WHERE i > 2",
    )
    with statements(catalog._database) as sent:
        found = catalog.lineage("b10000")
    assert (len(found.nodes), len(found.edges), len(sent)) == (10_000, 19_997, 3)
    assert nodes(found)["root@1"] == 5_000
    assert found.nodes[-1].ref == "root@1"
    down = catalog.lineage("root", direction="down", depth=4)
    assert nodes(down) == {"root@1": 0} | {f"b{i}@1": i // 2 for i in range(2, 10)}
    assert {node.depth for node in catalog.lineage("b10000", depth=100).nodes} == set(range(101))


def test_more_versions_than_a_statement_has_room_for_are_one_graph(catalog: Registry) -> None:
    """Forty thousand children of one parent: no statement grows with them."""
    grow(catalog._database, 40_001, "SELECT i, 0, 1, 'declared' FROM n")
    with statements(catalog._database) as sent:
        found = catalog.lineage("root", direction="down")
    assert (len(found.nodes), len(found.edges), len(sent)) == (40_001, 40_000, 3)
    assert [edge.child for edge in found.edges[:2]] == ["b2@1", "b3@1"]
    assert max(len(parameters) for _, parameters in sent) <= 5


def test_aliases_of_a_node_are_in_order(diamond: Registry) -> None:
    for alias in ("staging", "Prod", "a.b-c_d"):
        diamond.set_alias("a", alias, 1)
    assert diamond.lineage("b").nodes[1].aliases == ("a.b-c_d", "Prod", "staging")
