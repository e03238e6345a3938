"""Importing what another registry published: its recipe and lineage come along, and nothing is believed."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.catalog import versions
from registry.errors import IntegrityFailure, NotFound, NotHeld, Refused
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora
from tests.models import tiny_llama
from tests.verbs.places import state

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("hub"),
]

REPO = "team/detox"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def theirs(sqlite_template: Path, tmp_path: Path) -> Iterator[Registry]:
    """Another team's catalog: ``deeper`` of ``detox`` of ``alpaca`` and ``toxic``."""
    home = tmp_path / "theirs"
    home.mkdir()
    (home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}", actor="somebody") as opened:
        hubs.stock(opened, tmp_path / "made")
        opened.compose("deeper", "detox + 0.25*toxic", task="safety")
        yield opened


def test_a_composition_comes_with_its_recipe_and_all_its_ancestors(
    catalog: Registry, theirs: Registry
) -> None:
    toxic = theirs.publish("toxic", "team/toxic")
    there = theirs.show("deeper")
    done = theirs.publish("deeper", REPO)
    made = catalog.add(f"hf://{REPO}", "imported")
    place = f"hf://{REPO}@{done.commit}"
    assert made.created
    assert made.warnings == ()
    assert made.recipe is not None
    assert there.recipe is not None
    assert made.recipe.digest == there.recipe.digest
    assert made.recipe.expression == "detox + 0.25*toxic"
    assert made.recipe.resolved == "detox@1 + 0.25*toxic@1"
    assert (made.source, made.source_revision, made.origin) == (place, "main", f"{place}#deeper@1")
    assert (made.task, made.held) == ("safety", True)
    assert [(each.ref, each.coefficient) for each in made.parents] == [("detox@1", "1"), ("toxic@1", "0.25")]
    assert [each.digest for each in made.parents] == [each.digest for each in there.parents]
    for name in ("detox", "toxic", "alpaca"):
        ours, own = catalog.show(name), theirs.show(name)
        assert not ours.held
        assert ours.origin == f"{place}#{name}@1"
        same = ("digest", "kind", "rank", "parameters", "modules", "dtype", "size", "base_model", "license")
        assert {field: getattr(ours, field) for field in same} == {
            field: getattr(own, field) for field in same
        }
        assert ours.created_by == "tester"
    assert catalog.show("toxic").source == f"hf://team/toxic@{toxic.commit}"
    assert catalog.show("alpaca").source is None
    known = {node.ref for node in catalog.lineage("imported").nodes}
    assert known == {"imported@1", "detox@1", "toxic@1", "alpaca@1"}


def test_importing_again_changes_nothing(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("deeper", REPO)
    first = catalog.add(f"hf://{REPO}", "imported")
    before = state(catalog)
    again = catalog.add(f"hf://{REPO}", "imported")
    assert not again.created
    assert again.ref == first.ref
    assert state(catalog) == before


def test_another_import_from_there_finds_what_is_known(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    theirs.publish("deeper", "team/deeper")
    catalog.add(f"hf://{REPO}", "one")
    made = catalog.add("hf://team/deeper", "two")
    assert [each.ref for each in made.parents] == ["one@1", "toxic@1"]
    assert made.recipe is not None
    assert made.recipe.resolved == "one@1 + 0.25*toxic@1"
    assert {each.name for each in catalog.list().versions} == {"one", "two", "alpaca", "toxic"}


def test_what_is_held_here_is_the_parent(catalog: Registry, theirs: Registry, tmp_path: Path) -> None:
    catalog.add(tmp_path / "made" / "toxic", "poison", base="tiny/base")
    catalog.add(make_lora(tmp_path / "other", seed=9), "alpaca", base="tiny/base")
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "imported")
    assert [each.ref for each in made.parents] == ["team/alpaca@1", "poison@1"]
    assert made.recipe is not None
    assert made.recipe.resolved == "team/alpaca@1 - 0.4*poison@1"
    assert catalog.show("poison").held
    assert catalog.show("alpaca").held
    assert not catalog.show("team/alpaca").held


def test_a_name_is_never_taken_over_by_what_is_only_known(
    catalog: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    theirs.add(make_lora(tmp_path / "newer", seed=7), "alpaca", base="tiny/base")
    theirs.compose("detox", "alpaca - 0.4*toxic")
    theirs.publish("detox", "team/newer")
    catalog.add(f"hf://{REPO}", "imported")
    catalog.add("hf://team/newer", "imported")
    assert [each.ref for each in catalog.log("alpaca")] == ["alpaca@2", "alpaca@1"]  # both known from them
    catalog.add(make_lora(tmp_path / "own", seed=11), "toxic", base="tiny/base")
    theirs.add(make_lora(tmp_path / "newest", seed=8), "toxic", base="tiny/base")
    theirs.compose("detox", "alpaca - 0.4*toxic")
    theirs.publish("detox", "team/newest")
    made = catalog.add("hf://team/newest", "imported")
    assert [each.ref for each in made.parents] == ["alpaca@2", "team/toxic@1"]
    assert catalog.show("toxic").held
    assert catalog.show("toxic").ref == "toxic@2"


def test_the_line_of_the_import_itself_is_left_alone(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "alpaca", new=True)
    assert made.ref == "alpaca@1"
    assert [each.ref for each in made.parents] == ["team/alpaca@1", "toxic@1"]


def test_without_provenance_it_is_a_plain_import(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "imported", provenance=False)
    assert (made.recipe, made.parents, made.origin, made.warnings) == (None, (), None, ())
    assert len(catalog.list().versions) == 1


def test_a_commit_that_was_given_is_not_a_branch(catalog: Registry, theirs: Registry) -> None:
    done = theirs.publish("toxic", "team/toxic")
    made = catalog.add(f"hf://team/toxic@{done.commit}", "toxic")
    assert made.source == f"hf://team/toxic@{done.commit}"
    assert made.source_revision is None
    assert made.recipe is None
    assert made.origin == f"hf://team/toxic@{done.commit}#toxic@1"


def test_composing_the_same_recipe_computes_it(catalog: Registry, theirs: Registry, tmp_path: Path) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    for name in ("alpaca", "toxic"):
        catalog.add(tmp_path / "made" / name, name, base="tiny/base")
        assert catalog.show(name).held
        assert catalog.show(name).ref == f"{name}@1"
    made = catalog.compose("imported", "alpaca - 0.4*toxic")
    assert not made.cached
    assert (made.ref, made.created) == ("imported@1", False)  # it gave what was claimed
    again = catalog.compose("mine", "alpaca - 0.4*toxic")
    assert again.cached


NEEDING: dict[str, Callable[[Registry, Path], Any]] = {
    "compose": lambda catalog, _: catalog.compose("x", "alpaca + imported"),
    "check": lambda catalog, _: catalog.check("alpaca + imported"),
    "materialize": lambda catalog, _: catalog.materialize("alpaca"),
    "model": lambda catalog, _: catalog.materialize("alpaca", into="model", base_path="nowhere"),
    "checkout": lambda catalog, path: catalog.checkout("alpaca", path / "out"),
    "publish": lambda catalog, _: catalog.publish("alpaca", "team/again"),
    "diff": lambda catalog, _: catalog.diff("imported", "alpaca"),
    "explain": lambda catalog, _: catalog.explain("alpaca"),
}


@pytest.mark.parametrize("verb", NEEDING)
def test_whatever_needs_bytes_says_where_they_are(
    verb: str, local: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    local.add(f"hf://{REPO}", "imported")
    before = state(local)
    with pytest.raises(NotHeld) as caught:
        NEEDING[verb](local, tmp_path)
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith("alpaca@1 is known only from hf://team/detox@")
    assert caught.value.hint == "get it: registry fetch alpaca@1"
    assert state(local) == before


def test_a_revoked_ancestor_affects_what_was_imported(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    assert catalog.revoke("toxic", "it leaks").affected == ("imported@1",)
    with pytest.raises(Refused, match="it leaks"):
        catalog.publish("imported", "team/again")


def test_content_that_was_revoked_here_is_so_under_any_name(
    catalog: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    catalog.add(tmp_path / "made" / "toxic", "first", base="tiny/base")
    catalog.add(tmp_path / "made" / "toxic", "second", base="tiny/base")
    catalog.revoke("second", "it leaks")
    made = catalog.add(f"hf://{REPO}", "imported")
    assert {each.ref for each in made.parents} == {"alpaca@1", "second@1"}
    assert "it leaks" in made.warnings[0]
    with pytest.raises(Refused, match="it leaks"):
        catalog.publish("imported", "team/again")


def test_content_that_was_revoked_and_deleted_here_is_told(
    catalog: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    catalog.add(tmp_path / "made" / "toxic", "poison", base="tiny/base")
    catalog.revoke("poison", "it leaks")
    catalog.delete("poison")
    made = catalog.add(f"hf://{REPO}", "imported")
    assert made.warnings == ("toxic@1: this is the content of poison@1, which was revoked: it leaks",)


def test_what_is_imported_is_published_with_the_whole_lineage(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    catalog.publish("imported", "team/again")
    made = json.loads(hub.files("team/again")["provenance.json"])["predicate"]["buildDefinition"]
    told = {each["ref"]: each for each in made["internalParameters"]["upstream"]["versions"]}
    assert set(told) == {"imported@1", "detox@1", "toxic@1", "alpaca@1"}
    assert told["detox@1"]["recipe"]["expression"] == "alpaca - 0.4*toxic"


def test_a_bundle_carries_what_is_only_known(
    catalog: Registry, theirs: Registry, sqlite_template: Path, tmp_path: Path
) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    catalog.export(tmp_path / "all.tar")
    home = tmp_path / "third"
    home.mkdir()
    (home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}", actor="third") as third:
        third.import_bundle(tmp_path / "all.tar")
        for name in ("imported", "alpaca", "detox"):
            assert third.show(name) == catalog.show(name)
    assert catalog.gc(apply=True).blobs == ()


def test_what_is_known_is_fetched_from_where_it_was_published(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    done = theirs.publish("toxic", "team/toxic")
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    (fetched,) = catalog.fetch(["toxic"])
    assert (fetched.ref, fetched.source, fetched.changed) == (
        "toxic@1",
        f"hf://team/toxic@{done.commit}",
        True,
    )
    assert catalog.show("toxic").held
    assert catalog.events(action="fetch")[0].subject == "toxic@1"
    asked = len(hub.requests)
    (again,) = catalog.fetch(["toxic"])
    assert not again.changed
    assert len(hub.requests) == asked
    assert all(each.ok for each in catalog.verify())
    catalog.materialize("toxic")


def test_what_is_published_nowhere_is_made_by_its_recipe(
    catalog: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    with pytest.raises(
        NotFound, match="detox@1 is published nowhere, and its recipe needs alpaca@1, toxic@1"
    ):
        catalog.fetch(["detox"])
    with pytest.raises(NotFound, match="it is not known where the bytes of alpaca@1 can be had"):
        catalog.fetch(["alpaca"])
    for name in ("alpaca", "toxic"):
        catalog.add(tmp_path / "made" / name, name, base="tiny/base")
    (fetched,) = catalog.fetch(["detox"])
    assert (fetched.source, fetched.changed) == ("its recipe", True)
    assert catalog.show("detox").held
    assert catalog.compose("mine", "alpaca - 0.4*toxic").cached
    (checked,) = catalog.verify(["imported"], rebuild=True)
    assert (checked.ok, checked.rebuilt) == (True, checked.digest)


def test_other_bytes_than_those_told_of_are_refused(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("toxic", "team/toxic")
    theirs.publish("detox", REPO)
    other = hubs.push(
        hub,
        "team/toxic",
        {
            name: (make_lora(tmp_path / "x", seed=5) / name).read_bytes()
            for name in ("adapter_config.json", "adapter_model.safetensors")
        },
    )
    content = rewrite(hub, lambda text: re.sub(r"hf://team/toxic@\w+", f"hf://team/toxic@{other}", text))
    hubs.push(hub, REPO, {"provenance.json": content})
    catalog.add(f"hf://{REPO}", "imported")
    before = state(catalog)
    with pytest.raises(IntegrityFailure, match=r"not sha256:.*, which toxic@1 is told to be"):
        catalog.fetch(["toxic"])
    assert state(catalog) == before


def test_what_is_not_held_is_no_failure(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    checked = {each.ref: each for each in catalog.verify(rebuild=True)}
    assert all(each.ok for each in checked.values())
    assert checked["alpaca@1"].notes[0].startswith("not held: it is known only from hf://team/detox@")
    assert checked["imported@1"].notes[0].startswith("not rebuilt: ")


def rewrite(hub: HubServer, change: Callable[[str], str], repo: str = REPO) -> bytes:
    """The provenance of a repo as somebody else would have it."""
    return change(hub.files(repo)["provenance.json"].decode()).encode()


def changed(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Callable[[str], str]:
    """A change of a statement: of its definition of the build, and of the versions in it by name."""

    def apply(text: str) -> str:
        statement = json.loads(text)
        made = statement["predicate"]["buildDefinition"]
        versions = made["internalParameters"]["upstream"]["versions"]
        change(made, {each["ref"].partition("@")[0]: each for each in versions})
        return json.dumps(statement)

    return apply


def _lie(made: dict[str, Any], name: str) -> None:
    """Another digest of an input, wherever it is told."""
    text = json.dumps(made)
    versions = made["internalParameters"]["upstream"]["versions"]
    digest = next(each["digest"] for each in versions if each["ref"].startswith(name))
    made.clear()
    made.update(json.loads(text.replace(digest.removeprefix("sha256:"), "e" * 64)))


def _deep(depth: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"adapter": "sha256:" + "1" * 64}
    for _ in range(depth):
        nested = {"sum": [["1", nested]]}
    return nested


HOSTILE: dict[str, tuple[Callable[[str], str], str]] = {
    "no JSON": (lambda _: "{", "not a provenance statement"),
    "nested too deep to parse": (lambda _: "[" * 200_000, "not a provenance statement"),
    "of something else": (lambda text: text.replace("urn:adapter-registry:build", "urn:x"), "something else"),
    "other files": (lambda text: re.sub(r'("sha256": ")[0-9a-f]{64}(?=[^}]*}\s*,\s*"name": "adapter)', r"\g<1>" + "0" * 64, text), "not about the"),
    "a reference with an escape": (changed(lambda _, v: v["toxic"].update(ref="to\x1b[31mxic@1")), "NAME@NUMBER"),
    "a task with a control character": (changed(lambda _, v: v["toxic"].update(task="a\x9bb")), "control characters"),
    "a number that is text": (changed(lambda _, v: v["toxic"].update(parameters="12")), "integer"),
    "a huge number": (changed(lambda _, v: v["toxic"].update(size=2**70)), "less than or equal"),
    "no list of versions": (changed(lambda m, _: m["internalParameters"]["upstream"].update(versions=7)), "tuple"),
    "too many versions": (
        changed(lambda m, v: m["internalParameters"]["upstream"].update(
            versions=[{**v["toxic"], "ref": f"a@{number}"} for number in range(1, 5_000)])),
        "at most 2000",
    ),
    "a cycle": (
        changed(lambda _, v: v["toxic"].update(
            parents=[{"ref": "deeper@1", "digest": v["deeper"]["digest"], "relation": "declared", "coefficient": None}])),
        "cycle",
    ),
    "a version twice": (
        changed(lambda m, v: m["internalParameters"]["upstream"]["versions"].append(v["toxic"])), "twice"
    ),
    "a parent that is not told of": (
        changed(lambda m, _: m["internalParameters"]["upstream"]["versions"].pop()), "tells nothing of"
    ),
    "another recipe than its digest": (
        changed(lambda m, _: m["externalParameters"]["recipe"]["canonical"].update(seed=9)), "not the one of its digest"
    ),
    "a deep recipe": (
        changed(lambda m, _: m["externalParameters"]["recipe"]["canonical"].update(expression=_deep(200))),
        "deeper than any sensible",
    ),
    "a coefficient that would fill the memory": (
        changed(lambda m, _: m["externalParameters"]["recipe"]["canonical"].update(
            expression={"sum": [["1e999999999", {"adapter": "sha256:" + "1" * 64}]]})),
        "larger or deeper",
    ),
    "inputs that are not the recipe's": (
        changed(lambda m, _: m["resolvedDependencies"].pop(0)), "not the inputs of its recipe"
    ),
    "a lying digest of an input": (
        changed(lambda _, v: v["toxic"].update(digest="sha256:" + "e" * 64)), "two contents"
    ),
    "another base model": (
        changed(lambda _, v: [each["base"].update(repo="org/other") for each in v.values()]), "another base model"
    ),
    "inputs on another base model": (
        changed(lambda _, v: v["toxic"]["base"].update(repo="org/other")), "different base models"
    ),
    "a base model that is a path": (
        changed(lambda _, v: [v[name]["base"].update(repo="/etc/passwd", fingerprint=v["deeper"]["base"]["fingerprint"])
                              for name in ("toxic", "detox", "alpaca")]), "different base models"
    ),
    "an unknown kind": (changed(lambda _, v: v["toxic"].update(kind="magic")), "not known here"),
    "an expression that is none": (
        changed(lambda _, v: v["detox"]["recipe"].update(expression="alpaca - - (")), "detox@1:"
    ),
    "its own digest": (changed(lambda m, _: m["externalParameters"]["adapter"].update(digest="sha256:" + "0" * 64)), "tells of the content"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_provenance_that_cannot_be_relied_on_is_left_aside(
    what: str, local: Registry, theirs: Registry, hub: HubServer
) -> None:
    change, reason = HOSTILE[what]
    theirs.publish("deeper", REPO)
    content = rewrite(hub, change)
    assert content != hub.files(REPO)["provenance.json"]
    hubs.push(hub, REPO, {"provenance.json": content})
    made = local.add(f"hf://{REPO}", "imported")
    (warning,) = made.warnings
    assert warning.startswith("provenance.json of team/detox is left aside: ")
    assert reason in warning
    assert warning.isprintable()
    assert len(warning) < 500
    assert (made.recipe, made.parents, made.origin) == (None, (), None)
    assert made.digest == theirs.show("deeper").digest
    assert [each.ref for each in local.list().versions] == ["imported@1"]


def test_a_lie_about_an_ancestor_ends_when_its_bytes_come(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    content = rewrite(hub, changed(lambda _, v: v["toxic"].update(rank=77, parameters=1, size=5)))
    hubs.push(hub, REPO, {"provenance.json": content})
    catalog.add(f"hf://{REPO}", "imported")
    assert catalog.show("toxic").rank == 77
    catalog.add_all(tmp_path / "made", base="tiny/base")
    for name in ("toxic", "alpaca"):
        shown, own = catalog.show(f"{name}@1"), theirs.show(name)
        assert shown.held
        assert (shown.rank, shown.parameters, shown.size) == (own.rank, own.parameters, own.size)


def test_a_recipe_that_was_made_up_poisons_nothing(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    """The published content is not what its recipe gives: composing the recipe gives what it gives."""
    theirs.publish("detox", REPO)
    theirs.add(make_lora(tmp_path / "evil", seed=66), "evil", base="tiny/base")
    theirs.publish("evil", "team/evil")
    evil, honest = theirs.show("evil").digest, theirs.show("detox").digest
    files = hub.files("team/evil")
    statement = json.loads(hub.files(REPO)["provenance.json"].decode().replace(honest[7:], evil[7:]))
    statement["subject"] = json.loads(files["provenance.json"])["subject"]
    config = {name: content for name, content in files.items() if name.startswith("adapter_")}
    hubs.push(hub, REPO, {**config, "provenance.json": json.dumps(statement).encode()})
    made = catalog.add(f"hf://{REPO}", "imported")
    assert made.warnings == ()
    assert made.recipe is not None
    for name in ("alpaca", "toxic"):
        catalog.add(tmp_path / "made" / name, name, base="tiny/base")
    composed = catalog.compose("imported", "alpaca - 0.4*toxic")
    assert (composed.ref, composed.created, composed.cached) == ("imported@2", True, False)
    assert composed.digest == honest
    (checked,) = catalog.verify(["imported@1"], rebuild=True)
    assert not checked.ok
    assert checked.rebuilt == honest
    (there,) = catalog.verify([f"hf://{REPO}"], rebuild=True)
    assert not there.ok
    assert there.rebuilt == honest


def _importer(home: str, url: str, names: list[str], start: Any) -> None:
    start.wait()
    with Registry.open(home, database_url=url, actor="one of many") as opened:
        for name in names:
            opened.add(f"hf://{REPO}", name)


def test_imports_at_once_know_each_ancestor_once(
    catalog: Registry, theirs: Registry, database_url: str, tmp_path: Path
) -> None:
    theirs.publish("deeper", REPO)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        start = manager.Event()
        names = [["a", "b"], ["b", "a"], ["a", "c"]]
        args = [(str(tmp_path / "home"), database_url, each, start) for each in names]
        running = [context.Process(target=_importer, args=each) for each in args]
        for process in running:
            process.start()
        start.set()
        for process in running:
            process.join(240)
    assert [process.exitcode for process in running] == [0, 0, 0]
    found = {each.ref: each for each in catalog.list(latest=False).versions}
    assert set(found) == {"a@1", "b@1", "c@1", "detox@1", "toxic@1", "alpaca@1"}
    for name in "abc":
        assert [each.ref for each in found[f"{name}@1"].parents] == ["detox@1", "toxic@1"]


def test_an_import_that_fails_late_leaves_nothing(
    catalog: Registry, theirs: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs.publish("deeper", REPO)
    before = state(catalog)["rows"]
    real = versions.write

    def dying(session: Any, draft: Any) -> Any:
        if draft.name == "imported":
            raise KeyboardInterrupt
        return real(session, draft)

    with monkeypatch.context() as patch:
        patch.setattr(versions, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            catalog.add(f"hf://{REPO}", "imported")
    assert state(catalog)["rows"] == before
    assert catalog.add(f"hf://{REPO}", "imported").ref == "imported@1"


def test_a_lineage_that_was_cut_is_imported_as_far_as_it_goes(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("deeper", REPO)

    def cut(made: dict[str, Any], told: dict[str, Any]) -> None:
        upstream = made["internalParameters"]["upstream"]
        upstream.update(truncated=True, versions=[told["deeper"], told["detox"], told["toxic"]])

    hubs.push(hub, REPO, {"provenance.json": rewrite(hub, changed(cut))})
    made = catalog.add(f"hf://{REPO}", "imported")
    assert "ends early here" in made.warnings[0]
    assert [each.ref for each in catalog.show("detox").parents] == ["toxic@1"]


def test_no_license_is_claimed_where_a_lineage_was_cut(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("deeper", REPO)

    def cut(made: dict[str, Any], told: dict[str, Any]) -> None:
        upstream = made["internalParameters"]["upstream"]
        for each in told.values():
            each["license"] = None if each["recipe"] else "mit"
        upstream.update(truncated=True, versions=[told["deeper"], told["detox"], told["toxic"]])

    hubs.push(hub, REPO, {"provenance.json": rewrite(hub, changed(cut))})
    catalog.add(f"hf://{REPO}", "imported")
    catalog.set_base_license("tiny/base", "mit")
    made = catalog.card("imported", "team/again")
    assert made.license is None
    assert "the license of an input of detox" in made.text.replace("\\", "")


def test_two_contents_that_are_one_version_here_are_one_edge(
    catalog: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.add(tmp_path / "made" / "toxic", "copy", base="tiny/base")
    theirs.compose("mix", "alpaca - 0.4*toxic - 0.2*copy")
    theirs.publish("mix", REPO)
    made = catalog.add(f"hf://{REPO}", "imported")
    assert {(each.ref, each.coefficient) for each in made.parents} in (
        {("alpaca@1", "1"), ("toxic@1", "-0.4"), ("copy@1", "-0.2")},
        {("alpaca@1", "1"), ("toxic@1", "-0.6")},
    )


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_it_is_the_same_in_both_ways_of_the_hub(
    xet: bool, local: Registry, theirs: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path / "again", monkeypatch, xet=xet):
        theirs.publish("alpaca", "team/alpaca")
        theirs.publish("toxic", "team/toxic")
        theirs.publish("deeper", REPO)
        local.add(f"hf://{REPO}", "imported")
        assert [each.changed for each in local.fetch(["toxic", "alpaca", "detox"])] == [True, True, True]
        assert all(each.ok for each in local.verify(rebuild=True))
        assert all(each.rebuilt == each.digest for each in local.verify(["imported", "detox"], rebuild=True))


def test_a_provenance_of_enormous_size_is_not_read(local: Registry, theirs: Registry, hub: HubServer) -> None:
    theirs.publish("detox", REPO)
    hubs.push(hub, REPO, {"provenance.json": b"[" + b" " * (16 << 20) + b"]"})
    made = local.add(f"hf://{REPO}", "imported")
    assert "bytes, more than" in made.warnings[0]
    hubs.push(
        hub, REPO, {"provenance.json": rewrite(hub, lambda _: json.dumps({"predicate": [[]] * 100_000}))}
    )
    assert "not a provenance statement" in local.add(f"hf://{REPO}", "other").warnings[0]


def test_a_release_that_tells_of_no_lineage_is_a_plain_import(
    local: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("detox", REPO)
    for change in (
        changed(lambda made, _: made["internalParameters"].pop("upstream")),
        changed(lambda made, _: made["internalParameters"]["upstream"].update(format=2)),
    ):
        hubs.push(hub, REPO, {"provenance.json": rewrite(hub, change)})
        made = local.add(f"hf://{REPO}", "imported")
        assert made.recipe is None
        assert "does not tell of the lineage" in made.warnings[0]
        local.delete("imported")
        theirs.add_evaluation("detox", "m", 1.0, dataset=str(change))
        theirs.publish("detox", REPO)


def test_a_rule_for_whatever_fits_leaves_out_what_is_not_held(catalog: Registry, theirs: Registry) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    catalog.add_rule("kind = 'lora'", "team/ours-{name}")
    assert {(each.ref, each.outcome) for each in catalog.sync().results} == {("imported@1", "published")}
    catalog.set_alias("toxic", "prod", 1)
    catalog.add_rule("kind = 'lora'", "team/chosen-{name}", alias="prod")
    blocked = {each.ref: each.hint for each in catalog.sync().results if each.outcome == "blocked"}
    assert blocked == {"toxic@1": "get it: registry fetch toxic@1"}


def test_a_folder_for_serving_leaves_out_what_is_not_held(
    local: Registry, theirs: Registry, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    local.add(f"hf://{REPO}", "imported")
    for name in ("imported", "alpaca"):
        local.set_alias(name, "prod", 1)
    synced = {each.name: each for each in local.sync_dir(tmp_path / "serve", "prod").adapters}
    assert synced["imported"].outcome == "added"
    assert (synced["alpaca"].outcome, synced["alpaca"].code) == ("failed", "NOT_HELD")


def test_an_imported_composition_is_merged_without_its_inputs(
    local: Registry, theirs: Registry, tmp_path: Path
) -> None:
    """Its recipe is somebody's word; its own content is at hand, and is what is merged."""
    base = tiny_llama(tmp_path / "base")
    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    for seed, name in enumerate(("a", "b")):
        theirs.add(make_lora(tmp_path / name, modules=modules, seed=seed), name, base="team/llama")
    made = theirs.compose("sum", "a + b")
    theirs.publish("sum", "team/sum")
    local.add("hf://team/sum", "sum")
    merged = local.materialize("sum", into="model", base_path=base)
    assert made.recipe is not None
    assert merged.recipe_digest != made.recipe.digest
    theirs.add(tmp_path / "a", "plain", base="team/llama")
    theirs.checkout("sum", tmp_path / "sum")
    theirs.add(tmp_path / "sum", "plain-sum", base="team/llama")
    assert theirs.materialize("plain-sum", into="model", base_path=base).digest == merged.digest


def test_a_rule_waits_for_what_is_not_held(catalog: Registry, theirs: Registry, hub: HubServer) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    for name in ("alpaca", "toxic", "imported"):
        catalog.add_rule(name, "team/our-{name}")
    before = len(hub.requests)
    report = catalog.sync(dry_run=True)
    assert {each.ref: (each.outcome, each.code) for each in report.results} == {
        "alpaca@1": ("blocked", "NOT_HELD"),
        "toxic@1": ("blocked", "NOT_HELD"),
        "imported@1": ("planned", None),
    }
    assert "registry fetch" in (report.results[0].hint or "")
    report = catalog.sync()
    assert (report.counts, report.pending) == ({"blocked": 2, "published": 1}, False)
    assert not any("our-alpaca" in str(each) for each in hub.requests[before:])
