"""The card of a version, without publishing it."""

from __future__ import annotations

from typing import get_args

from registry import reference
from registry.blobs import BlobStore
from registry.catalog import references
from registry.catalog.database import Database
from registry.errors import UsageError
from registry.publishers import _template
from registry.publishers import hub as publisher
from registry.publishers._card import card as written
from registry.results import Card, Target
from registry.verbs import _release, _terms
from registry.verbs._release import Presentation

_SOMEWHERE = "OWNER/NAME"


def card(
    database: Database,
    blobs: BlobStore,
    ref: str,
    repo: str | None,
    *,
    into: Target,
    private: bool,
    presentation: Presentation,
) -> Card:
    if into not in get_args(Target):
        raise UsageError(f"unknown target {into!r}", hint=f"one of: {', '.join(get_args(Target))}")
    place = _SOMEWHERE if repo is None else publisher.place(repo, None).repo
    template = None if presentation.card_template is None else _template.read(presentation.card_template)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
    terms = _terms.terms(database, pin, into, presentation, public=not private)
    seen = _release.traits(database, blobs, pin)
    with database.read() as session:
        release = _release.collect(session, pin, into, {}, seen=seen, terms=terms)
    return Card(
        ref=pin.ref,
        repo=repo,
        target=into,
        license=terms.license,
        text=written(release, place, template).decode(),
        warnings=() if terms.despite else terms.conflicts,
    )
