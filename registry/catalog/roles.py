"""Who may write, enforced by PostgreSQL: group roles with grants, and two triggers for what grants cannot say.

People's login roles are granted one of the four; see ``docs/security.md`` for what each may do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from registry.catalog._rights import RIGHTS, ROLES, TRIGGERS
from registry.catalog.database import Database, make_engine, shown, translated
from registry.catalog.tables import Base
from registry.errors import Denied, UsageError
from registry.results import Roles

_PREFIX = re.compile(r"(?!pg_)[a-z][a-z0-9_]{0,39}")
_NUMBERS = {"base_models", "adapters", "realisations", "versions", "evaluations", "sweeps", "events"}
_PUBLISHED_NUMBERS = {"rules", "publications"}
_ONLY_READ = "alembic_version"

_LOGIN = """
BEGIN
  -- What a client says of itself is in "actor"; this is whom the server let in.
  NEW.detail := NEW.detail || jsonb_build_object('login', session_user::text);
  RETURN NEW;
END
"""
_PROTECTED = """
BEGIN
  IF OLD.protected AND NOT pg_has_role(current_user, '{publisher}', 'USAGE') THEN
    RAISE EXCEPTION 'the alias % is protected', OLD.alias USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END
"""


@dataclass(frozen=True)
class _Place:
    """What the statements are about: the database, its schema with the catalog's tables, and the prefix."""

    database: str
    schema: str
    prefix: str

    def role(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    @property
    def functions(self) -> dict[str, tuple[str, str]]:
        """The bodies of the functions, and the triggers that run them, by name."""
        protected = _PROTECTED.format(publisher=self.role("publisher"))
        what = (
            (_LOGIN, "BEFORE INSERT ON {schema}.events"),
            (protected, "BEFORE UPDATE OR DELETE ON {schema}.aliases"),
        )
        return dict(zip(TRIGGERS, what, strict=True))


def roles(url: str, *, prefix: str, apply: bool) -> Roles:
    """The statements that make the roles, and what differs from what they would give; with ``apply`` run them.

    Raises ``UsageError`` for SQLite and for a prefix that cannot be one, ``Denied`` where the login may not do it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix[:60]!a} cannot begin the name of a role",
            hint="use at most 40 small letters, digits and _, beginning with a letter, and not pg_",
        )
    with _engine(url) as (database, engine):
        with translated(database.url), engine.begin() as connection:
            place = _place(connection, prefix)
            sql = tuple(_statements(place))
            if apply:
                _run(connection, sql)
            differences = tuple(_differences(connection, place))
            if apply and differences:
                raise Denied(
                    f"{shown(database.url)} did not take all of it: {differences[0]}",
                    hint="have the owner of the database run it, or what 'registry db roles' prints",
                )
        return Roles(
            prefix=prefix,
            roles=tuple(map(place.role, ROLES)),
            sql=sql,
            differences=differences,
            applied=apply,
        )


def again(connection: Connection) -> None:
    """After an upgrade by an administrator: give the roles, where there are any, their rights on what is new."""
    owner = connection.scalar(text(_OWNER))
    prefix = str(owner).removesuffix("_admin")
    if owner is not None and prefix != owner and _PREFIX.fullmatch(prefix):
        found = connection.scalar(
            text("SELECT count(*) FROM pg_roles WHERE rolname = ANY(:names)"),
            {"names": [f"{prefix}_{role}" for role in ROLES]},
        )
        if found == len(ROLES):
            _run(connection, _statements(_place(connection, prefix)))


def become_owner(connection: Connection) -> None:
    """Until the connection ends, act as the owner of the catalog's tables, so that new ones belong to it, too."""
    owner = connection.scalar(text(_OWNER))
    if owner is not None and owner != connection.scalar(text("SELECT current_user")):
        connection.exec_driver_sql(f"SET ROLE {_quoted(owner)}")
    connection.commit()


_OWNER = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('alembic_version')"


@contextmanager
def _engine(url: str) -> Iterator[tuple[Database, Engine]]:
    database = Database(url)
    try:
        if database.url.get_backend_name() != "postgresql":
            raise UsageError(
                f"{shown(database.url)} is SQLite, which knows no roles: they are PostgreSQL's",
                hint="who may use an SQLite catalog is decided by the modes of its folder",
            )
        engine = make_engine(database.url)
        try:
            yield database, engine
        finally:
            engine.dispose()
    finally:
        database.close()


def _run(connection: Connection, sql: Iterator[str] | tuple[str, ...]) -> None:
    # One at a time: two at once would find rows of the system's tables changed under them.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('registry roles'))"))
    for statement in sql:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def _place(connection: Connection, prefix: str) -> _Place:
    found = connection.execute(
        text(
            "SELECT current_database() AS database, n.nspname AS schema FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('alembic_version')"
        )
    ).one_or_none()
    if found is None:
        raise UsageError("this database has no catalog yet", hint="make one first: registry db upgrade")
    return _Place(found.database, found.schema, prefix)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables() -> list[str]:
    return [*sorted(Base.metadata.tables), _ONLY_READ]


def _statements(place: _Place) -> Iterator[str]:
    schema, database = _quoted(place.schema), _quoted(place.database)
    reader, contributor, publisher, admin = (_quoted(place.role(name)) for name in ROLES)
    yield _making(place)
    yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {reader}, {contributor}, {publisher}"
    yield f"GRANT CONNECT ON DATABASE {database} TO {reader}"
    # Tables of one's own, until one leaves, are what "registry db check" compares with.
    yield f"GRANT TEMPORARY ON DATABASE {database} TO {admin}"
    yield f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {reader}, {contributor}, {publisher}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {reader}"
    yield f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {admin}"
    for table in _tables():
        yield f"ALTER TABLE {schema}.{_quoted(table)} OWNER TO {admin}"
    for what in ("TABLES", "SEQUENCES"):
        yield f"REVOKE ALL ON ALL {what} IN SCHEMA {schema} FROM PUBLIC, {reader}, {contributor}, {publisher}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}"
    for role, rights in RIGHTS.items():
        for table, allowed in rights.items():
            what = ", ".join(
                right + (f" ({', '.join(map(_quoted, columns))})" if columns else "")
                for right, columns in allowed.items()
            )
            yield f"GRANT {what} ON {schema}.{_quoted(table)} TO {_quoted(place.role(role))}"
    for role, tables in (("contributor", _NUMBERS), ("publisher", _PUBLISHED_NUMBERS)):
        names = ", ".join(f"{schema}.{_quoted(f'{table}_id_seq')}" for table in sorted(tables))
        yield f"GRANT USAGE ON SEQUENCE {names} TO {_quoted(place.role(role))}"
    defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {admin} IN SCHEMA {schema}"
    yield f"{defaults} GRANT SELECT ON TABLES TO {reader}"
    for name, (body, trigger) in place.functions.items():
        when = trigger.format(schema=schema)
        yield (
            f"CREATE OR REPLACE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql"
            f" SET search_path = pg_catalog AS $${body}$$"
        )
        yield f"ALTER FUNCTION {schema}.{name}() OWNER TO {admin}"
        yield f"CREATE OR REPLACE TRIGGER {name} {when} FOR EACH ROW EXECUTE FUNCTION {schema}.{name}()"
        yield f"ALTER TABLE {when.rpartition(' ')[2]} ENABLE TRIGGER {name}"


def _making(place: _Place) -> str:
    """One statement that makes what is missing of the roles: who may not make any may still run the rest."""
    lines = []
    for name, below in zip(ROLES, (None, *ROLES), strict=False):
        role = place.role(name)
        lines.append(
            f"  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN\n"
            f"    CREATE ROLE {_quoted(role)} NOLOGIN;\n  END IF;"
        )
        if below is not None:
            lines.append(_member(f"'{role}'", _quoted(role), place.role(below)))
    lines.append(_member("current_user", "CURRENT_USER", place.role("admin")))
    return "DO $$\nBEGIN\n" + "\n".join(lines) + "\nEND $$"


def _member(who: str, quoted: str, of: str) -> str:
    """Whoever makes the roles has to be an administrator to hand over the tables; a superuser is anything."""
    return (
        f"  IF NOT pg_has_role({who}, '{of}', 'USAGE') THEN\n    GRANT {_quoted(of)} TO {quoted};\n  END IF;"
    )


def _differences(connection: Connection, place: _Place) -> Iterator[str]:
    """What is missing and what is too much, a line each, in a fixed order."""
    names = list(map(place.role, ROLES))
    values = {"names": names, "schema": place.schema}
    found = {row.rolname: row.powers for row in connection.execute(text(_MADE), values)}
    yield from (f"too much: {name} may {powers}" for name, powers in sorted(found.items()) if powers)
    missing = [name for name in names if name not in found]
    yield from (f"missing: the role {name}" for name in missing)
    if not missing:
        yield from _compared(connection, place, values)


def _compared(connection: Connection, place: _Place, values: dict[str, Any]) -> Iterator[str]:
    names, admin = values["names"], place.role("admin")
    members = {(row.member, row.role) for row in connection.execute(text(_MEMBERS), values)}
    wanted_members = set(zip(names[1:], names, strict=False))
    yield from (f"missing: {role} is no member of {of}" for role, of in sorted(wanted_members - members))
    yield from (f"too much: {role} is a member of {of}" for role, of in sorted(members - wanted_members))
    owners = {row.name: row.owner for row in connection.execute(text(_OWNERS), values)}
    own = [*_tables(), *place.functions]
    yield from (f"missing: {admin} does not own {name}" for name in own if owners.get(name) != admin)
    granted = {tuple(row) for row in connection.execute(text(_GRANTED), values)}
    wanted = {*_wanted(place), *((place.role("reader"), "SELECT", name) for name in owners.keys() - own)}
    for sort, grants in (("missing", wanted - granted), ("too much", granted - wanted)):
        yield from (f"{sort}: {right} on {what} for {grantee}" for grantee, right, what in sorted(grants))
    bodies = {row.name: row.body for row in connection.execute(text(_TRIGGERS), values)}
    for name, (body, _) in place.functions.items():
        if bodies.get(name) != body:
            yield f"missing: the trigger {name}"


def _wanted(place: _Place) -> Iterator[tuple[str, str, str]]:
    reader = place.role("reader")
    yield reader, "CONNECT", f"database {place.database}"
    yield place.role("admin"), "TEMPORARY", f"database {place.database}"
    yield reader, "USAGE", f"schema {place.schema}"
    yield place.role("admin"), "USAGE", f"schema {place.schema}"
    yield place.role("admin"), "CREATE", f"schema {place.schema}"
    yield reader, "SELECT", "new tables"
    for table in _tables():
        yield reader, "SELECT", table
    for role, rights in RIGHTS.items():
        for table, allowed in rights.items():
            for right, columns in allowed.items():
                for what in [f"{table}.{column}" for column in columns] or [table]:
                    yield place.role(role), right, what
    for role, tables in (("contributor", _NUMBERS), ("publisher", _PUBLISHED_NUMBERS)):
        for table in tables:
            yield place.role(role), "USAGE", f"{table}_id_seq"


_MADE = """
SELECT rolname, concat_ws(' and ',
    CASE WHEN rolsuper THEN 'do anything' END, CASE WHEN rolcanlogin THEN 'log in' END,
    CASE WHEN rolcreaterole THEN 'make roles' END, CASE WHEN rolcreatedb THEN 'make databases' END,
    CASE WHEN rolbypassrls OR rolreplication THEN 'read past policies' END) AS powers
FROM pg_roles WHERE rolname = ANY(:names) ORDER BY rolname
"""
_MEMBERS = """
SELECT DISTINCT m.rolname AS member, r.rolname AS role FROM pg_auth_members a
JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.rolname = ANY(:names)
"""
_OWNERS = """
SELECT c.relname AS name, pg_get_userbyid(c.relowner) AS owner FROM pg_class c
WHERE c.relnamespace = quote_ident(:schema)::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT p.proname, pg_get_userbyid(p.proowner) FROM pg_proc p
WHERE p.pronamespace = quote_ident(:schema)::regnamespace AND p.proname LIKE 'registry\\_%'
"""
_TRIGGERS = """
SELECT t.tgname AS name, p.prosrc AS body FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = quote_ident(:schema)::regnamespace AND t.tgenabled = 'O' AND NOT t.tgisinternal
"""
_GRANTED = """
WITH granted AS (
    SELECT c.relname::text AS what, c.relowner AS owner, c.relacl AS acl FROM pg_class c
    WHERE c.relnamespace = quote_ident(:schema)::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT c.relname || '.' || a.attname, c.relowner, a.attacl FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = quote_ident(:schema)::regnamespace AND NOT a.attisdropped
    UNION ALL
    SELECT 'schema ' || n.nspname, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
    FROM pg_namespace n WHERE n.oid = quote_ident(:schema)::regnamespace
    UNION ALL
    SELECT 'database ' || d.datname, d.datdba, coalesce(d.datacl, acldefault('d', d.datdba))
    FROM pg_database d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'new ' || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' ELSE 'objects' END,
           d.defaclrole, d.defaclacl FROM pg_default_acl d
    WHERE d.defaclnamespace = quote_ident(:schema)::regnamespace
      AND pg_get_userbyid(d.defaclrole) = ANY(:names)
)
SELECT coalesce(r.rolname::text, 'PUBLIC') AS grantee,
       a.privilege_type || CASE WHEN a.is_grantable THEN ', to be passed on,' ELSE '' END AS granted, g.what
FROM granted g, LATERAL aclexplode(g.acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE (a.grantee = 0 OR r.rolname = ANY(:names)) AND a.grantee <> g.owner
"""
