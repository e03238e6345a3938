"""A catalog of a later release is refused in one line by whatever is typed, and stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.catalog.database import HEAD
from tests.cli.conftest import Run
from tests.migrations.kept import rows
from tests.migrations.test_migrations import execute

COMMANDS = (
    "add . x", "alias list", "alias set a prod 1", "base list", "check a", "checkout a out", "compose c a", "delete a",
    "diff a b", "eval list a", "events", "export out.tar", "gc", "impact a", "import in.tar", "lineage a", "list", "log a",
    "materialize a", "note a n", "publications", "publish a team/a", "rebuild", "revoke a --reason r", "rule list", "show a", "stale",
    "sync", "sync-dir out --alias prod", "tag set a k=v", "unpublish team/a", "verify", "watch", "backup out.backup", "db upgrade",
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_refuses_a_later_release_s_catalog(
    words: str,
    run: Run,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.tar").touch()
    execute(sqlite_url, "UPDATE alembic_version SET version_num = '9999'")
    before = rows(sqlite_url)
    done = run(*words.split())
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    first, hint = done.stderr.splitlines()
    assert first.endswith(f"has schema revision 9999, this release needs {HEAD}")
    assert hint == "hint: upgrade adapter-registry"
    assert rows(sqlite_url) == before
    assert not list(tmp_path.glob("out*"))
