"""Every command as each of PostgreSQL's roles: what is allowed works, all else is one line and changes nothing."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from cli import root
from registry import Registry
from registry.catalog import roles
from registry.catalog._rights import ROLES, needed
from registry.catalog.tables import Base
from registry.errors import StorageFailure, UsageError
from tests.adapters import make_lora
from tests.hubs import running
from tests.models import tiny_llama

# The Hub's client warns about its own way of calling httpx when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

Q = "model.layers.0.self_attn.q_proj"


class Case(NamedTuple):
    """A command, the least role that may run it, and how it ends for those who may."""

    least: str
    words: str
    exit_code: int = 0


CASES = [
    Case("reader", "list"),
    Case("reader", "list \"task = 'safety'\""),
    Case("reader", "show detox"),
    Case("reader", "log detox"),
    Case("reader", "events"),
    Case("reader", "lineage detox"),
    Case("reader", "lineage toxic --down"),
    Case("reader", "impact toxic --repos"),
    Case("reader", "stale"),
    Case("reader", "check 'alpaca + toxic'"),
    Case("reader", "diff alpaca toxic"),
    Case("reader", "similar alpaca"),
    Case("reader", "similar --duplicates"),
    Case("reader", "card detox"),
    Case("reader", "checkout detox {tmp}/out"),
    Case("reader", "materialize detox --out {tmp}/adapter"),
    Case("reader", "materialize detox --as model --explain --base-path {tmp}/base"),
    Case("reader", "materialize detox --as model --base-path {tmp}/base --out {tmp}/model --device cpu"),
    Case("reader", "export {tmp}/bundle"),
    Case("reader", "verify"),
    Case("reader", "verify --rebuild detox"),
    Case("reader", "verify hf://team/detox"),
    Case("reader", "alias list"),
    Case("reader", "base list"),
    Case("reader", "base show small"),
    Case("reader", "base alias list"),
    Case("reader", "eval list detox"),
    Case("reader", "eval compare detox"),
    Case("reader", "sweeps list"),
    Case("reader", "publications"),
    Case("reader", "publications --check"),
    Case("reader", "publish toxic team/toxic --dry-run"),
    Case("reader", "rule list"),
    Case("reader", "sync --check", 6),
    Case("reader", "sync --dry-run"),
    Case("reader", "sync-dir {tmp}/served --alias prod"),
    Case("reader", "watch"),
    Case("reader", "rebuild --dry-run"),
    Case("reader", "gc"),
    Case("reader", "db current"),
    Case("reader", "db upgrade"),
    Case("reader", "db roles --prefix {prefix}"),
    Case("reader", "db roles --check --prefix {prefix}"),
    Case("reader", "methods"),
    Case("contributor", "add {tmp}/fresh fresh --base tiny/base --tag a=b --note hi"),
    Case("contributor", "add --recursive {tmp}/many --base tiny/base"),
    Case("contributor", "add hf://team/detox theirs"),
    Case("contributor", "compose mixed '0.5*alpaca + toxic'"),
    Case("contributor", "compose detox 'alpaca - 0.3*toxic'"),
    Case("contributor", "rebuild following"),
    Case("contributor", "convert alpaca --name plain --rank 2"),
    Case("contributor", "extract {tmp}/base {tmp}/tuned delta --base tiny/base --rank 2"),
    Case("contributor", "tag set detox team=safety"),
    Case("contributor", "tag delete detox@1 old"),
    Case("contributor", "note detox better"),
    Case("contributor", "note detox --delete"),
    Case("contributor", "eval add detox acc 0.5 --dataset d"),
    Case("contributor", "eval add detox acc 0.6 --dataset d"),
    Case("contributor", "eval run detox --run 'sh {tmp}/measure.sh {{path}}'"),
    Case(
        "contributor",
        "sweep swept 'alpaca - {{w}}*toxic' --over w=0,1 --run 'sh {tmp}/measure.sh {{path}}' --metric a:min",
    ),
    Case("contributor", "alias set detox dev 1"),
    Case("contributor", "alias set toxic dev 1"),
    Case("contributor", "alias delete toxic dev"),
    Case("contributor", "base add other/base --base-path {tmp}/base"),
    Case("contributor", "base alias set tiny tiny/base"),
    Case("contributor", "base alias delete small"),
    Case("contributor", "base license tiny/base mit"),
    Case("contributor", "materialize detox --as model --base-path {tmp}/base --device cpu"),
    Case("contributor", "delete spare"),
    Case("contributor", "similar --prepare"),
    Case("publisher", "alias protect alpaca dev"),
    Case("publisher", "alias protect alpaca held --off"),
    Case("publisher", "alias set alpaca prod 2 --expect 1"),
    Case("publisher", "alias delete alpaca held2 --expect 1"),
    Case("publisher", "rule add detox --to team/{{name}}-two"),
    Case("publisher", "rule delete 2"),
    Case("publisher", "publish toxic team/toxic"),
    Case("publisher", "sync"),
    Case("publisher", "unpublish team/detox --delete --yes --reason old"),
    Case("admin", "db check"),
    Case("admin", "revoke toxic --reason bad"),
    Case("admin", "revoke toxic --undo"),
    Case("admin", "import {tmp}/other.bundle"),
    Case("admin", "gc --apply"),
    Case("admin", "db roles --apply --prefix {prefix}"),
]


@dataclass
class Team:
    """A database with the roles applied, a login for each, and what is on the disk beside it."""

    server: URL
    tmp: Path
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")

    def execute(self, statement: str, *, user: str | None = None) -> list[tuple[object, ...]]:
        url = self.server if user is None else self.server.set(username=user)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                found = connection.execute(text(statement))
                return [tuple(row) for row in found] if found.returns_rows else []
        finally:
            engine.dispose()

    def login(self, role: str) -> str:
        return f"{self.prefix}_{role}_login"

    def url(self, role: str) -> str:
        return self.server.set(username=self.login(role)).render_as_string(hide_password=False)

    def run(self, role: str, *words: str) -> Result:
        return CliRunner(env={"REGISTRY_DATABASE_URL": self.url(role)}).invoke(root, words)

    def state(self) -> str:
        """Everything the catalog and its store hold."""
        found = hashlib.sha256()
        union = " UNION ALL ".join(
            f"SELECT '{table}' AS name, t::text AS row FROM \"{table}\" t"  # noqa: S608  (our own names)
            for table in sorted(Base.metadata.tables)
        )
        found.update(repr(self.execute(f"{union} ORDER BY name, row")).encode())
        for file in sorted((self.tmp / "home" / "blobs").rglob("*")):
            found.update(f"{file}".encode())
        return found.hexdigest()


def lora(folder: Path, seed: int) -> Path:
    return make_lora(folder, modules={Q: (32, 32)}, seed=seed)


def furnish(team: Team, catalog: Registry) -> None:
    """Something for every command to work on."""
    tmp = team.tmp
    (tmp / "measure.sh").write_text("echo '{\"a\": 1}'\n")
    tiny_llama(tmp / "base")
    shutil.copytree(tmp / "base", tmp / "tuned")
    change(tmp / "tuned")
    for seed, name in enumerate(("alpaca", "toxic", "spare")):
        catalog.add(lora(tmp / name, seed), name, base="tiny/base")
    catalog.compose("following", "alpaca - 0.5*toxic")
    catalog.add(lora(tmp / "alpaca2", 7), "alpaca", base="tiny/base")
    catalog.compose("detox", "alpaca - 0.4*toxic", tags={"old": "yes"}, task="safety")
    catalog.set_alias("alpaca", "prod", "1", protect=True)
    catalog.set_alias("alpaca", "held", "1", protect=True)
    catalog.set_alias("alpaca", "held2", "1", protect=True)
    catalog.set_alias("alpaca", "dev", "1")
    catalog.set_alias("toxic", "dev", "1")
    catalog.set_base_alias("small", "tiny/base")
    catalog.publish("detox", "team/detox")
    catalog.add_rule("alpaca", "team/{name}-one")
    catalog.add_rule("toxic", "team/{name}-one")
    lora(tmp / "fresh", 11)
    lora(tmp / "many" / "one", 12)
    with Registry.open(tmp / "elsewhere", database_url=f"sqlite:///{tmp}/elsewhere/registry.db") as other:
        other.add(lora(tmp / "another", 13), "another", base="tiny/base")
        other.export(tmp / "other.bundle", blobs=True)


def change(folder: Path) -> None:
    from tests.models import rewrite

    rewrite(folder, lambda tensors: {name: tensor + 0.01 for name, tensor in tensors.items()})


@pytest.fixture
def team(postgres_url: str, tmp_path: Path) -> Iterator[Team]:
    made = Team(make_url(postgres_url), tmp_path)
    Registry.roles(database_url=postgres_url, prefix=made.prefix, apply=True)
    for role in ROLES:
        made.execute(f'CREATE ROLE "{made.login(role)}" LOGIN IN ROLE "{made.prefix}_{role}"')
    yield made
    # The roles are the server's: what they hold goes first.
    for role in ROLES:
        for name in (made.login(role), f"{made.prefix}_{role}"):
            made.execute(f'DROP OWNED BY "{name}" CASCADE')
    for role in reversed(ROLES):
        made.execute(f'DROP ROLE "{made.login(role)}", "{made.prefix}_{role}"')


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_is_its_own_and_nothing_else(
    role: str, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch):
        with Registry.open(database_url=team.server.render_as_string(hide_password=False)) as catalog:
            furnish(team, catalog)
        wrong = []
        for case in CASES:
            allowed = ROLES.index(role) >= ROLES.index(case.least)
            unchanged = not allowed or role == "reader"
            before = team.state() if unchanged else ""
            done = team.run(role, *shlex.split(case.words.format(tmp=tmp_path, prefix=team.prefix)))
            if not (done.exit_code == case.exit_code if allowed else refused(done, role, case.least)):
                wrong.append((case, done.exit_code, done.output))
            if unchanged and team.state() != before:
                wrong.append((case, 0, "changed something"))
    assert wrong == []


def refused(done: Result, role: str, least: str) -> bool:
    """Whether it is one line, which says who may, beside nothing else."""
    lines = done.stderr.splitlines()
    # The first thing that is refused decides, which may need less than the rest.
    more = ROLES[ROLES.index(role) + 1 : ROLES.index(least) + 1]
    return (
        done.exit_code == 1
        and done.stdout == ""
        and len(lines) == 2
        and lines[0].startswith("error: you may not do this in postgresql+psycopg://")
        and any(f"it takes at least the role {each};" in lines[1] for each in more)
    )


def test_a_reader_is_told_what_is_alike_although_no_sketch_can_be_kept(team: Team) -> None:
    with Registry.open(database_url=team.server.render_as_string(hide_password=False)) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(lora(team.tmp / name, seed), name, base="tiny/base")
        catalog.compose("half", "0.5*a")
    questions = (("similar", "a"), ("similar", "a", "--estimated"), ("similar", "--duplicates"))
    before = team.state()
    alone = [team.run("reader", *words) for words in questions]
    assert [done.exit_code for done in alone] == [0, 0, 0]
    for done in alone:
        (line,) = done.stderr.splitlines()
        assert line.startswith("warning: sketches are made, and not kept: you may not do this in postgresql")
    refused_ = team.run("reader", "similar", "--prepare")
    assert refused(refused_, "reader", "contributor")
    assert team.state() == before
    assert team.run("contributor", "similar", "--prepare", "--format", "quiet").stdout == "3\n"
    helped = [team.run("reader", *words) for words in questions]
    assert [(done.exit_code, done.stdout, done.stderr) for done in helped] == [
        (0, done.stdout, "") for done in alone
    ]


def test_what_grants_do_not_say_is_said_by_triggers_and_nobody_rewrites_history(team: Team) -> None:
    with Registry.open(database_url=team.url("contributor"), actor="somebody else") as catalog:
        catalog.add(lora(team.tmp / "a", 1), "a", base="tiny/base")
        catalog.set_alias("a", "prod", "1")
        (last, *_) = catalog.events("a")
    assert (last.actor, last.detail["login"]) == ("somebody else", team.login("contributor"))
    with Registry.open(database_url=team.url("reader")) as catalog:
        assert catalog.verify_database().ok, "what the server adds is no damage"
    assert Registry.check_schema(database_url=team.url("admin")).problems == ()
    forged = "INSERT INTO events (at, actor, action, subject, detail)"
    team.execute(
        f"{forged} VALUES (now(), 'root', 'note', 'a', '{{\"login\": \"root\"}}')",
        user=team.login("contributor"),
    )
    with Registry.open(database_url=team.url("publisher")) as catalog:
        (last, *_) = catalog.events("a")
        assert (last.actor, last.detail["login"]) == ("root", team.login("contributor"))
        catalog.protect_alias("a", "prod")
    for role in ("reader", "contributor", "publisher"):
        for statement in (
            "UPDATE events SET actor = 'root'",
            "DELETE FROM events",
            "TRUNCATE events",
            "UPDATE versions SET artifact_digest = artifact_digest",
            "UPDATE adapters SET name = 'b'",
            "DELETE FROM versions",
            "UPDATE lineage SET coefficient = '1'",
            "DELETE FROM blobs",
            "DELETE FROM artifact_files",
            "UPDATE recipes SET canonical = ''",
            "INSERT INTO revocations SELECT id, '', now(), '' FROM versions",
            "UPDATE alembic_version SET version_num = '0'",
            "ALTER TABLE events DISABLE TRIGGER ALL",
            "DROP TRIGGER registry_event_login ON events",
            "CREATE TABLE mine (a int)",
            "CREATE TEMP TABLE mine (a int)",
            "SET ROLE " + team.prefix + "_admin",
        ):
            with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
                team.execute(statement, user=team.login(role))
    for statement in ("UPDATE aliases SET number = 1", "DELETE FROM aliases"):
        with pytest.raises(DBAPIError, match="the alias prod is protected"):
            team.execute(statement, user=team.login("contributor"))


def test_a_backup_is_restored_as_it_is_by_an_administrator_alone(team: Team) -> None:
    """Who wrote an event then is not who restores it now."""
    url = f"sqlite:///{team.tmp}/elsewhere/registry.db"
    with Registry.open(team.tmp / "elsewhere", database_url=url) as catalog:
        catalog.add(lora(team.tmp / "a", 1), "a", base="tiny/base")
    file = team.tmp / "all.backup"
    done = Registry.backup(file, team.tmp / "elsewhere", database_url=url)
    before = team.state()
    for role in ROLES[:-1]:
        assert refused(team.run(role, "restore", str(file)), role, "admin")
        assert team.state() == before, "not a blob is stored for who may write no row"
    assert team.run("admin", "restore", str(file)).exit_code == 0
    again = Registry.backup(team.tmp / "again", database_url=team.url("reader"))
    assert again.digest == done.digest
    with Registry.open(database_url=team.url("admin")) as catalog:
        catalog.set_note("a", "new")
        (last, *_) = catalog.events("a")
        assert last.detail["login"] == team.login("admin")
        assert catalog.verify_database().ok


def test_a_login_without_a_role_reads_nothing(team: Team) -> None:
    stranger = f"{team.prefix}_stranger"
    team.execute(f'CREATE ROLE "{stranger}" LOGIN')
    try:
        with pytest.raises(StorageFailure, match="permission denied for database"):
            Registry.open(database_url=team.server.set(username=stranger).render_as_string())
    finally:
        team.execute(f'DROP ROLE "{stranger}"')


def test_what_differs_is_told_and_mended(team: Team) -> None:
    url, prefix = team.url("admin"), team.prefix
    assert Registry.roles(database_url=url, prefix=prefix).differences == ()
    team.execute(f'GRANT DELETE ON events TO "{prefix}_contributor"')
    team.execute("GRANT UPDATE (detail) ON events TO PUBLIC")
    team.execute(f'REVOKE SELECT ON rules FROM "{prefix}_reader"')  # noqa: S608  (it is no query)
    team.execute(f'GRANT SELECT ON rules TO "{prefix}_reader" WITH GRANT OPTION')
    team.execute("ALTER TABLE events DISABLE TRIGGER registry_event_login")
    team.execute("ALTER TABLE tags OWNER TO CURRENT_USER")
    done = team.run("admin", "db", "roles", "--check", "--prefix", prefix)
    assert done.exit_code == 6
    assert done.stdout.splitlines() == [
        f"missing: {prefix}_admin does not own tags",
        f"missing: SELECT on rules for {prefix}_reader",
        "too much: UPDATE on events.detail for PUBLIC",
        f"too much: DELETE on events for {prefix}_contributor",
        f"too much: SELECT, to be passed on, on rules for {prefix}_reader",
        "missing: the trigger registry_event_login",
    ]
    applied = Registry.roles(
        database_url=team.server.render_as_string(hide_password=False), prefix=prefix, apply=True
    )
    assert (applied.applied, applied.differences) == (True, ())
    assert team.run("reader", "db", "roles", "--check", "--prefix", prefix).exit_code == 0


def test_who_is_no_superuser_makes_the_roles_of_a_database_of_his_own(team: Team) -> None:
    owner, name = f"{team.prefix}_owner", team.server.database
    team.execute(f'CREATE ROLE "{owner}" LOGIN CREATEROLE')
    team.execute(f'CREATE DATABASE "{name}_own" OWNER "{owner}"')
    server = team.server.set(database=f"{name}_own")
    url, prefix = server.set(username=owner).render_as_string(hide_password=False), f"{team.prefix}_own"
    try:
        with Registry.open(database_url=url):
            pass
        assert Registry.roles(database_url=url, prefix=prefix, apply=True).differences == ()
        assert Registry.roles(database_url=url, prefix=prefix, apply=True).differences == ()
        with Registry.open(database_url=url) as catalog:
            catalog.add(lora(team.tmp / "a", 1), "a", base="tiny/base")
    finally:
        team.execute(f'DROP DATABASE "{name}_own" WITH (FORCE)')
        for role in ROLES[::-1]:
            team.execute(f'DROP ROLE IF EXISTS "{prefix}_{role}"')
        team.execute(f'DROP ROLE "{owner}"')


def test_an_upgrade_by_an_administrator_leaves_tables_to_the_role_and_grants_what_is_new(
    team: Team,
) -> None:
    engine = create_engine(team.url("admin"))
    with engine.connect() as connection:
        roles.become_owner(connection)
        connection.execute(text("CREATE TABLE later (id int)"))
        connection.commit()
        roles.again(connection)
        connection.commit()
    engine.dispose()
    assert team.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'later'") == [
        (f"{team.prefix}_admin",)
    ]
    assert team.execute("SELECT count(*) FROM later", user=team.login("reader")) == [(0,)]
    assert Registry.roles(database_url=team.url("reader"), prefix=team.prefix).differences == ()


@pytest.mark.parametrize(
    "prefix", ["", "pg_registry", "Team", "a-b", "a" * 41, "a'; DROP TABLE events; --", "1a"]
)
def test_a_prefix_that_begins_no_role_is_refused(team: Team, prefix: str) -> None:
    with pytest.raises(UsageError, match="cannot begin the name of a role"):
        Registry.roles(database_url=team.url("admin"), prefix=prefix)


def test_sqlite_has_no_roles(sqlite_url: str) -> None:
    done = CliRunner(env={"REGISTRY_DATABASE_URL": sqlite_url}).invoke(root, ["db", "roles"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "knows no roles: they are PostgreSQL's" in done.stderr.splitlines()[0]


def test_the_script_that_is_printed_is_what_is_applied(team: Team) -> None:
    done = team.run("reader", "db", "roles", "--prefix", team.prefix)
    assert done.exit_code == 0
    engine = create_engine(team.server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # as psql would send it
        connection.exec_driver_sql(done.stdout.replace("%", "%%"))
    engine.dispose()
    assert Registry.roles(database_url=team.url("reader"), prefix=team.prefix).differences == ()


@pytest.mark.parametrize(
    ("table", "statement", "role"),
    [
        ("versions", "INSERT INTO versions (id) VALUES (1)", "contributor"),
        ("versions", "SELECT 1 FROM versions FOR UPDATE", "contributor"),
        ("events", "UPDATE events SET actor='x'", "admin"),
        ("lineage", "LOCK TABLE lineage IN ROW EXCLUSIVE MODE", "contributor"),
        ("lineage", "LOCK TABLE lineage IN SHARE ROW EXCLUSIVE MODE", "admin"),
        ("aliases", "UPDATE aliases SET number=1, updated_by=2 WHERE aliases.alias_key = 3", "contributor"),
        ("aliases", "UPDATE aliases SET number=1, protected=true WHERE aliases.alias_key = 3", "publisher"),
        ("rules", "COPY rules FROM STDIN", "publisher"),
        ("publications", "UPDATE publications SET seen=1", "publisher"),
        ("blobs", "DELETE FROM blobs", "admin"),
        ("revocations", "INSERT INTO revocations", "admin"),
        ("", "", "admin"),
    ],
)
def test_who_may_is_told_from_what_was_refused(table: str, statement: str, role: str) -> None:
    assert needed(table, statement) == role
