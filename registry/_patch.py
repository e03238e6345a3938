"""The arithmetic of a merge: blocks of rows changed by their module's delta, in float32, rounded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from registry._layout import Piece
from registry.deltas import Delta, LowRank
from registry.errors import Incompatible, Refused, StorageFailure
from registry.kinds import rules

if TYPE_CHECKING:
    from registry.kinds import Kind, Module

Deltas = Callable[[str], Delta]

_LIVE_DELTAS = 4  # a weight's and its bias', in two files
_LARGE = 32 << 20
_SURE = 1e18  # its square is a float32


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 or bfloat16 inside float32 products, whatever the process has chosen."""
    chosen, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
        torch.set_num_threads(threads)


def one_thread() -> None:
    """For a computing thread: blocks are too small to be split, and its result must not depend on the split."""
    torch.get_num_threads()  # a thread's first look at the number would undo what was set before
    torch.set_num_threads(1)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows ``row …`` of a piece: bytes ``lo`` to ``hi`` of its source."""

    piece: Piece
    row: int
    lo: int
    hi: int


def blocks(piece: Piece, size: int) -> Iterator[Block]:
    """A piece in blocks of about ``size`` bytes of its source, a row at least."""
    step = max(1, size // piece.row_bytes) * piece.row_bytes
    for lo in range(0, piece.source.nbytes, step):
        yield Block(piece, lo // piece.row_bytes, lo, min(lo + step, piece.source.nbytes))


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a piece: its delta, None where only the dtype changes, and the device it is computed on."""

    delta: Delta | None
    device: torch.device


class Patcher:
    """Turns the bytes of a block into those of the result, on one of ``devices``: whole pieces in turn."""

    def __init__(
        self, kind: Kind, modules: Mapping[str, Module], deltas: Deltas, devices: Sequence[torch.device]
    ) -> None:
        self._kind = kind
        self._modules = modules
        self._deltas = deltas
        self._live: OrderedDict[str, Change] = OrderedDict()
        self._fetched = 0
        self._scratch = threading.local()
        self._most_rows = 1 << 62
        self.devices = tuple(devices)

    def apply(self, block: Block, memory: Tensor, change: Change, size: int) -> int:
        """Put the block's new bytes where its ``size`` old ones are, at the start of ``memory``; returns how many.

        ``memory`` is uint8, and large enough for both. Safe to call from several threads.
        """
        piece = block.piece
        stored = memory[:size].view(_dtype(piece.source.dtype)).view(-1, piece.columns)
        dtype = _dtype(piece.dtype)
        size = stored.numel() * dtype.itemsize
        result = memory[:size].view(dtype).view(stored.shape)
        start, rows = 0, stored.shape[0]
        if dtype.itemsize > stored.element_size():  # row by row, it would run into rows still to be read
            stored = stored.clone()
        while start < rows:
            stop = min(rows, start + self._most_rows)
            try:
                self._rows(piece, stored[start:stop], result[start:stop], block.row + start, change)
            except torch.cuda.OutOfMemoryError as error:
                self._shrink(stop - start, error)
            else:
                start = stop
        return size

    def _rows(self, piece: Piece, stored: Tensor, result: Tensor, row: int, change: Change) -> None:
        wide = torch.float64 if stored.dtype == torch.float64 else torch.float32
        x = self._widened(stored, wide, change.device)  # (rows, columns)
        y = x
        if change.delta is not None and piece.module is not None:
            own = rules(self._kind, self._modules[piece.module])
            y = own.patch(change.delta, x, row, transposed=piece.transposed)
        dtype = result.dtype
        if not (_surely_finite(y, dtype) or _is_finite(y, dtype)):
            sound = _is_finite(stored.to(wide), wide)
            if change.delta is not None or sound:
                raise _not_finite(piece, base=not sound)
        result.copy_(y if y.device.type == "cpu" else y.to(dtype))  # the one rounding

    def _widened(self, stored: Tensor, wide: torch.dtype, device: torch.device) -> Tensor:
        """A copy in the dtype that is computed in; on the CPU in memory that the thread keeps."""
        if device.type != "cpu":
            return stored.to(device, non_blocking=True).to(wide)
        size = stored.numel() * wide.itemsize
        kept: Tensor | None = getattr(self._scratch, "memory", None)
        if kept is None or kept.numel() < size:
            kept = self._scratch.memory = torch.empty(size, dtype=torch.uint8)
        return kept[:size].view(wide).view(stored.shape).copy_(stored)

    def _shrink(self, rows: int, error: Exception) -> None:
        """Fewer rows at once from now on, as ``rows`` were too many for the device's memory."""
        if rows <= 1:
            raise StorageFailure(
                "the device has not enough memory for a row of a weight",
                hint="free its memory, or merge on the CPU: --device cpu",
            ) from error
        self._most_rows = min(self._most_rows, rows // 2)
        torch.cuda.empty_cache()

    def needs_room(self, piece: Piece) -> bool:
        """Whether a large delta is to go before this piece's can come: then no block may still be using it."""
        return self.is_large and self._is_changed(piece) and piece.module not in self._live

    @property
    def is_large(self) -> bool:
        """Whether a delta is kept of which there is to be one at a time."""
        return any(map(_is_large, self._live.values()))

    def change(self, piece: Piece) -> Change | None:
        """What is done to a piece, None where it stays as it is.

        Deltas of a few modules are kept, as a bias may be stored beside its weight; large ones only while in use.
        """
        if not self._is_changed(piece) or piece.module is None:
            return None if piece.dtype == piece.source.dtype else Change(None, self.devices[0])
        if self.needs_room(piece):
            for name in [name for name, kept in self._live.items() if _is_large(kept)]:
                del self._live[name]
        if piece.module not in self._live:
            device = self.devices[self._fetched % len(self.devices)]
            self._live[piece.module] = Change(self._fetch(piece.module, piece.source.dtype, device), device)
            self._fetched += 1
            if len(self._live) > _LIVE_DELTAS:
                self._live.popitem(last=False)
        found = self._live[piece.module]
        own = rules(self._kind, self._modules[piece.module])
        if piece.is_bias and (found.delta is None or not own.patches_bias(found.delta)):
            return None if piece.dtype == piece.source.dtype else Change(None, found.device)
        return found

    def _is_changed(self, piece: Piece) -> bool:
        """Whether the piece's module has a say in it: a matrix never changes a bias, a vector may."""
        if piece.module is None:
            return False
        return not piece.is_bias or len(self._modules[piece.module].shape) == 1

    def _fetch(self, module: str, dtype: str, device: torch.device) -> Delta:
        delta = self._deltas(module).to(device)
        if delta.shape != self._modules[module].shape:
            raise Incompatible(
                f"module {module!r} has a delta of shape {delta.shape}, expected {self._modules[module].shape}"
            )
        if isinstance(delta, LowRank):  # widened here once, not again for every block
            wide = torch.float64 if dtype == "float64" else torch.float32
            delta = replace(delta, up=delta.up.to(wide), down=delta.down.to(wide))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # blocks are computed in other streams
        return delta


def _is_large(change: Change) -> bool:
    held = () if change.delta is None else vars(change.delta).values()
    return sum(each.nbytes for each in held if isinstance(each, Tensor)) > _LARGE


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _surely_finite(values: Tensor, dtype: torch.dtype) -> bool:
    """A quick look: where the norm is far below the dtype's largest number, so is every element."""
    flat = values.reshape(-1)
    bound = min(torch.finfo(dtype).max / 2, _SURE)
    return float(torch.dot(flat, flat)) < bound * bound  # NaN is not


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
