"""The plan of a merged checkpoint: which tensor is written where, from which one of the base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry._safetensors import BITS_OF, data_size, encode_header
from registry._shards import FLOATS, StoredTensor
from registry._targets import Target, Tie, find_tie
from registry.errors import Refused, UsageError

if TYPE_CHECKING:
    from registry.checkpoint import BaseCheckpoint


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the result, named ``name``, made from ``source`` and stored as ``dtype``.

    ``module`` is the adapter module that changes it, or whose bias it is (``is_bias``), None for a plain copy.
    It is worked on as rows of ``columns`` elements: ``row_bytes`` of the source.
    """

    name: str
    source: StoredTensor
    dtype: str
    module: str | None = None
    transposed: bool = False
    is_bias: bool = False

    @property
    def nbytes(self) -> int:
        return data_size(self.dtype, self.source.shape)

    @property
    def columns(self) -> int:
        """Elements in a row: a weight flattened to two dimensions, a column for anything else."""
        if self.module is None or self.is_bias or not self.source.shape[0]:
            return 1
        return self.source.nbytes * 8 // BITS_OF[self.source.dtype] // self.source.shape[0]

    @property
    def row_bytes(self) -> int:
        return max(1, self.columns * BITS_OF[self.source.dtype] // 8)


@dataclass(frozen=True, slots=True)
class Layout:
    """The result's weight files in order, each with its tensors in order; ``index`` where there is one."""

    files: Mapping[str, tuple[Piece, ...]]
    index: Mapping[str, Any] | None
    untied: bool

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for pieces in self.files.values() for piece in pieces)

    def header(self, name: str) -> bytes:
        return encode_header((piece.name, piece.dtype, piece.source.shape) for piece in self.files[name])


def lay_out(
    base: BaseCheckpoint, targets: Mapping[str, Target], dtype: str | None, max_shard_size: int | None
) -> Layout:
    """Plan the merge. Raises ``UsageError`` for an unknown dtype or a shard size that is not positive."""
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"{dtype!r} is no dtype to merge in", hint=f"one of {', '.join(FLOATS)}")
    if max_shard_size is not None and max_shard_size <= 0:
        raise UsageError(f"a shard cannot have {max_shard_size} bytes")
    tie = find_tie(base.tensors, base.config)
    untying = [target for target in targets.values() if not target.keeps_tie]
    touched = {target.source for target in untying} | {target.tensor for target in untying}
    if tie is not None and any(t.rows and t.source == tie.embedding for t in targets.values()):
        _refuse_rows(tie, targets, touched)
    if tie is not None and touched.isdisjoint({tie.embedding, tie.head}):
        tie = None
    pieces = _pieces(base, targets, tie, dtype)
    if max_shard_size is None:
        files = {shard: _aligned(p for p in pieces if p.source.shard == shard) for shard in base.shards}
    else:
        files = _packed(pieces, max_shard_size)
    indexed = base.indexed if max_shard_size is None else len(files) > 1
    return Layout(files, _index(files) if indexed else None, untied=tie is not None)


def _refuse_rows(tie: Tie, targets: Mapping[str, Target], touched: set[str]) -> None:
    """Trained tokens are meant for both ends of a tied model: neither end may be another one's, or separate."""
    of_head = any(target.rows and target.tensor == tie.head for target in targets.values())
    if of_head or not touched.isdisjoint({tie.embedding, tie.head}):
        raise Refused(
            f"trained tokens and {tie.head!r}, which is tied to {tie.embedding!r}, cannot be merged into one model",
            hint="save the base with tie_word_embeddings=false and both tensors stored, and merge into that",
        )


def _pieces(
    base: BaseCheckpoint, targets: Mapping[str, Target], tie: Tie | None, dtype: str | None
) -> list[Piece]:
    """The result's tensors in the base's order, a separated head right after its embedding."""
    owners = {target.tensor: (name, target.transposed) for name, target in targets.items()}
    copies = tie.copies if tie is not None else {}
    prefix = tie.prefix if tie is not None else ""
    pieces = []
    for source in base.tensors.values():
        names = [source.name, *(new for new, old in copies.items() if old == source.name)]
        for name in names:
            stays = tie is None or name == tie.head or name in copies
            final = name if stays else prefix + name
            out = dtype if dtype is not None and source.dtype in FLOATS else source.dtype
            # A copy is what it is a copy of, but for a head that is separated because the two differ.
            owner = name if name in owners or (tie is not None and name == tie.head) else source.name
            pieces.append(_piece(final, owner, source, out, owners))
    return pieces


def _piece(
    final: str, name: str, source: StoredTensor, dtype: str, owners: Mapping[str, tuple[str, bool]]
) -> Piece:
    if name in owners:
        module, transposed = owners[name]
        return Piece(final, source, dtype, module, transposed)
    weight = f"{name.removesuffix('.bias')}.weight"
    if name.endswith(".bias") and weight in owners and source.dtype in FLOATS:
        return Piece(final, source, dtype, owners[weight][0], is_bias=True)
    return Piece(final, source, dtype)


def _aligned(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Wide dtypes first, as safetensors writes them: every tensor then starts at a multiple of its item size."""
    return tuple(sorted(pieces, key=lambda piece: -BITS_OF[piece.dtype]))


def _packed(pieces: list[Piece], limit: int) -> dict[str, tuple[Piece, ...]]:
    """Fill files up to ``limit`` in order; a tensor larger than that has a file of its own."""
    groups: list[list[Piece]] = [[]]
    used = 0
    for piece in pieces:
        if groups[-1] and used + piece.nbytes > limit:
            groups.append([])
            used = 0
        groups[-1].append(piece)
        used += piece.nbytes
    if len(groups) == 1:
        return {"model.safetensors": _aligned(groups[0])}
    count = len(groups)
    return {
        f"model-{number:05}-of-{count:05}.safetensors": _aligned(group)
        for number, group in enumerate(groups, start=1)
    }


def _index(files: Mapping[str, tuple[Piece, ...]]) -> dict[str, Any]:
    weight_map = {piece.name: name for name, pieces in files.items() for piece in pieces}
    total = sum(piece.nbytes for pieces in files.values() for piece in pieces)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
