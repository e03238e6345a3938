"""A base model's checkpoint folder: which tensors it holds and where, without loading any of them.

Accepted is what ``transformers`` loads: ``model.safetensors``, or ``model.safetensors.index.json`` and the
shards it names. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import digest
from registry._remembered import Remembered, Stamp, stamp
from registry._shards import MAX_HEADER, StoredTensor, hash_files, read_header, read_json, storage
from registry._targets import Target, resolve
from registry.base_layout import BaseLayout, layout
from registry.errors import NotFound, Refused

if TYPE_CHECKING:
    from registry.kinds import Module

__all__ = ["BaseCheckpoint", "StoredTensor", "Target", "open_base"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
MAX_CONFIG = 1 << 20

_AGAIN = "download the base model again"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.safetensors")


@dataclass(frozen=True)
class BaseCheckpoint:
    """An opened base model. ``tensors`` are in file order, shard by shard; ``shards`` are file names."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    shards: tuple[str, ...]
    indexed: bool

    def fingerprint(
        self,
        progress: Callable[[int, int], None] | None = None,
        *,
        remembered: Remembered | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> str:
        """What identifies the weights: the digest of the sorted list of their files' sha256.

        It does not depend on the shards' names, nor on any other file; the same weights split otherwise have
        another fingerprint. Every byte is read, but for files that are ``remembered`` and unchanged; ``meanwhile`` is
        called while they are, ``progress`` is told bytes done and bytes in all. Raises ``StorageFailure`` when a file
        cannot be read.
        """
        paths = [self.folder / shard for shard in self.shards]
        files = hash_files(paths, progress, remembered=remembered, meanwhile=meanwhile)
        return digest.of_json(sorted(files.values()))

    @property
    def layout(self) -> BaseLayout:
        """What the weight files hold, without where it lies in them."""
        return layout(((t.name, t.dtype, t.shape) for t in self.tensors.values()), self.config)

    def unknown(self, remembered: Remembered) -> int:
        """How many bytes :meth:`fingerprint` would read."""
        paths = [self.folder / shard for shard in self.shards]
        with storage("read", self.folder):
            return sum(path.stat().st_size for path in paths if remembered.find(path) is None)

    def stamps(self) -> tuple[Stamp, ...]:
        """What shows that a weight file was changed: equal before and after, where none was."""
        with storage("read", self.folder):
            return tuple(stamp((self.folder / shard).stat()) for shard in self.shards)

    def resolve(
        self,
        modules: Mapping[str, Module],
        *,
        fan_in_fan_out: bool | None = None,
        new_heads: bool = False,
    ) -> dict[str, Target]:
        """The weight each adapted module changes; ``fan_in_fan_out`` is the adapter's flag, None for unknown.

        With ``new_heads``, a parameter that the adapter holds whole may be missing here, and is left out.

        Raises ``Incompatible`` for a module without a tensor or with one of another shape, ``Refused`` for a
        tensor that is no plain float tensor, and for an embedding tied in a way that is not known.
        """
        return resolve(self.tensors, self.config, modules, fan_in_fan_out, new_heads=new_heads)


def open_base(folder: Path) -> BaseCheckpoint:
    """Read a checkpoint folder's config and the headers of its weight files.

    Raises ``NotFound`` when there is no such folder, ``Refused`` when its weights are pickles, missing,
    truncated or malformed.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="give the folder of the base model's checkpoint")
    indexed = not (folder / SINGLE).exists()
    weight_map = _weight_map(folder) if indexed else {}
    shards = tuple(sorted(set(weight_map.values()))) if indexed else (SINGLE,)
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        if not (folder / shard).exists():
            raise Refused(f"{folder} lacks the shard {shard}", hint=_AGAIN)
        for tensor in read_header(folder / shard):
            if tensor.name in tensors:
                raise Refused(
                    f"{folder}: {shard} and {tensors[tensor.name].shard} both hold {tensor.name!r}",
                    hint=_AGAIN,
                )
            tensors[tensor.name] = tensor
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].shard != shard:
            raise Refused(f"{folder}: {shard} lacks the tensor {name!r} that {INDEX} names", hint=_AGAIN)
    if not (folder / CONFIG).exists():
        raise Refused(f"{folder} has no {CONFIG}", hint="give the folder of a transformers checkpoint")
    config = read_json(folder / CONFIG, MAX_CONFIG)
    return BaseCheckpoint(folder, config, tensors, shards, indexed)


def _weight_map(folder: Path) -> dict[str, str]:
    if not (folder / INDEX).exists():
        raise _no_weights(folder)
    weight_map = read_json(folder / INDEX, MAX_HEADER).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Refused(f"{folder / INDEX} has no weight_map", hint=_AGAIN)
    for shard in weight_map.values():
        # Only plain names: a hostile index must not reach outside the folder.
        if not isinstance(shard, str) or _SHARD_NAME.fullmatch(shard) is None:
            raise Refused(
                f"{folder / INDEX} names {shard!r:.100}, which is no safetensors file in this folder",
                hint=_AGAIN,
            )
    return weight_map


def _no_weights(folder: Path) -> Refused:
    if (folder / "adapter_config.json").exists():
        return Refused(
            f"{folder} holds an adapter, not a base model",
            hint="give the folder of the model it was trained on",
        )
    pickles = [
        name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json") if (folder / name).exists()
    ]
    if pickles:
        return Refused(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read",
            hint="convert it where you trust it: AutoModel….from_pretrained(folder).save_pretrained(new_folder)",
        )
    return Refused(
        f"{folder} holds neither {SINGLE} nor {INDEX}", hint="give a safetensors checkpoint's folder"
    )
