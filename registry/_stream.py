"""The streaming itself: every block of a planned checkpoint is read, patched, hashed and written, in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from registry._layout import Layout
from registry._memory import keep_freed_memory
from registry._patch import Block, Patcher, blocks, exact_float32, one_thread
from registry._safetensors import data_size
from registry._shards import FileRecord, FileWriter, read_into, storage

if TYPE_CHECKING:
    from registry.checkpoint import BaseCheckpoint

Progress = Callable[[int, int], None]

_BLOCK = {"cpu": 2 << 20, "cuda": 16 << 20}
_FLUSH = 256 << 20
_MOST_THREADS = 4
_MOST_FILES = 2  # together, they are hashed as fast as disks are written
_CUDA_THREADS = 2  # one copies while the other computes


@dataclass(frozen=True, slots=True)
class _Slot:
    """Memory for one block on its way: as read, then as it will be written."""

    memory: Tensor
    bytes: memoryview


@dataclass(slots=True)
class _Output:
    """A file on its way, and the threads that hash and write it, one block after another."""

    name: str
    file: FileWriter
    blocks: Iterator[Block]
    hasher: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    flushed: list[Future[None]] = field(default_factory=list)
    unflushed: int = 0


class _Workers:
    """The threads that compute on one device."""

    def __init__(self, device: torch.device, count: int) -> None:
        self.device = device
        self.count = count
        self._own = threading.local()

    def start(self, stack: ExitStack) -> None:
        self._pool = stack.enter_context(ThreadPoolExecutor(self.count, initializer=one_thread))

    def submit(self, work: Callable[[], int]) -> Future[int]:
        return self._pool.submit(self._on_cuda if self.device.type == "cuda" else _quietly, work)

    def _on_cuda(self, work: Callable[[], int]) -> int:
        """Each thread has a stream of its own, so that one's copies and another's products overlap."""
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._own.stream):
            size = _quietly(work)
            self._own.stream.synchronize()
        return size


class Stream:
    """Reads, computes, hashes and writes blocks, each in threads of its own, so that none waits for another.

    Hashing takes longest, and the bytes of one file can only be hashed one after another: where there are
    processors for it, several files are on their way at once. Deltas are asked for, and progress is told, in the
    caller's thread.
    """

    def __init__(
        self, base: BaseCheckpoint, layout: Layout, patcher: Patcher, out: Path, progress: Progress | None
    ) -> None:
        self._base = base
        self._layout = layout
        self._patcher = patcher
        self._out = out
        self._progress = progress
        half = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2))
        self._workers = {
            device: _Workers(device, _CUDA_THREADS if device.type == "cuda" else half)
            for device in patcher.devices
        }
        self._lanes = min(half, _MOST_FILES, len(layout.files))
        self._cuda = any(device.type == "cuda" for device in patcher.devices)
        self._block = _BLOCK["cuda" if self._cuda else "cpu"]
        self._done = 0
        self._sources: dict[str, FileIO] = {}
        self._files: list[FileWriter] = []
        self._free: list[_Slot] = []
        self._ahead: deque[tuple[_Output, _Slot, Future[int]]] = deque()
        self._behind: deque[tuple[_Slot, Future[None], Future[None]]] = deque()
        self._records: dict[str, Future[FileRecord]] = {}

    def run(self) -> dict[str, FileRecord]:
        """Write all weight files; their records by name."""
        keep_freed_memory()
        self._make_slots()
        with exact_float32(), ExitStack() as stack:
            stack.callback(self._close)  # entered first, so run last: no thread may still use a file
            one = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(2 + 2 * self._lanes)]
            self._reader, self._finisher, *lanes = one
            for workers in self._workers.values():
                workers.start(stack)
            for output, block in self._in_turn(lanes):
                self._send(output, block)
            while self._behind:
                self._recycle()
            return {name: self._records[name].result() for name in self._layout.files}

    def _make_slots(self) -> None:
        """Buffers as large as the largest block: a row at least, whatever its length."""
        size = 1
        for piece in (piece for pieces in self._layout.files.values() for piece in pieces):
            rows = max(1, self._block // piece.row_bytes)
            size = max(size, min(rows * piece.row_bytes, piece.source.nbytes))
            size = max(size, min(rows * data_size(piece.dtype, (piece.columns,)), piece.nbytes))
        self._room = sum(workers.count for workers in self._workers.values())
        for _ in range(self._room + 2 * self._lanes + 1):
            memory = torch.empty(size, dtype=torch.uint8, pin_memory=self._cuda)
            self._free.append(_Slot(memory, memory.numpy().data))

    def _in_turn(self, lanes: list[ThreadPoolExecutor]) -> Iterator[tuple[_Output, Block]]:
        """The blocks of all files in order, those of several files in turn where there are as many lanes."""
        names = iter(self._layout.files)
        free = deque(zip(lanes[::2], lanes[1::2], strict=True))
        outputs: deque[_Output] = deque()
        while True:
            while free and (name := next(names, None)) is not None:
                outputs.append(self._open(name, *free.popleft()))
            if not outputs:
                return
            block = next(outputs[0].blocks, None)
            if block is not None:
                yield outputs[0], block
                if not self._patcher.is_large:  # then its piece is done first, or its delta would come twice
                    outputs.rotate(-1)
                continue
            output = outputs.popleft()
            self._end(output)
            free.append((output.hasher, output.writer))

    def _open(self, name: str, hasher: ThreadPoolExecutor, writer: ThreadPoolExecutor) -> _Output:
        pieces = self._layout.files[name]
        header = self._layout.header(name)
        file = FileWriter(self._out / name, len(header) + sum(piece.nbytes for piece in pieces))
        self._files.append(file)
        file.write(header)
        every = (block for piece in pieces for block in blocks(piece, self._block))
        return _Output(name, file, every, hasher, writer)

    def _end(self, output: _Output) -> None:
        """Make a file durable after its last block, while the next one is on its way."""
        self._settle()
        last = [output.hasher.submit(_nothing), output.writer.submit(_nothing)]
        self._records[output.name] = self._finisher.submit(_finish, output.file, [*output.flushed, *last])

    def _send(self, output: _Output, block: Block) -> None:
        """Start a block on its way, once there is memory for it."""
        if self._patcher.needs_room(block.piece):
            self._settle()
        change = self._patcher.change(block.piece)
        while not self._free:
            if len(self._ahead) > self._room:
                self._write_next()
            else:
                self._recycle()
        slot = self._free.pop()
        computed = read = self._reader.submit(self._read, block, slot)
        if change is not None:
            computed = self._workers[change.device].submit(
                lambda: self._patcher.apply(block, slot.memory, change, read.result())
            )
        self._ahead.append((output, slot, computed))

    def _settle(self) -> None:
        while self._ahead:
            self._write_next()

    def _write_next(self) -> None:
        output, slot, computed = self._ahead.popleft()
        size = computed.result()
        data = slot.bytes[:size]
        hashed = output.hasher.submit(output.file.hash, data)
        self._behind.append((slot, hashed, output.writer.submit(output.file.store, data)))
        output.unflushed += size
        if output.unflushed >= _FLUSH:
            written = output.writer.submit(_nothing)
            output.flushed.append(self._finisher.submit(_flush, output.file, written))
            output.unflushed = 0
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._layout.nbytes)

    def _recycle(self) -> None:
        slot, hashed, written = self._behind.popleft()
        hashed.result()
        written.result()
        self._free.append(slot)

    def _read(self, block: Block, slot: _Slot) -> int:
        source = block.piece.source
        path = self._base.folder / source.shard
        if source.shard not in self._sources:
            with storage("read", path):
                self._sources[source.shard] = FileIO(path)
        buffer = slot.bytes[: block.hi - block.lo]
        read_into(self._sources[source.shard], buffer, source.offset + block.lo, path)
        return len(buffer)

    def _close(self) -> None:
        for file in self._files:
            file.close()
        for source in self._sources.values():
            source.close()


def _quietly(work: Callable[[], int]) -> int:
    with torch.inference_mode():
        return work()


def _nothing() -> None:
    """What a thread does last: once it is done, so is all that came before."""


def _flush(file: FileWriter, written: Future[None]) -> None:
    written.result()
    file.flush()


def _finish(file: FileWriter, done: list[Future[None]]) -> FileRecord:
    for each in done:
        each.result()
    return file.finish()
