"""The streaming itself: every block of a planned checkpoint is read, patched, hashed and written, in order."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from registry._layout import Layout, Piece
from registry._safetensors import data_size
from registry._shards import FileRecord, FileWriter, read_into, storage
from registry.deltas import Delta, LowRank
from registry.errors import Incompatible, Refused
from registry.kinds import rules

if TYPE_CHECKING:
    from registry.checkpoint import BaseCheckpoint
    from registry.kinds import Kind, Module

Deltas = Callable[[str], Delta]
Progress = Callable[[int, int], None]

_LIVE_DELTAS = 3
_BLOCK = {"cpu": 2 << 20, "cuda": 16 << 20}


@contextmanager
def _exact_float32() -> Iterator[None]:
    """No TF32 or bfloat16 inside float32 products, whatever the process has chosen."""
    chosen, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
        torch.set_num_threads(threads)


def _one_thread() -> None:
    """For a computing thread: blocks are too small to be split, and its result must not depend on the split."""
    torch.set_num_threads(1)


def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks for the next ones instead of handing each back to the system.

    It adapts that threshold to the largest block it has seen freed (up to 32 MiB); page faults on fresh memory
    would otherwise take longer than the arithmetic. Elsewhere this does nothing: the memory is never touched.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _computing_threads(device: torch.device) -> int:
    """Blocks computed at once: cores are left to the reading and the hashing thread."""
    return 1 if device.type != "cpu" else max(1, min(4, (os.cpu_count() or 1) // 2))


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows ``row …`` of a piece: bytes ``lo`` to ``hi`` of its source."""

    piece: Piece
    row: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class _Slot:
    """Memory for one block on its way: as read, and as it will be written."""

    source: bytearray
    result: bytearray


def _blocks(pieces: Sequence[Piece], size: int) -> Iterator[_Block]:
    for piece in pieces:
        step = max(1, size // piece.row_bytes) * piece.row_bytes
        for lo in range(0, piece.source.nbytes, step):
            yield _Block(piece, lo // piece.row_bytes, lo, min(lo + step, piece.source.nbytes))


class Patcher:
    """Turns the bytes of a block into those of the result."""

    def __init__(
        self, kind: Kind, modules: Mapping[str, Module], deltas: Deltas, device: torch.device
    ) -> None:
        self._kind = kind
        self._modules = modules
        self._deltas = deltas
        self._live: OrderedDict[str, Delta] = OrderedDict()
        self.device = device

    def apply(self, block: _Block, slot: _Slot, delta: Delta | None) -> memoryview:
        """The block's bytes as they are to be written: a view of the slot. Safe to call from any thread."""
        piece = block.piece
        source = memoryview(slot.source)[: block.hi - block.lo]
        if delta is None and piece.dtype == piece.source.dtype:
            return source
        stored = torch.frombuffer(source, dtype=getattr(torch, piece.source.dtype))
        wide = torch.float64 if stored.dtype == torch.float64 else torch.float32
        x = stored.view(-1, piece.columns).to(self.device).to(wide)  # (rows, columns)
        y = x
        if delta is not None and piece.module is not None:
            own = rules(self._kind, self._modules[piece.module])
            y = own.patch(delta, x, block.row, transposed=piece.transposed)
        dtype: torch.dtype = getattr(torch, piece.dtype)
        view = memoryview(slot.result)[: stored.numel() * dtype.itemsize]
        result = torch.frombuffer(view, dtype=dtype).view(x.shape)
        result.copy_(y if y.device.type == "cpu" else y.to(dtype))  # the one rounding
        if not _is_finite(y, dtype) and (delta is not None or _is_finite(x, wide)):
            raise _not_finite(piece, base=not _is_finite(x, wide))
        return view

    def delta(self, piece: Piece) -> Delta | None:
        """The delta that changes a piece, None where it stays as it is; only a few are kept."""
        if piece.module is None:
            return None
        if piece.module not in self._live:
            self._live[piece.module] = self._fetch(piece.module, piece.source.dtype)
            if len(self._live) > _LIVE_DELTAS:
                self._live.popitem(last=False)
        delta = self._live[piece.module]
        own = rules(self._kind, self._modules[piece.module])
        return delta if not piece.is_bias or own.patches_bias(delta) else None

    def _fetch(self, module: str, dtype: str) -> Delta:
        delta = self._deltas(module).to(self.device)
        if delta.shape != self._modules[module].shape:
            raise Incompatible(
                f"module {module!r} has a delta of shape {delta.shape}, expected {self._modules[module].shape}"
            )
        if isinstance(delta, LowRank):  # widened here once, not again for every block
            wide = torch.float64 if dtype == "float64" else torch.float32
            return replace(delta, up=delta.up.to(wide), down=delta.down.to(wide))
        return delta


def _is_finite(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether all values are finite once rounded to ``dtype``: rounding is monotonic, so the extremes tell."""
    return bool(torch.stack(torch.aminmax(values)).to(dtype).isfinite().all())


def _not_finite(piece: Piece, *, base: bool) -> Refused:
    if base:
        return Refused(
            f"base tensor {piece.source.name!r} holds NaN or Inf", hint="use another copy of the base"
        )
    return Refused(
        f"tensor {piece.name!r} is not finite in {piece.dtype} once merged",
        hint="ask for bfloat16 or float32, or lower the adapters' coefficients",
    )


class Stream:
    """Reads, computes, and hashes and writes blocks, each in threads of its own, so that none waits for another.

    Deltas are asked for, and progress is told, in the caller's thread.
    """

    def __init__(
        self, base: BaseCheckpoint, layout: Layout, patcher: Patcher, out: Path, progress: Progress | None
    ) -> None:
        self._base = base
        self._layout = layout
        self._patcher = patcher
        self._out = out
        self._progress = progress
        self._block = _BLOCK.get(patcher.device.type, _BLOCK["cpu"])
        self._threads = _computing_threads(patcher.device)
        self._done = 0
        self._sources: dict[str, FileIO] = {}
        self._files: list[FileWriter] = []
        self._free: list[_Slot] = []
        self._ahead: deque[tuple[FileWriter, _Slot, Future[memoryview]]] = deque()
        self._behind: deque[tuple[_Slot, Future[None]]] = deque()

    def run(self) -> dict[str, FileRecord]:
        """Write all weight files; their records by name."""
        _keep_freed_memory()
        self._make_slots()
        records: dict[str, Future[FileRecord]] = {}
        with _exact_float32(), ExitStack() as stack:
            stack.callback(self._close)  # entered first, so run last: no thread may still use a file
            self._reader = stack.enter_context(ThreadPoolExecutor(1))
            self._computer = stack.enter_context(ThreadPoolExecutor(self._threads, initializer=_one_thread))
            self._writer = stack.enter_context(ThreadPoolExecutor(1))
            finisher = stack.enter_context(ThreadPoolExecutor(1))
            for name, pieces in self._layout.files.items():
                file = self._open(name)
                for block in _blocks(pieces, self._block):
                    self._send(file, block)
                while self._ahead:
                    self._write_next()
                records[name] = finisher.submit(_finish, file, self._writer.submit(int))
            while self._behind:
                self._recycle()
            return {name: record.result() for name, record in records.items()}

    def _make_slots(self) -> None:
        """Buffers as large as the largest block: a row at least, whatever its length."""
        source = result = 1
        for piece in (piece for pieces in self._layout.files.values() for piece in pieces):
            rows = max(1, self._block // piece.row_bytes)
            source = max(source, min(rows * piece.row_bytes, piece.source.nbytes))
            result = max(result, min(rows * data_size(piece.dtype, (piece.columns,)), piece.nbytes))
        self._free = [_Slot(bytearray(source), bytearray(result)) for _ in range(self._threads + 3)]

    def _open(self, name: str) -> FileWriter:
        header = self._layout.header(name)
        size = len(header) + sum(piece.nbytes for piece in self._layout.files[name])
        file = FileWriter(self._out / name, size)
        self._files.append(file)
        file.write(header)
        return file

    def _send(self, file: FileWriter, block: _Block) -> None:
        """Start a block on its way, once there is memory for it."""
        while not self._free:
            if len(self._ahead) > self._threads:
                self._write_next()
            else:
                self._recycle()
        slot = self._free.pop()
        read = self._reader.submit(self._read, block, slot)
        delta = self._patcher.delta(block.piece)
        self._ahead.append((file, slot, self._computer.submit(self._compute, block, slot, delta, read)))

    def _compute(self, block: _Block, slot: _Slot, delta: Delta | None, read: Future[None]) -> memoryview:
        read.result()
        with torch.inference_mode():
            return self._patcher.apply(block, slot, delta)

    def _write_next(self) -> None:
        file, slot, computed = self._ahead.popleft()
        data = computed.result()
        self._behind.append((slot, self._writer.submit(file.write, data)))
        self._done += len(data)
        if self._progress is not None:
            self._progress(self._done, self._layout.nbytes)

    def _recycle(self) -> None:
        slot, written = self._behind.popleft()
        written.result()
        self._free.append(slot)

    def _read(self, block: _Block, slot: _Slot) -> None:
        source = block.piece.source
        path = self._base.folder / source.shard
        if source.shard not in self._sources:
            with storage("read", path):
                self._sources[source.shard] = FileIO(path)
        buffer = memoryview(slot.source)[: block.hi - block.lo]
        read_into(self._sources[source.shard], buffer, source.offset + block.lo, path)

    def _close(self) -> None:
        for file in self._files:
            file.close()
        for source in self._sources.values():
            source.close()


def _finish(file: FileWriter, written: Future[int]) -> FileRecord:
    """Make a file durable after its last block, while the next file is on its way."""
    written.result()
    return file.finish()
