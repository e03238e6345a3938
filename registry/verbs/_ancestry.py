"""Everything that a version was derived from, for its provenance."""

from __future__ import annotations

from sqlalchemy.orm import Session

from registry.catalog import artifacts, origins, views
from registry.catalog.references import Pin
from registry.publishers._upstream import MAX_NODES, Ancestor, Upstream
from registry.results import Target, Version

_HUB = "hf://"


def upstream(session: Session, pin: Pin, target: Target) -> Upstream:
    """A version and its ancestors at every depth, in an order that does not depend on the catalog's row ids."""
    ids, truncated = origins.ancestors(session, pin.id, MAX_NODES)
    return Upstream(
        tuple(
            Ancestor(
                each,
                _recipe(session, each),
                _source(each, itself=each.ref == pin.ref and target == "adapter"),
            )
            for each in views.versions(session, ids)
        ),
        truncated,
    )


def _recipe(session: Session, version: Version) -> dict[str, object] | None:
    if version.recipe is None:
        return None
    return artifacts.load_recipe(session, version.recipe.digest).canonical()


def _source(version: Version, *, itself: bool) -> str | None:
    """Where a version's bytes can be had.

    The first publication, and of what is being published none: publishing again must not change what is told of others,
    or of itself, for else every push would bring about further ones.
    """
    done = [each for each in version.publications if each.state == "done" and each.target == "adapter"]
    if done and not itself:
        return f"{_HUB}{done[0].repo}@{done[0].commit}"
    source = version.source or ""
    return source if source.startswith(_HUB) and "@" in source else None
