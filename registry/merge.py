"""Merge deltas into a base model's checkpoint by streaming it: no model is built, memory does not grow with it.

Tensors go by in row blocks. A changed block is computed in float32 (float64 where the base is) and rounded
once, to the output dtype; what is not changed is copied byte for byte. One thread reads ahead and one hashes
and writes behind, so that a disk as fast as memory is not kept waiting.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry import digest
from registry._companions import copy_companions, merged_config, write_json
from registry._layout import lay_out
from registry._patch import Deltas, Patcher
from registry._shards import FileRecord, storage, sync_folder
from registry._stream import Progress, Stream
from registry.checkpoint import CONFIG, INDEX
from registry.errors import Conflict, StorageFailure

if TYPE_CHECKING:
    import torch

    from registry.checkpoint import BaseCheckpoint
    from registry.kinds import Kind, Module

__all__ = ["FileRecord", "MergedModel", "free_space_check", "merge_into_base"]


@dataclass(frozen=True)
class MergedModel:
    """A written model folder.

    ``files`` maps POSIX relative paths to size and digest; ``digest`` is taken over the canonical JSON of path
    → digest. ``untied``: the head was separated from the embedding. ``left_out``: files of the base that
    belong to a model folder but were too large to be what their name says.
    """

    files: Mapping[str, FileRecord]
    digest: str
    untied: bool = False
    left_out: tuple[str, ...] = ()


def free_space_check(out: Path, needed: int) -> None:
    """Raise ``StorageFailure`` unless ``needed`` bytes are free where ``out`` is."""
    with storage("examine", out):
        free = shutil.disk_usage(out).free
    if free < needed:
        raise StorageFailure(
            f"{out} has {free} bytes free, and the merged model needs {needed}",
            hint=f"free {needed - free} bytes on that disk, or choose another folder",
        )


def merge_into_base(
    base: BaseCheckpoint,
    *,
    kind: Kind,
    modules: Mapping[str, Module],
    deltas: Deltas,
    out: Path,
    device: torch.device | Sequence[torch.device],
    dtype: str | None = None,
    max_shard_size: int | None = None,
    fan_in_fan_out: bool | None = None,
    progress: Progress | None = None,
) -> MergedModel:
    """Write ``base`` with the deltas of ``modules`` applied into ``out``, an empty folder of the caller's.

    Where there are several devices, each computes whole weights, in turn. ``deltas(module)`` is called when the module's weight goes by: once, unless the files store its bias far
    from it. ``dtype`` (a torch float's name) is for all float tensors, None keeps each one's own; shards stay
    as they are unless ``max_shard_size`` (bytes) is given. ``progress`` is told bytes done and bytes in all.

    Raises ``Incompatible`` and ``Refused`` as :meth:`BaseCheckpoint.resolve` does, ``Refused`` for a result
    that is not finite in its dtype, ``Conflict`` when ``out`` is not empty, and ``StorageFailure``. What is in
    ``out`` after an error is for the caller to remove.
    """
    targets = base.resolve(modules, fan_in_fan_out=fan_in_fan_out)
    layout = lay_out(base, targets, dtype, max_shard_size)
    with storage("read", out):
        if any(out.iterdir()):
            raise Conflict(f"{out} is not empty", hint="merge into a new folder")
    free_space_check(out, layout.nbytes)
    devices = device if isinstance(device, Sequence) else [device]
    files = Stream(base, layout, Patcher(kind, modules, deltas, devices), out, progress).run()
    copied, left_out = copy_companions(base.folder, out)
    files |= copied
    if layout.index is not None:
        files[INDEX] = write_json(out / INDEX, layout.index)
    files[CONFIG] = write_json(out / CONFIG, merged_config(base.config, dtype=dtype, untied=layout.untied))
    sync_folder(out)
    files = dict(sorted(files.items()))
    whole = digest.of_json({name: record.sha256 for name, record in files.items()})
    return MergedModel(files, whole, layout.untied, left_out)
