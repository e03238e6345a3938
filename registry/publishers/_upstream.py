"""What a release was derived from, at every depth, as its provenance tells it. Values, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from registry.digest import canonical_json
from registry.hub import is_repo_id
from registry.results import Version

FORMAT = 1
MAX_NODES = 2_000
MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class Ancestor:
    """A version, its canonical recipe (None for an import), and the ``hf://REPO@COMMIT`` that has its bytes."""

    version: Version
    recipe: Mapping[str, Any] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Upstream:
    """A version and what it was derived from, the nearest first; ``truncated`` where there was too much of it."""

    nodes: tuple[Ancestor, ...]
    truncated: bool = False


def told(upstream: Upstream) -> dict[str, Any]:
    """The JSON of it, cut where it would be too large: nobody reads that, and everybody has to fetch it."""
    nodes, room = [], MAX_BYTES
    for each in upstream.nodes[:MAX_NODES]:
        node = _node(each)
        room -= len(canonical_json(node))
        if room < 0:
            break
        nodes.append(node)
    truncated = upstream.truncated or len(nodes) < len(upstream.nodes)
    return {"format": FORMAT, "truncated": truncated, "versions": nodes}


def _node(ancestor: Ancestor) -> dict[str, Any]:
    """A version without what is its owner's own: actors, notes, tags, aliases and paths stay at home."""
    version, recipe = ancestor.version, None
    if version.recipe is not None and ancestor.recipe is not None:
        recipe = {**version.recipe.model_dump(), "canonical": ancestor.recipe}
    base = version.base_model.model_dump()
    if not (base["repo"] and is_repo_id(base["repo"])):
        base |= {"repo": None, "revision": None}
    return {
        "ref": version.ref,
        "digest": version.digest,
        "kind": version.kind,
        "rank": version.rank,
        "parameters": version.parameters,
        "modules": version.modules,
        "dtype": version.dtype,
        "size": version.size,
        "not_composable": list(version.not_composable),
        "base": base,
        "license": version.license,
        "task": version.task,
        "recipe": recipe,
        "parents": [parent.model_dump() for parent in version.parents],
        "source": ancestor.source,
        "origin": version.origin,
        "created_at": version.created_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
