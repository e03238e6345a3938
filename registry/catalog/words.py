"""Words for free text: what names, notes and tags are found by, kept beside them in the same transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.catalog.database import insert
from registry.catalog.tables import TagRow, VersionRow, WordRow

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 100  # characters; what is longer is found by its start


def split(text: str) -> list[str]:
    """The distinct words of a text, in lower case: its runs of letters and digits, in their order."""
    return list(dict.fromkeys(word[:_LONGEST] for word in _WORD.findall(text.lower())))


def of_version(note: str | None, tags: Mapping[str, str]) -> list[str]:
    """The words of a version's note, tag keys and tag values."""
    return split(" ".join([note or "", *tags.keys(), *tags.values()]))


def index(session: Session, version_id: int) -> None:
    """Write the version's words anew, after its note or its tags changed."""
    session.flush()
    note = session.scalar(select(VersionRow.note).where(VersionRow.id == version_id))
    rows = session.execute(select(TagRow.key, TagRow.value).where(TagRow.version_id == version_id))
    session.execute(delete(WordRow).where(WordRow.version_id == version_id))
    add(session, version_id, of_version(note, {row.key: row.value for row in rows}))


def add(session: Session, version_id: int, found: Iterable[str]) -> None:
    """Write the words of a version that has none yet."""
    rows = [{"word": word, "version_id": version_id} for word in found]
    insert(session, WordRow, *rows)
