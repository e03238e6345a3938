"""One adapter of rank 16 on all linear layers, merged into a sharded bfloat16 checkpoint of Llama's shape.

    python -m benchmarks merge [--size GB] [--runs N] [--wait S] [--case NAME …] [--mergekit PYTHON]

Each case is a whole process, interleaved with the others: a copy of the base's files (``cp -r`` and fsync, which
is what a merge can at best come near to), ``registry materialize`` on a base that is known, and on one that has to
be read first to be identified, the merge alone (no catalog), four adapters with ``ties``, PEFT's ``merge_and_unload`` with ``save_pretrained``, and mergekit, which
wants other versions of libraries and so an environment of its own: ``--mergekit`` names its interpreter. All of them
leave durable files. Before each, outputs are removed, the disk is synced, and
``--wait`` seconds pass, so that no case pays for what another left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks._processes import Taken, measure, table

RANK = 16
SHARD = 1_000_000_000
VOCABULARY = 32_000
DENSITY = "0.5"
_SETTLED_S = 6  # before the base is identified: what a younger file holds is not remembered


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks merge")
    parser.add_argument("--size", type=float, default=4.5, help="of the base model, in GB (default: 4.5)")
    parser.add_argument("--runs", type=int, default=3, help="of each case (default: 3)")
    parser.add_argument("--wait", type=float, default=6, help="seconds before each run (default: 6)")
    parser.add_argument("--case", action="append", choices=[*_COMMANDS], help="only this case; repeatable")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument(
        "--mergekit", default=sys.executable, help="a Python that has mergekit 0.1.5 and peft"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="merge-benchmark-") as folder:
        _compare(Path(folder), options)


def _compare(folder: Path, options: argparse.Namespace) -> None:
    environment = {**os.environ, "REGISTRY_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    # In a process of its own: the peak memory of this one would count as that of every child.
    measure([*_own("make")(folder), str(int(options.size * 1e9))], environment)
    time.sleep(_SETTLED_S)
    adding = ["-m", "registry", "add", str(folder / "adapter0"), "one", "--base-path", str(folder / "base")]
    measure([sys.executable, *adding], environment)
    files = list(folder.glob("base/*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    print(
        f"base of {size / 1e9:.2f} GB in {len(files)} files, adapters of rank {RANK}, n={options.runs}; seconds\n"
    )
    cases = [name for name in _COMMANDS if not options.case or name in options.case]
    for peer, python in {"peft": sys.executable, "mergekit": options.mergekit}.items():
        if peer in cases and not _has(python, peer):
            print(f"{peer} is not installed: left out\n")
            cases.remove(peer)
    taken: dict[str, list[Taken]] = {name: [] for name in cases}
    for _ in range(options.runs):
        for name in cases:
            _settle(folder, options.wait)
            if name == _FIRST:
                (folder / "home" / "fingerprints.json").unlink(missing_ok=True)
            command = _COMMANDS[name](folder)
            if name == "mergekit":
                command[0] = options.mergekit
            taken[name].append(measure(command, environment))
    table(taken, "cp", ["peft", "mergekit"])


def _has(python: str, package: str) -> bool:
    return not subprocess.run(
        [python, "-c", f"import {package}"], capture_output=True, check=False
    ).returncode


def _settle(folder: Path, wait: float) -> None:
    """The same state for every case: no outputs, nothing left to write, the base in memory where it fits."""
    for left in ("out", "scratch"):
        shutil.rmtree(folder / left, ignore_errors=True)
    os.sync()
    for path in sorted(folder.glob("base/*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.read(8 << 20):
                pass
    time.sleep(wait)


def _own(case: str) -> Callable[[Path], list[str]]:
    """A case that is a function of this file, in a process of its own."""
    return lambda folder: [sys.executable, "-m", "benchmarks.merge", case, str(folder)]


def _cp(folder: Path) -> list[str]:
    return ["sh", "-c", 'cp -r "$0" "$1" && sync "$1"/* "$1"', str(folder / "base"), str(folder / "out")]


def _materialize(folder: Path) -> list[str]:
    places = ["--base-path", str(folder / "base"), "--out", str(folder / "out")]
    return [sys.executable, "-m", "registry", "materialize", "one", "--as", "model", *places]


_FIRST = "materialize first"

_COMMANDS: Mapping[str, Callable[[Path], list[str]]] = {
    "cp": _cp,
    "materialize": _materialize,
    _FIRST: _materialize,
    "merge alone": _own("merge alone"),
    "ties of four": _own("ties of four"),
    "peft": _own("peft"),
    "mergekit": _own("mergekit"),
}


# -- the cases that are functions


def _make(folder: Path) -> None:
    _make_base(folder / "base", int(sys.argv[3]))
    for number in range(4):
        _make_adapter(folder / f"adapter{number}", folder / "base", seed=number)


def _merge_alone(folder: Path) -> None:
    _merge(folder, "adapter0")


def _ties(folder: Path) -> None:
    _merge(folder, *(f"adapter{number}" for number in range(4)))


def _merge(folder: Path, *names: str) -> None:
    """The library without its catalog: recipe, computation, streamed merge."""
    import torch

    from registry import evaluate, kinds, methods, peft_format
    from registry.checkpoint import open_base
    from registry.merge import merge_into_base
    from registry.recipe import Call, Input, Recipe, linear

    adapters = [
        peft_format.open_files(folder / name / peft_format.CONFIG, folder / name / peft_format.TENSORS)
        for name in names
    ]
    readers = {f"sha256:{number:064}": adapter for number, adapter in enumerate(adapters)}
    expression = linear([(1, Input(digest=digest)) for digest in readers])
    if len(names) > 1:
        method = methods.build("ties", {"density": DENSITY})
        arguments = tuple(linear([(1, Input(digest=digest))]) for digest in readers)
        call = Call(
            method="ties",
            algorithm=method.algorithm,
            parameters=method.model_dump(mode="json"),
            arguments=arguments,
        )
        expression = linear([(1, call)])
    recipe = Recipe(
        kind="lora", algorithm=kinds.load("lora").algorithm, dtype="float32", expression=expression
    )
    device = torch.device("cpu")
    computation = evaluate.prepare(recipe, readers, device=device)
    (folder / "out").mkdir()
    merge_into_base(
        open_base(folder / "base"),
        kind=kinds.load("lora"),
        modules=computation.modules,
        deltas=lambda module: computation.module(module).delta,
        out=folder / "out",
        device=device,
    )


def _peft(folder: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, folder / "adapter0").merge_and_unload()
    merged.save_pretrained(folder / "out", max_shard_size=SHARD)
    _make_durable(folder / "out")


def _mergekit(folder: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    settings = {
        "merge_method": "passthrough",
        "dtype": "bfloat16",
        "models": [{"model": f"{folder / 'base'}+{folder / 'adapter0'}"}],
    }
    cache = str(folder / "scratch")
    options = MergeOptions(lora_merge_cache=cache, transformers_cache=cache, out_shard_size=SHARD)
    run_merge(MergeConfiguration.model_validate(settings), str(folder / "out"), options)
    _make_durable(folder / "out")


def _make_durable(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


_FUNCTIONS = {
    "make": _make,
    "merge alone": _merge_alone,
    "ties of four": _ties,
    "peft": _peft,
    "mergekit": _mergekit,
}


# -- what is merged


def _shapes(size: int) -> tuple[dict[str, tuple[int, ...]], dict[str, object]]:
    """Parameters of a Llama of about ``size`` bytes, and its config; less wide where 4096 would be too large."""
    wide = size >= 1_500_000_000
    hidden, inner = (4096, 11008) if wide else (2048, 5504)
    layer = {
        "input_layernorm": (hidden,),
        "mlp.down_proj": (hidden, inner),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "post_attention_layernorm": (hidden,),
        **{f"self_attn.{part}_proj": (hidden, hidden) for part in "kqvo"},
    }
    layers = max(1, round((size - 4 * VOCABULARY * hidden) / (2 * (4 * hidden**2 + 3 * hidden * inner))))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, hidden)}
    for number in range(layers):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (VOCABULARY, hidden)}
    return shapes, {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 128,
        "num_key_value_heads": hidden // 128,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }


def _make_base(folder: Path, size: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    shapes, config = _shapes(size)
    groups: list[list[str]] = [[]]
    room = SHARD
    for name, shape in shapes.items():
        nbytes = 2 * torch.Size(shape).numel()
        if nbytes > room and groups[-1]:
            groups.append([])
            room = SHARD
        groups[-1].append(name)
        room -= nbytes
    generator, weight_map = torch.Generator().manual_seed(0), {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        tensors = {name: torch.empty(shapes[name], dtype=torch.bfloat16) for name in names}
        for tensor in tensors.values():
            tensor.normal_(0, 0.02, generator=generator)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    total = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))


def _linears(base: Path) -> dict[str, tuple[int, ...]]:
    from registry.checkpoint import open_base

    tensors = open_base(base).tensors
    return {name.removesuffix(".weight"): t.shape for name, t in tensors.items() if "_proj." in name}


def _make_adapter(folder: Path, base: Path, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, (out, features) in _linears(base).items():
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, features, generator=generator) / features**0.5
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, RANK, generator=generator) / 100
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "benchmarks/base",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in _linears(base)}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    _FUNCTIONS[sys.argv[1]](Path(sys.argv[2]))
