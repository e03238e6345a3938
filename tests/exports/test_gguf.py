"""What llama.cpp makes of the export is what was stored: its rules, on the file as the gguf package reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from registry import Registry
from registry.errors import NotFound, Refused, UsageError
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import PREFIX, lora_deltas, make_ia3, make_lora
from tests.exports.servers import off
from tests.models import tiny_llama
from tests.verbs.places import refused

LLAMA = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4, "num_key_value_heads": 2}
LAYER = "model.layers.{}.{}"
SHAPES = {
    LAYER.format(0, "self_attn.q_proj"): (32, 24),
    LAYER.format(0, "self_attn.k_proj"): (16, 24),
    LAYER.format(1, "self_attn.v_proj"): (16, 24),
    LAYER.format(11, "self_attn.o_proj"): (24, 32),
    LAYER.format(1, "mlp.gate_proj"): (48, 24),
    LAYER.format(1, "mlp.down_proj"): (24, 48),
    "lm_head": (96, 24),
}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
EPS = {torch.float32: 2**-23, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def base(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def place(module: str) -> str:
    """What llama.cpp calls a module's tensor."""
    if module in {"lm_head", "model.embed_tokens"}:
        return {"lm_head": "output", "model.embed_tokens": "token_embd"}[module] + ".weight"
    *_, number, first, second = module.split(".")
    return f"blk.{number}.{NAMES[f'{first}.{second}']}.weight"


def permuted(weight: Tensor, heads: int) -> Tensor:
    """``LlamaModel.permute`` of llama.cpp's convert_hf_to_gguf.py, on a whole weight."""
    return (
        weight.reshape(heads, 2, len(weight) // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def llama_cpp_deltas(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, dict[str, Tensor]]:
    """The architecture, and ΔW by tensor as llama.cpp adds it (src/llama-adapter.cpp), in float64.

    ``shapes`` are those of the base's tensors, ``(out, in)``, against which it checks both factors.
    """
    reader = gguf.GGUFReader(file)
    said = {key: field.contents() for key, field in reader.fields.items() if "." in key and "GGUF" not in key}
    assert (said["general.type"], said["adapter.type"]) == ("adapter", "lora")
    alpha = said["adapter.lora.alpha"]
    pairs: dict[str, dict[str, tuple[Tensor, list[int]]]] = {}
    for tensor in reader.tensors:
        weight, _, role = tensor.name.rpartition(".")
        assert role in {"lora_a", "lora_b"}
        values = torch.from_numpy(np.array(tensor.data))
        if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
            values = values.view(torch.bfloat16)
        ne = [int(size) for size in tensor.shape]
        pairs.setdefault(weight, {})[role] = (values.reshape(*reversed(ne)).double(), ne)
    found = {}
    for weight, pair in pairs.items():
        (a, a_ne), (b, b_ne) = pair["lora_a"], pair["lora_b"]
        out, inner = shapes[weight]
        if weight == "token_embd.weight":
            vocabulary, width = out, inner
            assert (b_ne[1], a_ne[1]) == (width, vocabulary)
            assert a_ne[0] == b_ne[0]
            delta = a @ b.T  # (V, D)
        else:
            assert (a_ne[0], b_ne[1]) == (inner, out)
            assert a_ne[1] == b_ne[0], "lora_a tensor is not transposed"
            delta = b @ a
        scale = alpha / b_ne[0] if alpha else 1.0
        found[weight] = scale * delta
    return said["general.architecture"], found


def exported(
    catalog: Registry, source: Path, tmp_path: Path, config: dict[str, Any]
) -> tuple[Any, str, dict[str, Tensor]]:
    catalog.add(source, "x")
    made = catalog.checkout("x", tmp_path / "out", for_="gguf", base_path=base(tmp_path / "base", config))
    deltas = lora_deltas(source)
    shapes = {place(name): tuple(delta.shape) for name, delta in deltas.items()}
    architecture, found = llama_cpp_deltas(tmp_path / "out" / "adapter.gguf", shapes)
    return made, architecture, found


def turned(name: str, delta: Tensor, config: dict[str, Any]) -> Tensor:
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.rpartition(".")[2])
    return permuted(delta, config[heads]) if heads else delta


@pytest.mark.parametrize(
    "options", [{}, {"rslora": True}, {"ranks": {"lm_head": 2}, "alphas": {"lm_head": 5}}], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_llama_has_its_names_its_order_of_rows_and_its_deltas(
    dtype: torch.dtype, options: dict[str, Any], local: Registry, tmp_path: Path
) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=4, alpha=6, dtype=dtype, **options)
    made, architecture, found = exported(local, source, tmp_path, LLAMA)
    assert architecture == "llama"
    assert list(made.files) == ["adapter.gguf"]
    assert made.notes == ("load it with --lora adapter.gguf, beside a GGUF of tiny/base",)
    wanted = {place(n): turned(n, delta, LLAMA) for n, delta in lora_deltas(source).items()}
    error = off(found, wanted)
    assert error < (EPS[dtype] if options else 1e-15)
    held = {tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "out" / "adapter.gguf").tensors}
    assert held == {DTYPES[dtype]}


@pytest.mark.parametrize(
    ("architecture", "called", "modules"),
    [
        ("MistralForCausalLM", "llama", ["self_attn.q_proj", "mlp.up_proj"]),
        ("Qwen2ForCausalLM", "qwen2", ["self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"]),
        ("Qwen3ForCausalLM", "qwen3", ["self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"]),
        ("GemmaForCausalLM", "gemma", ["self_attn.q_proj", "mlp.down_proj"]),
        ("Gemma2ForCausalLM", "gemma2", ["self_attn.q_proj", "mlp.down_proj"]),
        ("Gemma3ForCausalLM", "gemma3", ["self_attn.q_proj", "mlp.down_proj"]),
        ("Phi3ForCausalLM", "phi3", ["self_attn.qkv_proj", "mlp.gate_up_proj", "self_attn.o_proj"]),
    ],
)
def test_every_architecture_has_its_own_names(
    architecture: str, called: str, modules: list[str], local: Registry, tmp_path: Path
) -> None:
    shapes = {LAYER.format(layer, name): (32, 16) for layer in (0, 3) for name in modules}
    source = make_lora(tmp_path / "a", modules=shapes)
    config = {**LLAMA, "architectures": [architecture]}
    _, found, deltas = exported(local, source, tmp_path, config)
    assert found == called
    turns = called == "llama"
    assert (
        off(deltas, {place(n): turned(n, d, config) if turns else d for n, d in lora_deltas(source).items()})
        == 0
    )


def test_conv1d_modules_of_gpt2_are_not_transposed(local: Registry, tmp_path: Path) -> None:
    shapes = {f"transformer.h.1.{name}": (48, 16) for name in ("attn.c_attn", "mlp.c_fc")}
    source = make_lora(tmp_path / "a", modules=shapes, config={"fan_in_fan_out": True})
    _, called, found = exported(local, source, tmp_path, {"architectures": ["GPT2LMHeadModel"]})
    assert called == "gpt2"
    assert off(found, {place(name): delta for name, delta in lora_deltas(source).items()}) < 1e-15


def test_an_embedding_lies_the_other_way_round(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules={}, embeddings={"model.embed_tokens": (96, 24)}, alpha=6)
    local.add(source, "x")
    config = {**LLAMA, "tie_word_embeddings": False}
    local.checkout("x", tmp_path / "out", for_="gguf", base_path=base(tmp_path / "base", config))
    _, found = llama_cpp_deltas(tmp_path / "out" / "adapter.gguf", {"token_embd.weight": (96, 24)})
    from tests.adapters import load_tensors

    a, b = (load_tensors(source)[f"{PREFIX}model.embed_tokens.lora_embedding_{x}"].double() for x in "AB")
    assert off(found, {"token_embd.weight": 1.5 * (b @ a).T}) < 1e-15


def test_a_scale_of_zero_stays_zero(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules={LAYER.format(0, "mlp.up_proj"): (48, 24)}, alpha=0)
    _, _, found = exported(local, source, tmp_path, LLAMA)
    assert all(not delta.any() for delta in found.values())  # llama.cpp takes an alpha of 0 for a scale of 1


def test_the_base_that_the_catalog_has_seen_is_enough(local: Registry, tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForCausalLM"]}))
    local.add(
        make_lora(tmp_path / "a", modules={LAYER.format(0, "mlp.up_proj"): (48, 32)}), "a", base_path=folder
    )
    made = local.checkout("a", tmp_path / "out", for_="gguf")
    assert made.rank == 4


def test_the_base_is_asked_of_the_hub_where_nothing_here_knows_it(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch) as server:
        _publish_base(server, LLAMA)
        source = make_lora(tmp_path / "a", modules=SHAPES, base="team/base")
        local.add(source, "a")
        local.checkout("a", tmp_path / "out", for_="gguf")
        with refused(local, NotFound, "there is no", "config.json", code=3):
            local.checkout("a", tmp_path / "two", for_="gguf", base_path=tmp_path)
    shapes = {place(name): shape for name, shape in SHAPES.items()}
    _, found = llama_cpp_deltas(tmp_path / "out" / "adapter.gguf", shapes)
    assert off(found, {place(n): turned(n, d, LLAMA) for n, d in lora_deltas(source).items()}) < 1e-15


def _publish_base(server: HubServer, config: dict[str, Any]) -> None:
    hubs.api(server).create_repo("team/base")
    hubs.push(server, "team/base", {"config.json": json.dumps(config).encode()})


NORM = {f"{PREFIX}model.norm.weight": torch.ones(8)}
Q = LAYER.format(0, "self_attn.q_proj")


@pytest.mark.parametrize(
    ("options", "config", "said"),
    [
        ({"modules": {Q: (32, 8)}}, {"architectures": ["FalconForCausalLM"]}, "FalconForCausalLM"),
        ({"modules": {Q: (32, 8)}}, {"architectures": ["LlamaForCausalLM"]}, "the number of its heads"),
        ({"modules": {Q: (30, 8)}}, LLAMA, "30 rows, which are not those of 4 heads"),
        ({"modules": {"model.layers.0.nowhere": (32, 8)}}, LLAMA, "no place for model.layers.0.nowhere"),
        ({"modules": {"model.layers.99999999.mlp.up_proj": (32, 8)}}, LLAMA, "a layer 99999999"),
        ({"modules": {"lm_head": (32, 8)}}, {**LLAMA, "tie_word_embeddings": True}, "share a weight"),
        ({"modules": {}, "embeddings": {"model.embed_tokens": (9, 8)}}, {"architectures": ["GemmaForCausalLM"]},
         "share a weight"),
        ({"modules": {"model.embed_tokens": (9, 8)}}, LLAMA, "cannot adapt model.embed_tokens"),
        ({"config": {"modules_to_save": ["norm"]}, "extra": NORM}, LLAMA, "a parameter stored whole"),
    ],
)  # fmt: skip
def test_what_llama_cpp_cannot_load_is_refused_by_name(
    options: dict[str, Any], config: dict[str, Any], said: str, local: Registry, tmp_path: Path
) -> None:
    local.add(make_lora(tmp_path / "a", **options), "a")
    with refused(local, Refused, said, code=7):
        local.checkout("a", tmp_path / "out", for_="gguf", base_path=base(tmp_path / "base", config))
    assert not (tmp_path / "out").exists()


def test_another_kind_is_refused(local: Registry, tmp_path: Path) -> None:
    local.add(make_ia3(tmp_path / "a"), "a")
    with refused(local, Refused, "llama.cpp does not load ia3", code=7):
        local.checkout("a", tmp_path / "out", for_="gguf", base_path=base(tmp_path / "base", LLAMA))


def test_the_package_it_needs_is_named_where_it_is_missing(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    monkeypatch.delitem(sys.modules, "registry.exports.gguf", raising=False)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with refused(local, UsageError, "needs gguf", "pip install 'adapter-registry[gguf]'", code=2):
        local.checkout("a", tmp_path / "out", for_="gguf")
    assert not (tmp_path / "out").exists()


def test_factors_of_two_types_are_written_in_one_that_holds_both(local: Registry, tmp_path: Path) -> None:
    up = f"{PREFIX}{Q}.lora_B.weight"
    source = make_lora(
        tmp_path / "a", modules={Q: (32, 24)}, dtype=torch.bfloat16, extra={up: torch.ones(32, 4).half()}
    )
    _, _, found = exported(local, source, tmp_path, LLAMA)
    wanted = {place(Q): permuted(lora_deltas(source)[Q], 4)}
    assert off(found, wanted) < 1e-15
