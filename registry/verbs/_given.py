"""The adapter that an evaluation is given: a folder of its own, made afresh each time it is tried."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from registry import _partial, peft_format
from registry.errors import StorageFailure
from registry.results import BaseModelIdentity

_PIECE = 1 << 30


class Given:
    """A private folder, for as long as the block runs; what a killed process left is removed by the next, or by ``gc``.

    The adapter's files are open, so that they can be given again whatever becomes of the stored ones, or of the folder.
    """

    def __init__(self, place: Path, name: str) -> None:
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._folder = self._stack.enter_context(_partial.new(place, name, folder=True))
        except OSError as error:
            raise StorageFailure(f"cannot write to {place}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def take(self, paths: Mapping[str, Path], base_model: BaseModelIdentity, *, ours: bool = False) -> None:
        """Take an adapter in these files, naming its base model as the catalog does and tensors as PEFT does.

        What was written here, for this base model (``ours``), does so already.
        """
        stored = (
            None if ours else peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS])
        )
        if stored is not None and not (
            peft_format.is_canonical(stored) and peft_format.is_for(stored, base_model)
        ):
            own = self._folder / "rewritten"
            peft_format.rewrite(stored, own, base_model)
            paths = {name: own / name for name in paths}
        try:
            self._files = {name: self._stack.enter_context(path.open("rb")) for name, path in paths.items()}
        except OSError as error:
            raise StorageFailure(f"{error.filename} cannot be read: {error.strerror}") from error

    def fresh(self) -> Path:
        """The adapter's folder, as it was; what was made of it before is gone."""
        path = self._folder / "adapter"
        _partial.remove(path)
        try:
            path.mkdir()
            for name, file in self._files.items():
                _copy(file, path / name)
        except OSError as error:
            raise StorageFailure(
                f"cannot write {path}: {error.strerror}",
                hint="free some disk space, or choose another folder",
            ) from error
        return path


def _copy(file: BinaryIO, target: Path) -> None:
    """A copy by the system itself where it can: of some file systems it takes no space until it is changed."""
    with target.open("xb") as into:
        try:
            done = 0
            while some := os.copy_file_range(file.fileno(), into.fileno(), _PIECE, done, done):
                done += some
        except (OSError, AttributeError):  # between two file systems, or a system that does not know how to
            file.seek(0)
            into.seek(0)
            into.truncate()
            shutil.copyfileobj(file, into)
