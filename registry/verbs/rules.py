"""Rules: say once what is to be published where; ``sync`` does it."""

from __future__ import annotations

from typing import get_args

from sqlalchemy.orm import Session

from registry import filters, reference
from registry.catalog import references, search
from registry.catalog import rules as catalog
from registry.catalog.database import Database
from registry.catalog.rules import Draft
from registry.errors import ExpressionError, UsageError
from registry.filters import Node
from registry.publishers import hub as publisher
from registry.results import Rule, Target
from registry.verbs import _templates, publish
from registry.verbs._text import check_text

_LONGEST_SELECTOR = 400  # with the rest of what makes a rule, it has to fit an index entry of PostgreSQL


def add(database: Database, draft: Draft, *, actor: str) -> Rule:
    if draft.target not in get_args(Target):
        raise UsageError(f"unknown target {draft.target!r}", hint=f"one of: {', '.join(get_args(Target))}")
    name = selected_name(draft.selector)
    if draft.alias is not None:
        reference.check_alias(draft.alias)
    _check_places(draft)
    if draft.license is not None:
        check_text("license", draft.license)

    def work(session: Session) -> Rule:
        if name is not None:
            references.adapter(session, name)
        else:
            search.listing(session, where=selected_by(draft.selector), limit=1)
        return catalog.add(session, draft, actor)

    return database.transact(work)


def listing(database: Database) -> tuple[Rule, ...]:
    with database.read() as session:
        return catalog.listing(session)


def delete(database: Database, number: int, *, actor: str) -> Rule:
    return database.transact(lambda session: catalog.delete(session, number, actor))


def selected_name(selector: str) -> str | None:
    """The name that a selector is, None for a filter. Raises ``UsageError`` for what is neither."""
    check_text("selector", selector, limit=_LONGEST_SELECTOR)
    if _is_name(selector):
        return selector
    name, _, alias = selector.partition("@")
    if alias and _is_name(name):
        raise UsageError(
            f"{selector!r} is one version, and a rule is for those to come, too",
            hint=f"give {name}, and which of its versions with --alias",
        )
    selected_by(selector)
    return None


def selected_by(selector: str) -> Node:
    """The filter that a selector is. Raises ``ExpressionError``."""
    try:
        return filters.parse(selector)
    except ExpressionError as error:
        raise ExpressionError(
            f"not an adapter's name, and as a filter: {error.message.partition(' at column ')[0]}",
            text=error.text,
            column=error.column,
            hint=error.hint or "a filter is such as: task = 'qa' AND tag.team = 'x'",
        ) from None


def _is_name(text: str) -> bool:
    try:
        reference.check_name(text)
    except UsageError:
        return False
    return True


def _check_places(draft: Draft) -> None:
    """What is wrong with the templates whatever they are filled with."""
    repo = _templates.check("repo", draft.repo, alias=draft.alias)
    branch = draft.revision and _templates.check("branch", draft.revision, alias=draft.alias)
    tag = None if draft.tag is None else _templates.check("tag", draft.tag, alias=draft.alias)
    publish.check_manner(publisher.place(repo, branch), propose=draft.propose, tag=tag)
