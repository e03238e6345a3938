"""Content, where it is shared and where it is damaged: nothing is ever answered with what it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from registry import Registry
from registry.errors import Incompatible, IntegrityFailure, UsageError
from tests.adapters import lora_deltas, make_lora

LINEAR = {"proj": (8, 8)}


def config(folder: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / "adapter_config.json").read_text())
    return loaded


def damage(home: Path, name: str = "*") -> None:
    """Flip a byte in the middle of every stored tensor file."""
    for blob in (home / "blobs" / "sha256").rglob(name):
        if blob.is_file() and blob.stat().st_size > 1000:
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.chmod(0o600)
            blob.write_bytes(data)


def test_one_content_on_two_bases_is_checked_out_with_each_base(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a", seed=1, base="x/base")
    make_lora(tmp_path / "b", seed=2, base="x/base")
    for name, base in (("a", None), ("b", None), ("ya", "y/base@r1"), ("yb", "y/base@r1")):
        local.add(tmp_path / name[-1], name, base=base)
    assert local.show("a").digest == local.show("ya").digest
    assert not local.compose("sum", "a + b").cached
    assert local.compose("ysum", "ya + yb").cached
    expected = {"a": "x/base", "ya": "y/base", "sum": "x/base", "ysum": "y/base"}
    for name, repo in expected.items():
        local.checkout(name, tmp_path / f"out-{name}")
        assert config(tmp_path / f"out-{name}")["base_model_name_or_path"] == repo
    assert config(tmp_path / "out-ysum")["revision"] == "r1"


def test_the_base_that_was_said_is_the_base_that_is_written(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a", base="/home/somebody/llama")
    local.add(tmp_path / "a", "a", base="meta/llama")
    local.checkout("a", tmp_path / "out")
    assert config(tmp_path / "out")["base_model_name_or_path"] == "meta/llama"


def test_damaged_bytes_are_never_a_cache_hit_and_composing_again_mends_them(
    local: Registry, tmp_path: Path
) -> None:
    make_lora(tmp_path / "a", modules={"proj": (80, 80)}, seed=1)
    make_lora(tmp_path / "b", modules={"proj": (80, 80)}, seed=2)
    for name in "ab":
        local.add(tmp_path / name, name)
    made = local.compose("sum", "a + b")
    damage(tmp_path / "home")
    with pytest.raises(IntegrityFailure):
        local.compose("other", "a + b")
    for name in "ab":  # adding the content again replaces what is damaged
        assert not local.add(tmp_path / name, name).created
    again = local.compose("other", "a + b")
    assert not again.cached
    assert again.digest == made.digest
    assert all(found.ok for found in local.verify(rebuild=True))


def test_a_rebuild_mends_a_damaged_composition(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a", modules={"proj": (80, 80)}, seed=1)
    local.add(tmp_path / "a", "a")
    local.compose("twice", "2*a")
    damage(tmp_path / "home")
    local.add(tmp_path / "a", "a")
    found = local.verify(["twice"])[0]
    assert not found.ok
    assert "damaged" in found.problems[0]
    mended = local.verify(["twice"], rebuild=True)[0]
    assert mended.ok
    assert mended.mended
    assert local.verify(["twice"])[0].ok


def test_factors_sees_every_input_that_was_written(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a", modules=LINEAR)
    local.add(tmp_path / "a", "a")
    local.compose("f", "factors(2*a - a)")
    local.checkout("a", tmp_path / "plain")
    local.checkout("f", tmp_path / "out")
    plain, found = lora_deltas(tmp_path / "plain")["proj"], lora_deltas(tmp_path / "out")["proj"]
    # A: |2| + |-1| = 3 times, B: 2 - 1 = once
    torch.testing.assert_close(found, 3 * plain, rtol=1e-6, atol=1e-6)


def test_what_was_said_about_known_content_is_not_dropped_in_silence(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a")
    local.add(tmp_path / "a", "a", task="chat")
    again = local.add(tmp_path / "a", "a", task="chat", license="mit", tags={"k": "v"})
    assert not again.created
    assert again.warnings == ("a@1 stays as it is: --license, --tag not applied",)


def test_an_imported_adapter_is_no_second_output_of_itself(local: Registry, tmp_path: Path) -> None:
    """``1*a`` stores a's delta with the scale folded in: other content, and no sign of irreproducibility."""
    make_lora(tmp_path / "a", alpha=16)
    local.add(tmp_path / "a", "a")
    local.compose("same", "a")
    assert local.materialize("a").differs == ()
    assert local.materialize("same").differs == ()


def test_composing_a_name_into_itself_says_so(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a")
    local.add(tmp_path / "a", "a")
    assert local.compose("a", "2*a").warnings == ("a is its own input, and from now on means a@2",)


def test_a_wrong_device_is_refused_though_the_result_is_known(local: Registry, tmp_path: Path) -> None:
    make_lora(tmp_path / "a")
    local.add(tmp_path / "a", "a")
    local.compose("b", "2*a")
    with pytest.raises(UsageError, match="unknown device"):
        local.compose("b", "2*a", device="gpu")


@pytest.mark.parametrize("expression", ["factors(a + b)", "linear(a, b)", "factors(factors(a) - 2*(a + b))"])
def test_check_refuses_the_ranks_that_composing_refuses(
    local: Registry, tmp_path: Path, expression: str
) -> None:
    make_lora(tmp_path / "a", r=4, seed=1)
    make_lora(tmp_path / "b", r=2, seed=2)
    local.add(tmp_path / "a", "a")
    local.add(tmp_path / "b", "b")
    for attempt in (lambda: local.check(expression), lambda: local.compose("c", expression)):
        with pytest.raises(Incompatible, match="needs equal ranks"):
            attempt()
