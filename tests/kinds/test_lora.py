from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from registry import kinds
from registry._shards import StoredTensor
from registry._targets import resolve
from registry.deltas import LowRank, dense
from registry.errors import Refused
from registry.kinds import _patterns
from registry.kinds._patterns import Patterns, exact_keys
from registry.kinds.lora import Lora
from registry.peft_format import read
from tests.adapters import LINEARS, PREFIX, Q0, Q1, V0, combination, lora_deltas, make_lora, materialize


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("patterns", [{}, {"ranks": {Q0: 2, V0: 3}, "alphas": {Q0: 5, Q1: 7.5}}])
def test_every_module_is_read_with_its_own_rank_and_scale(
    tmp_path: Path, rslora: bool, patterns: Any
) -> None:
    folder = make_lora(tmp_path, rslora=rslora, **patterns)
    adapter = read(folder)
    for name, expected in lora_deltas(folder).items():
        torch.testing.assert_close(dense(adapter.delta(name)), expected)
    assert adapter.rank == 4


def test_embeddings_and_convolutions_have_their_forms(tmp_path: Path) -> None:
    folder = make_lora(tmp_path, modules={"conv": (6, 3, 5, 5)}, embeddings={"wte": (20, 8)}, r=2, alpha=4)
    layout = read(folder).layout
    assert list(layout.modules) == ["conv", "wte"]
    conv, table = layout.modules["conv"], layout.modules["wte"]
    assert (conv.form, conv.shape, conv.kernel, conv.rank, conv.scale) == ("conv", (6, 75), (5, 5), 2, 2.0)
    assert (table.form, table.shape, table.rank) == ("embedding", (8, 20), 2)


@pytest.mark.parametrize(
    ("key", "matches"),
    [
        (Q0, [Q0]),
        ("q_proj", [Q0, Q1]),
        ("layers.0.self_attn.q_proj", [Q0]),
        (f"^{Q0}", [Q0]),
        ("^q_proj", []),
        ("_proj", []),
        ("self_attn", []),
        (r"layers\.\d+\.self_attn\.[qk]_proj", [Q0, Q1]),
        (r"model.*0.*", [Q0, V0]),
        ("layers.0.self.attn.q.proj", [Q0]),
        ("layers.0.s.lf_attn.q_proj", [Q0]),
        ("^model.layers.[01].self_attn.q_proj$", [Q0, Q1]),
    ],
)
def test_pattern_keys_match_as_in_peft(tmp_path: Path, key: str, matches: list[str]) -> None:
    from peft.utils.other import get_pattern_key

    folder = make_lora(tmp_path, config={"alpha_pattern": {key: 100}})
    scales = {name: module.scale for name, module in read(folder).layout.modules.items()}
    assert [name for name, scale in scales.items() if scale == 25] == matches
    assert [name for name in sorted(LINEARS) if get_pattern_key([key], name) == key] == matches


def test_the_first_matching_key_decides_in_the_order_of_the_config(tmp_path: Path) -> None:
    folder = make_lora(tmp_path, config={"alpha_pattern": {"q_proj": 100, Q0: 200}})
    assert read(folder).layout.modules[Q0].scale == 25


def test_expressions_and_names_keep_their_order(tmp_path: Path) -> None:
    patterns = {"nothing": 1, "v_pro[j]": 100, "v_proj": 200, "[qv]_proj": 300, Q0: 400}
    scales = {
        n: m.scale
        for n, m in read(make_lora(tmp_path, config={"alpha_pattern": patterns})).layout.modules.items()
    }
    assert scales == {V0: 25, Q0: 75, Q1: 75}


def test_many_patterns_are_looked_up_quickly() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{expert}.up" for layer in range(40) for expert in range(100)]
    ranks = {name: index % 5 + 1 for index, name in enumerate(names)}
    started = time.perf_counter()
    patterns = Patterns("rank_pattern", ranks)
    assert all(patterns.value(name, 9) == rank for name, rank in ranks.items())
    assert time.perf_counter() - started < 3
    assert exact_keys(names) == {name: name for name in names}


def test_a_pattern_that_would_run_forever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patterns, "SECONDS", 0.2)
    name = "a" * 60
    folder = make_lora(tmp_path, modules={name: (3, 2)}, config={"rank_pattern": {"(a|a|aa)+b": 4}})
    with pytest.raises(Refused, match="takes too long to match"):
        read(folder)


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"r": 5}}, f"module {Q0} has rank 4 in its tensors but 5 in the config"),
        ({"config": {"rank_pattern": {Q1: 3}}}, f"module {Q1} has rank 4 in its tensors but 3 in the config"),
        (
            {"extra": folded({f"{Q0}.lora_B.weight": torch.ones(12, 3)})},
            f"module {Q0} has rank 4 in lora_A but 3 in lora_B",
        ),
        (
            {"extra": folded({"odd.lora_A.weight": torch.ones(4, 3)})},
            "module odd has only lora_A",
        ),
        (
            {"extra": folded({f"{Q0}.lora_A.weight": torch.ones(4)})},
            f"module {Q0} has factors of shapes [4] and [12, 4]",
        ),
        (
            {"extra": folded({f"{Q0}.lora_A.weight": torch.ones(4, 0)})},
            f"tensor {Q0}.lora_A.weight is empty: [4, 0]",
        ),
        (
            {"extra": folded({f"{Q0}.lora_A.weight": torch.ones(4, 8, dtype=torch.int8)})},
            f"tensor {Q0}.lora_A.weight is int8",
        ),
        ({"config": {"r": True}}, "config entry r is 'True', not a usable number"),
        ({"config": {"lora_alpha": "16"}}, "config entry lora_alpha is '16', not a usable number"),
        ({"config": {"lora_alpha": 10**400}}, "config entry lora_alpha is '1"),
        ({"config": {"rank_pattern": [1]}}, "config entry rank_pattern is no object"),
        ({"config": {"use_rslora": "yes"}}, "config entry use_rslora is 'yes', not true or false"),
        ({"config": {"alpha_pattern": {"(": 4}}}, "alpha_pattern key '(' is no regular expression"),
        ({"config": {"alpha_pattern": {"x" * 600: 4}}}, "alpha_pattern has a key of 600 characters"),
        (
            {"config": {"alpha_pattern": {"((a{900}){900}){900}": 4}}},
            "alpha_pattern key '((a{900}){900}){900}' is too",
        ),
        (
            {"config": {"alpha_pattern": {"(?:q){e<=9}": 4}}},
            "alpha_pattern key '(?:q){e<=9}' is too elaborate",
        ),
        ({"config": {"alpha_pattern": {"(?R)": 4}}}, "alpha_pattern key '(?R)' is no regular expression"),
        ({"modules": {}}, "there are no LoRA tensors in it"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    folder = make_lora(tmp_path, **options)
    with pytest.raises(Refused) as caught:
        read(folder)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("options", "blocker"),
    [
        ({"config": {"use_dora": True}}, f"DoRA is on in the config, but not in module {Q0}"),
        (
            {"extra": folded({f"{Q0}.lora_magnitude_vector": torch.ones(12)})},
            f"DoRA is off in the config, but not in module {Q0}",
        ),
        ({"extra": folded({f"{Q0}.bias": torch.ones(12)})}, f"trained biases are not implemented: {Q0}.bias"),
        ({"config": {"lora_bias": True}}, "lora_bias is in the config, but no such tensor"),
        (
            {"extra": folded({f"{Q0}.lora_B.bias": torch.ones(12), f"{Q1}.lora_B.bias": torch.ones(12)})},
            f"biases of LoRA factors are not implemented: {Q0}.lora_B.bias and 1 more",
        ),
        (
            {"config": {"modules_to_save": ["score"]}},
            "modules_to_save is in the config, but no such tensor",
        ),
        (
            {"extra": folded({"score.weight": torch.ones(2, 8)})},
            "full weights are not implemented: score.weight",
        ),
        (
            {"extra": folded({"score.modules_to_save.default.weight": torch.ones(2, 8)})},
            "full weights (modules_to_save) are not implemented: score.modules_to_save.weight",
        ),
        ({"config": {"trainable_token_indices": [1, 2]}}, "trainable_token_indices is in the config, but no"),
        ({"config": {"use_qalora": True}}, "QALoRA (use_qalora) is not implemented"),
        ({"config": {"use_bdlora": {"nblocks": 2}}}, "block-diagonal LoRA (use_bdlora) is not implemented"),
        ({"config": {"alora_invocation_tokens": [5]}}, "activated LoRA (alora_invocation_tokens)"),
        ({"config": {"arrow_config": {"top_k": 3}}}, "Arrow routing (arrow_config) is not implemented"),
        ({"config": {"kasa_config": {"beta": 1}}}, "KaSA (kasa_config) is not implemented"),
        ({"config": {"monteclora_config": {"x": 1}}}, "MonteCLoRA (monteclora_config) is not implemented"),
        ({"config": {"velora_config": {"x": 1}}}, "VeLoRA (velora_config) is not implemented"),
        (
            {"config": {"layer_replication": [[0, 4]]}},
            "layer replication (layer_replication) is not implemented",
        ),
        ({"config": {"target_parameters": ["e.w"], "r": 99}}, "LoRA on bare parameters (target_parameters)"),
        ({"config": {"ensure_weight_tying": True}}, "an adapter tied to the tied embedding"),
        ({"config": {"use_newlora": True}}, "config entry 'use_newlora' is not understood"),
        ({"config": {"use_newlora": 1}, "ranks": {}, "r": 3}, "config entry 'use_newlora' is not understood"),
        ({"modules": {"m.base_layer.out": (3, 2)}}, "adapters stacked on one module are not implemented"),
        ({"extra": folded({f"{Q0}.lora_C.weight": torch.ones(1)})}, "unknown tensors are not implemented"),
    ],
)
def test_parts_without_maths_block_composing_but_not_cataloging(
    tmp_path: Path, options: Any, blocker: str
) -> None:
    layout = read(make_lora(tmp_path, **options)).layout
    assert layout.blockers[0].startswith(blocker)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "corda", "lora_ga", "loftq"])
def test_a_changed_base_is_said(tmp_path: Path, start: str) -> None:
    layout = read(make_lora(tmp_path, config={"init_lora_weights": start})).layout
    assert not layout.blockers
    assert str(layout.initialization).startswith("its initialization changed the base model")


def test_a_grouped_convolution_uses_a_part_of_the_rank_in_each_group(tmp_path: Path) -> None:
    down, up = torch.randn(4, 6, 3, 3), torch.randn(8, 2, 1, 1)
    extra = folded({"conv.lora_A.weight": down, "conv.lora_B.weight": up})
    adapter = read(make_lora(tmp_path / "a", modules={}, r=4, alpha=4, extra=extra))
    found = dense(adapter.delta("conv"))
    halves = [up[:4, :, 0, 0] @ down[:2].flatten(1), up[4:, :, 0, 0] @ down[2:].flatten(1)]
    torch.testing.assert_close(found, torch.cat(halves).double(), rtol=1e-6, atol=1e-6)
    made = materialize(tmp_path / "c", combination((1, adapter), (-0.5, adapter)), adapter)
    assert made.layout.modules["conv"].groups == 2
    torch.testing.assert_close(dense(made.delta("conv")), found / 2, rtol=1e-6, atol=1e-6)
    weight = StoredTensor("conv.weight", "m", "float32", (8, 3, 3, 3), 0, 0)
    with pytest.raises(Refused, match="grouped convolution"):
        resolve({"conv.weight": weight}, {}, adapter.layout.modules, None)


@pytest.mark.parametrize(
    "config",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"megatron_core": "megatron.core", "megatron_config": {"a": 1}, "qalora_group_size": 16},
        {"some_future_flag": False, "another": None, "third": "", "fourth": [], "fifth": {}},
        {"layers_to_transform": [0], "layers_pattern": "layers", "exclude_modules": ["x"]},
        {
            "enable_lora": None,
            "merge_weights": True,
            "auto_mapping": {"unsloth_fixed": True},
            "peft_version": "0.9",
        },
    ],
)
def test_harmless_entries_are_kept_and_block_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    adapter = read(make_lora(tmp_path, config=config))
    assert adapter.layout.blockers == ()
    assert config.items() <= adapter.config.items()


def test_a_result_with_unequal_ranks_says_so_in_both_patterns() -> None:
    lora = Lora()
    modules = {
        name: lora.describe(name, LowRank(torch.ones(4, k), torch.ones(k, 3)))
        for name, k in {"b.q": 2, "a.q": 8, "a.k": 8}.items()
    }
    config = lora.config(modules, [{"task_type": "CAUSAL_LM", "lora_alpha": 99, "layers_to_transform": [3]}])
    assert config["r"] == config["lora_alpha"] == 8
    assert config["rank_pattern"] == config["alpha_pattern"] == {"b.q": 2}
    assert config["target_modules"] == ["a.k", "a.q", "b.q"]
    assert config["task_type"] == "CAUSAL_LM"
    assert "layers_to_transform" not in config
    json.dumps(config)


def test_a_name_that_ends_another_is_anchored() -> None:
    lora = Lora()
    ranks = {"q": 2, "enc.q": 3, "a.b": 4, "a_b": 5, "top": 9}
    modules = {
        name: lora.describe(name, LowRank(torch.ones(4, k), torch.ones(k, 3))) for name, k in ranks.items()
    }
    config = lora.config(modules, [])
    assert set(config["rank_pattern"]) == {"^q", "enc.q", r"^a\.b", "^a_b"}


def test_inputs_that_disagree_on_the_task_leave_it_open() -> None:
    module = {"q": Lora().describe("q", LowRank(torch.ones(4, 1), torch.ones(1, 3)))}
    inputs: list[dict[str, Any]] = [
        {"task_type": "CAUSAL_LM", "fan_in_fan_out": True},
        {"task_type": "SEQ_CLS"},
    ]
    config = Lora().config(module, inputs)
    assert config["task_type"] is None
    assert config["fan_in_fan_out"] is True


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("case", ["linear", "transposed", "embedding", "conv"])
def test_a_base_weight_is_patched_in_blocks_of_rows(case: str, rows: int) -> None:
    form: Any = case if case in ("embedding", "conv") else "linear"
    delta = LowRank(torch.randn(5, 2), torch.randn(2, 8), 1.5, form, (2, 2) if form == "conv" else ())
    change = dense(delta).float()
    change = change.T if case in ("transposed", "embedding") else change
    weight = torch.randn(change.shape)
    blocks = [
        Lora().patch(delta, weight[row : row + rows].clone(), row, transposed=case == "transposed")
        for row in range(0, len(weight), rows)
    ]
    torch.testing.assert_close(torch.cat(blocks), weight + change)
    assert not Lora().patches_bias(delta)


def test_known_types_are_listed_for_an_unknown_one() -> None:
    with pytest.raises(Refused, match="unknown adapter type 'MAGIC'") as caught:
        kinds.load("MAGIC")
    assert "ia3" in (caught.value.hint or "")
    assert "loha" in (caught.value.hint or "")


def test_every_type_of_this_peft_is_known() -> None:
    from peft import PeftType

    for peft_type in PeftType:
        assert kinds.load(peft_type.value).peft_type == peft_type.value
