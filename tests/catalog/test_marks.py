"""What is said about versions: aliases, tags, evaluations, and the events they leave."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from registry import Registry
from registry.catalog import references, versions
from registry.catalog.database import Database
from registry.errors import Conflict, NotFound, StorageFailure, UsageError
from registry.reference import parse
from registry.verbs import annotate
from tests.adapters import make_lora
from tests.catalog.drafts import add, counts, events, statements


@pytest.fixture
def three(catalog: Registry) -> Registry:
    """``a`` with three versions and ``b`` with one."""
    for label in "123":
        add(catalog._database, "a", label)
    add(catalog._database, "b", "b")
    return catalog


def test_an_alias_points_where_it_was_set_and_moves_when_set_again(three: Registry) -> None:
    made = three.set_alias("a", "prod", 1)
    assert (made.ref, made.moved, made.previous, made.updated_by) == ("a@1", True, None, "tester")
    moved = three.set_alias("a", "prod", 3)
    assert (moved.ref, moved.moved, moved.previous) == ("a@3", True, 1)
    assert three.show("a@prod").ref == "a@3"
    assert three.show("a@3").aliases == ("prod",)


def test_a_version_can_be_given_in_every_way(three: Registry) -> None:
    three.set_alias("a", "prod", 2)
    digest = three.show("a@1").digest
    for given, number in (
        (3, 3),
        ("2", 2),
        ("v1", 1),
        ("prod", 1),
        ("a@3", 3),
        ("A@2", 2),
        ("a", 3),
        ("latest", 3),
        (digest, 1),
    ):
        assert three.set_alias("a", "prod", given).ref == f"a@{number}"


def test_setting_what_is_set_already_changes_nothing_and_leaves_no_event(three: Registry) -> None:
    first = three.set_alias("a", "prod", 1)
    before = events(three._database)
    again = three.set_alias("a", "PROD", 1)
    assert (again.moved, again.alias, again.updated_at) == (False, "prod", first.updated_at)
    assert events(three._database) == before


def test_an_alias_moves_only_from_where_it_is_expected(three: Registry) -> None:
    with pytest.raises(Conflict, match="a@prod does not exist, not at 1"):
        three.set_alias("a", "prod", 2, expect=1)
    three.set_alias("a", "prod", 1, expect="none")
    with pytest.raises(Conflict, match=r"a@prod points at 1$"):
        three.set_alias("a", "prod", 2, expect="none")
    with pytest.raises(Conflict, match="a@prod points at 1, not at 3"):
        three.set_alias("a", "prod", 2, expect=3)
    assert three.show("a@prod").ref == "a@1"
    assert three.set_alias("a", "prod", 2, expect=1).ref == "a@2"


@pytest.mark.parametrize("version", ["b@1", "b@latest"])
def test_an_alias_stays_within_its_adapter(three: Registry, version: str) -> None:
    before = counts(three._database)
    with pytest.raises(UsageError, match="is not a version of a"):
        three.set_alias("a", "prod", version)
    assert counts(three._database) == before


def test_the_content_of_another_adapter_is_not_aliased_by_its_digest(three: Registry) -> None:
    before = counts(three._database)
    with pytest.raises(UsageError, match="is not a version of a"):
        three.set_alias("a", "prod", three.show("b").digest)
    assert counts(three._database) == before


def test_the_database_itself_refuses_an_alias_to_nowhere(three: Registry) -> None:
    """The foreign key, not the code, is what makes a dangling alias impossible."""
    insert = text(
        "INSERT INTO aliases (adapter_id, alias_key, alias, number, version_id, updated_at, updated_by) "
        "VALUES (1, 'x', 'x', :number, 1, '2026-01-01 00:00:00', 't')"
    )
    with pytest.raises(StorageFailure), three._database.write() as session:
        session.execute(insert, {"number": 99})
    with three._database.write() as session:
        session.execute(insert, {"number": 1})
    with pytest.raises(StorageFailure), three._database.write() as session:
        session.execute(text("DELETE FROM versions WHERE id = 1"))


@pytest.mark.parametrize(
    ("version", "error"),
    [(9, NotFound), ("nosuch", NotFound), (0, UsageError), (-1, UsageError), ("a b", UsageError)],
)
def test_an_alias_needs_a_version_that_is_there(
    three: Registry, version: int | str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        three.set_alias("a", "prod", version)
    assert three.aliases() == ()


def test_an_alias_is_deleted_by_its_name_in_any_case(three: Registry) -> None:
    three.set_alias("a", "Prod", 1)
    removed = three.delete_alias("A", "pROD")
    assert (removed.name, removed.alias, removed.ref) == ("a", "Prod", "a@1")
    assert three.aliases("a") == ()
    with pytest.raises(UsageError):
        three.delete_alias("a", "pr\0d")
    with pytest.raises(NotFound, match="a has no alias 'prod'"):
        three.delete_alias("a", "prod")
    with pytest.raises(NotFound, match="no adapter called 'zzz'"):
        three.aliases("zzz")


def test_aliases_are_listed_for_all_or_for_one(three: Registry) -> None:
    three.set_alias("b", "stable", 1)
    three.set_alias("a", "prod", 2)
    three.set_alias("a", "dev", 3)
    assert [f"{alias.alias} {alias.ref}" for alias in three.aliases()] == [
        "dev a@3",
        "prod a@2",
        "stable b@1",
    ]
    assert [alias.ref for alias in three.aliases("A")] == ["a@3", "a@2"]


def test_an_aliased_version_cannot_be_deleted(three: Registry) -> None:
    three.set_alias("a", "prod", 2)
    three.set_alias("a", "dev", 2)
    with pytest.raises(Conflict, match=r"a@2 is what a@dev, a@prod point at$"):
        three.delete("a@2")
    three.delete_alias("a", "prod")
    three.delete_alias("a", "dev")
    assert three.delete("a@2").ref == "a@2"
    with pytest.raises(NotFound, match="a@2 was deleted on"):
        three.set_alias("a", "prod", 2)


def test_a_version_deleted_meanwhile_gets_no_alias(database: Database) -> None:
    add(database, "a", "1")
    add(database, "a", "2")
    outcome: list[object] = []

    def second() -> None:
        try:
            outcome.append(
                annotate.set_alias(database, "a", "prod", 1, expect=None, protect=False, actor="second")
            )
        except NotFound as error:
            outcome.append(error)

    with database.write() as session:
        versions.tombstone(session, references.resolve(session, parse("a@1")), "first")
        session.flush()
        other = threading.Thread(target=second)
        other.start()
        other.join(0.5)
        assert outcome == []
    other.join()
    assert isinstance(outcome[0], NotFound)
    assert counts(database)["aliases"] == 0


def test_tags_are_set_overwritten_and_removed(three: Registry) -> None:
    assert three.set_tags("a@1", {"k": "v", "team/x": "é", "empty": ""}).tags == {
        "k": "v",
        "team/x": "é",
        "empty": "",
    }
    assert three.set_tags("a@1", {"k": "w"}).tags == {"k": "w", "team/x": "é", "empty": ""}
    assert three.delete_tags("a@1", ["k", "empty"]).tags == {"team/x": "é"}
    assert three.show("a@1").tags == {"team/x": "é"}
    assert three.show("a@2").tags == {}


def test_removing_a_tag_that_is_not_there_removes_none(three: Registry) -> None:
    three.set_tags("a", {"k": "v"})
    with pytest.raises(NotFound, match="a@3 has no tag 'nosuch'"):
        three.delete_tags("a", ["k", "nosuch"])
    assert three.show("a").tags == {"k": "v"}


def test_a_tag_that_cannot_be_kept_or_shown_is_a_usage_error(three: Registry) -> None:
    before = counts(three._database)
    for tags in [
        {"": "v"},
        {" ": "v"},
        {"k\0": "v"},
        {"k": "a\x1b[0m"},
        {"k": "\x7f"},
        {"k" * 201: "v"},
        {"k": "v" * 10_001},
        {"k": "\udcff"},
    ]:
        with pytest.raises(UsageError):
            three.set_tags("a", tags)
    assert counts(three._database) == before


def test_an_evaluation_replaces_the_one_for_the_same_thing(three: Registry) -> None:
    three.add_evaluation("a", "acc", 0.5, dataset="d")
    three.add_evaluation("a", "acc", 0.75, dataset="d")
    three.add_evaluation("a", "acc", 0.25, dataset="d", split="test")
    three.add_evaluation("a", "acc", True, dataset="e")
    found = [(e.metric, e.dataset, e.split, e.value) for e in three.evaluations("a")]
    assert found == [("acc", "d", None, 0.75), ("acc", "d", "test", 0.25), ("acc", "e", None, 1.0)]
    assert three.evaluations("a@1") == ()


def test_the_longest_texts_are_kept_on_every_database_and_longer_ones_on_none(three: Registry) -> None:
    """An index entry of PostgreSQL holds 2,704 bytes; these do not compress, and take four to a character."""
    chance = random.Random(0)  # noqa: S311

    def words(length: int) -> str:
        return "".join(chr(chance.randrange(0x20000, 0x2A000)) for _ in range(length))

    key, value, metric, dataset, split = words(200), words(400), words(200), words(200), words(200)
    assert three.set_tags("a", {key: value}).tags == {key: value}
    assert three.delete_tags("a", [key]).tags == {}
    made = three.add_evaluation("a", metric, 1.0, dataset=dataset, split=split)
    assert (made.metric, made.dataset, made.split) == (metric, dataset, split)
    add(three._database, "t", "t", task=words(200))
    before = counts(three._database)
    for tags in ({key + "x": ""}, {"k": value + "x"}, {"k": "\ud800"}, {"\0": "v"}):
        with pytest.raises(UsageError):
            three.set_tags("a", tags)
    for keys in (["\0"], ["\ud800"], [key + "x"], [""]):
        with pytest.raises(UsageError):
            three.delete_tags("a", keys)
    for what in ({"metric": metric + "x"}, {"dataset": dataset + "x"}, {"split": split + "x"}):
        fields = {"metric": "m", "dataset": "d", "split": "s"} | what
        with pytest.raises(UsageError, match="is 201 characters long"):
            three.add_evaluation("a", fields["metric"], 1.0, dataset=fields["dataset"], split=fields["split"])
    assert counts(three._database) == before


def test_tasks_and_licenses_are_short_and_notes_may_be_long(catalog: Registry, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a")
    for task, license_, note in (("t" * 201, "l", "n"), ("t", "l" * 201, "n"), ("t", "l", "n" * 10_001)):
        with pytest.raises(UsageError, match="characters long"):
            catalog.add(folder, "x", task=task, license=license_, note=note)
    made = catalog.add(folder, "x", task="t" * 200, license="l" * 200, note="n" * 10_000)
    assert made.note == "n" * 10_000


@pytest.mark.parametrize(
    ("metric", "value", "dataset"),
    [
        ("acc", float("nan"), "d"),
        ("acc", float("inf"), "d"),
        ("", 1.0, "d"),
        ("acc", 1.0, " "),
        ("a\0", 1.0, "d"),
    ],
)
def test_an_evaluation_is_a_finite_number_of_something(
    three: Registry, metric: str, value: float, dataset: str
) -> None:
    with pytest.raises(UsageError):
        three.add_evaluation("a", metric, value, dataset=dataset)
    assert three.evaluations("a") == ()


def test_every_change_leaves_an_event_in_its_own_transaction(three: Registry) -> None:
    before = len(events(three._database))
    three.set_alias("a", "prod", 1)
    three.set_alias("a", "prod", 2)
    three.delete_alias("a", "prod")
    three.set_tags("a@1", {"k": "v"})
    three.set_tags("a@1", {"k": "v"})
    three.delete_tags("a@1", ["k"])
    three.add_evaluation("a@1", "acc", 0.5, dataset="d")
    assert [event[1:] for event in events(three._database)[before:]] == [
        ("alias", "a", {"alias": "prod", "from": None, "to": 1}),
        ("alias", "a", {"alias": "prod", "from": 1, "to": 2}),
        ("alias", "a", {"alias": "prod", "from": 2, "to": None}),
        ("tag", "a@1", {"key": "k", "value": "v"}),
        ("tag", "a@1", {"key": "k", "value": None}),
        ("evaluate", "a@1", {"metric": "acc", "dataset": "d", "split": None, "value": 0.5, "previous": None}),
    ]


def test_a_change_that_fails_leaves_no_event(three: Registry) -> None:
    three.set_alias("a", "prod", 1)
    before = events(three._database)
    with pytest.raises(Conflict):
        three.set_alias("a", "prod", 2, expect=3)
    with pytest.raises(Conflict):
        three.delete("a@1")
    with pytest.raises(NotFound):
        three.delete_tags("a", ["nosuch"])
    with pytest.raises(UsageError):
        three.add_evaluation("a", "acc", float("nan"), dataset="d")
    assert events(three._database) == before


def test_a_protected_alias_moves_and_goes_only_for_those_who_know_where_it_points(three: Registry) -> None:
    assert three.set_alias("a", "prod", 1, protect=True).protected
    before = counts(three._database)
    with pytest.raises(Conflict, match="a@prod is protected: it moves") as caught:
        three.set_alias("a", "prod", 2)
    assert "--expect 1" in str(caught.value.hint)
    with pytest.raises(Conflict, match="a@prod is protected: it is deleted"):
        three.delete_alias("a", "PROD")
    assert counts(three._database) == before
    with pytest.raises(Conflict, match="points at 1, not at 3"):
        three.delete_alias("a", "prod", expect=3)
    assert three.set_alias("a", "prod", 1).moved is False  # nothing would change
    assert three.set_alias("a", "prod", 2, expect=1).protected
    assert three.delete_alias("a", "prod", expect=2).ref == "a@2"
    assert not three.set_alias("a", "prod", 1).protected


def test_protection_comes_and_goes_with_an_event_each(three: Registry) -> None:
    three.set_alias("a", "Prod", 1)
    assert three.protect_alias("a", "prod").protected
    assert three.protect_alias("a", "prod").protected
    assert not three.protect_alias("a", "PROD", protected=False).protected
    assert three.set_alias("a", "prod", 2).moved
    told = [
        (subject, detail) for _, action, subject, detail in events(three._database) if action == "protect"
    ]
    assert told == [("a", {"alias": "Prod", "protected": flag}) for flag in (True, False)]
    with pytest.raises(NotFound, match="no alias 'best'"):
        three.protect_alias("a", "best")


def test_a_note_is_written_replaced_and_removed_and_found(three: Registry) -> None:
    assert three.set_note("a@1", "first try").note == "first try"
    three.set_note("a@1", "second")
    three.set_note("a@1", "second")
    assert words_of(three) == {"second"}
    assert three.set_note("a@1", None).note is None
    assert words_of(three) == set()
    told = [detail for _, action, _, detail in events(three._database) if action == "note"]
    assert [(one["previous"], one["note"]) for one in told] == [
        (None, "first try"),
        ("first try", "second"),
        ("second", None),
    ]
    for bad in ("", "\x1b[31m", "x" * 20_000):
        with pytest.raises(UsageError):
            three.set_note("a", bad)


def test_words_follow_tags(three: Registry) -> None:
    three.set_tags("a@1", {"team": "Red Pandas", "x": "red"})
    assert words_of(three) == {"team", "red", "pandas", "x"}
    three.delete_tags("a@1", ["team"])
    assert words_of(three) == {"x", "red"}
    three.set_tags("a@1", {"x": "blue"})
    assert words_of(three) == {"x", "blue"}


def words_of(registry: Registry) -> set[str]:
    with registry._database.read() as session:
        return set(session.scalars(text("SELECT word FROM words")))


def test_events_are_listed_newest_first_and_by_what_they_are_about(three: Registry) -> None:
    three.set_alias("a", "prod", 2)
    three.set_tags("a@1", {"k": "v"})
    three.add_evaluation("b", "acc", 0.5, dataset="d")
    add(three._database, "a.b", "x")  # begins as "a" does, and is another adapter
    everything = three.events()
    assert [event.id for event in everything] == sorted((e.id for e in everything), reverse=True)
    assert [(e.action, e.subject) for e in three.events("A")] == [
        ("tag", "a@1"),
        ("alias", "a"),
        ("import", "a@3"),
        ("import", "a@2"),
        ("import", "a@1"),
    ]
    assert [e.action for e in three.events("a@1")] == ["tag", "import"]
    assert [e.subject for e in three.events(action="import", limit=2)] == ["a.b@1", "b@1"]
    assert [e.subject for e in three.events(action="import", limit=2, before=everything[4].id)] == [
        "a@3",
        "a@2",
    ]
    assert three.events("nosuch") == three.events(actor="nobody") == three.events(action="nothing") == ()
    assert {e.actor for e in three.events(actor="tester")} == {"tester"}


def test_events_are_found_by_time(three: Registry) -> None:
    first, *_, last = reversed(three.events())
    assert len(three.events(since=first.at)) == 4
    assert three.events(until=first.at) == ()
    assert last not in three.events(until=last.at)
    naive = last.at.replace(tzinfo=None)  # is taken for UTC
    assert last in three.events(since=naive)
    with pytest.raises(UsageError, match="a page of 0"):
        three.events(limit=0)


def test_evaluations_are_compared_along_lineage(three: Registry) -> None:
    add(three._database, "c", "c", parents=["a@1", "b"])
    add(three._database, "d", "d", parents=["c"])
    for ref, value in (("a@1", 0.5), ("c", 0.75), ("d", 0.7)):
        three.add_evaluation(ref, "acc", value, dataset="imdb")
    three.add_evaluation("b", "toxicity", 0.1, dataset="rtp", split="test")
    near = three.compare_evaluations("c")
    assert (near.ref, near.others) == ("c@1", ("a@1", "b@1"))
    assert [(row.metric, row.dataset, row.split, row.value, row.others) for row in near.rows] == [
        ("acc", "imdb", None, 0.75, {"a@1": 0.5, "b@1": None}),
        ("toxicity", "rtp", "test", None, {"a@1": None, "b@1": 0.1}),
    ]
    assert three.compare_evaluations("d").others == ("c@1",)
    assert three.compare_evaluations("d", depth=2).others == ("c@1", "a@1", "b@1")
    assert three.compare_evaluations("b").others == ()
    with pytest.raises(UsageError, match="compares with nothing"):
        three.compare_evaluations("d", depth=0)
    asked = []
    for depth in (1, 2):
        with statements(three._database) as seen:
            three.compare_evaluations("d", depth=depth)
        asked.append(len(seen))
    assert asked[0] == asked[1]
