"""``registry backup`` and ``registry restore``, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from registry.catalog.database import HEAD
from registry.results import Backup, Restored
from tests.adapters import make_lora
from tests.cli.conftest import Run


@pytest.mark.usefixtures("sqlite_url")
def test_a_backup_is_written_checked_and_restored(run: Run, tmp_path: Path) -> None:
    with Registry.open() as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
    file, there = str(tmp_path / "b"), {"REGISTRY_HOME": str(tmp_path / "there")}
    done = run("backup", file)
    assert done.exit_code == 0, done.stderr
    assert f"backed up to {file}" in done.stdout.replace("\n", "")
    assert run("backup", file).exit_code == 4
    checked = run("backup", file, "--check", "--format", "json")
    found = Backup.model_validate_json(checked.stdout)
    assert (found.schema_revision, found.counts["versions"]) == (HEAD, 1)
    again = run("backup", file, "--force", "--format", "quiet")
    assert again.stdout.strip() == found.digest
    restored = run("restore", file, "--format", "json", env=there)
    assert restored.exit_code == 0, restored.stderr
    assert Restored.model_validate_json(restored.stdout).stored == found.counts["blobs"]
    assert run("restore", file, env=there).exit_code == 4
    assert run("verify", env=there).exit_code == 0
    assert "a@1" in run("list", env=there).stdout


@pytest.mark.usefixtures("sqlite_url")
def test_a_backup_without_bytes_says_what_else_to_keep(run: Run, tmp_path: Path) -> None:
    with Registry.open() as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
    done = run("backup", str(tmp_path / "b"), "--no-blobs")
    assert "without bytes" in done.stderr
    there = {"REGISTRY_HOME": str(tmp_path / "there")}
    assert "2 blobs are not in the blob store" in run("restore", str(tmp_path / "b"), env=there).stderr


@pytest.mark.usefixtures("sqlite_url")
def test_a_damaged_backup_is_one_line_and_its_exit_code(run: Run, tmp_path: Path) -> None:
    with Registry.open() as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
    file = tmp_path / "b"
    assert run("backup", str(file)).exit_code == 0
    file.write_bytes(file.read_bytes()[:-20_000])
    done = run("backup", str(file), "--check", "--format", "json")
    assert done.exit_code == 5
    assert json.loads(done.stderr)["error"]["code"] == "INTEGRITY"
    assert run("backup", str(file), "--check", "--force").exit_code == 2
    assert run("backup", str(tmp_path / "c"), env={"REGISTRY_HOME": str(tmp_path / "no")}).exit_code == 3
    assert not (tmp_path / "no").exists()
