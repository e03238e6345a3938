"""Cards on the Hub: other people's text in them, licenses, templates and signatures, through the real client."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from sqlalchemy import text

from registry import Registry, signing
from registry.errors import Conflict, Refused, UsageError
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import Q0, make_ia3, make_lora
from tests.signers import keys

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"
SIGNED = "model.sig"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name in ("REGISTRY_SIGNING_KEY", "REGISTRY_SIGNING_PASSWORD", "REGISTRY_CARD_TEMPLATE"):
        monkeypatch.delenv(name, raising=False)
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(local: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(local, tmp_path)


def readme(hub: HubServer, repo: str = REPO) -> str:
    return hub.files(repo)["README.md"].decode()


def front(hub: HubServer, repo: str = REPO) -> dict[str, object]:
    found = yaml.safe_load(readme(hub, repo).split("---\n")[1])
    assert isinstance(found, dict)
    return found


def remote(catalog: Registry) -> str | None:
    return catalog.publications("detox", check=True)[-1].remote


# -- other people's text


def test_a_hand_written_readme_stays_and_is_no_drift(stocked: Registry, hub: HubServer) -> None:
    theirs = b"---\nlanguage: en  # theirs\ntags:\n- theirs\n---\n# Detox\r\n\r\nBy hand.\n"
    hubs.api(hub).create_repo(REPO, private=True)
    hubs.push(hub, REPO, {"README.md": theirs})
    done = stocked.publish("detox", REPO, adopt=True)
    page = readme(hub)
    assert "# Detox\r\n\r\nBy hand.\n" in page
    assert "language: en  # theirs\n" in page
    assert front(hub)["tags"] == [
        "theirs",
        "lora",
        "adapter-registry",
        "base_model:adapter:tiny/base",
        "merge",
    ]
    assert remote(stocked) == "same"
    assert stocked.publish("detox", REPO) == done.model_copy(update={"created": False})
    hubs.push(hub, REPO, {"README.md": (page + "\n## Added later\n").encode()})
    assert remote(stocked) == "moved"
    commits = len(hub.commits(REPO))
    assert not stocked.publish("detox", REPO).created
    assert len(hub.commits(REPO)) == commits
    stocked.add_evaluation("detox", "accuracy", 0.5, dataset="sst2")
    assert stocked.publish("detox", REPO).created
    assert readme(hub).endswith("\n## Added later\n")
    assert "By hand." in readme(hub)
    assert "sst2" in readme(hub)
    assert remote(stocked) == "same"


def test_edits_of_our_part_are_drift_and_are_put_back(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    ours = readme(hub)
    hubs.push(
        hub, REPO, {"README.md": ours.replace("# detox, version 1", "# The best").encode() + b"theirs\n"}
    )
    assert remote(stocked) == "changed"
    assert stocked.publish("detox", REPO).created
    assert readme(hub) == ours + "theirs\n"
    assert remote(stocked) == "same"


def test_a_card_without_markers_that_an_earlier_release_recorded_whole_is_ours(
    stocked: Registry, hub: HubServer
) -> None:
    stocked.publish("detox", REPO)
    before = b"---\nlibrary_name: peft\n---\n# detox of an earlier release\n"
    hubs.push(hub, REPO, {"README.md": before})
    assert remote(stocked) == "changed"
    with stocked._database.write() as session:
        (files,) = session.execute(text("SELECT files FROM publications")).one()
        recorded = json.loads(files) | {"README.md": "sha256:" + hashlib.sha256(before).hexdigest()}
        session.execute(
            text("UPDATE publications SET files = :files, seal = NULL"), {"files": json.dumps(recorded)}
        )
    assert remote(stocked) == "moved"
    assert stocked.publish("detox", REPO).created
    assert "earlier release" not in readme(hub)


def test_a_card_with_broken_markers_is_left_alone(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    hubs.push(hub, REPO, {"README.md": readme(hub).encode() * 2})
    before = hubs.writes(hub)
    with pytest.raises(Conflict, match=rf"^README\.md of {REPO} has the markers "):
        stocked.publish("detox", REPO)
    assert hubs.writes(hub) == before
    assert remote(stocked) == "changed"


# -- what it says


def test_evaluations_stand_beside_the_parents_and_parse(stocked: Registry, hub: HubServer) -> None:
    stocked.add_evaluation("detox", "accuracy", 0.75, dataset="sst2", split="test")
    stocked.add_evaluation("detox", "toxicity", 0.1, dataset="civil")
    stocked.add_evaluation("alpaca", "accuracy", 0.5, dataset="sst2", split="test")
    stocked.publish("detox", REPO)
    rows = [line for line in readme(hub).splitlines() if line.startswith(("| sst2", "| civil", "| dataset"))]
    assert rows == [
        "| dataset | split | metric | `detox@1` | `alpaca@1` |",
        "| civil | – | toxicity | 0.1 | – |",
        "| sst2 | test | accuracy | 0.75 | 0.5 |",
    ]
    results = ModelCard(readme(hub)).data.eval_results  # type: ignore[attr-defined]
    assert [(each.dataset_name, each.metric_type, each.metric_value) for each in results] == [
        ("civil", "toxicity", 0.1),
        ("sst2", "accuracy", 0.75),
    ]


def test_what_a_sweep_chose_says_how(stocked: Registry) -> None:
    def measure(_path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        return {"toxicity": abs(float(values["w"]) - 0.3), "ppl": 20 + float(values["w"])}

    found = stocked.sweep(
        "swept", "alpaca - {w}*toxic", over={"w": "0:1:0.1"}, evaluate=measure, metric=("toxicity:min", "ppl:max"),
        constrain=["ppl < 20.25"],
    )  # fmt: skip
    assert found.ref == "swept@1"
    said = (
        "Chosen by a sweep of `alpaca - {w}*toxic` over 11 points: `w = 0.2`, by the smallest `toxicity`, "
        "then largest `ppl`, where `ppl < 20.25`."
    )
    assert said in stocked.card("swept").text.splitlines()
    assert "sweep" not in stocked.card("detox").text


def test_vllm_is_told_a_rank_that_it_takes(local: Registry, tmp_path: Path) -> None:
    for rank, told in ((3, 8), (8, 8), (9, 16), (200, 256), (257, 320)):
        local.add(make_lora(tmp_path / f"{rank}", r=rank, base="org/llama"), f"r{rank}", base="org/llama@abc")
        page = local.card(f"r{rank}", "team/plain").text
        started = f"vllm serve org/llama --revision abc --enable-lora --max-lora-rank {told} "
        assert page.count("vllm serve") == 1
        assert f"\n{started}--lora-modules r{rank}=team/plain\n" in page


def test_vllm_is_not_named_where_it_serves_no_such_task(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", config={"task_type": "SEQ_CLS"}), "judge", base="org/bert")
    assert "vllm" not in local.card("judge").text.lower()


def test_what_vllm_does_not_load_is_said_with_what_to_run_instead(local: Registry, tmp_path: Path) -> None:
    conv = {"model.conv": (4, 3, 2, 2)}
    local.add(make_lora(tmp_path / "a", r=513), "large", base="org/llama")
    local.add(make_lora(tmp_path / "b", ranks={Q0: 2}), "uneven", base="org/llama")
    local.add(make_lora(tmp_path / "c", alphas={Q0: 2}), "unscaled", base="org/llama")
    local.add(make_lora(tmp_path / "d", embeddings={"model.embed": (9, 4)}), "embedding", base="org/llama")
    local.add(make_lora(tmp_path / "e", modules=conv), "conv", base="org/llama")
    local.add(make_ia3(tmp_path / "f"), "ia3", base="org/llama")
    for name in ("large", "uneven", "unscaled", "embedding", "conv", "ia3"):
        text = local.card(name).text
        assert "vLLM does not serve it as it is" in text
        assert f"registry checkout {name} {name}-vllm --for vllm\n" in text
        assert "vllm serve" not in text


# -- licenses


def licensed(catalog: Registry, folder: Path, *licenses: str | None, name: str = "mixed") -> None:
    """A composition of adapters with these licenses."""
    for place, license_ in enumerate(licenses):
        adapter = make_lora(folder / f"{name}{place}", seed=place + 10)
        catalog.add(adapter, f"{name}{place}", base="tiny/base", license=license_)
    catalog.compose(name, " + ".join(f"{name}{place}" for place in range(len(licenses))))


def test_the_license_follows_from_the_inputs_and_the_base(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    licensed(catalog, tmp_path, "mit", "apache-2.0")
    catalog.publish("mixed", REPO)
    assert "license" not in front(hub)  # the base model's is not known
    assert "the license of the base model tiny/base is not known" in readme(hub).replace("\\", "")
    catalog.set_base_license("tiny/base", "cc-by-4.0")
    assert catalog.base_model("tiny/base").license == "cc-by-4.0"
    assert catalog.events(action="base license")[0].detail == {"license": "cc-by-4.0", "previous": None}
    catalog.publish("mixed", REPO)
    assert front(hub)["license"] == "apache-2.0"
    catalog.publish("mixed", REPO, license="gpl-3.0")
    assert front(hub)["license"] == "gpl-3.0"


def test_the_base_models_card_is_asked_once(catalog: Registry, hub: HubServer, tmp_path: Path) -> None:
    hubs.api(hub).create_repo("team/base")
    hubs.push(hub, "team/base", {"README.md": b"---\nlicense: other\nlicense_name: acme\n---\n"})
    for place in range(2):
        catalog.add(
            make_lora(tmp_path / f"{place}", seed=place), f"a{place}", base="team/base", license="mit"
        )
        catalog.publish(f"a{place}", f"team/a{place}")
    asked = [each for each in hub.requests if each.path == "/api/models/team/base/revision/main"]
    assert len(asked) == 1
    assert catalog.base_model("team/base").license == "acme"
    assert catalog.set_base_license("team/base", None).license is None


def test_what_an_input_forbids_is_blocked_and_a_reason_is_recorded(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    licensed(catalog, tmp_path, "mit", "cc-by-nc-nd-4.0")
    for options in ({}, {"license": "mit"}, {"dry_run": True}):
        with pytest.raises(
            Refused, match=r"^mixed@1 cannot be published so: mixed1@1 is under cc-by-nc-nd"
        ) as no:
            catalog.publish("mixed", REPO, **options)
        assert no.value.hint
        assert "--despite-license" in no.value.hint
    assert not hubs.writes(hub)
    assert not hubs.rows(catalog)
    catalog.publish("mixed1", "team/itself")
    assert front(hub, "team/itself")["license"] == "cc-by-nc-nd-4.0"
    catalog.publish("mixed", REPO, license="mit", despite_license="its author | allowed *us*")
    assert r"its author \| allowed \*us\*" in readme(hub)
    assert "mixed1" in readme(hub)
    for action in ("publish", "publish despite license"):
        detail = next(each.detail for each in catalog.events(action=action) if each.subject == "mixed@1")
        assert detail["despite"] == "its author | allowed *us*"
        assert "cc-by-nc-nd-4.0" in detail["conflicts"][0]


def test_what_is_closed_is_published_in_private_only(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    licensed(catalog, tmp_path, "mit", "Proprietary")
    with pytest.raises(Refused, match="'Proprietary', so nothing made of it can be public"):
        catalog.publish("mixed", REPO, private=False)
    assert catalog.publish("mixed", REPO).created
    assert "license" not in front(hub)


def test_licenses_count_through_any_depth(catalog: Registry, hub: HubServer, tmp_path: Path) -> None:
    licensed(catalog, tmp_path, "mit", "llama2")
    catalog.set_base_license("tiny/base", "llama3.1")
    catalog.compose("above", "0.5*mixed")
    catalog.compose("top", "0.5*above")
    with pytest.raises(
        Refused, match=r"mixed1@1 is under llama2 and the base model tiny/base under llama3\.1"
    ):
        catalog.publish("top", REPO)
    assert not hubs.writes(hub)


# -- signatures


def test_a_signed_release_verifies_and_the_same_is_not_signed_anew(
    stocked: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
    private, public = keys(tmp_path, password="open sesame")
    monkeypatch.setenv(signing.PASSWORD, "open sesame")
    done = stocked.publish("detox", REPO, sign_key=private)
    files = hub.files(REPO)
    told = signing.signed(files[SIGNED], public)
    assert told == {path: sha for path, sha in done.files.items() if path not in {SIGNED, "README.md"}}
    folder = tmp_path / "downloaded"
    hubs.api(hub).snapshot_download(REPO, local_dir=folder)
    words = ["verify", "key", str(folder), "--signature", str(folder / SIGNED), "--public_key", str(public)]
    run = subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    monkeypatch.setenv("REGISTRY_SIGNING_KEY", str(private))
    assert stocked.publish("detox", REPO) == done.model_copy(update={"created": False})
    assert remote(stocked) == "same"
    assert stocked.publish("detox", REPO, sign_key=keys(tmp_path, "other", password="open sesame")[0]).created
    assert hub.files(REPO)[SIGNED] != files[SIGNED]
    monkeypatch.delenv("REGISTRY_SIGNING_KEY")
    assert stocked.publish("detox", REPO).created
    assert SIGNED not in hub.files(REPO)
    secret = private.read_bytes().splitlines()[1]
    dump = b"".join(path.read_bytes() for path in stocked._config.home.rglob("*") if path.is_file())
    assert secret not in dump
    assert b"open sesame" not in dump
    assert not any(secret in content or b"open sesame" in content for content in hub.files(REPO).values())


def test_a_key_that_cannot_sign_sends_nothing(stocked: Registry, hub: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
    with pytest.raises(UsageError, match="cannot read the key"):
        stocked.publish("detox", REPO, sign_key=tmp_path / "none.pem")
    assert not hubs.writes(hub)


# -- templates


def test_a_template_of_the_team(
    stocked: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "team.md"
    path.write_text("---\nlanguage: en\n---\n# Of the team: {{ title }}\n\n{{ use }}\n")
    monkeypatch.setenv("REGISTRY_CARD_TEMPLATE", str(path))
    stocked.publish("detox", REPO)
    assert "# Of the team: detox, version 1" in readme(hub)
    assert front(hub)["language"] == "en"
    assert stocked.card("detox", REPO).text == readme(hub)
    path.write_text("a\n{{ nothing }}")
    before = hubs.writes(hub)
    with pytest.raises(UsageError, match=r"team\.md, line 2: 'nothing' is undefined"):
        stocked.publish("detox", REPO)
    assert hubs.writes(hub) == before


@pytest.mark.parametrize("into", ["adapter", "model"])
def test_a_card_is_written_without_publishing(stocked: Registry, into: str, hub: HubServer) -> None:
    card = stocked.card("detox", "team/x", into=into)  # type: ignore[arg-type]
    assert (card.ref, card.repo, card.target) == ("detox@1", "team/x", into)
    assert "from_pretrained" in card.text
    assert "team/x" in card.text
    assert "OWNER/NAME" in stocked.card("detox").text
    assert not hub.requests
    if into == "adapter":
        stocked.publish("detox", "team/x")
        assert readme(hub, "team/x") == card.text
    with pytest.raises(UsageError):
        stocked.card("detox", "nonsense")
