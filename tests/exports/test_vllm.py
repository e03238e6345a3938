"""What vLLM makes of the export is what was stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry
from registry.deltas import dense
from registry.errors import Conflict, IntegrityFailure, Refused, UsageError
from registry.exports import _plain
from registry.peft_format import read
from tests.adapters import PREFIX, Q0, load_tensors, lora_deltas, make_ia3, make_lora
from tests.exports.servers import logits, off, vllm_deltas
from tests.models import tiny_llama
from tests.verbs.places import refused

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")

A, B, C = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "model.layers.1.mlp.down_proj"
SHAPES = {A: (32, 32), B: (16, 32), C: (32, 48)}
EXPECTED = {"q_proj", "v_proj", "down_proj", "embed_tokens"}
EPS = {torch.float32: 2**-23, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def exported(catalog: Registry, folder: Path, tmp_path: Path, **options: Any) -> Any:
    catalog.add(folder, "x")
    return catalog.checkout("x", tmp_path / "out", for_="vllm", **options)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_ranks_and_scales_of_all_sorts_become_one(
    dtype: torch.dtype, rslora: bool, local: Registry, tmp_path: Path
) -> None:
    ranks, alphas = {B: 3, C: 7}, {B: 5, C: 11}
    source = make_lora(
        tmp_path / "a", modules=SHAPES, r=4, alpha=6, ranks=ranks, alphas=alphas, rslora=rslora, dtype=dtype
    )
    made = exported(local, source, tmp_path)
    assert (made.format, made.rank, made.energy) == ("vllm", 7, 1)
    assert made.notes == ("serve it with --enable-lora --max-lora-rank 8 or more",)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (7, 7, False)
    assert not {"rank_pattern", "alpha_pattern"} & config.keys()
    tensors = load_tensors(tmp_path / "out")
    assert all(name.startswith(PREFIX) and tensor.dtype == dtype for name, tensor in tensors.items())
    found = vllm_deltas(tmp_path / "out", EXPECTED, max_lora_rank=8)
    assert off(found, lora_deltas(source)) < EPS[dtype]
    # Read without the patterns, as vLLM reads what PEFT saved, it would be something else.
    with pytest.raises((ValueError, AssertionError)):
        assert off(vllm_deltas(source, EXPECTED, max_lora_rank=8), lora_deltas(source)) < 0.01


def test_a_scale_that_is_a_power_of_two_costs_not_one_bit(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=4, alpha=8, dtype=torch.bfloat16)
    exported(local, source, tmp_path)
    assert off(vllm_deltas(tmp_path / "out", EXPECTED), lora_deltas(source)) == 0


def test_a_scale_of_zero_stays_zero(local: Registry, tmp_path: Path) -> None:
    exported(local, make_lora(tmp_path / "a", modules=SHAPES, r=4, alphas={A: 0}), tmp_path)
    found = vllm_deltas(tmp_path / "out", EXPECTED)
    assert [name for name, delta in found.items() if not delta.any()] == [A]


def test_float64_becomes_float32(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=3, alpha=7, dtype=torch.float64)
    exported(local, source, tmp_path)
    assert {tensor.dtype for tensor in load_tensors(tmp_path / "out").values()} == {torch.float32}
    assert 0 < off(vllm_deltas(tmp_path / "out", EXPECTED), lora_deltas(source)) < 1e-6


def test_peft_loads_it_and_answers_the_same(local: Registry, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    base = tiny_llama(tmp_path / "base")
    source = make_lora(
        tmp_path / "a",
        modules=SHAPES,
        embeddings={"model.embed_tokens": (96, 32)},
        r=4,
        ranks={C: 2},
        rslora=True,
    )
    exported(local, source, tmp_path)

    def answer(folder: Path) -> torch.Tensor:
        return logits(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder))

    plain = logits(LlamaForCausalLM.from_pretrained(base))
    assert not torch.allclose(answer(source), plain, rtol=1e-2)
    torch.testing.assert_close(answer(tmp_path / "out"), answer(source), rtol=1e-5, atol=1e-5)
    vllm_deltas(tmp_path / "out", EXPECTED)


def test_a_composition_is_exported(local: Registry, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, modules=SHAPES, r=3 + seed, seed=seed), name)
    local.compose("c", "a - 0.4*b")
    made = local.checkout("c", tmp_path / "out", for_="vllm")
    a, b = (lora_deltas(tmp_path / name) for name in "ab")
    assert made.rank == 7
    assert off(vllm_deltas(tmp_path / "out", EXPECTED), {m: a[m] - 0.4 * b[m] for m in a}) < 1e-6


def test_a_rank_that_is_asked_for_is_the_best_one_and_says_what_it_kept(
    local: Registry, tmp_path: Path
) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=12, ranks={B: 2})
    made = exported(local, source, tmp_path, rank=8)
    wanted, found = lora_deltas(source), vllm_deltas(tmp_path / "out", EXPECTED, max_lora_rank=8)
    kept = []
    for name, delta in wanted.items():
        values = torch.linalg.svdvals(delta)
        best = float(values[8:].square().sum().sqrt())
        assert float((found[name] - delta).norm()) == pytest.approx(best, rel=1e-4, abs=1e-4)
        kept.append(float(values[:8].square().sum() / values.square().sum()))
    assert made.energy == pytest.approx(min(kept), rel=1e-6)
    assert made.energy < 1
    assert off({B: found[B]}, {B: wanted[B]}) < 1e-6  # what was smaller is not touched


def test_a_larger_rank_fills_up_with_zeros(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=4)
    made = exported(local, source, tmp_path, rank=16)
    assert (made.rank, made.energy) == (16, 1)
    assert off(vllm_deltas(tmp_path / "out", EXPECTED), lora_deltas(source)) < 1e-6


def test_a_rank_that_vllm_does_not_have_is_refused_with_the_way_out(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", modules={Q0: (8, 8)}, r=513), "a")
    with refused(local, Refused, "up to 512, this is 513", code=7):
        local.checkout("a", tmp_path / "out", for_="vllm")
    assert local.checkout("a", tmp_path / "out", for_="vllm", rank=8).energy == pytest.approx(1)


WHOLE = {f"{PREFIX}model.norm.weight": torch.ones(8)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"config": {"modules_to_save": ["norm"]}, "extra": WHOLE},
            "model.norm.weight has a parameter stored whole",
        ),
        ({"modules": {"conv": (8, 4, 3, 3)}}, "conv adapts a convolution"),
        ({"config": {"init_lora_weights": "pissa"}}, "its initialization changed the base model"),
        ({"config": {"use_qalora": True}}, "QALoRA"),
        (
            {"config": {"lora_bias": True}, "extra": {f"{PREFIX}{Q0}.lora_B.bias": torch.ones(12)}},
            "has a bias on lora_B",
        ),
        (
            {
                "config": {"use_dora": True},
                "modules": {Q0: (12, 8)},
                "extra": {f"{PREFIX}{Q0}.lora_magnitude_vector": torch.ones(12)},
            },
            "has a DoRA magnitude",
        ),
        (
            {
                "config": {"trainable_token_indices": {"model.embed_tokens": [1, 2]}},
                "extra": {
                    f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 8)
                },
            },
            "has trained tokens",
        ),
    ],
)
def test_what_vllm_does_not_load_is_refused_by_name(
    options: dict[str, Any], said: str, local: Registry, tmp_path: Path
) -> None:
    local.add(make_lora(tmp_path / "a", **options), "a")
    with refused(local, Refused, said, "registry ", code=7):
        local.checkout("a", tmp_path / "out", for_="vllm")
    assert not (tmp_path / "out").exists()


def test_another_kind_is_refused(local: Registry, tmp_path: Path) -> None:
    local.add(make_ia3(tmp_path / "a"), "a")
    with refused(local, Refused, "vLLM does not load ia3", code=7):
        local.checkout("a", tmp_path / "out", for_="vllm")


def test_what_overflows_once_the_scale_is_in_it_is_refused(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", modules=SHAPES, r=1, alpha=65504, dtype=torch.float16), "a")
    with refused(local, Refused, "overflows float16", code=7):
        local.checkout("a", tmp_path / "out", for_="vllm")


def test_a_defect_of_the_writer_is_found_before_the_folder_appears(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.add(make_lora(tmp_path / "a", modules=SHAPES), "a")
    honest = _plain.folded

    def off_by_a_percent(module: str, fit: _plain.Fitted, dtype: str) -> dict[str, torch.Tensor]:
        return {name: 1.005 * tensor for name, tensor in honest(module, fit, dtype).items()}

    monkeypatch.setattr(_plain, "folded", off_by_a_percent)
    with refused(local, IntegrityFailure, "is not what was stored", code=5):
        local.checkout("a", tmp_path / "out", for_="vllm")
    assert not (tmp_path / "out").exists()


def test_options_that_make_no_sense_and_folders_that_exist(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    for options, said in (
        ({"for_": "ollama"}, "unknown format 'ollama'"),
        ({"for_": "vllm", "base_path": "x"}, "the format vllm takes no base path"),
        ({"rank": 4}, "a plain checkout takes no rank"),
        ({"for_": "vllm", "rank": 0}, "a rank of 0 is none"),
    ):
        arguments: dict[str, Any] = dict(options)
        with refused(local, UsageError, said, code=2):
            local.checkout("a", tmp_path / "out", **arguments)
    (tmp_path / "out").mkdir()
    with refused(local, Conflict, "out exists", code=4):
        local.checkout("a", tmp_path / "out", for_="vllm")


def test_the_same_version_gives_the_same_bytes(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", modules=SHAPES, rslora=True), "a")
    first, second = (Path(local.checkout("a", tmp_path / n, for_="vllm").path) for n in ("one", "two"))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert read(first).digest == read(second).digest
    assert dense(read(first).delta(A)).shape == (32, 32)
