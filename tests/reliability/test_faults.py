"""Folders that cannot be written to, and a database that somebody keeps: one line says so, and nothing is half done."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from cli import root
from registry import Registry
from registry.catalog import database
from registry.errors import DatabaseDamaged, StorageFailure
from tests.adapters import make_lora
from tests.reliability.ordinary import read_only

Q = {"model.layers.0.self_attn.q_proj": (8, 8)}
READING = [
    ["list"], ["list", "task = 'x'"], ["show", "mix"], ["log", "mix"], ["lineage", "mix"], ["events"], ["stale"], ["alias", "list"],
    ["publications"], ["check", "a + b"], ["diff", "a", "b"], ["verify"], ["db", "current"], ["db", "check"], ["gc"],
    ["checkout", "mix", "{out}/mix"], ["export", "{out}/bundle.tar"], ["similar", "a"], ["similar", "--duplicates"],
]  # fmt: skip
CHANGING = [
    ["add", "{new}", "new"], ["compose", "other", "a - b", "--device", "cpu"], ["alias", "set", "a", "prod", "1"], ["delete", "a"],
    ["tag", "set", "a", "k=v"], ["revoke", "a", "--reason", "bad"], ["gc", "--apply"], ["note", "a", "x"], ["similar", "--prepare"],
]  # fmt: skip


@pytest.fixture
def home(sqlite_url: str, tmp_path: Path) -> Path:
    """A catalog that nobody has open."""
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        for seed, name in enumerate(("a", "b", "spare")):
            catalog.add(make_lora(tmp_path / name, modules=Q, seed=seed), name)
        catalog.compose("mix", "a + b", device="cpu")
        catalog.delete("spare")
    make_lora(tmp_path / "new", modules=Q, seed=9)
    (tmp_path / "out").mkdir()
    assert not (tmp_path / "home" / "registry.db-wal").exists()
    return tmp_path / "home"


@pytest.fixture
def run(tmp_path: Path) -> Callable[[list[str]], Result]:
    def command(words: list[str]) -> Result:
        places = {"out": tmp_path / "out", "new": tmp_path / "new"}
        return CliRunner().invoke(root, [word.format(**places) for word in words])

    return command


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_one_line(done: Result) -> bool:
    """What an error looks like: a line, and perhaps one that says what to do."""
    lines = done.stderr.strip().splitlines()
    return (
        done.exit_code == 1
        and done.stdout == ""
        and lines[0].startswith("error: ")
        and all(line.startswith("hint: ") for line in lines[1:2])
        and len(lines) <= 2
        and "internal error" not in done.stderr
    )


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_read_only_catalog_can_be_read(
    words: list[str], home: Path, run: Callable[[list[str]], Result]
) -> None:
    before = content(home)
    with read_only(home):
        done = run(words)
    assert (done.exit_code, done.stderr if done.exit_code else "") == (0, "")
    assert content(home) == before


@pytest.mark.parametrize("words", CHANGING, ids=" ".join)
def test_a_read_only_catalog_is_not_changed_and_one_line_says_so(
    words: list[str], home: Path, run: Callable[[list[str]], Result]
) -> None:
    before = content(home)
    with read_only(home):
        done = run(words)
    assert is_one_line(done), done.stderr
    assert content(home) == before


def test_what_is_alike_in_a_read_only_catalog_is_told_with_a_line_that_no_sketch_is_kept(
    home: Path, run: Callable[[list[str]], Result]
) -> None:
    with read_only(home):
        alone = run(["similar", "a"])
    (line,) = alone.stderr.splitlines()
    assert line.startswith("warning: sketches are made, and not kept: ")
    assert run(["similar", "--prepare", "--format", "quiet"]).stdout == "3\n"
    with read_only(home):
        helped = run(["similar", "a"])
    assert (helped.stdout, helped.stderr) == (alone.stdout, "")


def test_a_catalog_that_a_writer_has_open_can_be_read_and_the_writer_goes_on(
    home: Path, run: Callable[[list[str]], Result]
) -> None:
    """Its log and its locks are there, and are read as they are."""
    with Registry.open(home) as writer:
        writer.set_alias("a", "newest", 1)
        with read_only(home):
            shown = run(["show", "a@newest", "--format", "quiet"])
        assert (shown.exit_code, shown.stdout) == (0, "a@1\n")
        writer.set_alias("b", "newest", 1)


def test_what_was_written_while_it_was_read_is_refused_and_then_seen(home: Path) -> None:
    """A file that is read as one that nobody changes is looked at again before what it said counts."""
    with read_only(home):
        reader = database.open_database(f"sqlite:///{home}/registry.db")
        session = reader.read()
        asked = session.__enter__().execute(text("SELECT count(*) FROM aliases")).scalar_one()
    with Registry.open(home) as writer:
        writer.set_alias("a", "newest", 1)
    assert asked == 0
    with pytest.raises(StorageFailure, match="was changed while it was read"):
        session.__exit__(None, None, None)
    with read_only(home), reader.read() as again:
        assert again.execute(text("SELECT count(*) FROM aliases")).scalar_one() == 1
    reader.close()


def test_what_seems_damaged_while_it_is_written_is_no_damage(home: Path) -> None:
    """Of a file that somebody is writing to, a reader sees a part."""
    wrong, reader = text("SELECT * FROM no_such_table"), database.Database(f"sqlite:///{home}/registry.db")
    with read_only(home), pytest.raises(DatabaseDamaged), reader.read() as session:
        session.execute(wrong)
    with ExitStack() as stack:
        with read_only(home):
            session = stack.enter_context(reader.read())
            session.execute(text("SELECT count(*) FROM aliases"))
        with Registry.open(home) as writer:
            writer.set_alias("a", "newest", 1)
        with pytest.raises(StorageFailure, match="was changed while it was read"), stack.pop_all():
            session.execute(wrong)
    reader.close()


def test_a_log_without_its_locks_is_told(
    home: Path, tmp_path: Path, run: Callable[[list[str]], Result]
) -> None:
    """What a writer left that was killed, in a copy that lacks a file: reading it as it is would lose the log."""
    copy = tmp_path / "copy"
    with Registry.open(home) as writer:
        writer.set_alias("a", "newest", 1)
        shutil.copytree(home, copy)
    (copy / "registry.db-shm").unlink()
    assert (copy / "registry.db-wal").stat().st_size > 0
    shutil.rmtree(home)
    copy.rename(home)
    with read_only(home):
        done = run(["show", "a@newest"])
    assert is_one_line(done), done.stderr
    assert "open it once" in done.stderr
    assert run(["show", "a@newest"]).exit_code == 0


@pytest.mark.parametrize("words", [CHANGING[0], CHANGING[1]], ids=" ".join)
def test_blobs_that_cannot_be_written(
    words: list[str], home: Path, run: Callable[[list[str]], Result]
) -> None:
    with Registry.open(home) as catalog:
        before = catalog.events()
    with read_only(home / "blobs"):
        done = run(words)
    assert is_one_line(done), done.stderr
    with Registry.open(home) as catalog:
        assert catalog.events() == before
        assert all(found.ok for found in catalog.verify())


@pytest.mark.parametrize(
    "words",
    [["checkout", "mix", "{out}/mix"], ["export", "{out}/mix.tar"], ["sync-dir", "{out}", "--alias", "live"],
     ["materialize", "mix", "--out", "{out}/mix"]],
    ids=" ".join,
)  # fmt: skip
def test_an_output_that_cannot_be_written(
    words: list[str], home: Path, tmp_path: Path, run: Callable[[list[str]], Result]
) -> None:
    before = content(home)
    with read_only(tmp_path / "out"):
        done = run(words)
    assert is_one_line(done), done.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert content(home) == before


def test_a_home_that_cannot_be_made(
    tmp_path: Path, run: Callable[[list[str]], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    monkeypatch.setenv("REGISTRY_HOME", str(tmp_path / "closed" / "home"))
    with read_only(tmp_path / "closed"):
        done = run(["list"])
    assert is_one_line(done), done.stderr
    assert "REGISTRY_HOME" in done.stderr
    (tmp_path / "closed" / "home").mkdir()
    with read_only(tmp_path / "closed"):
        done = run(["list"])
    assert is_one_line(done), done.stderr


def test_a_sweep_without_a_folder_to_measure_in_is_one_line(sqlite_url: str, tmp_path: Path) -> None:
    home = tmp_path / "closed"
    home.mkdir()
    with Registry.open(home, database_url=sqlite_url, blobs=str(tmp_path / "blobs")) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(tmp_path / name, modules=Q, seed=seed), name)
        with (
            read_only(home),
            pytest.raises(StorageFailure, match=r"cannot write to .*closed: Permission denied"),
        ):
            catalog.sweep(
                "swept", "a - {w}*b", over={"w": "0,1"}, metric="loss:max", evaluate=lambda *_: {"loss": 1.0}, device="cpu"
            )  # fmt: skip
        assert {version.name for version in catalog.list().versions} == {"a", "b"}


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_went_away_under_an_open_catalog_takes_no_rows(
    how: str, home: Path, tmp_path: Path
) -> None:
    """Nothing is said to be done in a file that nobody finds any more; once it is back, all goes on."""
    file, aside = home / "registry.db", tmp_path / "aside.db"
    Registry.open(tmp_path / "other").close()
    with Registry.open(home) as catalog:
        catalog.set_alias("a", "before", 1)
        file.rename(aside)
        if how == "replaced":
            shutil.copyfile(tmp_path / "other" / "registry.db", file)
        changes: list[Callable[[], object]] = [
            catalog.list,
            lambda: catalog.add(tmp_path / "new", "new"),
            lambda: catalog.compose("other", "a - b", device="cpu"),
            lambda: catalog.set_alias("a", "after", 1),
        ]
        for change in changes:
            with pytest.raises(StorageFailure, match=f"{how} while it was open"):
                change()
        assert file.exists() == (how == "replaced")
        aside.replace(file)
        catalog.add(tmp_path / "new", "new")
    with Registry.open(home) as catalog:
        assert [each.alias for each in catalog.aliases("a")] == ["before"]
        assert {version.name for version in catalog.list().versions} == {"a", "b", "mix", "new"}


def test_a_file_that_went_away_in_a_transaction_is_told_before_it_ends(home: Path, tmp_path: Path) -> None:
    file, aside = home / "registry.db", tmp_path / "aside.db"
    with Registry.open(home) as catalog:
        writing = catalog._database.write()
        session = writing.__enter__()
        session.execute(text("DELETE FROM events"))
        file.rename(aside)
        with pytest.raises(StorageFailure, match="removed while it was open"):
            writing.__exit__(None, None, None)
        aside.rename(file)
        assert len(catalog.events()) == 5


def test_a_log_whose_database_is_gone_is_no_empty_catalog(
    home: Path, tmp_path: Path, run: Callable[[list[str]], Result]
) -> None:
    """What a killed writer left, and somebody removed the file: a new one in its place would lose the log as well."""
    aside = tmp_path / "aside.db"
    with Registry.open(home) as writer:
        writer.set_alias("a", "newest", 1)
        log = (home / "registry.db-wal").read_bytes()
        shutil.copyfile(home / "registry.db", aside)
    (home / "registry.db").unlink()
    (home / "registry.db-wal").write_bytes(log)
    before = content(home)
    done = run(["list"])
    assert (done.exit_code, done.stdout) == (1, "")
    warning, error, tip = done.stderr.splitlines()
    assert warning.startswith("warning: ")  # that a home has blobs and no database
    assert error.startswith("error: ")
    assert error.endswith("registry.db is gone, and its log registry.db-wal is still there")
    assert tip.startswith("hint: put the file back")
    assert content(home) == before
    aside.rename(home / "registry.db")
    assert run(["show", "a@newest", "--format", "quiet"]).stdout == "a@1\n"


def test_a_link_to_a_database_is_as_the_database(home: Path, tmp_path: Path) -> None:
    """Its log is beside the file, not beside the link: there it is looked for, and there the file is private."""
    file, link = tmp_path / "disk" / "registry.db", home / "registry.db"
    file.parent.mkdir()
    link.rename(tmp_path / "aside.db")
    link.symlink_to(file)
    Registry.open(home).close()
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "aside.db").replace(file)
    with Registry.open(home) as writer, read_only(home):
        writer.set_alias("a", "newest", 1)
        log = file.with_name("registry.db-wal").read_bytes()
        with Registry.open(home) as other:
            assert [each.alias for each in other.aliases("a")] == ["newest"]
    file.unlink()
    file.with_name("registry.db-wal").write_bytes(log)
    with pytest.raises(StorageFailure, match=r"its log registry\.db-wal is still there"):
        Registry.open(home)
    assert link.is_symlink()
    assert file.with_name("registry.db-wal").read_bytes() == log


def test_a_database_that_somebody_keeps_locked(
    home: Path, run: Callable[[list[str]], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(home / "registry.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert run(["show", "a"]).exit_code == 0
    done = run(["alias", "set", "a", "prod", "1"])
    assert is_one_line(done), done.stderr
    assert "locked" in done.stderr
    holder.execute("ROLLBACK")
    holder.close()
    assert run(["alias", "set", "a", "prod", "1"]).exit_code == 0
