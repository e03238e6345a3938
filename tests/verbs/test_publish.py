"""Publishing through the real client to a local Hub."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from registry import Registry, _remembered, _shards
from registry.errors import Conflict
from registry.publishers import hub as publisher
from registry.publishers import planned
from registry.testing.hub import HubServer
from registry.verbs import publish as verb
from tests import hubs
from tests.adapters import make_lora
from tests.models import tiny_llama

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"
FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "provenance.json"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(local: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(local, tmp_path)


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_release_is_one_commit_that_holds_what_is_recorded(
    xet: bool, catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        done = catalog.publish("detox", REPO)
        commits, files = hub.commits(REPO), hub.files(REPO)
        assert len(commits) == 2  # the repo's own first one, and ours
        assert (done.state, done.created, done.commit) == ("done", True, commits[0].oid)
        assert done.url == f"{hub.url}/{REPO}/commit/{commits[0].oid}"
        assert commits[0].title == "Publish detox@1"
        assert set(files) == FILES | {".gitattributes"}
        assert done.files == {path: sha256(files[path]) for path in FILES}
        assert hubs.api(hub).model_info(REPO).private
        assert hubs.rows(catalog) == [done]
        assert catalog.show("detox").publications == (done,)
        again = catalog.add(f"hf://{REPO}", "copy")
        assert again.digest == catalog.show("detox").digest
        assert again.source == f"hf://{REPO}@{commits[0].oid}"


def test_the_same_content_makes_no_second_commit(stocked: Registry, hub: HubServer) -> None:
    first = stocked.publish("detox", REPO)
    before = len(hubs.writes(hub))
    again = stocked.publish("detox", REPO)
    assert again == first.model_copy(update={"created": False})
    assert len(hubs.writes(hub)) == before
    assert hubs.rows(stocked) == [first]


def test_changed_content_makes_exactly_one_more(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.add_evaluation("detox", "toxicity", 0.125, dataset="civil_comments", split="test")
    changed = stocked.publish("detox", REPO)
    assert len(hub.commits(REPO)) == 3
    stocked.compose("detox", "alpaca - 0.5*toxic")
    stocked.publish("detox", REPO, message="Take more of it away")
    assert hub.commits(REPO)[0].title == "Take more of it away"
    assert changed.files["README.md"] != hubs.rows(stocked)[0].files["README.md"]
    card = yaml.safe_load(hub.files(REPO)["README.md"].split(b"---")[1])
    assert "model-index" not in card  # the new version was not evaluated


def test_an_imported_adapter_is_published_as_it_is(stocked: Registry, hub: HubServer, tmp_path: Path) -> None:
    stocked.publish("toxic", "team/toxic")
    files = hub.files("team/toxic")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert files[name] == (tmp_path / "toxic" / name).read_bytes()


def test_a_path_in_the_config_stays_at_home(local: Registry, hub: HubServer, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a", base="/home/ann/models/llama", infix=".default", prefix="")
    local.add(folder, "named", base="org/llama")
    local.publish("named", "team/named")
    config = json.loads(hub.files("team/named")["adapter_config.json"])
    assert config["base_model_name_or_path"] == "org/llama"
    local.add(folder, "unnamed")
    local.publish("unnamed", "team/unnamed")
    files = hub.files("team/unnamed")
    assert not any(b"/home/ann" in content for content in files.values())
    assert local.add("hf://team/named", "back").digest == local.show("named").digest


def test_a_link_goes_to_the_parents_that_are_published(stocked: Registry, hub: HubServer) -> None:
    toxic = stocked.publish("toxic", "team/toxic")
    stocked.publish("detox", REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert f"[`team/toxic@{str(toxic.commit)[:12]}`](<{toxic.url}>)" in card
    assert f"registry add hf://team/toxic@{toxic.commit} toxic" in card
    assert "# add alpaca@1, with the content sha256:" in card


def test_provenance_tells_of_what_is_there(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    files = hub.files(REPO)
    statement = json.loads(files["provenance.json"])
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert subjects == {
        path: hashlib.sha256(files[path]).hexdigest()
        for path in ("adapter_config.json", "adapter_model.safetensors")
    }
    made = statement["predicate"]["buildDefinition"]
    assert made["externalParameters"]["expression"] == "alpaca - 0.4*toxic"
    assert made["internalParameters"]["device"] == "cpu"
    version = stocked.show("detox")
    assert version.recipe is not None
    assert made["externalParameters"]["recipe"]["digest"] == version.recipe.digest
    names = [each["name"] for each in made["resolvedDependencies"]]
    assert names == ["alpaca@1", "toxic@1", "base model"]
    assert "torch" in statement["predicate"]["runDetails"]["builder"]["version"]


def test_a_merged_model_is_published_with_its_base_from_the_hub(
    local: Registry, hub: HubServer, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base", shards=2)
    hubs.api(hub).create_repo("team/base")
    sha = hubs.push(hub, "team/base", {path.name: path.read_bytes() for path in base.iterdir()})
    modules = {f"model.layers.{layer}.self_attn.q_proj": (32, 32) for layer in (0, 1)}
    for seed, name in enumerate(("a", "b")):
        local.add(make_lora(tmp_path / name, modules=modules, seed=seed), name, base=f"team/base@{sha}")
    local.compose("sum", "a + 0.5*b")
    done = local.publish("sum", "team/sum", into="model")
    files = hub.files("team/sum")
    assert set(files) == {path.name for path in base.iterdir()} | {*FILES, ".gitattributes"} - {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    card = yaml.safe_load(files["README.md"].split(b"---")[1])
    assert (card["base_model"], card["base_model_relation"]) == ("team/base", "merge")
    made = json.loads(files["provenance.json"])["predicate"]["buildDefinition"]
    assert made["internalParameters"]["device"]
    assert made["resolvedDependencies"][-1]["uri"] == f"hf://team/base@{sha}"
    assert made["resolvedDependencies"][-1]["digest"]["sha256"]
    assert done.files.keys() == files.keys() - {".gitattributes"}
    assert not local.publish("sum", "team/sum", into="model").created
    assert len(hub.commits("team/sum")) == 2


def test_a_base_that_was_seen_before_is_not_read_again_to_publish_on_it(
    local: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.api(hub).create_repo("team/base")
    base = tiny_llama(tmp_path / "base")
    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    local.add(make_lora(tmp_path / "a", modules=modules), "a", base="team/base")
    monkeypatch.setattr(_remembered, "SETTLED_NS", -(10**12))
    local.publish("a", "team/first", into="model", base_path=base)
    local.compose("b", "2*a")
    real = _shards.read_chunks

    def small(path: Path) -> Iterator[memoryview]:
        assert path.suffix != ".safetensors"
        return real(path)

    monkeypatch.setattr(_shards, "read_chunks", small)
    assert local.publish("b", "team/second", into="model", base_path=base).created


def test_a_dry_run_sends_nothing(stocked: Registry, hub: HubServer) -> None:
    planned = stocked.publish("detox", REPO, dry_run=True)
    assert (planned.state, planned.commit, set(planned.files)) == ("planned", None, FILES)
    assert hub.requests == []
    assert hubs.rows(stocked) == []
    assert stocked.publish("detox", REPO).files == planned.files


def test_a_branch_is_made_where_it_is_missing(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO, revision="next/1")
    assert set(hub.files(REPO, "next/1")) >= FILES
    assert set(hub.files(REPO)) == {".gitattributes"}
    stocked.publish("detox", REPO)
    same = stocked.publish("detox", REPO, revision="other")
    assert (same.created, same.commit) == (False, hub.commits(REPO)[0].oid)
    assert [each.revision for each in hubs.rows(stocked, "done")] == ["next/1", "main", "other"]


def test_publishing_again_to_a_public_repo_needs_the_public_choice_again(
    stocked: Registry, hub: HubServer
) -> None:
    stocked.publish("detox", REPO, private=False)
    assert not hubs.api(hub).model_info(REPO).private
    stocked.compose("detox", "alpaca - 0.5*toxic")
    with pytest.raises(Conflict, match="is public, and publishing there again needs --public again"):
        stocked.publish("detox", REPO)
    assert len(hub.commits(REPO)) == 2
    assert stocked.publish("detox", REPO, private=False).created


@pytest.mark.parametrize("adopt", [False, True])
def test_a_public_repo_is_not_filled_unasked(adopt: bool, stocked: Registry, hub: HubServer) -> None:
    hubs.api(hub).create_repo(REPO)
    with pytest.raises(Conflict, match="is public") as refusal:
        stocked.publish("detox", REPO, adopt=adopt)
    assert "--public" in str(refusal.value.hint)
    assert stocked.publish("detox", REPO, private=False).created


def test_a_public_repo_that_another_registry_made_is_not_filled_unasked(
    stocked: Registry, hub: HubServer
) -> None:
    stocked.publish("detox", REPO, private=False)
    with stocked._database.write() as session:
        session.execute(text("DELETE FROM publications"))
    before = hub.commits(REPO)
    with pytest.raises(Conflict, match="exists and is public"):
        stocked.publish("toxic", REPO, adopt=True)
    assert hub.commits(REPO) == before


def test_a_repo_of_somebody_else_is_left_alone(stocked: Registry, hub: HubServer) -> None:
    hubs.api(hub).create_repo(REPO, private=True)
    hubs.push(hub, REPO, {"notes.txt": b"mine", "provenance.json": b'{"predicate": []}'})
    with pytest.raises(Conflict, match=r"not made by this registry: it holds notes.txt") as refusal:
        stocked.publish("detox", REPO)
    assert "--adopt" in str(refusal.value.hint)
    assert hubs.rows(stocked) == []
    stocked.publish("detox", REPO, adopt=True)
    assert hub.files(REPO)["notes.txt"] == b"mine"
    stocked.compose("detox", "alpaca - 0.5*toxic")
    stocked.publish("detox", REPO)  # it is known now


def test_a_repo_that_another_registry_made_is_taken_over_where_that_is_asked_for(
    stocked: Registry, hub: HubServer, tmp_path: Path, sqlite_template: Path
) -> None:
    stocked.publish("detox", REPO)
    other = tmp_path / "other"
    other.mkdir()
    (other / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(other) as theirs:
        assert theirs.add(f"hf://{REPO}", "detox", base="tiny/base").created
        with pytest.raises(Conflict, match="not made by this registry"):
            theirs.publish("detox", REPO)
        assert theirs.publish("detox", REPO, adopt=True).created  # an import has another card and provenance
        done = theirs.publish("detox", REPO)
        assert not done.created
        assert len(hubs.rows(theirs)) == 1
    assert len(hub.commits(REPO)) == 3


def test_what_is_there_already_is_recorded_once(stocked: Registry, hub: HubServer) -> None:
    first = stocked.publish("detox", REPO)
    with stocked._database.write() as session:
        session.execute(text("DELETE FROM publications"))
    with pytest.raises(Conflict, match="not made by this registry"):
        stocked.publish("detox", REPO)
    found = stocked.publish("detox", REPO, adopt=True)
    assert (found.created, found.commit, found.state) == (False, first.commit, "done")
    stocked.publish("detox", REPO)
    assert len(hubs.rows(stocked)) == 1
    assert len(hub.commits(REPO)) == 2


def test_files_of_the_last_release_go_and_those_of_others_stay(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.plan

    def with_shards(release: Any, built: Any, repo: str) -> Any:
        shard = planned("model-00001-of-00001.safetensors", b"\x02\0\0\0\0\0\0\0{}")
        return real(release, {**built, shard.path: shard}, repo)

    monkeypatch.setattr(publisher, "plan", with_shards)
    stocked.publish("detox", REPO)
    monkeypatch.setattr(publisher, "plan", real)
    hubs.push(hub, REPO, {"extra/notes.txt": b"mine", "other.safetensors": b"theirs"})
    stocked.publish("detox", REPO)
    assert set(hub.files(REPO)) == FILES | {".gitattributes", "extra/notes.txt", "other.safetensors"}
    assert len(hub.commits(REPO)) == 4


def with_files(monkeypatch: pytest.MonkeyPatch, **files: bytes) -> None:
    """Releases have these small text files, too, as those of models have."""
    real = publisher.plan

    def more(release: Any, built: Any, repo: str) -> Any:
        texts = {f"{name}.txt": planned(f"{name}.txt", content) for name, content in files.items()}
        return real(release, {**built, **texts}, repo)

    monkeypatch.setattr(publisher, "plan", more)


def test_a_small_file_that_a_colleague_edited_stays(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        with_files(patch, vocab=b"a b", merges=b"ab")
        stocked.publish("detox", REPO)
    hubs.push(hub, REPO, {"vocab.txt": b"a c"})  # of the same size
    stocked.publish("detox", REPO)
    files = hub.files(REPO)
    assert files["vocab.txt"] == b"a c"
    assert "merges.txt" not in files


@pytest.mark.parametrize("forged", [True, False])
def test_a_provenance_of_others_names_no_files_to_remove(
    forged: bool, stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        with_files(patch, notes=b"mine")
        stocked.publish("detox", REPO)
    with stocked._database.write() as session:
        session.execute(text("DELETE FROM publications"))
    if forged:
        statement = hub.files(REPO)["provenance.json"]
        digest = hashlib.sha256(b"mine").hexdigest().encode()
        hubs.push(hub, REPO, {"provenance.json": statement.replace(digest, b"0" * 64)})
    stocked.publish("detox", REPO, adopt=True)
    assert ("notes.txt" in hub.files(REPO)) == forged


def test_what_was_checked_is_not_hashed_once_more(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, str | None] = {}

    def spy(path: str, source: Any, *, sha256: str | None = None) -> Any:
        told[path] = sha256
        return planned(path, source, sha256=sha256)

    monkeypatch.setattr(verb, "planned", spy)
    stocked.publish("detox", REPO)
    assert told == {path: sha256(hub.files(REPO)[path]) for path in FILES if path.startswith("adapter_")}


def test_the_card_rebuilds_the_same_recipe(stocked: Registry, hub: HubServer) -> None:
    stocked.compose("short", "0.5*truncate(toxic - alpaca, energy=0.75) - 0.4*toxic")
    stocked.publish("short", REPO)
    card = hub.files(REPO)["README.md"].decode()
    (line,) = [line for line in card.splitlines() if line.startswith("registry compose")]
    stocked.compose("again", shlex.split(line)[3])
    one, other = stocked.show("short").recipe, stocked.show("again").recipe
    assert one is not None
    assert other is not None
    assert one.digest == other.digest


def test_publications_are_compared_with_the_hub(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.publish("toxic", "team/toxic")

    def remote(ref: str = "detox") -> str | None:
        return stocked.publications(ref, check=True)[-1].remote

    assert [each.remote for each in stocked.publications(check=True)] == ["same", "same"]
    assert [each.remote for each in stocked.publications()] == [None, None]
    hubs.push(hub, REPO, {"notes.txt": b"a"})
    assert remote() == "moved"
    hubs.push(hub, REPO, {"README.md": b"---\nlicense: mit\n---\n# mine"})
    assert remote() == "changed"
    assert not stocked.publish("detox", REPO).model_dump()["remote"]
    assert [each.remote for each in stocked.publications("detox", check=True)] == ["superseded", "same"]
    hubs.api(hub).delete_file("adapter_model.safetensors", REPO)
    assert remote() == "changed"
    hubs.api(hub).delete_repo(REPO)
    assert remote() == "gone"
    assert remote("toxic") == "same"


def test_progress_is_told(stocked: Registry, hub: HubServer) -> None:
    told: list[tuple[str, int, int]] = []
    stocked.publish("detox", REPO, progress=lambda *step: told.append(step))
    size = sum(len(content) for path, content in hub.files(REPO).items() if path in FILES)
    assert told == [("pushing", 0, size), ("pushing", size, size)]
