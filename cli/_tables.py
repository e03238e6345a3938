"""Tables of many things of one sort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._parts import Cell, moment, short, table
from ._text import plural, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Alias, Evaluation, Event, Publication, Verification, Version

    from ._parts import Screen


def versions(results: Sequence[Version], console: Screen) -> RenderableType:
    """What ``list`` shows."""
    columns = [
        "version", "state", "kind", "task", "base model", "rank", "parameters", "size", "aliases", "tags", "made",
        "created",
    ]  # fmt: skip
    rows = [
        [
            reference(v),
            state(v),
            v.kind,
            v.task,
            v.base_model,
            v.rank,
            v.parameters,
            size(v.size),
            v.aliases,
            v.tags,
            "composed" if v.recipe else "imported",
            moment(v.created_at, console),
        ]
        for v in results
    ]
    spare = ["created", "tags", "parameters", "made", "size", "aliases", "rank", "task"]
    return table(console, columns, rows, spare=spare)


def reference(version: Version) -> Cell:
    deleted = version.deleted_at is not None
    return Cell(f"{version.ref} (deleted)", "dim strike") if deleted else Cell(version.ref, "bold")


def state(version: Version) -> Cell | None:
    """What is wrong with a version."""
    if version.revoked:
        return Cell("REVOKED", "bold red")
    if version.affected_by:
        return Cell(f"affected by {', '.join(version.affected_by)}", "yellow")
    return None if version.held or version.deleted_at else Cell("not held", "yellow")


def history(results: Sequence[Version], console: Screen) -> RenderableType:
    """What ``log`` shows: every version of one adapter."""
    columns = ["version", "state", "created", "by", "aliases", "made from", "digest", "note"]
    rows = [
        [
            reference(v),
            state(v),
            moment(v.created_at, console),
            v.created_by,
            v.aliases,
            v.recipe.resolved if v.recipe else v.source,
            short(v.digest, console),
            v.note,
        ]
        for v in results
    ]
    return table(console, columns, rows, spare=["note", "digest", "by", "aliases", "created"])


def aliases(results: Sequence[Alias], console: Screen) -> RenderableType:
    rows = [
        [
            Cell(f"{a.name}@{a.alias}", "bold"),
            a.ref,
            "yes" if a.protected else None,
            moment(a.updated_at, console),
            a.updated_by,
        ]
        for a in results
    ]
    return table(console, ["alias", "version", "protected", "updated", "by"], rows, spare=["by", "updated"])


def events(results: Sequence[Event], console: Screen) -> RenderableType:
    rows = [
        [
            moment(e.at, console),
            e.actor,
            Cell(e.action, "bold"),
            e.subject,
            {key: _told(value, console) for key, value in e.detail.items() if value is not None},
            e.id,
        ]
        for e in results
    ]
    return table(console, ["at", "by", "action", "subject", "detail", "id"], rows, spare=["id"])


def _told(value: object, console: Screen) -> object:
    """What an event tells, as JSON says it; digests are shortened for somebody who looks."""
    match value:
        case bool():
            return str(value).lower()
        case str() if value.startswith("sha256:"):
            return short(value, console)
        case _:
            return value


def evaluations(results: Sequence[Evaluation], console: Screen, *, title: str = "") -> RenderableType:
    columns = ["version", "dataset", "split", "metric", "value", "recorded", "by"]
    rows = [
        [e.ref, e.dataset, e.split, e.metric, e.value, moment(e.created_at, console), e.created_by]
        for e in results
    ]
    if len({each.ref for each in results}) < 2:  # which one is known
        columns, rows = columns[1:], [row[1:] for row in rows]
    return table(console, columns, rows, title=title, spare=["by", "recorded"])


_REMOTE = {
    "same": "green",
    "moved": "yellow",
    "changed": "bold red",
    "gone": "bold red",
    "superseded": "dim",
    "open": "cyan",
    "closed": "yellow",
}


def publications(results: Sequence[Publication], console: Screen, *, title: str = "") -> RenderableType:
    columns = ["version", "repo", "branch", "as", "state", "remote", "tag", "commit", "published"]
    rows = [
        [
            Cell(p.ref, "bold"),
            p.repo,
            _branch(p),
            p.target,
            _state(p),
            Cell(p.remote, _REMOTE[p.remote]) if p.remote else None,
            _tag(p),
            p.commit[:10] if p.commit and console.is_terminal else p.commit,
            moment(p.created_at, console),
        ]
        for p in results
    ]
    spare = ["published", "as", "tag", "branch", "commit"]
    return table(console, columns, rows, title=title, spare=spare)


def _branch(publication: Publication) -> str:
    """Where it was pushed to."""
    number = publication.pull_request
    return publication.revision if not number else f"{publication.revision}, pull request {number}"


def _state(publication: Publication) -> str:
    withdrawn = publication.withdrawn
    why = withdrawn.reason if withdrawn else publication.error
    return f"{publication.state}: {why}" if why else publication.state


def _tag(publication: Publication) -> str | None:
    wanted = publication.tag is not None and not publication.tagged and publication.state == "done"
    return f"{publication.tag} (missing)" if wanted else publication.tag


def verifications(results: Sequence[Verification], console: Screen) -> RenderableType:
    columns = ["version", "ok", "problems", "known", "published", "signed", "digest", "rebuilt", "notes"]
    rows = [
        [
            Cell(v.ref, "bold"),
            Cell("ok", "green") if v.ok else Cell("damaged", "bold red"),
            "; ".join(v.problems),
            v.known,
            _yes(said=v.published),
            _yes(said=v.signed),
            short(v.digest, console),
            _rebuilt(v, console),
            "; ".join([*v.notes, *_healed(v)]),
        ]
        for v in results
    ]
    return table(console, columns, rows, spare=["digest"], prose=["problems", "notes"])


def _healed(result: Verification) -> list[str]:
    """Where good copies came from, and how much was put aside without one."""
    sources: dict[str, int] = {}
    for source in result.healed.values():
        sources[source] = sources.get(source, 0) + 1
    said = [f"{plural(count, 'file')} healed from {source}" for source, count in sources.items()]
    left = len(set(result.quarantined) - set(result.healed))
    return [*said, *([f"{plural(left, 'damaged file')} put aside"] if left else [])]


def _yes(*, said: bool | None) -> str | None:
    return None if said is None else "yes" if said else "no"


def _rebuilt(result: Verification, console: Screen) -> str | None:
    if result.rebuilt is None:
        return None
    if result.rebuilt == result.digest:
        return "same bytes, damage mended" if result.mended else "same bytes"
    if result.error is not None:
        return f"within {result.error:.1e}" if result.ok else f"differs by {result.error:.1e}"
    return short(result.rebuilt, console)
