"""A publication from beginning to end, by one path on two Hubs: the local one, and the real one where that is asked for.

The real Hub is used only where ``REGISTRY_TEST_REAL_HUB=1`` and ``HF_TOKEN`` (a token that may write) are set:

    REGISTRY_TEST_REAL_HUB=1 HF_TOKEN=hf_… pytest -n0 tests/test_real_hub.py

It makes a private repo of a random name in the token's own namespace, and deletes it whatever happens.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from registry import Registry
from registry.errors import Conflict
from tests import hubs
from tests.adapters import make_lora
from tests.conftest import REAL_TOKEN

WANTED = os.environ.get("REGISTRY_TEST_REAL_HUB") == "1"
BASE = "hf-internal-testing/tiny-random-LlamaForCausalLM"
OURS = {"README.md", "adapter_config.json", "adapter_model.safetensors", "provenance.json"}

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@dataclass(frozen=True)
class Hub:
    """A Hub, somebody who may write there, and a repo that is not there yet."""

    api: HfApi
    repo: str


@pytest.fixture(
    params=[
        "double",
        pytest.param(
            "real",
            marks=pytest.mark.skipif(
                not (WANTED and REAL_TOKEN), reason="needs REGISTRY_TEST_REAL_HUB=1 and HF_TOKEN"
            ),
        ),
    ]
)
def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    name = f"registry-test-{uuid.uuid4().hex[:12]}"
    if request.param == "double":
        with hubs.running(tmp_path, monkeypatch) as server:
            yield from _with_repo(Hub(hubs.api(server), f"team/{name}"))
        return
    monkeypatch.setenv("HF_TOKEN", str(REAL_TOKEN))
    api = HfApi(token=REAL_TOKEN)
    yield from _with_repo(Hub(api, f"{api.whoami()['name']}/{name}"))


def _with_repo(hub: Hub) -> Iterator[Hub]:
    try:
        yield hub
    finally:
        hub.api.delete_repo(hub.repo, missing_ok=True)


@pytest.mark.timeout(600)
def test_a_publication_from_beginning_to_end(hub: Hub, local: Registry, tmp_path: Path) -> None:
    api, repo = hub.api, hub.repo
    for seed, name in enumerate(("one", "two", "three")):
        local.add(make_lora(tmp_path / name, seed=seed, base=BASE), name, base=BASE)
    local.compose("mix", "one - 0.4*two")

    # Published: private, whole, with a card that the Hub understands, and verified by what the Hub says it has.
    done = local.publish("mix@1", repo, tag="v1")
    assert (done.state, done.created, done.tagged) == ("done", True, True)
    info = api.model_info(repo, files_metadata=True)
    assert (info.private, info.sha, info.library_name) == (True, done.commit, "peft")
    assert {each.rfilename for each in info.siblings or ()} >= OURS
    held = {each.rfilename: each.lfs.sha256 for each in info.siblings or () if each.lfs is not None}
    assert done.files["adapter_model.safetensors"] == f"sha256:{held['adapter_model.safetensors']}"
    assert f"base_model:adapter:{BASE}" in (info.tags or ())
    assert {each.name: each.target_commit for each in api.list_repo_refs(repo).tags} == {"v1": done.commit}

    # Again: nothing to do, no commit.
    before = len(api.list_repo_commits(repo))
    assert local.publish("mix@1", repo, tag="v1").created is False
    assert len(api.list_repo_commits(repo)) == before
    assert [each.remote for each in local.publications(check=True)] == ["same"]

    # Its files are what was stored.
    from registry.peft_format import read

    folder = Path(api.snapshot_download(repo, revision=done.commit, local_dir=tmp_path / "down"))
    assert read(folder).digest == local.show("mix@1").digest

    # A second version is proposed, merged, and then published; the tag does not move.
    local.compose("mix", "one - 0.5*two")
    proposed = local.publish("mix@2", repo, propose=True)
    assert proposed.pull_request
    assert api.model_info(repo).sha == done.commit
    assert local.publish("mix@2", repo, propose=True).pull_request == proposed.pull_request
    if api.get_discussion_details(repo, proposed.pull_request).status == "draft":
        api.change_discussion_status(repo, proposed.pull_request, "open")
    api.merge_pull_request(repo, proposed.pull_request)
    assert local.publish("mix@2", repo).created is False
    with pytest.raises(Conflict):
        local.publish("mix@2", repo, tag="v1")

    # Somebody else's commit is seen: one that leaves our files alone, one that does not.
    api.upload_file(path_or_fileobj=b"by hand", path_in_repo="NOTES.md", repo_id=repo)
    assert [each.remote for each in local.publications("mix@2", check=True)][-1] == "moved"
    api.delete_file("adapter_config.json", repo)
    assert [each.remote for each in local.publications("mix@2", check=True)][-1] == "changed"

    # And off it goes.
    gone = local.unpublish(repo, delete=True, reason="a test")
    assert gone.deleted
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)
    assert {each.state for each in local.publications()} == {"withdrawn"}
    assert local.unpublish(repo, delete=True).changed is False
