"""Versions: numbers, deduplication, names, tombstones."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import text

from registry import Registry
from registry.catalog import references, versions
from registry.catalog.database import Database
from registry.catalog.versions import Edge
from registry.errors import Conflict, Incompatible, IntegrityFailure, NotFound, RegistryError
from registry.reference import parse
from registry.results import BaseModelIdentity
from tests.adapters import make_ia3, make_lora
from tests.catalog.drafts import add, content, counts, events


def delete(database: Database, ref: str) -> list[str]:
    with database.write() as session:
        return versions.tombstone(session, references.resolve(session, parse(ref)), "tester")


def latest(database: Database, name: str) -> int:
    with database.read() as session:
        return references.resolve(session, parse(name)).number


def test_numbers_are_dense_from_one_for_each_adapter(database: Database) -> None:
    numbers = [
        (add(database, name, f"{name}{turn}").version) for turn in range(3) for name in ("a", "team/b")
    ]
    assert numbers == [1, 1, 2, 2, 3, 3]


def test_a_number_is_never_given_again_even_when_the_last_version_was_deleted(database: Database) -> None:
    for label in "123":
        add(database, "a", label)
    delete(database, "a@3")
    delete(database, "a@2")
    assert latest(database, "a") == 1
    assert add(database, "a", "4").ref == "a@4"
    delete(database, "a@4")
    delete(database, "a@1")
    with pytest.raises(NotFound, match="no live version"):
        latest(database, "a")
    assert add(database, "a", "5").ref == "a@5"
    assert latest(database, "a") == 5


def test_the_same_content_is_the_same_version(database: Database) -> None:
    first = add(database, "a", "x")
    before = counts(database)
    assert add(database, "a", "x") == first
    assert counts(database) == before
    assert add(database, "b", "x").ref == "b@1"
    assert counts(database)["artifacts"] == 1


def test_an_older_version_with_the_content_is_found_too(database: Database) -> None:
    add(database, "a", "x")
    add(database, "a", "y")
    assert add(database, "a", "x").ref == "a@1"
    assert latest(database, "a") == 2


def test_deleted_content_that_comes_back_is_a_new_version(database: Database) -> None:
    add(database, "a", "x")
    add(database, "a", "y")
    delete(database, "a@1")
    assert add(database, "a", "x").ref == "a@3"


def test_a_name_that_differs_only_by_case_is_a_conflict(database: Database) -> None:
    add(database, "Team/Toxic", "x")
    before = counts(database)
    for name in ("team/toxic", "TEAM/TOXIC"):
        with pytest.raises(Conflict, match="differs only by case from 'Team/Toxic'"):
            add(database, name, "y")
    assert counts(database) == before


def test_a_name_is_of_one_kind_on_one_base(database: Database) -> None:
    add(database, "a", "x")
    before = counts(database)
    for label, options in (("y", {"kind": "ia3"}), ("z", {"base": "other/base"})):
        with pytest.raises(Conflict, match="the name a is taken by lora adapters on tiny/base"):
            add(database, "a", label, **options)  # type: ignore[arg-type]
    assert counts(database) == before
    assert add(database, "a", "w", revision="main").version == 2


def test_a_new_name_has_to_be_new_when_asked_for(database: Database) -> None:
    add(database, "a", "x", new=True)
    for label in ("x", "y"):
        with pytest.raises(Conflict, match="the name a is taken"):
            add(database, "a", label, new=True)


def test_an_early_refusal_is_the_refusal_that_writing_would_give(database: Database) -> None:
    add(database, "a", "x")
    tiny = BaseModelIdentity(repo="tiny/base")
    with database.write() as session:
        versions.base_model(session, tiny.model_copy(update={"fingerprint": "sha256:1"}))
    with database.read() as session:
        versions.refuse_early(session, "a", kind="lora", base=tiny)
        versions.refuse_early(session, "fresh", kind="ia3", base=tiny, new=True)
        for name, kind, base, new in (
            ("A", "lora", tiny, False),
            ("a", "ia3", tiny, False),
            ("a", "lora", BaseModelIdentity(repo="other/base"), False),
            ("a", "lora", tiny, True),
        ):
            with pytest.raises(Conflict):
                versions.refuse_early(session, name, kind=kind, base=base, new=new)
        other = tiny.model_copy(update={"fingerprint": "sha256:2"})
        with pytest.raises(Incompatible):
            versions.refuse_early(session, "fresh", kind="lora", base=other)


def test_a_fingerprint_is_set_once(database: Database) -> None:
    seen = BaseModelIdentity(repo="r", revision="main", fingerprint="sha256:one")
    with database.write() as session:
        assert versions.base_model(session, seen).fingerprint == "sha256:one"
    with database.write() as session:
        assert (
            versions.base_model(session, seen.model_copy(update={"fingerprint": None})).fingerprint
            == "sha256:one"
        )
    with pytest.raises(Incompatible, match="other weights") as caught, database.write() as session:
        versions.base_model(session, seen.model_copy(update={"fingerprint": "sha256:two"}))
    assert "r@main" in caught.value.message


def test_two_that_see_a_base_for_the_first_time_do_not_overwrite_one_another(database: Database) -> None:
    """The second waits for the first, and then meets its fingerprint, not the empty one it saw before."""
    tiny = BaseModelIdentity(repo="r")
    with database.write() as session:
        versions.base_model(session, tiny)
    outcome: list[object] = []

    def second() -> None:
        try:
            with database.write() as session:
                versions.base_model(session, tiny.model_copy(update={"fingerprint": "sha256:two"}))
            outcome.append("won")
        except RegistryError as error:
            outcome.append(error)

    with database.write() as session:
        versions.base_model(session, tiny.model_copy(update={"fingerprint": "sha256:one"}))
        session.flush()
        other = threading.Thread(target=second)
        other.start()
        other.join(0.5)
        assert outcome == []
    other.join()
    assert isinstance(outcome[0], Incompatible)


def test_one_that_has_its_parent_in_hand_still_takes_the_next_number(database: Database) -> None:
    """Resolving the parent loads the adapter before its lock is held; the counter is read after that."""
    add(database, "a", "1")
    made: list[str] = []
    with database.write() as session:
        versions.write(session, draft("a", "2"))
        other = threading.Thread(target=lambda: made.append(add(database, "a", "3", parents=["a@1"]).ref))
        other.start()
        other.join(0.5)
        assert made == []
    other.join()
    assert made == ["a@3"]


def test_a_version_deleted_meanwhile_is_not_deleted_again(database: Database) -> None:
    add(database, "a", "1")
    add(database, "a", "2")
    outcome: list[object] = []

    def second() -> None:
        try:
            outcome.append(delete(database, "a@2"))
        except RegistryError as error:
            outcome.append(error)

    with database.write() as session:
        versions.tombstone(session, references.resolve(session, parse("a@2")), "first")
        session.flush()
        other = threading.Thread(target=second)
        other.start()
        other.join(0.5)
        assert outcome == []
    other.join()
    assert isinstance(outcome[0], NotFound)
    assert [action for _, action, subject, _ in events(database) if subject == "a@2"] == ["import", "delete"]


def test_deleting_what_became_the_latest_meanwhile_leaves_no_latest_tombstone(database: Database) -> None:
    for label in "123":
        add(database, "a", label)
    with database.write() as session:
        versions.tombstone(session, references.resolve(session, parse("a@3")), "first")
        session.flush()
        other = threading.Thread(target=delete, args=(database, "a@2"))
        other.start()
        other.join(0.5)
    other.join()
    assert latest(database, "a") == 1


@pytest.mark.parametrize("relation", ["input", "declared"])
def test_a_parent_deleted_meanwhile_is_refused(
    database: Database, relation: Literal["input", "declared"]
) -> None:
    add(database, "a", "a")
    with database.read() as session:
        edge = Edge(references.resolve(session, parse("a")).id, relation)
    delete(database, "a@1")
    before = counts(database)
    with pytest.raises(Conflict, match=r"^a@1 was deleted meanwhile$"), database.write() as session:
        versions.write(session, replace(draft("s", "s"), parents=[edge]))
    assert counts(database) == before


def test_an_input_without_bytes_is_refused(database: Database) -> None:
    add(database, "a", "a")
    with database.write() as session:
        session.execute(text("DELETE FROM artifact_files"))
        edge = Edge(references.resolve(session, parse("a")).id, "input")
    before = counts(database)
    with pytest.raises(IntegrityFailure, match="bytes of a@1 are not held"), database.write() as session:
        versions.write(session, replace(draft("s", "s"), parents=[edge]))
    assert counts(database) == before
    assert add(database, "d", "d", parents=["a"]).parents[0].ref == "a@1"


def test_a_parent_is_held_until_its_child_is_written(database: Database) -> None:
    add(database, "a", "a")
    add(database, "a", "later")
    outcome: list[list[str]] = []
    with database.write() as session:
        edge = Edge(references.resolve(session, parse("a@1")).id, "input")
        versions.write(session, replace(draft("s", "s"), parents=[edge]))
        session.flush()
        other = threading.Thread(target=lambda: outcome.append(delete(database, "a@1")))
        other.start()
        other.join(0.5)
        assert outcome == []
    other.join()
    assert outcome == [["s@1"]]


def test_an_input_collected_during_a_composition_ends_it(catalog: Registry, tmp_path: Path) -> None:
    """Else there would be a version that can never be computed again."""
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    swept: list[int] = []

    def meanwhile(_what: str, done: int, total: int) -> None:
        if done == total:
            catalog.delete("a")
            swept.append(len(catalog.gc(apply=True).blobs))

    with pytest.raises(Conflict, match="a@1 was deleted meanwhile"):
        catalog.compose("s", "a + b", progress=meanwhile)
    assert swept[0] > 0
    assert [version.ref for version in catalog.list().versions] == ["b@1"]


def test_deleting_names_what_was_derived_and_still_lives(database: Database) -> None:
    add(database, "a", "a")
    add(database, "b", "b", parents=["a"])
    add(database, "c", "c", parents=["a", "b"])
    delete(database, "b")
    assert delete(database, "a") == ["c@1"]


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    add(database, "a", "x")
    before = counts(database)
    with pytest.raises(ZeroDivisionError), database.write() as session:  # noqa: PT012
        versions.write(session, draft("b", "y"))
        session.flush()
        raise ZeroDivisionError
    assert counts(database) == before


def test_every_change_is_an_event_with_who_and_what(database: Database) -> None:
    add(database, "a", "x")
    delete(database, "a@1")
    assert events(database) == [
        ("tester", "import", "a@1", {"digest": content("x").digest, "expression": None, "source": None}),
        ("tester", "delete", "a@1", {"digest": content("x").digest}),
    ]


def test_a_version_knows_what_was_added(catalog: Registry, tmp_path: Path) -> None:
    parent = catalog.add(make_lora(tmp_path / "p"), "p")
    made = catalog.add(
        make_lora(tmp_path / "a", seed=1, r=2, config={"revision": "abc"}),
        "team/a",
        task="summarize",
        tags={"team": "x"},
        license="mit",
        parents=[parent],
        note="first",
    )
    shown = catalog.show("team/a")
    assert made.model_dump(exclude={"created", "warnings"}) == shown.model_dump()
    assert (shown.kind, shown.rank, shown.task, shown.license, shown.note) == (
        "lora",
        2,
        "summarize",
        "mit",
        "first",
    )
    assert (shown.base_model.repo, shown.base_model.revision) == ("tiny/base", "abc")
    assert (shown.modules, shown.parameters, shown.dtype) == (3, 2 * (20 + 14 + 20), "float32")
    assert [(edge.ref, edge.digest, edge.relation) for edge in shown.parents] == [
        ("p@1", parent.digest, "declared")
    ]
    assert (shown.created_by, shown.recipe, shown.tags) == ("tester", None, {"team": "x"})
    assert shown.created_at.utcoffset() is not None


def test_an_ia3_adapter_has_no_rank(catalog: Registry, tmp_path: Path) -> None:
    made = catalog.add(make_ia3(tmp_path / "a"), "a")
    assert (made.kind, made.rank, made.parameters) == ("ia3", None, 12 + 12 + 16)


def draft(name: str, label: str) -> versions.Draft:
    return versions.Draft(
        name=name, content=content(label), base_model=BaseModelIdentity(repo="tiny/base"), actor="tester"
    )
