"""A catalog as the lines of a bundle: a few thousand rows at a time, in one canonical order.

Equal catalogs give equal bytes, whatever database they are in: the order never depends on row ids but for what
happened one after the other, times are UTC, and numbers in JSON are written as both databases give them back.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.catalog.bundle_lines import TABLES
from registry.catalog.database import HEAD
from registry.catalog.tables import (
    AdapterRow,
    AliasRow,
    ArtifactFileRow,
    ArtifactRow,
    BaseAliasRow,
    BaseLayoutRow,
    BaseModelRow,
    BlobRow,
    EvaluationRow,
    EventRow,
    FollowedRow,
    LineageRow,
    PublicationRow,
    RealisationRow,
    RecipeRow,
    RevocationRow,
    RuleRow,
    SweepPointRow,
    SweepRow,
    TagRow,
    VersionRow,
)

SCHEMA = HEAD
_PAGE = 2000  # rows read at a time
_EXACT = 10**16  # a float from here on is a whole number to PostgreSQL's JSON

Values = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Exporter:
    """The lines of every table, from one transaction. Tables are asked for in the order of ``TABLES``.

    What later tables refer to is kept as numbers: eight bytes for a version, some hundred for an adapter.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._versions = array("q")  # in the order of ids
        self._line_of_adapter: dict[int, int] = {}
        self._line_of_base: dict[int, int] = {}
        self._line_of_sweep: dict[int, int] = {}

    def lines(self, table: str) -> Iterator[bytes]:
        """The lines of one table, each ended."""
        fields = tuple(TABLES[table].model_fields)
        makers: Mapping[str, Callable[[], Iterator[Values]]] = {
            "base_models": self._base_models,
            "base_aliases": self._base_aliases,
            "base_layouts": self._base_layouts,
            "adapters": self._adapter_lines,
            "blobs": self._blobs,
            "artifacts": self._artifacts,
            "recipes": self._recipes,
            "realisations": self._realisations,
            "versions": self._version_lines,
            "aliases": self._aliases,
            "revocations": self._revocations,
            "evaluations": self._evaluations,
            "publications": self._publications,
            "sweeps": self._sweeps,
            "sweep_points": self._sweep_points,
            "rules": self._rules,
            "events": self._events,
        }
        for values in makers[table]():
            yield _encode({field: _plain(values[field]) for field in fields}).encode() + b"\n"

    def _pages(self, statement: Any, *keys: InstrumentedAttribute[Any]) -> Iterator[Sequence[Any]]:
        """The rows in the order of unique keys, which are the first columns, a page at a time."""
        last: tuple[Any, ...] | None = None
        while True:
            page = statement.order_by(*keys).limit(_PAGE)
            if last is not None:
                after = tuple_(*keys) > tuple_(
                    *[literal(value, key.type) for value, key in zip(last, keys, strict=True)]
                )
                page = page.where(after)
            rows = self._session.execute(page).all()
            if rows:
                yield rows
                last = tuple(rows[-1][: len(keys)])
            if len(rows) < _PAGE:
                return

    def _rows(self, statement: Any, *keys: InstrumentedAttribute[Any]) -> Iterator[Any]:
        for page in self._pages(statement, *keys):
            yield from page

    def _base_models(self) -> Iterator[Values]:
        keys = (BaseModelRow.repo, BaseModelRow.revision)
        for line, row in enumerate(
            self._rows(select(*keys, BaseModelRow.fingerprint, BaseModelRow.license, BaseModelRow.id), *keys),
            1,
        ):
            self._line_of_base[row.id] = line
            yield row._asdict()

    def _base_aliases(self) -> Iterator[Values]:
        found = select(
            BaseAliasRow.alias_key,
            BaseAliasRow.alias,
            BaseAliasRow.base_model_id,
            BaseAliasRow.updated_at,
            BaseAliasRow.updated_by,
        )
        for row in self._rows(found, BaseAliasRow.alias_key):
            yield {**row._asdict(), "base": self._line_of_base[row.base_model_id]}

    def _base_layouts(self) -> Iterator[Values]:
        found = select(BaseLayoutRow.fingerprint, BaseLayoutRow.layout, BaseLayoutRow.created_at)
        for row in self._session.execute(
            found.order_by(BaseLayoutRow.fingerprint).execution_options(yield_per=1)
        ):
            yield row._asdict()

    def _adapter_lines(self) -> Iterator[Values]:
        found = select(
            AdapterRow.name_key,
            AdapterRow.id,
            AdapterRow.name,
            AdapterRow.last_version,
            AdapterRow.created_at,
            AdapterRow.created_by,
        )
        for line, row in enumerate(self._rows(found, AdapterRow.name_key), 1):
            self._line_of_adapter[row.id] = line
            yield row._asdict()

    def _blobs(self) -> Iterator[Values]:
        found = select(BlobRow.digest, BlobRow.size, BlobRow.created_at)
        for row in self._rows(found, BlobRow.digest):
            yield row._asdict()

    def _artifacts(self) -> Iterator[Values]:
        columns = [
            getattr(ArtifactRow, name)
            for name in TABLES["artifacts"].model_fields
            if name not in {"digest", "files"}
        ]
        for page in self._pages(select(ArtifactRow.digest, *columns), ArtifactRow.digest):
            files: dict[str, dict[str, str]] = defaultdict(dict)
            held = (
                select(ArtifactFileRow.artifact_digest, ArtifactFileRow.path, ArtifactFileRow.blob_digest)
                .where(
                    ArtifactFileRow.artifact_digest >= page[0].digest,
                    ArtifactFileRow.artifact_digest <= page[-1].digest,
                )
                .order_by(ArtifactFileRow.artifact_digest, ArtifactFileRow.path)
            )
            for row in self._session.execute(held):
                files[row.artifact_digest][row.path] = row.blob_digest
            for row in page:
                yield {**row._asdict(), "files": files.get(row.digest, {})}

    def _recipes(self) -> Iterator[Values]:
        for row in self._rows(
            select(RecipeRow.digest, RecipeRow.canonical, RecipeRow.created_at), RecipeRow.digest
        ):
            yield row._asdict()

    def _realisations(self) -> Iterator[Values]:
        names = [name for name in TABLES["realisations"].model_fields if name not in {"recipe", "output"}]
        found = select(
            RealisationRow.id,
            RealisationRow.recipe_digest.label("recipe"),
            RealisationRow.output_digest.label("output"),
            *[getattr(RealisationRow, name) for name in names],
        )
        for row in self._rows(found, RealisationRow.id):
            yield row._asdict()

    def _version_lines(self) -> Iterator[Values]:
        others = {"adapter", "artifact", "base", "recipe", "tags", "parents", "followed"}
        names = [name for name in TABLES["versions"].model_fields if name not in others]
        found = select(
            VersionRow.id,
            VersionRow.artifact_digest.label("artifact"),
            VersionRow.recipe_digest.label("recipe"),
            VersionRow.adapter_id,
            VersionRow.base_model_id,
            *[getattr(VersionRow, name) for name in names],
        )
        for page in self._pages(found, VersionRow.id):
            # Lines of this very page may be referred to by others of it.
            self._versions.extend(row.id for row in page)
            first, last = page[0].id, page[-1].id
            tags, parents, followed = (
                self._tags(first, last),
                self._parents(first, last),
                self._followed(first, last),
            )
            for row in page:
                yield {
                    **row._asdict(),
                    "adapter": self._line_of_adapter[row.adapter_id],
                    "base": self._line_of_base[row.base_model_id],
                    "tags": tags.get(row.id, {}),
                    "parents": parents.get(row.id, []),
                    "followed": followed.get(row.id, []),
                }

    def _tags(self, first: int, last: int) -> dict[int, dict[str, str]]:
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        found = select(TagRow.version_id, TagRow.key, TagRow.value)
        inside = found.where(TagRow.version_id >= first, TagRow.version_id <= last).order_by(
            TagRow.version_id, TagRow.key
        )
        for row in self._session.execute(inside):
            tags[row.version_id][row.key] = row.value
        return tags

    def _parents(self, first: int, last: int) -> dict[int, list[Values]]:
        parents: dict[int, list[Values]] = defaultdict(list)
        found = (
            select(LineageRow.child_id, LineageRow.parent_id, LineageRow.relation, LineageRow.coefficient)
            .where(LineageRow.child_id >= first, LineageRow.child_id <= last)
            .order_by(LineageRow.child_id, LineageRow.position)
        )
        for row in self._session.execute(found):
            edge = {
                "version": self._line(row.parent_id),
                "relation": row.relation,
                "coefficient": row.coefficient,
            }
            parents[row.child_id].append(edge)
        return parents

    def _followed(self, first: int, last: int) -> dict[int, list[Values]]:
        followed: dict[int, list[Values]] = defaultdict(list)
        found = select(
            FollowedRow.version_id, FollowedRow.adapter_id, FollowedRow.alias_key, FollowedRow.pinned_id
        ).where(FollowedRow.version_id >= first, FollowedRow.version_id <= last)
        for row in self._session.execute(found):
            line = self._line_of_adapter[row.adapter_id]
            each = {"adapter": line, "alias": row.alias_key, "version": self._line(row.pinned_id)}
            followed[row.version_id].append(each)
        for every in followed.values():
            every.sort(key=lambda each: (each["adapter"], each["alias"]))
        return followed

    def _aliases(self) -> Iterator[Values]:
        found = select(
            AdapterRow.name_key,
            AliasRow.alias_key,
            AliasRow.adapter_id,
            AliasRow.alias,
            AliasRow.version_id,
            AliasRow.updated_at,
            AliasRow.updated_by,
            AliasRow.protected,
        ).join(AdapterRow, AliasRow.adapter_id == AdapterRow.id)
        for row in self._rows(found, AdapterRow.name_key, AliasRow.alias_key):
            yield {
                **row._asdict(),
                "adapter": self._line_of_adapter[row.adapter_id],
                "version": self._line(row.version_id),
            }

    def _revocations(self) -> Iterator[Values]:
        found = select(
            RevocationRow.version_id, RevocationRow.reason, RevocationRow.revoked_at, RevocationRow.revoked_by
        )
        for row in self._rows(found, RevocationRow.version_id):
            yield {**row._asdict(), "version": self._line(row.version_id)}

    def _evaluations(self) -> Iterator[Values]:
        keys = (EvaluationRow.version_id, EvaluationRow.dataset, EvaluationRow.split, EvaluationRow.metric)
        found = select(*keys, EvaluationRow.value, EvaluationRow.created_at, EvaluationRow.created_by)
        for row in self._rows(found, *keys):
            yield {**row._asdict(), "version": self._line(row.version_id)}

    def _publications(self) -> Iterator[Values]:
        names = [name for name in TABLES["publications"].model_fields if name != "version"]
        found = select(
            PublicationRow.id, PublicationRow.version_id, *[getattr(PublicationRow, name) for name in names]
        )
        for row in self._rows(found, PublicationRow.id):
            yield {**row._asdict(), "version": self._line(row.version_id)}

    def _sweeps(self) -> Iterator[Values]:
        names = [name for name in TABLES["sweeps"].model_fields if name != "version"]
        found = select(SweepRow.id, SweepRow.version_id, *[getattr(SweepRow, name) for name in names])
        for line, row in enumerate(self._rows(found, SweepRow.id), 1):
            self._line_of_sweep[row.id] = line
            yield {
                **row._asdict(),
                "version": None if row.version_id is None else self._line(row.version_id),
            }

    def _sweep_points(self) -> Iterator[Values]:
        names = [
            name
            for name in TABLES["sweep_points"].model_fields
            if name not in {"sweep", "recipe", "position"}
        ]
        keys = (SweepPointRow.sweep_id, SweepPointRow.position)
        columns = [getattr(SweepPointRow, name) for name in names]
        for row in self._rows(select(*keys, SweepPointRow.recipe_digest.label("recipe"), *columns), *keys):
            yield {**row._asdict(), "sweep": self._line_of_sweep[row.sweep_id]}

    def _rules(self) -> Iterator[Values]:
        names = TABLES["rules"].model_fields
        for row in self._rows(select(RuleRow.id, *[getattr(RuleRow, name) for name in names]), RuleRow.id):
            yield row._asdict()

    def _events(self) -> Iterator[Values]:
        names = TABLES["events"].model_fields
        for row in self._rows(select(EventRow.id, *[getattr(EventRow, name) for name in names]), EventRow.id):
            yield row._asdict()

    def _line(self, version_id: int) -> int:
        return bisect_left(self._versions, version_id) + 1


def _plain(value: Any) -> Any:
    """A value as JSON in one form: keys sorted, times in UTC, and numbers as both databases give them back."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return int(Decimal(repr(value))) if abs(value) >= _EXACT else value or 0.0
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    return [_plain(item) for item in value]
