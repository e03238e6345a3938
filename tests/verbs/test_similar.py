"""Similar: what is like a version, what is there twice, and what cannot be compared, beside dense ΔW."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, VeraConfig
from sqlalchemy import select, update
from torch import Tensor, nn

from registry import Registry, deltas
from registry.catalog.database import Database
from registry.catalog.tables import SketchRow
from registry.errors import Denied, IntegrityFailure, NotFound, Refused, StorageFailure, UsageError
from registry.peft_format import read
from registry.verbs import _sketching
from tests.adapters import LINEARS, PREFIX, Q0, V0, lora_deltas, make_ia3, make_lora, make_opaque
from tests.catalog.drafts import statements
from tests.kinds.peft_saved import delta_in_peft, make, save
from tests.verbs.places import blob, damage

EXACT = 1e-9
PREPARE = """
import sys
from registry import Registry

def told(what, done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        sys.stdin.readline()

with Registry.open(sys.argv[1], database_url=sys.argv[2]) as catalog:
    found = catalog.sketch(progress=told)
    print("made", found.made, found.total, len(found.left_out), flush=True)
"""


def of_all(folder: Path) -> Mapping[str, Tensor]:
    """ΔW of every module that needs no base model, dense."""
    stored = read(folder)
    return {
        name: deltas.dense(stored.delta(name)) for name, m in stored.layout.modules.items() if not m.based
    }


def cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """From the definition; a module that one lacks counts as zero."""
    inner = sum(float((one[name] * other[name]).sum()) for name in one.keys() & other.keys())
    lengths = [math.sqrt(sum(float(each.square().sum()) for each in all_.values())) for all_ in (one, other)]
    return inner / (lengths[0] * lengths[1])


def stored(catalog: Registry) -> dict[str, bytes]:
    with catalog._database.read() as session:
        rows = session.execute(select(SketchRow.artifact_digest, SketchRow.vector))
        return {digest: vector for digest, vector in rows}  # noqa: C416 (rows are no pairs)


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    """Two adapters, and what was made of them."""
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name, task="t")
    for name, text in (("twin", "1*a"), ("half", "0.5*a"), ("minus", "-a"), ("near", "a + 0.1*b")):
        catalog.compose(name, text)
    return catalog


def test_versions_are_ranked_by_the_cosine_of_their_whole_change(shelf: Registry, tmp_path: Path) -> None:
    a, b = lora_deltas(tmp_path / "a"), lora_deltas(tmp_path / "b")
    found = {each.ref: each for each in shelf.similar("a").versions}
    assert (set(list(found)[:2]), list(found)[2:]) == ({"half@1", "twin@1"}, ["near@1", "b@1", "minus@1"])
    assert all(each.exact and each.error == 0 for each in found.values())
    near = {name: a[name] + 0.1 * b[name] for name in a}
    assert found["b@1"].cosine == pytest.approx(cosine(a, b), abs=EXACT)
    assert found["near@1"].cosine == pytest.approx(cosine(a, near), abs=1e-7)  # which was rounded to float32
    relations = {ref: (each.relation, each.lineage) for ref, each in found.items()}
    assert relations == {
        "twin@1": ("same delta", "derived"),
        "half@1": ("scaled", "derived"),
        "minus@1": ("negated", "derived"),
        "near@1": (None, "derived"),
        "b@1": (None, None),
    }
    assert found["half@1"].factor == pytest.approx(0.5, rel=1e-6)
    assert found["minus@1"].factor == pytest.approx(-1, rel=1e-6)
    back = {each.ref: each for each in shelf.similar("half").versions}
    assert back["a@1"].lineage == "ancestor"
    assert back["a@1"].factor == pytest.approx(2, rel=1e-6)


def test_sketches_are_made_once_and_then_looked_up(shelf: Registry, tmp_path: Path) -> None:
    assert shelf.similar("a").sketched == 6
    before = stored(shelf)
    assert len(before) == 6
    again = shelf.similar("b")
    assert (again.sketched, again.compared, stored(shelf)) == (0, 5, before)
    shelf.add(make_lora(tmp_path / "c", seed=9), "c")
    assert shelf.similar("a").sketched == 1
    assert shelf.sketch().made == 0


def test_estimates_are_as_near_as_they_say_and_read_no_bytes(shelf: Registry) -> None:
    exact = {each.ref: each.cosine for each in shelf.similar("a").versions}
    for ref in ("a", "b", "near"):
        damage(blob(shelf, ref))
    found = shelf.similar("a", exact=False)
    for each in found.versions:
        assert not each.exact
        assert each.relation is None
        assert abs(each.cosine - exact[each.ref]) <= 10 * each.error + 1e-5


def test_every_kind_and_form_is_compared_as_its_dense_change(local: Registry, tmp_path: Path) -> None:
    """Rank patterns, rsLoRA, convolutions, embeddings, a bias of lora_B, (IA)³; float16 beside float32."""
    linear, conv = {Q0: (12, 8), V0: (6, 8)}, {"m.conv": (5, 3, 2, 2)}
    offset = {f"{PREFIX}{Q0}.lora_B.bias": torch.randn(12)}
    made = {
        "plain": make_lora(tmp_path / "plain", modules={**linear, **conv}, embeddings={"m.wte": (9, 7)}),
        "rs": make_lora(tmp_path / "rs", modules={**linear, **conv}, seed=1, rslora=True, ranks={V0: 2}),
        "part": make_lora(tmp_path / "part", modules=linear, seed=0, alphas={V0: 3}, dtype=torch.float16),
        "emb": make_lora(tmp_path / "emb", modules={}, embeddings={"m.wte": (9, 7)}, seed=3),
        "bias": make_lora(
            tmp_path / "bias", modules=linear, seed=4, config={"lora_bias": True}, extra=offset
        ),
    }
    for name, folder in made.items():
        local.add(folder, name)
    others = {f"i{seed}": make_ia3(tmp_path / f"i{seed}", seed=seed) for seed in range(3)}
    for name, folder in others.items():
        local.add(folder, name)
    for group in (made, others):
        for name, folder in group.items():
            found = {each.ref: each.cosine for each in local.similar(name).versions}
            expected = {
                f"{other}@1": cosine(of_all(folder), of_all(beside))
                for other, beside in group.items()
                if other != name
            }
            assert found == pytest.approx(expected, abs=EXACT), name
    reasons = {each.ref: each.reason for each in local.similar("i0").left_out}
    assert reasons == {f"{name}@1": "it is lora, not ia3" for name in made}


def test_types_of_lora_are_compared_with_each_other_as_peft_has_them(local: Registry, tmp_path: Path) -> None:
    def base() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"q": nn.Linear(12, 16), "v": nn.Linear(12, 6)})

    targets = ["q", "v"]
    configs: dict[str, object] = {
        "lora": LoraConfig(r=3, target_modules=targets),
        "loha": LoHaConfig(r=2, alpha=3, target_modules=targets),
        "lokr": LoKrConfig(r=2, alpha=3, target_modules=targets),
        "vera": VeraConfig(r=5, target_modules=targets),
    }
    changes: dict[str, dict[str, Tensor]] = {}
    for seed, (name, config) in enumerate(configs.items()):
        model = make(config, base=base(), seed=seed)
        save(model, tmp_path / name)
        changes[name] = {target: delta_in_peft(model, target) for target in targets}
        local.add(tmp_path / name, name, base="tiny/base")
    for name, change in changes.items():
        found = {each.ref: each.cosine for each in local.similar(name).versions}
        expected = {f"{other}@1": cosine(change, changes[other]) for other in changes if other != name}
        assert found == pytest.approx(expected, abs=EXACT), name


def test_what_needs_the_base_model_is_not_compared_and_is_named(local: Registry, tmp_path: Path) -> None:
    scales = {
        f"{PREFIX}{name}.lora_magnitude_vector.weight": torch.ones(m) for name, (m, _) in LINEARS.items()
    }
    head = {f"{PREFIX}lm_head.weight": torch.randn(5, 8)}
    local.add(make_lora(tmp_path / "a"), "a")
    local.add(make_lora(tmp_path / "head", config={"modules_to_save": ["lm_head"]}, extra=head), "head")
    local.add(make_lora(tmp_path / "dora", config={"use_dora": True}, extra=scales), "dora")
    local.add(make_lora(tmp_path / "pissa", config={"init_lora_weights": "pissa"}), "pissa")
    local.add(make_opaque(tmp_path / "oft"), "oft", base="tiny/base")
    local.compose("nothing", "a - a")
    found = local.similar("a")
    (head_,) = found.versions
    assert (head_.ref, head_.relation) == ("head@1", "same delta")
    assert head_.cosine == pytest.approx(1)
    assert head_.partial == "lm_head.weight: only with the base model"
    reasons = {each.ref: each.reason for each in found.left_out}
    assert reasons.keys() == {"dora@1", "pissa@1", "oft@1", "nothing@1"}
    assert reasons["dora@1"] == f"{Q0}.weight and 2 more: only with the base model"
    assert reasons["nothing@1"] == "it changes nothing"
    assert local.similar("head").partial == head_.partial
    for ref in ("dora", "pissa", "oft", "nothing"):
        with pytest.raises(Refused, match=f"{ref}@1 cannot be compared: "):
            local.similar(ref)


def test_only_what_is_on_the_same_base_live_and_asked_for_is_compared(
    shelf: Registry, tmp_path: Path
) -> None:
    shelf.add(make_lora(tmp_path / "o", base="other/base"), "o")
    shelf.add(make_lora(tmp_path / "a2", seed=5), "a", task="u")
    shelf.delete("twin")
    refs = {each.ref for each in shelf.similar("b").versions}
    assert refs == {"a@2", "half@1", "minus@1", "near@1"}
    assert {each.ref for each in shelf.similar("b", versions=True).versions} == refs | {"a@1"}
    assert {each.ref for each in shelf.similar("b", filter="task = 'u'").versions} == {"a@2"}
    assert [each.ref for each in shelf.similar("a@1", minimum=0.9, limit=2).versions][1:] == ["near@1"]
    assert [each.ref for each in shelf.similar("a@1", opposite=True, limit=1).versions] == ["minus@1"]
    with pytest.raises(NotFound):
        shelf.similar("twin@1")
    for wrong in ({"limit": 0}, {"minimum": 2}):
        with pytest.raises(UsageError):
            shelf.similar("a", **wrong)  # type: ignore[arg-type]


def test_what_is_there_twice_is_found_with_the_oldest_first(shelf: Registry, tmp_path: Path) -> None:
    shelf.add(tmp_path / "b", "b-again")
    shelf.add(make_lora(tmp_path / "elsewhere", base="other/base"), "elsewhere")
    found = shelf.duplicates()
    assert found.compared == 8
    groups = {group.ref: {each.ref: each.relation for each in group.versions} for group in found.groups}
    assert groups == {
        "a@1": {"twin@1": "same delta", "half@1": "scaled"},
        "b@1": {"b-again@1": "same content"},
    }
    wider = {
        group.ref: [each.ref for each in group.versions] for group in shelf.duplicates(minimum=0.9).groups
    }
    assert wider["a@1"] == ["twin@1", "half@1", "near@1"]
    assert shelf.duplicates(base="other/base").compared == 1


def test_what_is_there_twice_is_on_base_models_that_compose(catalog: Registry, tmp_path: Path) -> None:
    """As a search has it: another revision is another base model, one that is not said may be any."""
    folder = make_lora(tmp_path / "a", base="org/base")
    for name, base in (("one", "@r1"), ("two", "@r2"), ("second", "@r2"), ("any", "")):
        catalog.add(folder, name, base=f"org/base{base}")
    groups = {g.ref: [each.ref for each in g.versions] for g in catalog.duplicates().groups}
    assert groups == {"one@1": ["any@1"], "two@1": ["second@1"]}
    assert {each.ref for each in catalog.similar("one").versions} == {"any@1"}


def test_a_search_is_as_many_statements_however_many_there_are(local: Registry, tmp_path: Path) -> None:
    counts = []
    for size in (3, 12):
        for seed in range(size):
            local.add(make_lora(tmp_path / f"{size}.{seed}", seed=100 * size + seed), f"m{size}.{seed}")
        local.sketch()
        with statements(local._database) as seen:
            local.similar("m3.0", exact=False)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_what_was_killed_half_way_keeps_what_it_made(
    shelf: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sketching, "_TOGETHER", 2)

    def stop(_: str, done: int, __: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.sketch(progress=stop)
    assert len(stored(shelf)) == 4
    done = shelf.sketch()
    assert (done.made, done.total) == (2, 6)


def preparing(home: Path, url: str, *, wait: int) -> subprocess.Popen[str]:
    """A process that makes all sketches, and waits for a line before the one at this place."""
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(home), url, str(wait)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], said: str) -> list[str]:
    """What it said up to this."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1].split()[0] == said:
            return lines
    raise AssertionError(f"it ended, and said {lines}")


@pytest.fixture
def many(catalog: Registry, tmp_path: Path) -> Registry:
    for seed in range(40):
        folder = make_lora(tmp_path / "many" / f"m{seed}", modules={Q0: (12, 8)}, seed=seed)
        catalog.add(folder, f"m{seed}")
    return catalog


def test_a_process_that_is_killed_while_it_sketches_loses_what_is_not_kept_yet(
    many: Registry, database_url: str, tmp_path: Path
) -> None:
    with preparing(tmp_path / "home", database_url, wait=20) as process:
        until(process, "20")
        process.kill()
    assert process.returncode == -9
    kept = stored(many)
    assert len(kept) == 16, "those of the first transaction"
    assert many.verify_database().ok
    done = many.sketch()
    assert (done.made, done.total, done.left_out) == (24, 40, ())
    whole = stored(many)
    assert kept.items() <= whole.items()
    with many._database.write() as session:
        session.query(SketchRow).delete()
    many.sketch()
    assert stored(many) == whole, "as if nobody had been killed"


def test_two_processes_that_sketch_at_once_are_both_content(
    many: Registry, database_url: str, tmp_path: Path
) -> None:
    """Both looked before either kept anything, so that they make the same ones."""
    both = [preparing(tmp_path / "home", database_url, wait=0) for _ in range(2)]
    for each in both:
        until(each, "0")
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    assert [until(each, "made")[-1] for each in both] == ["made 40 40 0"] * 2
    for each in both:
        with each:
            assert each.wait() == 0
    assert len(stored(many)) == 40
    assert many.verify_database().ok
    assert many.sketch().made == 0


def test_who_may_not_write_is_answered_and_told(shelf: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [each.ref for each in shelf.similar("a").versions]
    with shelf._database.write() as session:
        session.query(SketchRow).delete()

    def refuse(_: Database, table: str) -> None:
        raise Denied(f"permission denied for table {table}")

    monkeypatch.setattr(Database, "require", refuse)
    found = shelf.similar("a")
    assert [each.ref for each in found.versions] == expected
    assert found.warnings == ("sketches are made, and not kept: permission denied for table sketches",)
    assert stored(shelf) == {}
    with pytest.raises(StorageFailure):
        shelf.sketch()


def test_sketches_go_with_the_bytes(shelf: Registry) -> None:
    shelf.sketch()
    gone = shelf.show("near").digest
    shelf.delete("near")
    assert gone in stored(shelf)
    shelf.gc(apply=True)
    assert gone not in stored(shelf)
    assert len(stored(shelf)) == 5


def test_a_sketch_that_rotted_is_made_again(shelf: Registry) -> None:
    shelf.sketch()
    before, digest = stored(shelf), shelf.show("b").digest
    with shelf._database.write() as session:
        wrong = bytes([*before[digest][:100], before[digest][100] ^ 1, *before[digest][101:]])
        session.execute(update(SketchRow).where(SketchRow.artifact_digest == digest).values(vector=wrong))
    assert shelf.similar("a").sketched == 1
    assert stored(shelf) == before
    assert shelf.verify_database().ok


def test_damage_is_raised_for_what_is_asked_about_and_named_for_the_others(shelf: Registry) -> None:
    shelf.sketch()
    damage(blob(shelf, "b"))
    found = shelf.similar("a")
    assert [each.ref for each in found.left_out] == ["b@1"]
    assert "damaged" in found.left_out[0].reason
    assert len(found.versions) == 4
    with pytest.raises(IntegrityFailure, match="b@1"):
        shelf.similar("b")
