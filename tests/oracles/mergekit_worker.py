"""Merges tensors with mergekit when asked to, in a process that has it on its path. Started by ``conftest.py``.

Each line of the input is JSON: a safetensors file to read, one to write, and the arguments of ``merge_tensors``.
Each line of the output is JSON too: null, or what mergekit raised. Tensors ``0``, ``1`` … are the inputs; ``draw0``,
``draw1`` … are uniform numbers, of which each ``torch.bernoulli`` uses up one tensor.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file


def merged(request: dict[str, Any]) -> torch.Tensor:
    given = load_file(request["source"])
    draws = [given[f"draw{i}"] for i in range(request["draws"])]

    def bernoulli(probabilities: torch.Tensor) -> torch.Tensor:
        drawn = draws.pop(0).reshape(probabilities.shape)
        return (drawn < probabilities.double()).to(probabilities.dtype)

    api = importlib.import_module("mergekit.merge_methods.api")
    with mock.patch.object(torch, "bernoulli", bernoulli):
        found: torch.Tensor = api.merge_tensors(
            [given[str(i)] for i in range(request["inputs"])],
            request["method"],
            parameters=request["parameters"],
            base_index=request["base_index"],
        )
    return found


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        error = None
        try:
            save_file({"merged": merged(request).contiguous()}, request["target"])
        except Exception as raised:  # noqa: BLE001 -- the asking process decides what it means
            error = f"{type(raised).__name__}: {raised}"
        sys.stdout.write(json.dumps(error) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
