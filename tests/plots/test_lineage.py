"""The picture of a lineage: every version and every arrow is in it, and nothing lies over anything else."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import Registry
from registry.errors import IntegrityFailure, Refused
from registry.plots import Drawing, encode
from registry.plots._layered import heights, layers
from registry.plots.lineage import MOST, figure
from registry.results import Lineage
from tests.adapters import make_lora
from tests.cli import samples
from tests.methods.cases import LAW
from tests.plots import svg


def picture(graph: Lineage, **marks: Any) -> Any:
    return svg.read(encode(Drawing(figure(graph, "title", **marks), graph.ref, "title"), "svg"))


def test_versions_arrows_and_coefficients_are_in_it() -> None:
    root = picture(samples.lineage(), stale={"top@1"})
    said = svg.texts(root)
    assert {"top@1", "left@1", "right@1", "root@1", "= left - 0.4*right", "lora · [prod]"} <= set(said)
    assert {"1", "−0.4", "0.5", "declared", "deleted", "stale"} <= set(said)
    assert len(svg.ids(root, "node-")) == len(svg.ids(root, "edge-")) == 4


def test_what_is_wrong_with_a_version_stands_in_its_box() -> None:
    nodes = (
        samples.node("a@1", affected=True, held=False, task="detox"),
        samples.node("b@1", 1, revoked=True),
    )
    said = svg.texts(picture(samples.lineage(ref="a@1", nodes=nodes, edges=(samples.edge("a@1", "b@1"),))))
    assert {"from revoked, not held", "✗ revoked", "lora · detox"} <= set(said)


def test_a_catalog_is_drawn_both_ways(catalog: Registry, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name, task="talk")
    catalog.compose("c", "a - 0.4*b")
    catalog.compose("d", "c + 0.1*a")
    catalog.revoke("b", "bad")
    catalog.add(make_lora(tmp_path / "a2", seed=5), "a")
    for options, found, first in (
        ({}, {"a@1", "b@1", "c@1", "d@1", "✗ revoked", "from revoked, stale", "lora · talk"}, "What d@1 was derived from"),
        ({"depth": 1}, {"d@1", "c@1", "a@1"}, "What d@1 was derived from"),
    ):  # fmt: skip
        catalog.plot("lineage", "d", tmp_path / "up.svg", replace=True, **options)  # type: ignore[arg-type]
        said = svg.texts(svg.read((tmp_path / "up.svg").read_bytes()))
        assert said[-1] == first or first in said
        assert found <= set(said)
        assert ("b@1" in said) == (not options)
    catalog.plot("lineage", "b", tmp_path / "down.svg", direction="down")
    said = svg.texts(svg.read((tmp_path / "down.svg").read_bytes()))
    assert "What was derived from b@1" in said
    assert {"b@1", "c@1", "d@1"} <= set(said)
    assert "a@1" not in said


def chain(count: int) -> Lineage:
    nodes = tuple(samples.node(f"v@{i + 1}", i) for i in range(count))
    edges = tuple(samples.edge(f"v@{i}", f"v@{i + 1}") for i in range(1, count))
    return samples.lineage(ref="v@1", nodes=nodes, edges=edges)


def test_as_many_as_fit_are_drawn_and_of_more_it_is_said_how_to_see_fewer(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = picture(chain(MOST))
    assert len(svg.ids(root, "node-")) == MOST
    monkeypatch.setattr(local, "lineage", lambda *_, **__: chain(MOST + 1))
    with pytest.raises(Refused, match=f"has {MOST + 1} versions, a picture holds {MOST}") as caught:
        local.plot("lineage", "v", tmp_path / "a.svg")
    assert caught.value.hint == f"--depth {MOST - 1} shows so many as fit"


def test_a_circle_is_damage() -> None:
    nodes = (samples.node("a@1"), samples.node("b@1", 1))
    edges = (samples.edge("a@1", "b@1"), samples.edge("b@1", "a@1"))
    with pytest.raises(IntegrityFailure, match="in a circle"):
        figure(samples.lineage(ref="a@1", nodes=nodes, edges=edges), "x")


PAIRS = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=30)
GRAPHS = PAIRS.map(lambda pairs: (list(range(14)), sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})))


@LAW
@given(GRAPHS)
def test_arrows_go_to_the_right_one_column_at_a_time_and_nothing_overlaps(
    graph: tuple[list[int], list[tuple[int, int]]],
) -> None:
    nodes, edges = graph
    placed = layers(nodes, edges)
    column = {place: at for at, places in enumerate(placed.columns) for place in places}
    assert {place for place in column if isinstance(place, int)} == set(nodes)
    assert sum(map(len, placed.columns)) == len(column)
    for edge, way in zip(edges, placed.ways, strict=True):
        assert (way[0], way[-1]) == edge
        assert [column[place] for place in way] == list(range(column[edge[0]], column[edge[1]] + 1))

    def size(place: object) -> float:
        return 1.0 if isinstance(place, int) else 0.25

    y = heights(placed, size)
    assert max((y[place] + size(place) / 2 for place in y), default=0.0) == pytest.approx(0)
    for places in placed.columns:
        for above, below in pairwise(places):
            assert y[above] - y[below] >= (size(above) + size(below)) / 2 - 1e-9


@pytest.mark.parametrize("direction", ["up", "down"])
def test_boxes_are_apart_and_texts_are_inside_the_page(direction: str) -> None:
    root = picture(samples.lineage(direction=direction))
    wide, high = (float(each) for each in root.attrib["viewBox"].split()[2:])
    boxes = []
    for name in svg.ids(root, "node-"):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", svg.shapes(root, name)[0].attrib["d"])]
        xs, ys = numbers[0::2], numbers[1::2]
        boxes.append((min(xs), max(xs), min(ys), max(ys)))
        assert min(xs) >= 0
        assert max(xs) <= wide
        assert min(ys) >= 0
        assert max(ys) <= high
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]
