"""One plausible value of each result, to be changed field by field."""

from datetime import UTC, datetime
from typing import Any

from registry.results import (
    Added,
    Alias,
    BaseModelIdentity,
    Check,
    CheckedInput,
    CheckedModule,
    Checkout,
    Composed,
    Conflict,
    Cost,
    Deleted,
    Difference,
    Evaluation,
    FieldChange,
    Garbage,
    Impact,
    Lineage,
    LineageEdge,
    LineageNode,
    Materialized,
    MaterializePlan,
    ModuleChange,
    ModuleConflict,
    ModuleReport,
    MovedReference,
    Parent,
    Publication,
    Range,
    Rebuilt,
    RecipeInfo,
    Revocation,
    Schema,
    Staleness,
    Tagged,
    Verification,
    Version,
)

NOW = datetime(2026, 8, 1, 12, 30, tzinfo=UTC)
DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "fedcba9876543210" * 4
BASE = BaseModelIdentity(repo="org/llama", revision="abc123", fingerprint=DIGEST)
RECIPE = RecipeInfo(expression="alpaca@prod - 0.4*toxic", resolved="alpaca@7 - 0.4*toxic@3", digest=OTHER)


def _version_fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": "toxic",
        "version": 3,
        "kind": "lora",
        "task": "toxicity",
        "base_model": BASE,
        "digest": DIGEST,
        "rank": 8,
        "parameters": 1234567,
        "dtype": "bfloat16",
        "size": 2469134,
        "modules": 24,
        "created_at": NOW,
        "created_by": "ada",
    }
    fields |= changes
    return {"ref": f"{fields['name']}@{fields['version']}"} | fields


def version(**changes: Any) -> Version:
    return Version(**_version_fields(**changes))


def added(**changes: Any) -> Added:
    return Added(**_version_fields(**({"created": True} | changes)))


def composed(**changes: Any) -> Composed:
    report = tuple(
        ModuleReport(module=f"layers.{i}.q_proj", values={"rank": 8.0 + i, "energy": 0.9 + i / 100})
        for i in range(3)
    )
    parents = (
        Parent(ref="alpaca@7", digest=DIGEST, coefficient="1"),
        Parent(ref="toxic@3", digest=OTHER, coefficient="-0.4"),
    )
    own = {"name": "detox", "version": 1, "recipe": RECIPE, "parents": parents, "report": report}
    return Composed(**_version_fields(**({"created": True, "cached": False} | own | changes)))


def full() -> Version:
    """A version with something in every field."""
    return version(
        aliases=("prod", "best"),
        tags={"team": "safety"},
        license="apache-2.0",
        note="trained twice",
        source="hf://org/toxic",
        recipe=RECIPE,
        parents=composed().parents,
        evaluations=(evaluation(),),
        publications=(publication(),),
        not_composable=("bias",),
        deleted_at=NOW,
    )


def evaluation(**changes: Any) -> Evaluation:
    fields: dict[str, Any] = {"ref": "toxic@3", "metric": "accuracy", "value": 0.814, "dataset": "sst2"}
    return Evaluation(**(fields | {"split": "test", "created_at": NOW, "created_by": "ada"} | changes))


def publication(**changes: Any) -> Publication:
    fields: dict[str, Any] = {
        "ref": "toxic@3",
        "repo": "team/toxic",
        "revision": "main",
        "target": "adapter",
        "state": "done",
        "commit": "c0ffee" * 6 + "abcd",
        "url": "https://hub/team/toxic",
        "files": {"adapter_model.safetensors": DIGEST},
        "created_at": NOW,
        "created_by": "ada",
    }
    return Publication(**(fields | changes))


def check(**changes: Any) -> Check:
    source = CheckedInput(
        ref="toxic@3",
        digest=DIGEST,
        kind="lora",
        base_model=BASE,
        rank=8,
        parameters=1000,
        dtype="bfloat16",
        coefficient="-0.4",
    )
    fields: dict[str, Any] = {
        "expression": "-0.4*toxic",
        "resolved": "-0.4*toxic@3",
        "recipe_digest": OTHER,
        "kind": "lora",
        "base_model": BASE,
        "dtype": "bfloat16",
        "inputs": (source,),
        "modules": 24,
        "rank": 8,
        "parameters": 1000,
        "size": 2000,
        "cached": False,
        "exact": False,
        "cost": Cost(read=4000, written=2000, operations=5_300_000_000_000),
        "layout": tuple(
            CheckedModule(module=f"q.{i}", shape=(32, 16), form="linear", ranks=(8,), rank=8, exact=i > 1)
            for i in range(24)
        ),
        "conflicts": (conflict(),),
    }
    return Check(**(fields | changes))


def conflict(**changes: Any) -> Conflict:
    modules = tuple(
        ModuleConflict(
            module=f"q.{i}",
            cosine=-0.5 + i / 100,
            column_overlap=0.25,
            row_overlap=0.75,
            sign_agreement=None if i == 0 else 0.3 + i / 100,
            sampled=i == 1,
        )
        for i in range(8)
    )
    fields: dict[str, Any] = {
        "a": "alpaca@7",
        "b": "toxic@3",
        "common": 24,
        "cosine": Range(mean=-0.465, min=-0.5, max=-0.43),
        "column_overlap": Range(mean=0.25, min=0.25, max=0.25),
        "row_overlap": None,
        "sign_agreement": Range(mean=0.34, min=0.31, max=0.37),
        "modules": modules,
    }
    return Conflict(**(fields | changes))


def materialized(**changes: Any) -> Materialized:
    fields: dict[str, Any] = {
        "ref": "detox@1",
        "target": "model",
        "digest": DIGEST,
        "recipe_digest": OTHER,
        "path": "out/detox",
        "files": {"model.safetensors": 1234},
        "size": 1234,
        "device": "cpu",
        "dtype": "bfloat16",
        "seconds": 1.5,
        "cached": False,
    }
    return Materialized(**(fields | changes))


def plan(**changes: Any) -> MaterializePlan:
    fields: dict[str, Any] = {
        "ref": "detox@1",
        "target": "model",
        "recipe_digest": OTHER,
        "base_model": BASE,
        "base_path": "llama",
        "dtype": "bfloat16",
        "device": "cpu",
        "files": {"model.safetensors": 5_000},
        "tensors": 9,
        "patched": 7,
        "patched_bytes": 3_000,
        "identify": 0,
        "read": 5_100,
        "written": 5_000,
        "operations": 1_200_000,
        "bound": "bytes",
    }
    return MaterializePlan(**(fields | changes))


def checkout(**changes: Any) -> Checkout:
    fields: dict[str, Any] = {"ref": "toxic@3", "digest": DIGEST, "path": "out"}
    return Checkout(**(fields | {"files": {"adapter_config.json": 12}} | changes))


def alias(**changes: Any) -> Alias:
    fields: dict[str, Any] = {"name": "toxic", "alias": "prod", "ref": "toxic@3", "previous": 2}
    return Alias(**(fields | {"updated_at": NOW, "updated_by": "ada"} | changes))


def tagged(**tags: str) -> Tagged:
    return Tagged(ref="toxic@3", tags=tags)


def deleted() -> Deleted:
    return Deleted(ref="toxic@2", digest=DIGEST, downstream=("detox@1",))


def garbage(**changes: Any) -> Garbage:
    fields: dict[str, Any] = {"applied": False, "blobs": (DIGEST,), "leftovers": ("tmp-1",), "size": 2048}
    return Garbage(**(fields | changes))


def verification(**changes: Any) -> Verification:
    return Verification(**({"ref": "toxic@3", "digest": DIGEST, "ok": True} | changes))


def schema(**changes: Any) -> Schema:
    fields = {"url": "sqlite:///registry.db", "current": "0001", "head": "0001", "ok": True}
    return Schema(**(fields | changes))


def difference(**changes: Any) -> Difference:
    fields: dict[str, Any] = {
        "before": "detox@1",
        "after": "detox@2",
        "fields": (FieldChange(field="task", before=None, after="chat"),),
        "inputs": (FieldChange(field="toxic", before="-0.4", after="-0.5"),),
        "modules": tuple(
            ModuleChange(module=f"layers.{i}.q", before=1.0, after=2.0, cosine=0.5, relative=float(i))
            for i in range(30)
        ),
    }
    return Difference(**(fields | changes))


def node(ref: str, depth: int = 0, **changes: Any) -> LineageNode:
    return LineageNode(**({"ref": ref, "digest": DIGEST, "kind": "lora", "depth": depth} | changes))


def edge(child: str, parent: str, coefficient: str | None = "1", **changes: Any) -> LineageEdge:
    fields = {"child": child, "parent": parent, "coefficient": coefficient, "relation": "input"}
    return LineageEdge(**(fields | changes))


def lineage(**changes: Any) -> Lineage:
    """A diamond: top@1 from left@1 and right@1, both from root@1."""
    nodes = (
        node("top@1", 0, expression="left - 0.4*right"),
        node("left@1", 1, aliases=("prod",)),
        node("right@1", 1),
        node("root@1", 2, deleted=True),
    )
    edges = (
        edge("top@1", "left@1"),
        edge("top@1", "right@1", "-0.4"),
        edge("left@1", "root@1", "0.5"),
        edge("right@1", "root@1", None, relation="declared"),
    )
    return Lineage(**({"ref": "top@1", "direction": "up", "nodes": nodes, "edges": edges} | changes))


MOVED = MovedReference(reference="toxic@prod", pinned="toxic@3", current="toxic@4")


def staleness(**changes: Any) -> Staleness:
    fields: dict[str, Any] = {
        "ref": "detox@1",
        "expression": "alpaca - 0.4*toxic@prod",
        "references": (MOVED,),
        "followers": ("blend@2", "mix@5"),
    }
    return Staleness(**(fields | changes))


def rebuilt(**changes: Any) -> Rebuilt:
    fields: dict[str, Any] = {
        "ref": "detox@1",
        "state": "made",
        "made": "detox@2",
        "expression": "alpaca - 0.4*toxic@prod",
        "references": (MOVED,),
    }
    return Rebuilt(**(fields | changes))


def revocation(**changes: Any) -> Revocation:
    fields: dict[str, Any] = {
        "ref": "toxic@3",
        "digest": DIGEST,
        "reason": "leaked data",
        "revoked_at": NOW,
        "revoked_by": "ada",
        "affected": ("detox@1", "blend@2"),
    }
    return Revocation(**(fields | changes))


def impact(**changes: Any) -> Impact:
    fields: dict[str, Any] = {
        "ref": "root@1",
        "reason": None,
        "derived": lineage(ref="root@1", direction="down", nodes=lineage().nodes[::-1]),
        "aliases": ("left@prod",),
        "publications": (publication(), publication(revision="next"), publication(repo="team/other")),
    }
    return Impact(**(fields | changes))
