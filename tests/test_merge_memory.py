from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak memory is told here")

# Not by getrusage, which counts what the parent, these tests, had before the child was another program.
PEAK = """
import sys, torch
from pathlib import Path
from registry import methods
from registry.checkpoint import open_base
from registry.deltas import LowRank
from registry.kinds import Module
from registry.kinds.lora import Lora
from registry.merge import merge_into_base
base = open_base(Path(sys.argv[1]))
names = [name.removesuffix(".weight") for name in base.tensors]
modules = {name: Module(name, {}, (2048, 2048), 8) for name in names}
given = [LowRank(torch.ones(2048, 8), torch.randn(8, 2048)) for _ in range(2)]
def delta(name):
    if sys.argv[3] == "none":
        return given[0]
    site = methods.Site(name, ["a", "b"])
    return methods.build(sys.argv[3], {"density": "0.5"}).merge(given, [1.0, 1.0], site).delta
merge_into_base(base, kind=Lora(), modules=modules, deltas=delta, out=Path(sys.argv[2]), device=torch.device("cpu"))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(folder: Path, count: int, method: str = "none") -> int:
    """Peak KiB of a process that merges an adapter, or two by a method, into ``count`` tensors of 8 MiB."""
    (folder / "base").mkdir(parents=True)
    (folder / "out").mkdir()
    weight = torch.ones(2048, 2048, dtype=torch.bfloat16)
    save_file({f"l.{i}.q.weight": weight.clone() for i in range(count)}, folder / "base/model.safetensors")
    (folder / "base/config.json").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-c", PEAK, str(folder / "base"), str(folder / "out"), method]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_peak_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    assert peak(tmp_path / "large", 14) - peak(tmp_path / "small", 2) < 32 << 10  # of 96 MiB more


def test_what_a_method_makes_is_never_whole(tmp_path: Path) -> None:
    one, two = peak(tmp_path / "sum", 6), peak(tmp_path / "ties", 6, "ties")
    assert two - one < 48 << 10  # of 16 MiB for each of four deltas, and as much to compute one
