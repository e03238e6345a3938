"""A bundle into a catalog: compared first, so that nothing that contradicts is written, then all in one transaction.

What a catalog says of its own versions stays as it is. From a bundle come adapters that are not there, versions that
follow those that are, and revocations. Into an empty catalog comes everything, events included.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import func, insert, literal, select, text, tuple_, update
from sqlalchemy.orm import Session

from registry.catalog import references, revocations, words
from registry.catalog.bundle_check import Checked, Source, parse
from registry.catalog.bundle_lines import (
    AdapterLine,
    AliasLine,
    ArtifactLine,
    BaseAliasLine,
    BaseLayoutLine,
    BaseModelLine,
    BlobLine,
    EvaluationLine,
    EventLine,
    PublicationLine,
    RealisationLine,
    RecipeLine,
    RevocationLine,
    RuleLine,
    SweepLine,
    SweepPointLine,
    VersionLine,
)
from registry.catalog.events import now
from registry.catalog.loading import Loader, next_ids
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactFileRow,
    ArtifactRow,
    Base,
    BaseAliasRow,
    BaseLayoutRow,
    BaseModelRow,
    BlobRow,
    EvaluationRow,
    EventRow,
    FollowedRow,
    LineageRow,
    NameWordRow,
    PublicationRow,
    RealisationRow,
    RecipeRow,
    RevocationRow,
    RuleRow,
    SweepPointRow,
    SweepRow,
    TagRow,
    VersionRow,
    WordRow,
)
from registry.errors import Conflict

T = TypeVar("T")
_CHUNK = 500

_ORDER: tuple[Any, ...] = (
    BaseModelRow, BaseAliasRow, BaseLayoutRow, AdapterRow, NameWordRow, BlobRow, ArtifactRow, ArtifactFileRow,
    RecipeRow, RealisationRow, VersionRow, TagRow, WordRow, LineageRow, FollowedRow, AliasRow, RevocationRow,
    AffectedRow, EvaluationRow, PublicationRow, SweepRow, SweepPointRow,
    RuleRow, EventRow,
)  # fmt: skip
"""Every table after those that it refers to."""


@dataclass
class Comparison:
    """A bundle beside a catalog. Ids are those of the catalog, by line of the bundle, 0 where it has none yet."""

    empty: bool
    base_id: array[int]
    adapter_id: array[int]
    version_id: array[int]
    here: array[int]
    """By adapter: how many versions the catalog has of it."""
    new_artifacts: bytearray
    """By artifact: whether the catalog lacks it, or its files."""
    new_blobs: bytearray
    """By blob: whether something that is new has it."""
    known_blobs: bytearray
    """By blob: whether the catalog has it already."""

    def extends(self, checked: Checked, adapter: int) -> bool:
        """Whether versions are added to an adapter that is there, perhaps without any."""
        return bool(self.adapter_id[adapter]) and self.here[adapter] < checked.last_version[adapter]

    def touches(self, checked: Checked, adapter: int) -> bool:
        """Whether an adapter is new, or extended."""
        return not self.adapter_id[adapter] or self.extends(checked, adapter)


@dataclass
class Written:
    """What an import changed."""

    rows: dict[str, int] = field(default_factory=dict)
    """New rows by table of the bundle."""
    extended: int = 0
    kept: list[str] = field(default_factory=list)
    """Aliases that point elsewhere here, and stay."""
    told: int = 0
    """Events of what changed, where the history is not the bundle's."""

    def count(self, table: str, number: int = 1) -> None:
        self.rows[table] = self.rows.get(table, 0) + number


def is_empty(session: Session) -> bool:
    """Whether nothing was ever written to this catalog."""
    return not any(session.execute(select(literal(1)).select_from(row).limit(1)).first() for row in _ORDER)


def compare(session: Session, source: Source, checked: Checked, *, blobs: bool) -> Comparison:
    """Look for what is there already. Raises ``Conflict``, naming it, for what contradicts the catalog."""
    empty = is_empty(session)
    found = Comparison(
        empty=empty,
        base_id=_zeros(checked.rows["base_models"]),
        adapter_id=_zeros(checked.rows["adapters"]),
        version_id=_zeros(checked.rows["versions"]),
        here=_zeros(checked.rows["adapters"]),
        new_artifacts=bytearray(b"\1" * len(checked.artifacts)),
        new_blobs=bytearray(b"\1" * len(checked.blobs)),
        known_blobs=bytearray(len(checked.blobs)),
    )
    if not empty:
        _compare_bases(session, source, found)
        names = _compare_adapters(session, source, found)
        _compare_versions(session, source, found, names)
        _compare_content(session, source, checked, found, blobs=blobs)
    return found


def lock(session: Session) -> None:
    """Nobody else writes until this transaction ends. SQLite's write lock does that by itself."""
    if session.get_bind().dialect.name == "postgresql":
        # The edges and then adapters first, as every writer does: who holds one of them is waited for while nothing
        # is held here that he may want.
        revocations.exclude_edges(session)
        session.execute(text("LOCK TABLE adapters IN EXCLUSIVE MODE"))
        others = ", ".join(row.__tablename__ for row in _ORDER if row not in {AdapterRow, LineageRow})
        session.execute(text(f"LOCK TABLE {others} IN SHARE ROW EXCLUSIVE MODE"))


def write(
    session: Session,
    source: Source,
    checked: Checked,
    found: Comparison,
    *,
    bundle: str,
    actor: str,
    advance: Callable[[int], None],
) -> Written:
    """Write what :func:`compare` found to be new; ``bundle`` is its digest, for the events."""
    with Loader(session, _ORDER) as loader:
        return _Writer(
            loader=loader,
            source=source,
            checked=checked,
            found=found,
            bundle=bundle,
            actor=actor,
            advance=advance,
        ).run()


def _zeros(lines: int) -> array[int]:
    return array("q", bytes(8 * (lines + 1)))


def _chunks(items: Iterator[T]) -> Iterator[list[T]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _compare_bases(session: Session, source: Source, found: Comparison) -> None:
    for chunk in _chunks(parse("base_models", BaseModelLine, source)):
        query = select(BaseModelRow).where(BaseModelRow.repo.in_({line.repo for _, line in chunk}))
        known = {(row.repo, row.revision): row for row in session.scalars(query)}
        for number, line in chunk:
            if (row := known.get((line.repo, line.revision))) is None:
                continue
            found.base_id[number] = row.id
            if row.fingerprint and line.fingerprint and row.fingerprint != line.fingerprint:
                name = f"{line.repo}@{line.revision}" if line.revision else line.repo
                raise Conflict(
                    f"the base model {name} has the fingerprint {row.fingerprint} here, and "
                    f"{line.fingerprint} in the bundle",
                    hint="these are two models: one of the catalogs has to name its own with --base REPO@REVISION",
                )


def _compare_adapters(session: Session, source: Source, found: Comparison) -> dict[int, str]:
    """The names of those adapters of the bundle that are here."""
    names: dict[int, str] = {}
    for chunk in _chunks(parse("adapters", AdapterLine, source)):
        query = select(AdapterRow).where(AdapterRow.name_key.in_([line.name.lower() for _, line in chunk]))
        known = {row.name_key: row for row in session.scalars(query)}
        for number, line in chunk:
            if (row := known.get(line.name.lower())) is None:
                continue
            if row.name != line.name:
                raise Conflict(
                    f"{line.name!r} of the bundle differs only by case from {row.name!r}, which is here",
                    hint="rename is not possible: import into a catalog of its own",
                )
            found.adapter_id[number], found.here[number] = row.id, row.last_version
            names[number] = row.name
    return names


def _compare_versions(session: Session, source: Source, found: Comparison, names: dict[int, str]) -> None:
    both = (
        (number, line)
        for number, line in parse("versions", VersionLine, source)
        if line.number <= found.here[line.adapter]
    )
    for chunk in _chunks(both):
        keys = [(found.adapter_id[line.adapter], line.number) for _, line in chunk]
        query = select(
            VersionRow.adapter_id,
            VersionRow.number,
            VersionRow.id,
            VersionRow.artifact_digest,
            VersionRow.recipe_digest,
            VersionRow.base_model_id,
        ).where(tuple_(VersionRow.adapter_id, VersionRow.number).in_(keys))
        known = {(row.adapter_id, row.number): row for row in session.execute(query)}
        for (number, line), key in zip(chunk, keys, strict=True):
            row = known[key]
            for what, here, there in (
                ("content", row.artifact_digest, line.artifact),
                ("recipe", row.recipe_digest, line.recipe),
                ("base model", row.base_model_id, found.base_id[line.base]),
            ):
                if here != there:
                    said = f": {here} here, {there} in the bundle" if what != "base model" else ""
                    raise Conflict(
                        f"{names[line.adapter]}@{line.number} has another {what} in the bundle{said}",
                        hint="the two catalogs went apart: import into a catalog of its own",
                    )
            found.version_id[number] = row.id


def _compare_content(
    session: Session, source: Source, checked: Checked, found: Comparison, *, blobs: bool
) -> None:
    for start, some in _numbered(parse("blobs", BlobLine, source)):
        digests = [line.digest for line in some]
        known = set(session.scalars(select(BlobRow.digest).where(BlobRow.digest.in_(digests))))
        for place, digest in enumerate(digests, start):
            found.known_blobs[place], found.new_blobs[place] = digest in known, False
    for start, chunk in _numbered(parse("artifacts", ArtifactLine, source)):
        digests = [line.digest for line in chunk]
        known = set(session.scalars(select(ArtifactRow.digest).where(ArtifactRow.digest.in_(digests))))
        column = ArtifactFileRow.artifact_digest
        held = set(session.scalars(select(column).where(column.in_(digests)).distinct()))
        for place, line in enumerate(chunk, start):
            there = line.digest in known
            found.new_artifacts[place] = not there or (blobs and bool(line.files) and line.digest not in held)
            if found.new_artifacts[place]:
                for digest in line.files.values():
                    found.new_blobs[checked.blobs.find(digest) or 0] = True


def _numbered(lines: Iterator[tuple[int, T]]) -> Iterator[tuple[int, list[T]]]:
    """Lines in chunks, with the place of the first, counting from 0."""
    for chunk in _chunks(lines):
        yield chunk[0][0] - 1, [line for _, line in chunk]


class _Writer:
    def __init__(
        self,
        *,
        loader: Loader,
        source: Source,
        checked: Checked,
        found: Comparison,
        bundle: str,
        actor: str,
        advance: Callable[[int], None],
    ) -> None:
        self._loader = loader
        self._source = source
        self._checked = checked
        self._found = found
        self._bundle = bundle
        self._actor = actor
        self._advance = advance
        self._written = Written()

    def run(self) -> Written:
        self._base_models()
        self._base_aliases()
        self._base_layouts()
        self._adapters()
        self._blobs()
        self._artifacts()
        self._recipes()
        self._realisations()
        self._versions()
        self._aliases()
        self._revocations()
        self._evaluations()
        self._publications()
        self._sweeps()
        self._rules()
        self._spread_revocations()
        self._events()
        return self._written

    def _add(self, row: Any, **values: Any) -> None:
        self._loader.add(row, values)

    def _number(self, row: Any, ids: array[int]) -> bytearray:
        """Give the lines without an id the next ones, in their order; returns which they are."""
        new = bytearray(not known for known in ids)
        new[0] = False
        following = iter(next_ids(self._loader.session, row, sum(new)))
        for line, is_new in enumerate(new):
            if is_new:
                ids[line] = next(following)
        return new

    def _read(self, table: str, model: type[Any]) -> Iterator[tuple[int, Any]]:
        done = 0
        for number, line in parse(table, model, self._source):
            yield number, line
            if number % 1000 == 0:
                self._advance(number - done)
                done = number
        self._advance(self._checked.rows[table] - done)

    def _base_models(self) -> None:
        new = self._number(BaseModelRow, self._found.base_id)
        for number, line in self._read("base_models", BaseModelLine):
            if new[number]:
                self._add(BaseModelRow, id=self._found.base_id[number], **line.__dict__)
                self._written.count("base_models")
            elif line.fingerprint is not None or line.license is not None:
                row = self._loader.session.get_one(BaseModelRow, self._found.base_id[number])
                said = {
                    name: getattr(line, name)
                    for name in ("fingerprint", "license")
                    if getattr(row, name) is None and getattr(line, name) is not None
                }
                for name, value in said.items():
                    setattr(row, name, value)
                if said:
                    self._loader.session.flush()
                    self._event(str(references.base_identity(row)), **said)

    def _base_aliases(self) -> None:
        self._loader.flush()
        session, empty = self._loader.session, self._found.empty
        there = {row.alias_key: row.base_model_id for row in session.scalars(select(BaseAliasRow))}
        # A base model of this catalog goes on to be found by its own name.
        names = set() if empty else {repo.lower() for repo in session.scalars(select(BaseModelRow.repo))}
        for _, line in self._read("base_aliases", BaseAliasLine):
            key, meant = line.alias.lower(), self._found.base_id[line.base]
            if key in there or key in names:
                if there.get(key) != meant:
                    self._written.kept.append(line.alias)
                continue
            self._add(
                BaseAliasRow,
                alias_key=key,
                alias=line.alias,
                base_model_id=meant,
                updated_at=line.updated_at,
                updated_by=line.updated_by,
            )
            self._written.count("base_aliases")
            if not empty:
                row = self._loader.session.get_one(BaseModelRow, meant)
                self._event(line.alias, base_model=str(references.base_identity(row)))

    def _base_layouts(self) -> None:
        there = set(self._loader.session.scalars(select(BaseLayoutRow.fingerprint)))
        for _, line in self._read("base_layouts", BaseLayoutLine):
            if line.fingerprint not in there:
                self._add(BaseLayoutRow, **line.__dict__)
                self._loader.flush()  # one of them may be large
                self._written.count("base_layouts")

    def _adapters(self) -> None:
        checked, found = self._checked, self._found
        extended = [line for line in range(1, len(found.here)) if found.extends(checked, line)]
        for start in range(0, len(extended), _CHUNK):
            lines = extended[start : start + _CHUNK]
            ids = [found.adapter_id[line] for line in lines]
            self._loader.session.execute(
                update(VersionRow).where(VersionRow.latest_of.in_(ids)).values(latest_of=None)
            )
            self._loader.session.execute(
                update(AdapterRow),
                [
                    {"id": found.adapter_id[line], "last_version": checked.last_version[line]}
                    for line in lines
                ],
            )
        self._extended = {found.adapter_id[line] for line in extended}
        self._written.extended = len(extended)
        self._touched = bytearray(found.touches(checked, line) for line in range(len(found.here)))
        self._touched[0] = False
        self._new_adapters = self._number(AdapterRow, found.adapter_id)
        for number, line in self._read("adapters", AdapterLine):
            if self._new_adapters[number]:
                row_id = found.adapter_id[number]
                self._add(AdapterRow, id=row_id, name_key=line.name.lower(), **line.__dict__)
                for word in words.split(line.name):
                    self._add(NameWordRow, word=word, adapter_id=row_id)
                self._written.count("adapters")

    def _blobs(self) -> None:
        for number, line in self._read("blobs", BlobLine):
            if self._found.new_blobs[number - 1] and not self._found.known_blobs[number - 1]:
                self._add(BlobRow, **line.__dict__)
                self._written.count("blobs")

    def _artifacts(self) -> None:
        known: set[str] = set()
        for start, chunk in _numbered(self._read("artifacts", ArtifactLine)):
            if not self._found.empty:
                digests = [line.digest for line in chunk]
                known = set(
                    self._loader.session.scalars(
                        select(ArtifactRow.digest).where(ArtifactRow.digest.in_(digests))
                    )
                )
            for place, line in enumerate(chunk, start):
                if not self._found.new_artifacts[place]:
                    continue
                values = dict(line.__dict__)
                files = values.pop("files")
                if line.digest not in known:
                    self._add(ArtifactRow, **values)
                for path, digest in files.items():
                    self._add(ArtifactFileRow, artifact_digest=line.digest, path=path, blob_digest=digest)
                self._written.count("artifacts")

    def _recipes(self) -> None:
        for _, chunk in _numbered(self._read("recipes", RecipeLine)):
            known = self._known(RecipeRow.digest, [line.digest for line in chunk])
            for line in chunk:
                if line.digest not in known:
                    self._add(RecipeRow, **line.__dict__)
                    self._written.count("recipes")

    def _realisations(self) -> None:
        keys = (
            RealisationRow.recipe_digest,
            RealisationRow.target,
            RealisationRow.variant,
            RealisationRow.output_digest,
        )
        for _, chunk in _numbered(self._read("realisations", RealisationLine)):
            lines = {(line.recipe, line.target, line.variant, line.output): line for line in chunk}
            known: set[Any] = set()
            if not self._found.empty:
                query = select(*keys).where(RealisationRow.recipe_digest.in_({line.recipe for line in chunk}))
                known = {tuple(row) for row in self._loader.session.execute(query)}
            for key, line in lines.items():
                if key not in known:
                    values = dict(line.__dict__)
                    values["recipe_digest"], values["output_digest"] = (
                        values.pop("recipe"),
                        values.pop("output"),
                    )
                    self._add(RealisationRow, **values)
                    self._written.count("realisations")

    def _known(self, column: Any, digests: Sequence[str]) -> set[str]:
        if self._found.empty:
            return set()
        return set(self._loader.session.scalars(select(column).where(column.in_(digests))))

    def _versions(self) -> None:
        found = self._found
        self._new_versions = self._number(VersionRow, found.version_id)
        for number, line in self._read("versions", VersionLine):
            if self._new_versions[number]:
                self._version(number, line)
        self._loader.flush()
        extended = sorted(self._extended)
        for start in range(0, len(extended), _CHUNK):
            ids = extended[start : start + _CHUNK]
            latest = (
                select(func.max(VersionRow.id))
                .where(VersionRow.adapter_id.in_(ids), VersionRow.deleted_at.is_(None))
                .group_by(VersionRow.adapter_id)
            )
            self._loader.session.execute(
                update(VersionRow)
                .where(VersionRow.id.in_(latest))
                .values(latest_of=VersionRow.adapter_id)
                .execution_options(synchronize_session=False)
            )

    def _version(self, number: int, line: VersionLine) -> None:
        found = self._found
        row_id, adapter_id = found.version_id[number], found.adapter_id[line.adapter]
        latest = self._new_adapters[line.adapter] and self._checked.latest[line.adapter] == number
        self._add(
            VersionRow,
            id=row_id,
            adapter_id=adapter_id,
            number=line.number,
            artifact_digest=line.artifact,
            base_model_id=found.base_id[line.base],
            recipe_digest=line.recipe,
            expression=line.expression,
            resolved=line.resolved,
            task=line.task,
            license=line.license,
            note=line.note,
            source=line.source,
            source_revision=line.source_revision,
            origin=line.origin,
            latest_of=adapter_id if latest else None,
            created_at=line.created_at,
            created_by=line.created_by,
            deleted_at=line.deleted_at,
            deleted_by=line.deleted_by,
        )
        for key, value in line.tags.items():
            self._add(TagRow, version_id=row_id, key=key, value=value)
        for word in words.of_version(line.note, line.tags):
            self._add(WordRow, word=word, version_id=row_id)
        for position, parent in enumerate(line.parents):
            self._add(
                LineageRow,
                child_id=row_id,
                position=position,
                parent_id=found.version_id[parent.version],
                relation=parent.relation,
                coefficient=parent.coefficient,
            )
        for each in line.followed:
            self._add(
                FollowedRow,
                version_id=row_id,
                adapter_id=found.adapter_id[each.adapter],
                alias_key=each.alias,
                pinned_id=found.version_id[each.version],
            )
        self._written.count("versions")

    def _aliases(self) -> None:
        found = self._found
        for _, chunk in _numbered(self._read("aliases", AliasLine)):
            lines = [line for line in chunk if self._touched[line.adapter]]
            ids = {found.adapter_id[line.adapter] for line in lines if not self._new_adapters[line.adapter]}
            known: dict[tuple[int, str], tuple[str, int]] = {}
            dead: set[int] = set()
            if ids:
                query = (
                    select(AliasRow.adapter_id, AliasRow.alias_key, AdapterRow.name, AliasRow.version_id)
                    .join(AdapterRow, AliasRow.adapter_id == AdapterRow.id)
                    .where(AliasRow.adapter_id.in_(ids))
                )
                for row in self._loader.session.execute(query):
                    known[row.adapter_id, row.alias_key] = row.name, row.version_id
                targets = [found.version_id[line.version] for line in lines]
                gone = VersionRow.id.in_(targets) & VersionRow.deleted_at.is_not(None)
                dead = set(self._loader.session.scalars(select(VersionRow.id).where(gone)))
            for line in lines:
                self._alias(line, known, dead)

    def _alias(self, line: AliasLine, known: dict[tuple[int, str], tuple[str, int]], dead: set[int]) -> None:
        found = self._found
        adapter_id, version_id = found.adapter_id[line.adapter], found.version_id[line.version]
        there = known.get((adapter_id, line.alias.lower()))
        if there is not None or version_id in dead:
            if there is not None and there[1] != version_id:
                self._written.kept.append(f"{there[0]}@{line.alias}")
            return
        self._add(
            AliasRow,
            adapter_id=adapter_id,
            alias_key=line.alias.lower(),
            alias=line.alias,
            number=self._checked.number_of[line.version],
            version_id=version_id,
            updated_at=line.updated_at,
            updated_by=line.updated_by,
            protected=line.protected,
        )
        self._written.count("aliases")

    def _revocations(self) -> None:
        self._loader.flush()
        self._revoked: list[tuple[int, str]] = []
        for _, chunk in _numbered(self._read("revocations", RevocationLine)):
            ids = [self._found.version_id[line.version] for line in chunk]
            query = select(RevocationRow.version_id).where(RevocationRow.version_id.in_(ids))
            known = set(self._loader.session.scalars(query)) if not self._found.empty else set()
            for line, row_id in zip(chunk, ids, strict=True):
                if row_id not in known:
                    self._add(
                        RevocationRow,
                        version_id=row_id,
                        reason=line.reason,
                        revoked_at=line.revoked_at,
                        revoked_by=line.revoked_by,
                    )
                    self._written.count("revocations")
                    if not self._new_versions[line.version]:
                        self._revoked.append((row_id, line.reason))

    def _spread_revocations(self) -> None:
        """Everything derived from a revoked version is affected: of the bundle, or of this catalog."""
        self._loader.flush()
        edges = LineageRow.__table__.c
        revoked, affected = RevocationRow.__table__.c, AffectedRow.__table__.c
        below = (
            select(edges.child_id.label("version_id"), revoked.version_id.label("revoked_id"))
            .where(edges.parent_id == revoked.version_id)
            .cte("below", recursive=True)
        )
        below = below.union(
            select(edges.child_id, below.c.revoked_id).where(edges.parent_id == below.c.version_id)
        )
        there = (
            select(literal(1))
            .where(affected.version_id == below.c.version_id, affected.revoked_id == below.c.revoked_id)
            .exists()
        )
        missing = select(below.c.version_id, below.c.revoked_id).where(~there)
        self._loader.session.execute(insert(AffectedRow).from_select(["version_id", "revoked_id"], missing))

    def _evaluations(self) -> None:
        for _, line in self._read("evaluations", EvaluationLine):
            self._say("evaluations", EvaluationRow, line)

    def _publications(self) -> None:
        for _, line in self._read("publications", PublicationLine):
            self._say("publications", PublicationRow, line)

    def _sweeps(self) -> None:
        """A sweep comes with the version that it gave, and what gave none into an empty catalog only."""
        wanted: list[SweepLine | None] = []
        for _, line in self._read("sweeps", SweepLine):
            new = line.version is not None and bool(self._new_versions[line.version])
            wanted.append(line if new or self._found.empty else None)
        known = self._known(SweepRow.digest, [line.digest for line in wanted if line is not None])
        wanted = [None if line is None or line.digest in known else line for line in wanted]
        ids = array("q", [0, *(line is None for line in wanted)])
        new_sweeps = self._number(SweepRow, ids)
        for number, line in enumerate(wanted, 1):
            if line is not None:
                values = {**line.__dict__, "objectives": [list(each) for each in line.objectives]}
                version = values.pop("version")
                values["version_id"] = None if version is None else self._found.version_id[version]
                self._add(SweepRow, id=ids[number], name_key=line.name.lower(), **values)
                self._written.count("sweeps")
        for _, line in self._read("sweep_points", SweepPointLine):
            if new_sweeps[line.sweep]:
                values = dict(line.__dict__)
                values["recipe_digest"], values["sweep_id"] = values.pop("recipe"), ids[values.pop("sweep")]
                self._add(SweepPointRow, **values)
                self._written.count("sweep_points")

    def _rules(self) -> None:
        """What a catalog publishes is its own decision, so that rules come into an empty one only."""
        for _, line in self._read("rules", RuleLine):
            if self._found.empty:
                self._add(RuleRow, **line.__dict__)
                self._written.count("rules")

    def _say(self, table: str, row: type[Base], line: EvaluationLine | PublicationLine) -> None:
        """What is said of a version comes with it: of one that is here already, this catalog's word stands."""
        if self._new_versions[line.version]:
            values = dict(line.__dict__)
            values["version_id"] = self._found.version_id[values.pop("version")]
            self._add(row, **values)
            self._written.count(table)

    def _events(self) -> None:
        """The history of an empty catalog is the bundle's; another's goes on with what the bundle changed."""
        if self._found.empty:
            for _, line in self._read("events", EventLine):
                self._add(EventRow, **line.__dict__)
                self._written.count("events")
            return
        for number, line in parse("adapters", AdapterLine, self._source):
            if self._touched[number]:
                versions = [self._found.here[number] + 1, line.last_version]
                self._event(line.name, versions=versions)
        for row_id, reason in self._revoked:
            query = (
                select(AdapterRow.name, VersionRow.number)
                .join(VersionRow, VersionRow.adapter_id == AdapterRow.id)
                .where(VersionRow.id == row_id)
            )
            row = self._loader.session.execute(query).one()
            self._event(f"{row.name}@{row.number}", revoked=reason)
        if self._written.rows and not self._written.told:
            self._event("catalog", added=self._written.rows)

    def _event(self, subject: str, **detail: Any) -> None:
        self._written.told += 1
        detail = {"bundle": self._bundle, **detail}
        self._add(EventRow, at=now(), actor=self._actor, action="bundle", subject=subject, detail=detail)
