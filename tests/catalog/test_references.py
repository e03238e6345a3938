"""From a reference to the version it means: every form, every way to miss, and what it costs."""

from __future__ import annotations

import pytest

from registry import Registry
from registry.catalog import references
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import NotFound, RegistryError, UsageError
from registry.reference import parse
from registry.results import Pinned
from registry.verbs import annotate
from tests.catalog.drafts import add, content, statements


def resolve(database: Database, text: str, *, deleted: bool = False) -> Pin:
    with database.read() as session:
        return references.resolve(session, parse(text), deleted=deleted)


@pytest.fixture
def filled(database: Database) -> Database:
    for label in "123":
        add(database, "team/Toxic", label, revision="main")
    add(database, "other", "1", revision="main")
    annotate.set_alias(database, "team/toxic", "Prod", 2, expect=None, protect=False, actor="tester")
    return database


def test_every_form_finds_its_version_in_one_statement(filled: Database) -> None:
    forms = {
        "team/Toxic": 3,
        "TEAM/toxic": 3,
        "team/Toxic@1": 1,
        "team/Toxic@v2": 2,
        "team/toxic@prod": 2,
        "team/toxic@PROD": 2,
        "team/toxic@latest": 3,
        content("3").digest: 3,
        content("3").digest[:20]: 3,
        content("1").digest: 1,
    }
    for text, number in forms.items():
        with statements(filled) as sent:
            found = resolve(filled, text)
        assert found.ref == f"team/Toxic@{number}"
        assert found.base_model.revision == "main"
        assert len(sent) == 1


def test_what_is_not_there_is_not_found_with_what_is(filled: Database) -> None:
    said = {
        "nosuch": "there is no adapter called 'nosuch'",
        "team/toxik": "did you mean team/Toxic",
        "team/toxic@9": "its last is 3",
        "team/toxic@dev": "its aliases: Prod",
        "other@dev": "its aliases: none",
        "sha256:00000000": "no version has the content",
    }
    for text, part in said.items():
        with pytest.raises(NotFound) as caught:
            resolve(filled, text)
        assert part in f"{caught.value.message} {caught.value.hint}"


def test_a_digest_that_several_contents_start_with_is_ambiguous(database: Database) -> None:
    first, second = "sha256:" + "ab" * 31 + "00", "sha256:" + "ab" * 31 + "01"
    for name, digest in (("a", first), ("b", second)):
        add(database, name, name)
        with database.write() as session:
            session.connection().exec_driver_sql(
                f"INSERT INTO artifacts SELECT '{digest}', target, kind, rank, parameters, modules, dtype, size, "  # noqa: S608
                f"not_composable, created_at, seal FROM artifacts WHERE digest = '{content(name).digest}'"
            )
            session.connection().exec_driver_sql(
                f"UPDATE versions SET artifact_digest = '{digest}' WHERE artifact_digest = '{content(name).digest}'"  # noqa: S608
            )
    with pytest.raises(UsageError, match="fits several contents"):
        resolve(database, first[:30])
    assert resolve(database, first).ref == "a@1"
    assert resolve(database, second).ref == "b@1"


def test_a_tombstone_is_found_only_when_asked_for(filled: Database) -> None:
    annotate.delete(filled, "team/toxic@3", actor="tester")
    for text in ("team/toxic@3", content("3").digest):
        with pytest.raises(NotFound, match=r"was deleted on \d{4}-\d\d-\d\d"):
            resolve(filled, text)
        assert resolve(filled, text, deleted=True).deleted
    assert resolve(filled, "team/toxic").ref == "team/Toxic@2"


def test_a_digest_means_a_live_version_where_one_has_it(filled: Database) -> None:
    annotate.delete(filled, "team/toxic@1", actor="tester")
    assert resolve(filled, content("1").digest).ref == "other@1"


def test_names_are_taken_literally_in_every_look_up(filled: Database) -> None:
    """Nothing in a reference is a pattern."""
    add(filled, "a_b", "u")
    for text in ("team/Toxi_", "aXb", "a.b", "team/Tox.c"):
        with pytest.raises(RegistryError):
            resolve(filled, text)


def test_what_a_reference_means_is_told_in_one_statement(catalog: Registry) -> None:
    database = catalog._database
    for label in "12":
        add(database, "Toxic", label)
    catalog.set_alias("toxic", "Prod", 1)
    for ref, number in {"toxic": 2, "TOXIC@latest": 2, "toxic@v1": 1, "toxic@prod": 1}.items():
        with statements(database) as sent:
            found = catalog.resolve(ref)
        assert len(sent) == 1
        shown = catalog.show(f"toxic@{number}")
        assert found == Pinned(
            ref=f"Toxic@{number}",
            name="Toxic",
            version=number,
            digest=shown.digest,
            kind="lora",
            base_model=shown.base_model,
        )
    assert catalog.resolve(content("1").digest).ref == "Toxic@1"
    for missing in ("nosuch", "toxic@3", "toxic@nosuch", "sha256:00000000"):
        with pytest.raises(NotFound):
            catalog.resolve(missing)
    catalog.delete("toxic@2")
    assert catalog.resolve("toxic").ref == "Toxic@1"
    with pytest.raises(NotFound, match="was deleted"):
        catalog.resolve("toxic@2")
