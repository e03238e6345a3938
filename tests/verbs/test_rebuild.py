"""Rebuild: new versions in the order of what follows what, and only where something changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry
from registry.errors import IntegrityFailure, UsageError
from registry.results import Rebuilt
from registry.verbs import compose
from tests.adapters import PREFIX, make_lora
from tests.catalog.drafts import events
from tests.models import SIZE, tiny_llama
from tests.verbs.places import blob, damage, state
from tests.verbs.test_stale import renew, shelf

__all__ = ["shelf"]
ROOT = Path(__file__).parents[2]
MOVED_ON = "c@1 is not the latest version of c any more (somebody made another one; see: registry log c)"


def outcomes(found: tuple[Rebuilt, ...]) -> list[tuple[str, str, str | None]]:
    return [(one.ref, one.state, one.made) for one in found]


def test_everything_stale_and_what_follows_it_is_made_again_in_order(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "a", tmp_path)
    assert outcomes(shelf.rebuild()) == [
        ("c@1", "made", "c@2"),
        ("d@1", "made", "d@2"),
        ("e@1", "made", "e@2"),
    ]
    assert [shelf.show(ref).recipe.resolved for ref in ("c", "d", "e")] == [  # type: ignore[union-attr]
        "a@2 - 0.4*b@1",
        "0.5*c@2 + 0.5*a@1",
        "-d@2",
    ]
    assert shelf.stale() == ()
    before = state(shelf)
    assert shelf.rebuild() == ()
    assert state(shelf) == before


def test_a_new_version_is_made_as_the_one_before(shelf: Registry, tmp_path: Path) -> None:
    shelf.compose(
        "r", "dare(a + b@prod, density=0.5)", rank=2, dtype="bfloat16", seed=7, task="t", tags={"k": "v"}, note="n"
    )  # fmt: skip
    old = shelf.show("r")
    renew(shelf, "a", tmp_path)
    shelf.rebuild(["r"])
    new = shelf.show("r")
    assert (new.ref, new.task, new.tags, new.note) == ("r@2", "t", {"k": "v"}, "n")
    assert (new.dtype, new.rank, new.aliases) == ("bfloat16", 2, ())
    assert new.recipe is not None
    assert old.recipe is not None
    assert new.recipe.expression == old.recipe.expression
    fields = {change.field for change in shelf.diff("r@1", "r@2").fields}
    assert fields == {"digest", "recipe", "resolved"}  # and not its seed
    assert [parent.ref for parent in new.parents] == ["a@2", "b@1"]
    actor, action, subject, detail = events(shelf._database)[-1]
    assert (actor, action, subject, detail["of"]) == ("tester", "rebuild", "r@2", "r@1")


def test_an_input_that_comes_out_the_same_cuts_off_what_follows(shelf: Registry, tmp_path: Path) -> None:
    """Two aliases changed places: the sum pins other versions and has the content that it had."""
    for number, name in enumerate("pq", start=1):
        shelf.add(make_lora(tmp_path / name, seed=number), "pq")
        shelf.set_alias("pq", name, number)
    shelf.compose("sum", "pq@p + pq@q")
    shelf.compose("after", "0.5*sum + 0.5*b@1")
    shelf.set_alias("pq", "p", 2)
    shelf.set_alias("pq", "q", 1)
    dry = shelf.rebuild(dry_run=True)
    assert outcomes(dry) == [("sum@1", "planned", None), ("after@1", "planned", None)]
    found = shelf.rebuild()
    assert outcomes(found) == [("sum@1", "made", "sum@2"), ("after@1", "unchanged", None)]
    assert found[0].cached
    assert shelf.show("sum@2").recipe.resolved == "pq@2 + pq@1"  # type: ignore[union-attr]
    assert shelf.stale() == ()


def test_a_dry_run_changes_nothing_and_tells_what_would_be_refused(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "a", tmp_path)
    before = state(shelf)
    found = shelf.rebuild(dry_run=True)
    assert outcomes(found) == [("c@1", "planned", None), ("d@1", "planned", None), ("e@1", "planned", None)]
    assert [bool(one.references) for one in found] == [True, False, False]
    assert state(shelf) == before
    shelf.revoke("a@2", "bad")
    found = shelf.rebuild(dry_run=True)
    assert outcomes(found) == [("c@1", "failed", None), ("d@1", "blocked", None), ("e@1", "blocked", None)]
    assert found[0].reason is not None
    assert found[0].reason.startswith("not composed: a@2 was revoked: bad (use another version; ")


def test_what_fails_is_told_and_the_rest_goes_on(shelf: Registry, tmp_path: Path) -> None:
    shelf.compose("free", "a + 0.1*b")
    shelf.set_alias("a", "gone", 1)
    shelf.compose("lost", "a@gone + 0.1*b")
    shelf.compose("late", "lost + 0.2*a")
    shelf.delete_alias("a", "gone")
    renew(shelf, "a", tmp_path)
    found = {one.ref: one for one in shelf.rebuild()}
    assert {ref: one.state for ref, one in found.items()} == {
        "c@1": "made", "d@1": "made", "e@1": "made", "free@1": "made", "lost@1": "failed", "late@1": "blocked",
    }  # fmt: skip
    assert found["lost@1"].reason == "a@gone was a@1, is gone"
    assert found["late@1"].reason == "it follows lost@1, which could not be rebuilt"
    shelf.set_alias("a", "gone", 2)
    assert outcomes(shelf.rebuild()) == [("lost@1", "made", "lost@2"), ("late@1", "made", "late@2")]


def test_named_ones_are_made_with_what_they_follow_and_no_more(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "a", tmp_path)
    assert outcomes(shelf.rebuild(["d"])) == [("c@1", "made", "c@2"), ("d@1", "made", "d@2")]
    assert shelf.show("e").ref == "e@1"
    assert outcomes(shelf.rebuild(["d"])) == [("c@2", "unchanged", None), ("d@2", "unchanged", None)]


def test_only_the_latest_composition_of_a_line_is_continued(shelf: Registry) -> None:
    with pytest.raises(UsageError, match="a@1 was imported"):
        shelf.rebuild(["a"])
    shelf.compose("c", "2*a - b")
    with pytest.raises(UsageError, match="c@1 is not the latest version of c"):
        shelf.rebuild(["c@1"])


def test_going_back_is_a_version_of_its_own(shelf: Registry, tmp_path: Path) -> None:
    """The recipe is that of c@1 again, and c@2 would else stay the latest, and stale."""
    renew(shelf, "b", tmp_path)
    shelf.set_alias("b", "prod", 2)
    shelf.rebuild()
    shelf.set_alias("b", "prod", 1)
    made = shelf.rebuild()
    assert outcomes(made)[0] == ("c@2", "made", "c@3")
    assert made[0].cached
    assert shelf.show("c@3").digest == shelf.show("c@1").digest
    assert shelf.stale() == ()


def test_a_change_to_its_own_line_is_not_applied_twice(shelf: Registry, tmp_path: Path) -> None:
    shelf.compose("a", "a - 0.1*b@prod")
    renew(shelf, "b", tmp_path)
    shelf.set_alias("b", "prod", 2)
    assert outcomes(shelf.rebuild(["a"])) == [("a@2", "made", "a@3")]
    recipe = shelf.show("a@3").recipe
    assert recipe is not None
    assert (recipe.expression, recipe.resolved) == ("a@1 - 0.1*b@prod", "a@1 - 0.1*b@2")
    assert shelf.stale(["a"]) == ()


def test_a_circle_is_gone_round_once(shelf: Registry) -> None:
    shelf.compose("x", "0.5*a + 0.5*b")
    shelf.compose("y", "0.5*x + 0.5*b@1")
    shelf.compose("x", "0.5*y + 0.5*b@1")
    for turn in (1, 2):
        assert outcomes(shelf.rebuild(["x"])) == [
            (f"y@{turn}", "made", f"y@{turn + 1}"),
            (f"x@{turn + 1}", "made", f"x@{turn + 2}"),
        ]


def test_a_line_that_moved_on_meanwhile_is_left_alone(
    shelf: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody composes something else under the name while its rebuild is computed."""
    renew(shelf, "a", tmp_path)
    meanwhile(monkeypatch, lambda: shelf.compose("c", "3*a@1 - b@1"))
    found = shelf.rebuild()
    assert (found[0].state, found[0].reason) == ("failed", MOVED_ON)
    assert shelf.show("c").recipe.expression == "3*a@1 - b@1"  # type: ignore[union-attr]
    assert len(shelf.log("c")) == 2


def test_two_rebuilds_at_once_make_each_version_once(
    shelf: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew(shelf, "a", tmp_path)
    others: list[Future[tuple[Rebuilt, ...]]] = []
    with ThreadPoolExecutor(1) as elsewhere:  # which waits while the same is computed here
        meanwhile(monkeypatch, lambda: others.append(elsewhere.submit(shelf.rebuild)))
        found = [*shelf.rebuild(), *others[0].result()]
    assert sorted(one.ref for one in found if one.state == "made") == ["c@1", "d@1", "e@1"]
    assert {one.state for one in found} <= {"made", "unchanged"}
    assert [len(shelf.log(name)) for name in "cde"] == [2, 2, 2]


def meanwhile(monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]) -> None:
    """Let somebody else do something while the first composition is computed."""
    real, waiting = compose.compute, [other]

    def compute(*args: Any, **options: Any) -> Any:
        while waiting:
            waiting.pop()()
        return real(*args, **options)

    monkeypatch.setattr(compose, "compute", compute)


def test_damaged_inputs_fail_theirs_alone(shelf: Registry, tmp_path: Path) -> None:
    shelf.compose("free", "0.3*b")
    renew(shelf, "a", tmp_path)
    renew(shelf, "b", tmp_path, seed=8)
    damage(blob(shelf, "a@2"))
    found = {one.ref: one for one in shelf.rebuild()}
    assert "a@2 is damaged" in str(found["c@1"].reason)
    assert (found["c@1"].state, found["d@1"].state, found["free@1"].state) == ("failed", "blocked", "made")
    with pytest.raises(IntegrityFailure):
        shelf.compose("c", "a - 0.4*b@prod")


def test_differences_from_the_base_model_are_made_again_with_it_at_hand(
    local: Registry, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base")
    module = "model.layers.0.self_attn.q_proj"
    for seed in (1, 2):
        magnitude = {f"{PREFIX}{module}.lora_magnitude_vector": torch.full((SIZE,), 0.5 + seed)}
        folder = make_lora(
            tmp_path / f"{seed}", modules={module: (SIZE, SIZE)}, seed=seed, config={"use_dora": True}, extra=magnitude
        )  # fmt: skip
        local.add(folder, "dora")
        if seed == 1:
            local.compose("c", "0.5*dora", base_path=base, rank=8)
    (failed,) = local.rebuild()
    assert (failed.state, failed.made) == ("failed", None)
    assert "--base-path DIR" in str(failed.reason)
    (made,) = local.rebuild(base_path=base)
    assert made.made == "c@2"
    assert "base values" not in {change.field for change in local.diff("c@1", "c@2", base_path=base).fields}
    assert local.verify(["c"], rebuild=True, base_path=base)[0].ok


def test_one_folder_is_one_base_model(shelf: Registry, tmp_path: Path) -> None:
    shelf.add(make_lora(tmp_path / "o", base="other/base", seed=4), "o")
    shelf.compose("oo", "-o")
    renew(shelf, "a", tmp_path)
    shelf.add(make_lora(tmp_path / "o2", base="other/base", seed=5), "o")
    base = tiny_llama(tmp_path / "base")
    with pytest.raises(
        UsageError, match="--base-path is one base model, but oo@1 is on other/base and c@1 on"
    ):
        shelf.rebuild(base_path=base)
    assert [one.state for one in shelf.rebuild(["oo"], base_path=base)] == ["made"]


def test_one_folder_is_one_base_model_by_its_weights_or_its_revision(shelf: Registry, tmp_path: Path) -> None:
    for seed, revision in enumerate(("one", "two")):
        shelf.add(make_lora(tmp_path / revision, seed=seed), revision, base=f"other/base@{revision}")
        shelf.compose(f"of-{revision}", f"-{revision}")
    for seed, revision in enumerate(("one", "two")):
        shelf.add(
            make_lora(tmp_path / f"{revision}2", seed=9 + seed), revision, base=f"other/base@{revision}"
        )
    base = tiny_llama(tmp_path / "base")
    with pytest.raises(UsageError, match="of-one@1 is on other/base@one and of-two@1 on other/base@two"):
        shelf.rebuild(base_path=base)
    for revision in ("one", "two"):  # which turn out to be the same
        shelf.add_base_model(f"other/base@{revision}", base_path=base)
    assert [each.state for each in shelf.rebuild(base_path=base)] == ["made", "made"]


def test_two_names_of_one_base_model_are_rebuilt_together(shelf: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    for name in ("x", "y"):
        shelf.add(make_lora(tmp_path / name), name, base=f"{name}/base")
        shelf.compose(f"of-{name}", f"-{name}")
        shelf.add(make_lora(tmp_path / f"{name}2", seed=9), name, base=f"{name}/base")
        shelf.add_base_model(f"{name}/base", base_path=base)
    assert [each.state for each in shelf.rebuild(base_path=base)] == ["made", "made"]


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have it ignored
from registry import Registry
from registry.catalog import versions
real = versions.write
count = 0
def write(session, draft):
    global count
    count += 1
    if count == 2:
        print("there", flush=True)
        sys.stdin.read()
    return real(session, draft)
versions.write = write
with Registry.open(sys.argv[1], database_url=sys.argv[2]) as catalog:
    catalog.rebuild(device="cpu")
"""


def test_an_interrupted_rebuild_is_continued(shelf: Registry, database_url: str, tmp_path: Path) -> None:
    """Ctrl-C inside the transaction that writes the second of three."""
    renew(shelf, "a", tmp_path)
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), database_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "there\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert "KeyboardInterrupt" in errors
    assert [len(shelf.log(name)) for name in "cde"] == [2, 1, 1]
    assert outcomes(shelf.rebuild()) == [("d@1", "made", "d@2"), ("e@1", "made", "e@2")]
    assert all(one.ok for one in shelf.verify())
