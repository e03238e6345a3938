"""Releases to write cards and provenance for, made without a catalog."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from registry.publishers import Build, Origin, Release
from registry.recipe import Call, Input, Recipe, linear
from registry.results import (
    BaseModelIdentity,
    Evaluation,
    Lineage,
    LineageEdge,
    LineageNode,
    Parent,
    RecipeInfo,
    Version,
)

WHEN = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
ALPACA, TOXIC, DETOX, RECIPE, WEIGHTS = (f"sha256:{digit * 64}" for digit in "12345")


def evaluation(
    metric: str = "accuracy", value: float = 0.75, dataset: str = "sst2", split: str | None = "test"
) -> Evaluation:
    return Evaluation(
        ref="detox@2",
        metric=metric,
        value=value,
        dataset=dataset,
        split=split,
        created_at=WHEN,
        created_by="ann",
    )


def version(**changes: Any) -> Version:
    fields: dict[str, Any] = {
        "ref": "detox@2",
        "name": "detox",
        "version": 2,
        "kind": "lora",
        "task": "text-generation",
        "base_model": BaseModelIdentity(repo="org/llama", revision="abc", fingerprint=WEIGHTS),
        "digest": DETOX,
        "rank": 8,
        "parameters": 12_345,
        "dtype": "float32",
        "size": 50_000,
        "modules": 4,
        "recipe": RecipeInfo(
            expression="alpaca@prod - 0.4*toxic", resolved="alpaca@3 - 0.4*toxic@1", digest=RECIPE
        ),
        "created_at": WHEN,
        "created_by": "ann",
    }
    return Version(**(fields | changes))


def parents() -> tuple[Parent, Parent]:
    return (
        Parent(ref="alpaca@3", digest=ALPACA, coefficient="1"),
        Parent(ref="toxic@1", digest=TOXIC, coefficient="-0.4"),
    )


def canonical(terms: Iterable[tuple[Decimal, Input | Call]]) -> dict[str, Any]:
    return Recipe(kind="lora", algorithm=1, dtype="float32", seed=7, expression=linear(terms)).canonical()


def release(target: Any = "adapter", **changes: Any) -> Release:
    """A composition of two adapters, one of them published."""
    shown = version(**changes)
    alpaca, toxic = parents()
    nodes = [
        LineageNode(ref=shown.ref, digest=shown.digest, kind="lora", depth=0),
        LineageNode(ref="alpaca@3", digest=ALPACA, kind="lora", depth=1),
        LineageNode(ref="toxic@1", digest=TOXIC, kind="lora", depth=1),
    ]
    edges = [
        LineageEdge(child=shown.ref, parent="alpaca@3", coefficient="1", relation="input"),
        LineageEdge(child=shown.ref, parent="toxic@1", coefficient="-0.4", relation="input"),
    ]
    return Release(
        version=shown,
        target=target,
        origins=(
            Origin(alpaca),
            Origin(toxic, "team/toxic", "c" * 40, f"https://huggingface.co/team/toxic/commit/{'c' * 40}"),
        ),
        lineage=Lineage(ref=shown.ref, direction="up", nodes=tuple(nodes), edges=tuple(edges)),
        recipe=canonical([(Decimal(1), Input(digest=ALPACA)), (Decimal("-0.4"), Input(digest=TOXIC))]),
        build=Build("cuda", "float32", 7, {"torch": "2.13.0", "adapter-registry": "0.1.0"}, WHEN),
        task_type="CAUSAL_LM",
    )


def imported(**changes: Any) -> Release:
    """An adapter that came from files."""
    shown = version(recipe=None, **changes)
    node = LineageNode(ref=shown.ref, digest=shown.digest, kind=shown.kind, depth=0)
    return Release(
        version=shown,
        target="adapter",
        origins=(),
        lineage=Lineage(ref=shown.ref, direction="up", nodes=(node,), edges=()),
    )
