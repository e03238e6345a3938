"""Rot: what is in the database and is not what the catalog wrote there, and which versions that affects.

Nothing here takes a value for granted: rows are read as they are stored, one at a time, and what cannot be understood is a
finding. What other rows determine is computed again, and is all that can be mended from the database itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from registry.catalog import seals, words
from registry.catalog.database import HEAD, chunked, core, make_engine
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    ArtifactFileRow,
    ArtifactRow,
    Base,
    EventRow,
    LineageRow,
    NameWordRow,
    RevocationRow,
    TagRow,
    VersionRow,
    WordRow,
)
from registry.digest import of_bytes
from registry.errors import RegistryError

MOST = 1000
"""As many findings are told one by one; a database that is damaged further is counted."""

_DECIDING = (
    "versions",
    "artifacts",
    "artifact_files",
    "blobs",
    "recipes",
    "realisations",
    "lineage",
)
"""The tables that say which bytes are needed."""

_DERIVED = ("name_words", "words", "affected")
_AT_ONCE = 500


@dataclass(frozen=True)
class Rotten:
    """A row, or something else (``row`` is ''), that is not as it was written; ``versions`` are row ids.

    ``derived`` says that other rows determine it, so that it can be mended.
    """

    table: str
    row: str
    problem: str
    versions: tuple[int, ...] = ()
    derived: bool = False


def findings(session: Session) -> Iterator[Rotten]:
    """Everything, in one pass over each table; what the file itself has lost comes first."""
    yield from _file(session)
    for table in _tables():
        yield from _rows(session, table)
    yield from _references(session)
    yield from _derived(session)


def of_needs(session: Session) -> Iterator[Rotten]:
    """What is damaged of that which says whose bytes are needed; nothing may be removed by it."""
    yield from _file(session)
    for table in _tables():
        if table.name in _DECIDING:
            yield from _rows(session, table)
    yield from _references(session)
    yield from (each for each in _numbers(session) if not each.derived)
    yield from _halves(session)


def of_version(session: Session, version_id: int) -> Iterator[Rotten]:
    """What is damaged of the rows that one version consists of."""
    of = core(VersionRow).c
    this = select(of.id).where(of.id == version_id)
    artifact = select(of.artifact_digest).where(of.id == version_id)
    recipe = select(of.recipe_digest).where(of.id == version_id)
    files = core(ArtifactFileRow).c
    where: dict[str, Callable[[Table], ColumnElement[bool]]] = {
        "versions": lambda table: table.c.id.in_(this),
        "adapters": lambda table: table.c.id.in_(select(of.adapter_id).where(of.id == version_id)),
        "base_models": lambda table: table.c.id.in_(select(of.base_model_id).where(of.id == version_id)),
        "artifacts": lambda table: table.c.digest.in_(artifact),
        "artifact_files": lambda table: table.c.artifact_digest.in_(artifact),
        "sketches": lambda table: table.c.artifact_digest.in_(artifact),
        "blobs": lambda table: table.c.digest.in_(
            select(files.blob_digest).where(files.artifact_digest.in_(artifact))
        ),
        "recipes": lambda table: table.c.digest.in_(recipe),
        "realisations": lambda table: table.c.recipe_digest.in_(recipe),
        "lineage": lambda table: table.c.child_id == version_id,
        **dict.fromkeys(
            ("tags", "evaluations", "publications", "revocations", "followed", "aliases"),
            lambda table: table.c.version_id == version_id,
        ),
    }
    for table in _tables():
        if table.name in where:
            yield from _rows(session, table, where[table.name](table))


def refs(session: Session, version_ids: Iterable[int]) -> dict[int, str]:
    """How these versions are called, as far as that can still be read."""
    found: dict[int, str] = {}
    for some in chunked(sorted(set(version_ids))):
        query = (
            select(VersionRow.id, AdapterRow.name, VersionRow.number)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .where(VersionRow.id.in_(some))
        )
        found.update({row.id: f"{row.name}@{row.number}" for row in session.execute(query)})
    return found


def mend(session: Session) -> None:
    """Compute again what rows determine: the latest versions, the counters, the words, and who is affected."""
    versions = core(VersionRow)
    of, adapters = versions.c, core(AdapterRow).c
    for row in session.connection().execute(_counted()).all():
        if row.last_version != row.highest and isinstance(row.highest, int) and not _lost(session, row):
            counter = update(core(AdapterRow)).where(adapters.id == row.id)
            session.execute(counter.values(last_version=row.highest))
    wrong = [row.id for row in session.execute(_not_latest()).all()]
    for some in chunked(wrong):
        session.execute(update(versions).where(of.id.in_(some)).values(latest_of=None))
    for row_id, expected in session.execute(_latest()).all():
        if expected is not None:
            session.execute(update(versions).where(of.id == row_id).values(latest_of=expected))
    for adapter_id, expected_words in list(_name_words(session)):
        session.execute(delete(NameWordRow).where(NameWordRow.adapter_id == adapter_id))
        _add(session, NameWordRow, [{"word": word, "adapter_id": adapter_id} for word in expected_words])
    for version_id, expected_words in list(_words(session)):
        session.execute(delete(WordRow).where(WordRow.version_id == version_id))
        _add(session, WordRow, [{"word": word, "version_id": version_id} for word in expected_words])
    missing, _ = _affected(session)
    _add(session, AffectedRow, [{"version_id": one, "revoked_id": other} for one, other in missing])


def _add(session: Session, row: Any, values: list[dict[str, Any]]) -> None:
    if values:
        session.connection().execute(insert(core(row)), values)


# What the file has lost


def _file(session: Session) -> Iterator[Rotten]:
    if session.get_bind().dialect.name != "sqlite":
        return
    for (line,) in session.connection().exec_driver_sql(f"PRAGMA integrity_check({MOST})"):
        if line != "ok":
            yield Rotten("", "", f"the file is damaged: {' '.join(str(line).split())}")

    yield from _schema(session)


def _schema(session: Session) -> Iterator[Rotten]:
    """Tables and indexes that are not as the migrations make them: their texts are bytes of the file as well."""
    driver: Any = session.connection().connection.driver_connection
    missing = _as_made() - _made(driver)
    for kind, name, _, _ in sorted(missing, key=str):
        yield Rotten("", "", f"the {kind} {name} is not defined as this release defines it")


@cache
def _as_made() -> frozenset[tuple[str, ...]]:
    """What a new catalog has. It is made in memory: nothing of it is left where this process is killed."""
    from registry.catalog import migrate

    engine = make_engine(make_url("sqlite://"))
    try:
        migrate.bring_to(engine, HEAD)
        with engine.connect() as connection:
            return _made(connection.connection.driver_connection)
    finally:
        engine.dispose()


def _made(driver: Any) -> frozenset[tuple[str, ...]]:
    before, driver.text_factory = driver.text_factory, _text
    try:
        return frozenset(driver.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    finally:
        driver.text_factory = before


def unchecked(session: Session) -> str | None:
    """What this database could find by itself, and does not."""
    if session.get_bind().dialect.name != "postgresql":
        return None
    on = session.connection().execute(text("SHOW data_checksums")).scalar_one() == "on"
    return None if on else "PostgreSQL keeps no checksums of its pages: pg_checksums --enable turns them on"


# Rows


def _tables() -> list[Table]:
    return [table for table in Base.metadata.sorted_tables if seals.is_sealed(table)]


def _rows(session: Session, table: Table, where: ColumnElement[bool] | None = None) -> Iterator[Rotten]:
    """The rows whose seal is not that of their values, or whose values are not what this database was given."""
    query = select(table) if where is None else select(table).where(where)
    told = set()
    for values, unread in _stored(session, table, query):
        problem = unread or _problem(table, values)
        key = tuple(values[column.name] for column in table.primary_key)
        if problem is not None and key not in told:
            told.add(key)  # some rows may be read twice
            yield Rotten(table.name, _named(table, values), problem, tuple(_versions(session, table, values)))


def _problem(table: Table, values: dict[str, Any]) -> str | None:
    seal, row_id = values["seal"], values.get("id", 0)
    if seal is None:
        return "it has no seal"
    try:
        if seal != seals.of(table.name, values) + row_id:
            return "it is not what was written"
        if table.name == "recipes" and of_bytes(values["canonical"].encode()) != values["digest"]:
            return "its text does not have its digest"
    except (TypeError, ValueError, AttributeError):  # bytes where there was text, half a character
        return "it is not what was written"
    return None


def _stored(
    session: Session, table: Table, query: Select[Any]
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Rows as values, and what is wrong where a value cannot be had, or would have been stored in another way."""
    names = list(table.c.keys())
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        try:
            with connection.execute(query, execution_options={"yield_per": _AT_ONCE}) as streamed:
                for row in streamed:
                    yield dict(zip(names, row, strict=True)), None
        except _UNREADABLE as error:
            _raise_of_server(error)
            yield from _one_by_one(connection, table, query)
        return
    dialect = connection.dialect
    kinds = [column.type.dialect_impl(dialect) for column in table.c]
    ways = [(kind.result_processor(dialect, None), kind.bind_processor(dialect)) for kind in kinds]
    compiled = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    driver: Any = connection.connection.driver_connection
    before, driver.text_factory = driver.text_factory, _text
    try:
        for row in driver.cursor().execute(compiled):
            values: dict[str, Any] = {}
            unread = None
            for name, raw, (read, write) in zip(names, row, ways, strict=True):
                try:
                    value = raw if read is None or raw is None else read(raw)
                    same = raw if write is None or raw is None else write(value)
                    same = bytes(same) if isinstance(same, memoryview) else same
                except (ValueError, TypeError, AttributeError, RecursionError, RegistryError):
                    value = same = None
                if type(same) is not type(raw) or same != raw:
                    unread = f"its {name} is not as the catalog writes it"
                values[name] = value
            yield values, unread
    except driver.Error as error:
        yield dict.fromkeys(names), f"the rest of the table cannot be read: {error}"
    finally:
        driver.text_factory = before


_UNREADABLE = (DBAPIError, ValueError, TypeError, RegistryError)


def _raise_of_server(error: BaseException) -> None:
    """Raise what is no value that cannot be understood here, such as a time in the year 20000."""
    if isinstance(error, DBAPIError) and (
        error.connection_invalidated or getattr(error.orig, "sqlstate", None) is not None
    ):
        raise error


def _one_by_one(
    connection: Connection, table: Table, query: Select[Any]
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The same rows, each by its key, where one of them cannot be had."""
    keys, names = list(table.primary_key.columns), list(table.c.keys())
    for key in connection.execute(query.with_only_columns(*keys)).all():
        known = dict(zip([column.name for column in keys], key, strict=True))
        this = select(table).where(*[column == known[column.name] for column in keys])
        try:
            row = connection.execute(this).one_or_none()
        except _UNREADABLE as error:
            _raise_of_server(error)
            yield dict.fromkeys(names) | known, "it is not what was written"
            continue
        if row is not None:
            yield dict(zip(names, row, strict=True)), None


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _named(table: Table, values: dict[str, Any]) -> str:
    """What a person knows a row by."""
    match table.name:
        case "adapters":
            return str(values["name"])
        case "base_models":
            return f"{values['repo']}@{values['revision']}" if values["revision"] else str(values["repo"])
        case "rules" | "sweeps":
            return f"{table.name[:-1]} {values['id']}"
        case "events" if values["action"] is not None:
            return f"{values['action']} of {values['subject']} (event {values['id']})"
        case _:
            keys = table.primary_key.columns.keys()
            return ", ".join(f"{key} {values[key]}" for key in keys)


def _versions(session: Session, table: Table, values: dict[str, Any]) -> list[int]:
    """The versions that a row says something of."""
    version, files = core(VersionRow).c, core(ArtifactFileRow).c
    match table.name:
        case "versions":
            return _ids([values["id"]])
        case "lineage":
            return _ids([values["child_id"]])
        case "artifacts":
            where = version.artifact_digest == values["digest"]
        case "artifact_files" | "sketches":
            where = version.artifact_digest == values["artifact_digest"]
        case "blobs":
            held = select(files.artifact_digest).where(files.blob_digest == values["digest"])
            where = version.artifact_digest.in_(held)
        case "recipes":
            where = version.recipe_digest == values["digest"]
        case "realisations":
            where = or_(
                version.recipe_digest == values["recipe_digest"],
                version.artifact_digest == values["output_digest"],
            )
        case _:
            return _ids([values["version_id"]]) if "version_id" in values else []
    try:
        return list(session.scalars(select(version.id).where(where).order_by(version.id).limit(MOST)))
    except (DBAPIError, UnicodeError, ValueError):  # asked with a value that no database takes
        return []


def _ids(found: list[Any]) -> list[int]:
    return [each for each in found if isinstance(each, int)]


# What rows refer to


def _references(session: Session) -> Iterator[Rotten]:
    for table, columns, target, query in _orphans():
        for row in session.connection().execute(query).mappings():
            values: dict[str, Any] = dict.fromkeys(table.c.keys()) | dict(row)
            name = ", ".join(f"{column} {value}" for column, value in row.items())
            problem = f"its {columns} refers to nothing in {target}"
            yield Rotten(table.name, name, problem, tuple(_versions(session, table, values)))


@cache
def _orphans() -> list[tuple[Table, str, str, Select[Any]]]:
    """For each foreign key: its table, columns and target, and what asks for the rows that refer to nothing."""
    found = []
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            target = key.referred_table
            parent = target.alias("parent")
            pairs = [(element.parent, parent.c[element.column.name]) for element in key.elements]
            there = exists().where(and_(*[own == other for own, other in pairs])).select_from(parent)
            given = and_(*[own.is_not(None) for own, _ in pairs])
            query = select(*table.primary_key.columns).where(given, ~there).limit(MOST)
            columns = ", ".join(own.name for own, _ in pairs)
            found.append((table, columns, target.name, query))
    return found


# What rows determine


def _derived(session: Session) -> Iterator[Rotten]:
    yield from _numbers(session)
    yield from _halves(session)
    for row in session.connection().execute(_not_latest()):
        yield Rotten("versions", f"id {row.id}", "it is marked as the latest", (row.id,), derived=True)
    for row_id, expected in session.connection().execute(_latest()):
        if expected is not None:
            yield Rotten(
                "versions", f"id {row_id}", "it is not marked as the latest", (row_id,), derived=True
            )
    for adapter_id, _ in _name_words(session):
        yield Rotten(
            "name_words", f"adapter_id {adapter_id}", "these are not the words of its name", derived=True
        )
    for version_id, _ in _words(session):
        yield Rotten(
            "words",
            f"version_id {version_id}",
            "these are not the words of its note and tags",
            (version_id,),
            derived=True,
        )
    yield from _revoked(session)


def _revoked(session: Session) -> Iterator[Rotten]:
    missing, extra = _affected(session)
    for version_id, revoked_id in missing:
        yield Rotten(
            "affected",
            f"version_id {version_id}, revoked_id {revoked_id}",
            "it follows from what was revoked, and is not there",
            (version_id,),
            derived=True,
        )
    for version_id, revoked_id in extra:  # never removed: it may be all that is left of a revocation
        yield Rotten(
            "affected",
            f"version_id {version_id}, revoked_id {revoked_id}",
            "it does not follow from what was revoked: a revocation or a line of descent is lost, or it is wrong",
            (version_id,),
        )


def _numbers(session: Session) -> Iterator[Rotten]:
    for row in session.connection().execute(_counted()).all():
        name, highest = f"{row.name}", row.highest
        if highest != row.there:
            yield Rotten("versions", name, f"of its versions 1 to {highest} there are {row.there}")
        if _lost(session, row):  # and to count down would give its number to another
            yield Rotten("versions", f"{name}@{highest + 1}", "it was written, and is not there any more")
        elif row.last_version != highest:
            yield Rotten("adapters", name, f"its counter is {row.last_version}, not {highest}", derived=True)


def _counted() -> Select[Any]:
    """The adapters that do not have every version up to their counter."""
    version, adapters = core(VersionRow).c, core(AdapterRow).c
    highest, there = func.coalesce(func.max(version.number), 0), func.count(version.id)
    return (
        select(adapters.id, adapters.name, adapters.last_version, highest.label("highest"))
        .add_columns(there.label("there"))
        .select_from(core(AdapterRow).outerjoin(core(VersionRow), version.adapter_id == adapters.id))
        .group_by(adapters.id, adapters.name, adapters.last_version)
        .having(or_(highest != there, adapters.last_version != highest))
        .order_by(adapters.id)
    )


def _lost(session: Session, adapter: Any) -> bool:
    """Whether there was a version above the highest that there is."""
    last, highest = adapter.last_version, adapter.highest
    if not (isinstance(last, int) and isinstance(highest, int) and last > highest):
        return False
    next_one = EventRow.subject == f"{adapter.name}@{highest + 1}"
    return session.scalar(select(EventRow.id).where(next_one).limit(1)) is not None


_FILES = core(ArtifactFileRow).c
_HALVES = (
    select(_FILES.artifact_digest)
    .join(core(ArtifactRow), core(ArtifactRow).c.digest == _FILES.artifact_digest)
    .where(core(ArtifactRow).c.target == "adapter")
    .group_by(_FILES.artifact_digest)
    .having(func.count() != 2)  # its config and its tensors
)


def _halves(session: Session) -> Iterator[Rotten]:
    """Adapters of whose files one is not listed any more, or one too many."""
    version = core(VersionRow).c
    for (digest,) in session.connection().execute(_HALVES):
        there = select(version.id).where(version.artifact_digest == digest).order_by(version.id).limit(MOST)
        affected = tuple(session.connection().scalars(there))
        yield Rotten("artifact_files", f"artifact_digest {digest}", "a file of it is not listed", affected)


def _last_live() -> Any:
    of = core(VersionRow).c
    return (
        select(of.adapter_id, func.max(of.number).label("number"))
        .where(of.deleted_at.is_(None))
        .group_by(of.adapter_id)
        .subquery()
    )


def _not_latest() -> Select[Any]:
    """The versions that are marked as the latest and are not, or of another adapter."""
    of, last = core(VersionRow).c, _last_live()
    is_last = exists().where(last.c.adapter_id == of.adapter_id, last.c.number == of.number)
    return select(of.id).where(of.latest_of.is_not(None), or_(of.latest_of != of.adapter_id, ~is_last))


def _latest() -> Select[Any]:
    """The versions that are the latest and are not marked so, each with its adapter, which has to be there."""
    of, last, adapters = core(VersionRow).c, _last_live(), core(AdapterRow)
    joined = (
        core(VersionRow)
        .join(last, and_(last.c.adapter_id == of.adapter_id, last.c.number == of.number))
        .join(adapters, adapters.c.id == of.adapter_id)
    )
    wrong = or_(of.latest_of.is_(None), of.latest_of != of.adapter_id)
    return select(of.id, of.adapter_id).select_from(joined).where(wrong)


def _name_words(session: Session) -> Iterator[tuple[int, list[str]]]:
    """The adapters whose words are not those of their names, with those that they should have."""
    with ExitStack() as stack:
        adapters, there = core(AdapterRow).c, core(NameWordRow).c
        names = session.connection().execute(select(adapters.id, adapters.name).order_by(adapters.id))
        found = _grouped(stack, session, select(there.adapter_id, there.word).order_by(there.adapter_id))
        for adapter_id, name in names:
            expected = words.split(str(name))
            if found(adapter_id) != sorted(expected):
                yield adapter_id, expected


def _words(session: Session) -> Iterator[tuple[int, list[str]]]:
    """The versions whose words are not those of their note and tags, with those that they should have."""
    with ExitStack() as stack:
        of, tags, there = core(VersionRow).c, core(TagRow).c, core(WordRow).c
        noted = session.connection().execute(
            select(of.id, of.note).order_by(of.id), execution_options={"yield_per": _AT_ONCE}
        )
        stack.callback(noted.close)
        # In the order in which the tags were told, words are cut off; a set of them does not depend on it.
        tagged = _grouped(
            stack, session, select(tags.version_id, tags.key + " " + tags.value).order_by(tags.version_id)
        )
        found = _grouped(stack, session, select(there.version_id, there.word).order_by(there.version_id))
        for version_id, note in noted:
            expected = words.split(" ".join([str(note or ""), *tagged(version_id)]))
            if found(version_id) != sorted(expected):
                yield version_id, expected


def _grouped(stack: ExitStack, session: Session, query: Select[Any]) -> Callable[[int], list[str]]:
    """What a query ordered by ids says of one id, sorted; to be asked in ascending order."""
    result = session.connection().execute(query, execution_options={"yield_per": _AT_ONCE})
    stack.callback(result.close)  # what belongs to nobody is not read to its end
    groups = groupby(result, itemgetter(0))
    state: list[Any] = [next(groups, None)]

    def of(wanted: int) -> list[str]:
        while state[0] is not None and state[0][0] < wanted:
            state[0] = next(groups, None)
        if state[0] is None or state[0][0] != wanted:
            return []
        return sorted(str(row[1]) for row in state[0][1])

    return of


def _affected(session: Session) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Which versions should be affected by which revocations, and are not; and the other way round."""
    edges, revoked, there = core(LineageRow).c, core(RevocationRow).c, core(AffectedRow).c
    below = (
        select(edges.child_id.label("version_id"), revoked.version_id.label("revoked_id"))
        .where(edges.parent_id == revoked.version_id)
        .cte("below", recursive=True)
    )
    below = below.union(
        select(edges.child_id, below.c.revoked_id).where(edges.parent_id == below.c.version_id)
    )
    same = and_(there.version_id == below.c.version_id, there.revoked_id == below.c.revoked_id)
    missing = select(below.c.version_id, below.c.revoked_id).where(
        below.c.version_id.in_(select(core(VersionRow).c.id)),  # an edge may have lost its end
        ~exists(select(literal(1)).select_from(core(AffectedRow)).where(same)),
    )
    extra = select(there.version_id, there.revoked_id).where(
        ~exists(select(literal(1)).select_from(below).where(same))
    )
    connection = session.connection()
    return (
        [cast("tuple[int, int]", tuple(row)) for row in connection.execute(missing)],
        [cast("tuple[int, int]", tuple(row)) for row in connection.execute(extra)],
    )
