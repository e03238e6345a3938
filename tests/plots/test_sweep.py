"""The picture of a sweep: every point is where its metrics say, and the chosen one is marked."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.errors import NotFound, Refused, UsageError
from registry.plots import Drawing, Options, encode
from registry.plots.sweep import SweepCurves, figure
from registry.results import Objective, Sweep, SweepPoint, Version
from tests.adapters import make_lora
from tests.cli import samples
from tests.plots import svg

ONE = tuple(Objective(metric=name, direction="min") for name in ("toxicity", "ppl"))


def point(
    position: int, values: dict[str, str], metrics: dict[str, float] | None, **changes: Any
) -> SweepPoint:
    fields: dict[str, Any] = {
        "position": position, "values": values, "expression": "a", "recipe": samples.DIGEST, "metrics": metrics,
        "state": "ok" if metrics else "failed",
    }  # fmt: skip
    return SweepPoint(**(fields | changes))


def line(**changes: Any) -> Sweep:
    """Eleven weights: the third failed, and from 0.8 on the constraint does not hold."""
    points = []
    for i in range(11):
        w = i / 10
        metrics = None if i == 2 else {"toxicity": 0.3 - 0.2 * w, "ppl": 18 + 6 * w * w}
        points.append(
            point(i, {"w": f"{w:g}"}, metrics, feasible=metrics is not None and metrics["ppl"] < 21)
        )
    fields: dict[str, Any] = {
        "id": 3, "name": "detox", "expression": "alpaca - {w}*toxic", "pins": {}, "variables": {"w": "0:1:0.1"},
        "evaluator": "python eval.py", "metrics": ONE[:1], "constraints": ("ppl < 21",), "search": "grid", "dataset": "local",
        "state": "done", "points": tuple(points), "chosen": 7, "ref": "detox@3",
    }  # fmt: skip
    return Sweep(**(fields | changes))


class Known:
    """A catalog of one sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked")

    def show(self, ref: str) -> Version:
        return samples.version(ref=ref, name=ref.partition("@")[0])

    def sweeps(self, name: str | None) -> tuple[Sweep, ...]:
        others = (line(id=9, ref="detox@8"), line(id=10, ref=None), self.sweep, line(id=2))
        return tuple(each.model_copy(update={"points": ()}) for each in others if each.name == name)

    def sweep_result(self, number: int) -> Sweep:
        assert number == self.sweep.id
        return self.sweep


def drawn(sweep: Sweep, subject: str = "3") -> tuple[Any, Drawing]:
    drawing = SweepCurves().draw(Known(sweep), subject, Options())
    return svg.read(encode(drawing, "svg")), drawing


def linear(pairs: list[tuple[float, float]]) -> bool:
    """Whether places on the page are one straight map of the data."""
    (x0, p0), (x1, p1) = min(pairs), max(pairs)
    return all(abs(p0 + (x - x0) / (x1 - x0) * (p1 - p0) - p) < 0.01 for x, p in pairs)


def test_every_point_stands_where_its_metrics_say_and_the_chosen_one_has_a_ring() -> None:
    sweep = line()
    root, _ = drawn(sweep)
    for at, metric in enumerate(("toxicity", "ppl")):
        places = []
        for gid, holds in (("feasible", True), ("outside", False)):
            here = [p for p in sweep.points if p.metrics is not None and p.feasible is holds]
            marks = svg.marks(root, f"{gid}-{at}")
            assert len(marks) == len(here)
            places += [(p, mark) for p, mark in zip(here, marks, strict=True)]
        assert len(places) == 10
        assert linear([(float(p.values["w"]), x) for p, (x, _) in places])
        assert linear([((p.metrics or {})[metric], -y) for p, (_, y) in places])
        chosen = next(mark for p, mark in places if p.position == sweep.chosen)
        assert svg.marks(root, f"chosen-{at}") == [chosen]
        assert len(svg.marks(root, f"failed-{at}")) == 1


def test_the_constraint_and_what_came_of_it_are_said() -> None:
    root, drawing = drawn(line(), "detox@3")
    said = svg.texts(root)
    assert len(svg.ids(root, "constraint")) == 1
    assert {"ppl < 21", "w", "toxicity", "smaller is better", "detox: alpaca - {w}*toxic"} <= set(said)
    assert drawing.notes == (
        "chosen: w = 0.7: toxicity 0.16, ppl 20.94, which is detox@3",
        "outside ppl < 21: 3 of 11 points",
        "without metrics: 1 of 11 points",
    )
    assert set(drawing.notes) <= set(said)
    assert {"measured", "outside the constraints", "no metrics", "chosen"} <= set(said)
    assert drawing.subject == "sweep 3 of detox"


def test_numbers_have_a_minus_and_names_keep_their_hyphens() -> None:
    points = (point(1, {"w": "-0.5"}, {"log-loss": -2.0}, feasible=True),)
    sweep = line(
        points=points,
        metrics=(Objective(metric="log-loss", direction="min"),),
        chosen=1,
        ref="my-detox@1",
        constraints=(),
    )
    _, drawing = drawn(sweep, "3")
    assert drawing.notes == ("chosen: w = −0.5: log-loss −2, which is my-detox@1",)


def test_two_objectives_have_a_front() -> None:
    points = tuple(p.model_copy(update={"front": p.feasible}) for p in line().points)
    root, _ = drawn(line(metrics=ONE, points=points))
    assert svg.ids(root, "front") == ["front"]
    assert len(svg.marks(root, "feasible-front")) == sum(p.feasible for p in points)
    assert "Pareto front" in svg.texts(root)
    assert not svg.ids(drawn(line())[0], "front")


def test_two_variables_on_a_grid_are_a_map() -> None:
    points: list[SweepPoint] = []
    for i in range(5):
        for j in range(3):
            metrics = None if (i, j) == (1, 1) else {"toxicity": float(i + j), "ppl": float(20 + (i == 4))}
            holds = metrics is not None and i < 4
            points.append(point(len(points), {"u": f"{i / 10:g}", "v": str(-j)}, metrics, feasible=holds))
    root, _ = drawn(line(points=tuple(points), variables={"u": "0:0.4:0.1", "v": "0,-1,-2"}, chosen=0))
    assert len(svg.shapes(root, "map-0")) == 14
    assert len(svg.ids(root, "outside-0-")) == 3
    assert svg.ids(root, "failed-0-") == ["failed-0-4"]
    assert svg.ids(root, "chosen-0") == ["chosen-0"]
    assert {"u", "v", "−2", "toxicity, smaller is better", "ppl"} <= set(svg.texts(root))


def test_many_variables_have_a_panel_each_and_too_many_are_refused() -> None:
    def scattered(count: int) -> Sweep:
        names = [f"v{n}" for n in range(count)]
        points = tuple(
            point(
                i,
                {name: str((i * (n + 3)) % 7) for n, name in enumerate(names)},
                {"toxicity": float(i)},
                feasible=True,
            )
            for i in range(9)
        )
        return line(points=points, variables=dict.fromkeys(names, "0:6"), constraints=(), chosen=0)

    root, _ = drawn(scattered(3))
    assert [len(svg.marks(root, f"feasible-{at}")) for at in range(3)] == [9, 9, 9]
    assert {"v0", "v1", "v2"} <= set(svg.texts(root))
    with pytest.raises(Refused, match="7 variables, a picture holds 6"):
        drawn(scattered(7))


def test_what_no_sweep_chose_and_what_nobody_measured_are_refused() -> None:
    with pytest.raises(UsageError, match="detox@1 was chosen by no sweep"):
        drawn(line(), "detox@1")
    failed = tuple(p.model_copy(update={"metrics": None}) for p in line().points)
    with pytest.raises(Refused, match="no point of sweep 3 of detox was measured"):
        drawn(line(points=failed, chosen=None, ref=None))
    root, drawing = drawn(line(chosen=None, ref=None))
    assert drawing.notes[0] == "no point was chosen"
    assert not svg.ids(root, "chosen")


def test_hostile_names_of_metrics_are_texts() -> None:
    evil = "<b>$x$\x1b[0m"
    points = tuple(
        p.model_copy(update={"metrics": {evil: float(i)}, "feasible": True})
        for i, p in enumerate(line().points)
    )
    metric = (Objective(metric=evil, direction="max"),)
    made = figure(line(points=points, metrics=metric, constraints=(f"{evil} > 3",)), "x")
    data = encode(Drawing(made, "x", "x"), "svg")
    assert "<b>$x$\\x1b[0m" in svg.texts(svg.read(data))
    assert b"\x1b" not in data


def test_a_point_alone_is_drawn(tmp_path: Path) -> None:
    data = encode(Drawing(figure(line(points=line().points[:1], chosen=0), "x"), "x", "x"), "png")
    (tmp_path / "a.png").write_bytes(data)
    assert data.startswith(b"\x89PNG")


def test_a_sweep_of_a_catalog_is_drawn_by_its_version_or_its_number(
    catalog: Registry, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)

    def distance(_: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        return {"distance": abs(float(values["w"]) - 0.5)}

    made = catalog.sweep(
        "c",
        "a - {w}*b",
        over={"w": "0:1:0.25"},
        evaluate=distance,
        evaluator="d@1",
        metric="distance",
        minimize=True,
    )
    assert made.ref == "c@1"
    for subject in ("c", str(made.id)):
        done = catalog.plot("sweep", subject, tmp_path / "a.svg", replace=True)
        assert done.subject == f"sweep {made.id} of c"
        assert done.notes == ("chosen: w = 0.5: distance 0, which is c@1",)
        root = svg.read((tmp_path / "a.svg").read_bytes())
        assert len(svg.marks(root, "feasible-0")) == 5
        assert svg.marks(root, "chosen-0") == [svg.marks(root, "feasible-0")[2]]
    with pytest.raises(UsageError, match="a@1 was chosen by no sweep"):
        catalog.plot("sweep", "a", tmp_path / "b.svg")
    with pytest.raises(NotFound):
        catalog.plot("sweep", "77", tmp_path / "b.svg")
