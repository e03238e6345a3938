"""The export in older releases of PEFT themselves, where they are at hand.

``pip install --no-deps --target ./peft-0.4.0 peft==0.4.0``, for as many releases as one likes, and
``REGISTRY_TEST_OLDER_PEFT`` naming those folders, with ``:`` between them. Each must answer as today's does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry import Registry
from tests.adapters import PREFIX, make_ia3, make_lora
from tests.exports.servers import logits
from tests.models import tiny_llama

PLACES = [Path(place) for place in os.environ.get("REGISTRY_TEST_OLDER_PEFT", "").split(os.pathsep) if place]
SHAPES = {
    "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.1.self_attn.v_proj": (16, 32),
    "model.layers.1.mlp.down_proj": (32, 48),
}
SCRIPT = """
import sys
import peft, torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM
base, adapter, out, version = sys.argv[1:]
assert peft.__version__ == version, peft.__version__
model = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapter).double()
with torch.no_grad():
    save_file({"logits": model(torch.arange(3, 19).reshape(2, 8)).logits.contiguous()}, out)
"""
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning"),
    pytest.mark.skipif(not PLACES, reason="REGISTRY_TEST_OLDER_PEFT names no folders with a PEFT in them"),
]


def _made(what: str, folder: Path) -> Path:
    head = torch.randn(96, 32, generator=torch.Generator().manual_seed(1))
    embeddings = {"model.embed_tokens": (96, 32)}
    if what == "ia3":
        modules = {"model.layers.0.self_attn.k_proj": 16}
        return make_ia3(folder, modules=modules, feedforward={"model.layers.1.mlp.down_proj": 48})
    options: dict[str, dict[str, Any]] = {
        "plain": {"config": {"peft_version": "0.21.2", "exclude_modules": None, "corda_config": None}},
        "patterns": {"ranks": {"model.layers.1.mlp.down_proj": 2}, "rslora": True, "embeddings": embeddings},
        "head": {"config": {"modules_to_save": ["lm_head"]}, "extra": {f"{PREFIX}lm_head.weight": head}},
    }
    return make_lora(folder, modules=SHAPES, r=4, alpha=2, **options[what])


@pytest.mark.parametrize("what", ["plain", "patterns", "head", "ia3"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_an_older_peft_answers_as_todays_does(
    place: Path, what: str, local: Registry, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    base, source = tiny_llama(tmp_path / "base"), _made(what, tmp_path / "a")
    local.add(source, "a")
    out = local.checkout("a", tmp_path / "out", for_="older-peft")
    plain = logits(LlamaForCausalLM.from_pretrained(base))
    today = logits(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), source))
    version = next(place.glob("peft-*.dist-info")).name.removeprefix("peft-").removesuffix(".dist-info")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, base, out.path, tmp_path / "logits", version],
        env={**os.environ, "PYTHONPATH": str(place.resolve())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    old = load_file(tmp_path / "logits")["logits"]
    assert not torch.allclose(today, plain, rtol=1e-3)
    torch.testing.assert_close(old, today, rtol=1e-5, atol=1e-5)
