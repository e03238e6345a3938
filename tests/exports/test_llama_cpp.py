"""The GGUF export in llama.cpp itself, where it is at hand.

``npm install node-llama-cpp`` in a folder, and ``REGISTRY_TEST_LLAMA_CPP`` naming that folder: its package has llama.cpp
ready-made. The numbers it answers must be those of the merged model.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from registry import Registry
from tests import models
from tests.adapters import make_lora
from tests.exports.test_gguf import permuted

PLACE = os.environ.get("REGISTRY_TEST_LLAMA_CPP")
pytestmark = pytest.mark.skipif(
    not PLACE, reason="REGISTRY_TEST_LLAMA_CPP names no folder with node-llama-cpp in it"
)

SCRIPT = """
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
const [modelPath, lora] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const context = await model.createContext({contextSize: 64, ...(lora ? {lora} : {})});
const tokens = [3, 4, 5, 6, 7, 8, 9, 10].map((token) => [token, {generateNext: {probabilities: true}}]);
const found = await context.getSequence().controlledEvaluate(tokens);
console.log(JSON.stringify(found.map((each) => Object.fromEntries(each.next.probabilities))));
process.exit(0);
"""
VOCABULARY = 288
SHAPES = {
    f"model.layers.{layer}.{name}": shape
    for layer in (0, 1)
    for name, shape in {
        "self_attn.q_proj": (32, 32),
        "self_attn.k_proj": (16, 32),
        "self_attn.v_proj": (16, 32),
        "self_attn.o_proj": (32, 32),
        "mlp.gate_proj": (48, 32),
        "mlp.up_proj": (48, 32),
        "mlp.down_proj": (32, 48),
    }.items()
}


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")
@pytest.mark.parametrize("embedded", [False, True], ids=["head", "embedding"])
def test_llama_cpp_answers_with_the_adapter_as_with_the_merged_model(
    embedded: bool, local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "VOCABULARY", VOCABULARY)
    base, shapes = models.tiny_llama(tmp_path / "base"), dict(SHAPES)
    up = "model.layers.1.mlp.up_proj"
    shapes |= {} if embedded else {"lm_head": (VOCABULARY, 32)}
    embeddings = {"model.embed_tokens": (VOCABULARY, 32)} if embedded else None
    source = make_lora(
        tmp_path / "a", modules=shapes, embeddings=embeddings, r=4, alpha=1, ranks={up: 2}, alphas={up: 0.3}
    )
    local.add(source, "a", base_path=base)
    local.checkout("a", tmp_path / "out", for_="gguf", base_path=base)
    local.materialize("a", into="model", base_path=base, out=tmp_path / "merged")
    plain, merged = (_converted(folder, tmp_path) for folder in (base, tmp_path / "merged"))
    adapted = _probabilities(plain, tmp_path / "out" / "adapter.gguf")
    assert np.abs(adapted - _probabilities(plain)).max() > 1e-3
    assert np.abs(adapted - _probabilities(merged)).max() < 1e-6


def _probabilities(*arguments: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    script = arguments[0].parent / "probabilities.mjs"
    script.write_text(SCRIPT)
    if not (modules := script.parent / "node_modules").exists():
        modules.symlink_to(Path(str(PLACE)).resolve() / "node_modules")
    command = ["node", script.name, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=script.parent, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows: list[Mapping[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return np.array([[row[str(token)] for token in range(VOCABULARY)] for row in rows])


def _converted(folder: Path, tmp_path: Path) -> Path:
    """A LLaMA checkpoint as GGUF in float32, with a vocabulary of bytes."""
    config = json.loads((folder / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    path = tmp_path / f"{folder.name}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(VOCABULARY)
    others = VOCABULARY - 259
    writer.add_tokenizer_model("llama")
    writer.add_token_list(
        [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
        + [f"t{index}".encode() for index in range(others)]
    )
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * others)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in models.load_tensors(folder).items():
        weight: torch.Tensor = tensor.float()
        if "q_proj" in name or "k_proj" in name:
            weight = permuted(weight, heads if "q_proj" in name else groups)
        writer.add_tensor(str(names.get_name(name, try_suffixes=(".weight",))), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
