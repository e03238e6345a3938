"""Everything that a version was derived from, for its provenance."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from registry.catalog import artifacts, origins, publications, views
from registry.catalog.references import Pin
from registry.publishers._upstream import MAX_NODES, Ancestor, Upstream
from registry.results import Publication, Target, Version

_HUB = "hf://"


def upstream(session: Session, pin: Pin, target: Target) -> Upstream:
    """A version and its ancestors at every depth, in an order that does not depend on the catalog's row ids."""
    ids, truncated = origins.ancestors(session, pin.id, MAX_NODES)
    places = publications.places(session, ids)
    if target == "adapter":
        # Of what is being published none is told: publishing it again would change that, and bring about a further push.
        places.pop(pin.ref, None)
    nodes = (
        Ancestor(each, _recipe(session, each), _source(each, places.get(each.ref, ())))
        for each in views.versions(session, ids)
    )
    return Upstream(tuple(nodes), truncated)


def _recipe(session: Session, version: Version) -> dict[str, object] | None:
    if version.recipe is None:
        return None
    return artifacts.load_recipe(session, version.recipe.digest).canonical()


def _source(version: Version, places: Sequence[Publication]) -> str | None:
    """Where a version's bytes can be had: the first place, so that publishing it again changes nothing in what is told."""
    if places:
        return f"{_HUB}{places[0].repo}@{places[0].commit}"
    source = version.source or ""
    return source if source.startswith(_HUB) and "@" in source else None
