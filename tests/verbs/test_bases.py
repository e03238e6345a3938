"""Base models: what the catalog knows of them, which are the same, and adapters held against them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry import Registry
from registry.errors import Conflict, Incompatible, NotFound, Refused, UsageError
from tests.adapters import make_lora
from tests.catalog.drafts import counts, events
from tests.hubs import api, push, running
from tests.models import tiny_llama

Q0, V1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


def lora(folder: Path, modules: dict[str, tuple[int, ...]], base: str = "tiny/llama", seed: int = 0) -> Path:
    return make_lora(folder, modules=modules, base=base, seed=seed)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "llama", shards=2)


def test_what_was_seen_once_is_what_later_adapters_are_checked_against(
    catalog: Registry, llama: Path, tmp_path: Path
) -> None:
    catalog.add(lora(tmp_path / "a", {Q0: (32, 32)}), "a", base_path=llama)
    seen = catalog.base_model("tiny/llama")
    assert seen.fingerprint == catalog.show("a").base_model.fingerprint
    assert (seen.tensors, seen.dtypes, seen.versions) == (
        len(catalog.base_tensors("tiny/llama")),
        ("float32",),
        1,
    )
    assert catalog.base_tensors("tiny/llama")[f"{Q0}.weight"] == ("float32", (32, 32))
    catalog.add(lora(tmp_path / "fits", {V1: (16, 32)}), "fits")  # the base is not at hand
    before = counts(catalog._database)
    with pytest.raises(Incompatible, match=r"v_proj.*16.*32|v_proj.*48"):
        catalog.add(lora(tmp_path / "wrong", {V1: (48, 32)}), "wrong")
    with pytest.raises(Incompatible, match=r"layers\.9"):
        catalog.add(lora(tmp_path / "lacking", {Q0.replace("0", "9"): (32, 32)}), "lacking")
    assert counts(catalog._database) == before


def test_a_base_is_recorded_from_its_folder_without_any_adapter(
    catalog: Registry, llama: Path, tmp_path: Path
) -> None:
    made = catalog.add_base_model("tiny/llama@main", base_path=llama)
    assert (made.name, made.versions, made.tensors) == ("tiny/llama@main", 0, 21)
    assert made.parameters is not None
    again = catalog.add_base_model("tiny/llama@main", base_path=llama)
    assert again == made
    assert [action for _, action, _, _ in events(catalog._database)] == ["fingerprint"]
    llama = tiny_llama(tmp_path / "other", tied=True)
    with pytest.raises(Incompatible, match="other weights than those recorded for tiny/llama@main") as caught:
        catalog.add_base_model("tiny/llama@main", base_path=llama)
    assert "--replace" in str(caught.value.hint)
    mended = catalog.add_base_model("tiny/llama@main", base_path=llama, replace=True)
    assert mended.fingerprint not in {None, made.fingerprint}
    told = events(catalog._database)[-1]
    assert told[3] == {"fingerprint": mended.fingerprint, "previous": made.fingerprint}
    with pytest.raises(NotFound):
        catalog.add_base_model("tiny/other", base_path=tmp_path / "nowhere")
    with pytest.raises(NotFound):
        catalog.base_model("tiny/other")


def test_two_repos_with_the_same_weights_are_one_base(catalog: Registry, llama: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(llama, tmp_path / "copy")
    catalog.add(lora(tmp_path / "a", {Q0: (32, 32)}), "a", base_path=llama)
    catalog.add(lora(tmp_path / "b", {Q0: (32, 32)}, base="mirror/llama", seed=1), "b", base_path=copy)
    assert catalog.base_model("tiny/llama").same_as == ("mirror/llama",)
    assert catalog.base_model("mirror/llama").same_as == ("tiny/llama",)
    assert {parent.ref for parent in catalog.compose("c", "a + b").parents} == {"a@1", "b@1"}
    # An adapter's next version may name the other repo, and only such a one.
    second = lora(tmp_path / "a2", {Q0: (32, 32)}, base="mirror/llama", seed=2)
    assert catalog.add(second, "a").ref == "a@2"
    with pytest.raises(Conflict, match="taken by lora adapters on mirror/llama"):
        catalog.add(lora(tmp_path / "x", {Q0: (32, 32)}, base="tiny/unknown", seed=3), "a")


def test_short_names(catalog: Registry, llama: Path, tmp_path: Path) -> None:
    catalog.add_base_model("tiny/llama", base_path=llama)
    made = catalog.set_base_alias("Llama", "tiny/llama")
    assert (made.alias, str(made.base_model)) == ("Llama", "tiny/llama")
    assert catalog.set_base_alias("LLAMA", "tiny/llama") == made  # nothing moved
    assert catalog.base_model("llama").aliases == ("Llama",)
    added = catalog.add(lora(tmp_path / "a", {Q0: (32, 32)}, base="elsewhere/x"), "a", base="llama")
    assert added.base_model.repo == "tiny/llama"
    with pytest.raises(Incompatible):  # held against the base that the alias means
        catalog.add(lora(tmp_path / "b", {Q0: (48, 32)}, base="elsewhere/x"), "b", base="llama")
    catalog.add(lora(tmp_path / "c", {Q0: (32, 32)}, base="gpt2"), "c")
    with pytest.raises(Conflict, match="a base model's own name"):
        catalog.set_base_alias("gpt2", "tiny/llama")
    with pytest.raises(Conflict, match="gpt2 is a base model's own name"):  # which it would be found before
        catalog.set_base_alias("GPT2", "tiny/llama")
    assert catalog.set_base_alias("llama", "gpt2").base_model.repo == "gpt2"
    assert [alias.alias for alias in catalog.base_aliases()] == ["Llama"]
    assert str(catalog.delete_base_alias("LLAMA").base_model) == "gpt2"
    with pytest.raises(NotFound):
        catalog.delete_base_alias("llama")
    with pytest.raises(NotFound):
        catalog.set_base_alias("x", "nosuch")
    assert [
        detail["base_model"] for _, action, _, detail in events(catalog._database) if action == "base alias"
    ] == [
        "tiny/llama",
        "gpt2",
        None,
    ]


def test_a_base_is_found_by_its_fingerprint_and_several_are_told_apart(
    catalog: Registry, llama: Path, tmp_path: Path
) -> None:
    known = catalog.add_base_model("tiny/llama@one", base_path=llama).fingerprint or ""
    assert catalog.base_model(known[:20]).name == "tiny/llama@one"
    catalog.add(lora(tmp_path / "a", {Q0: (32, 32)}), "a", base="tiny/llama@two")
    assert catalog.base_model("tiny/llama").name == "tiny/llama@one"  # the only one whose weights are known
    other = tiny_llama(tmp_path / "other", tied=True)
    catalog.add_base_model("tiny/llama@two", base_path=other)
    with pytest.raises(UsageError, match="could be several base models"):
        catalog.base_model("tiny/llama")
    assert [base.name for base in catalog.base_models()] == ["tiny/llama@one", "tiny/llama@two"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("branch", ["", "@v1"])
def test_a_base_on_the_hub_is_known_from_digests_and_headers_alone(
    local: Registry, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    with running(tmp_path, monkeypatch) as server:
        api(server).create_repo("team/llama")
        push(server, "team/llama", {file.name: file.read_bytes() for file in llama.iterdir()})
        if branch:
            api(server).create_branch("team/llama", branch="v1")
        made = local.add_base_model(f"team/llama{branch}")
        fetched = [each for each in server.requests if each.method == "GET" and "safetensors" in str(each)]
    headers = [each for each in fetched if each.path.endswith(".safetensors")]
    assert len(headers) == 3  # one range of each shard
    assert made.fingerprint == local.add_base_model("same/llama", base_path=llama).fingerprint
    assert local.base_model("same/llama").same_as == (made.name,)
    with pytest.raises(Incompatible):
        local.add(lora(tmp_path / "w", {Q0: (48, 32)}, base=made.name), "w", base=made.name)


def test_a_base_that_is_no_repo_has_to_be_at_hand(local: Registry) -> None:
    with pytest.raises(UsageError, match="no repo on the Hub"):
        local.add_base_model("/models/llama")
    for bad in ("", "\x1b[1m", "x" * 301):
        with pytest.raises(UsageError):
            local.add_base_model(bad, base_path="/nowhere")


def test_a_damaged_folder_is_refused_and_nothing_recorded(local: Registry, llama: Path) -> None:
    shard = next(llama.glob("*-of-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(Refused):
        local.add_base_model("tiny/llama", base_path=llama)
    assert local.base_models() == ()
