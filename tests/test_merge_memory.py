from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}

PEAK = """
import resource, sys, torch
from pathlib import Path
from registry.checkpoint import open_base
from registry.deltas import LowRank
from registry.kinds import Module
from registry.kinds.lora import Lora
from registry.merge import merge_into_base
base = open_base(Path(sys.argv[1]))
names = [name.removesuffix(".weight") for name in base.tensors]
modules = {name: Module(name, {}, (2048, 2048), 8) for name in names}
delta = LowRank(torch.ones(2048, 8), torch.ones(8, 2048))
merge_into_base(base, kind=Lora(), modules=modules, deltas=lambda _: delta, out=Path(sys.argv[2]),
                device=torch.device("cpu"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, count: int) -> int:
    """Peak KiB of a process that merges into ``count`` tensors of 8 MiB."""
    (folder / "base").mkdir(parents=True)
    (folder / "out").mkdir()
    weight = torch.ones(2048, 2048, dtype=torch.bfloat16)
    save_file({f"l.{i}.q.weight": weight.clone() for i in range(count)}, folder / "base/model.safetensors")
    (folder / "base/config.json").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-c", PEAK, str(folder / "base"), str(folder / "out")]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_peak_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    assert peak(tmp_path / "large", 14) - peak(tmp_path / "small", 2) < 32 << 10  # of 96 MiB more
