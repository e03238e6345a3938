"""Convert: an adapter of another type, or on a changed base, as a LoRA. A thin recipe: its result is derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from registry import kinds, reference
from registry.blobs import BlobStore
from registry.catalog import references
from registry.catalog.database import Database
from registry.errors import Refused, UsageError
from registry.results import Composed
from registry.verbs import compose


def convert(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    to: str,
    name: str | None,
    rank: int | None,
    energy: str | float | None,
    dtype: str | None,
    initial: str | None,
    device: str,
    base_path: str | Path | None,
    tags: Mapping[str, str],
    note: str | None,
    actor: str,
    progress: Callable[[str, int, int], None] | None,
) -> Composed:
    if to != "lora":
        raise UsageError(f"adapters cannot be converted to {to!r}", hint="--to lora")
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        first = None if initial is None else references.resolve(session, reference.parse(initial))
    kind = kinds.load(pin.kind)
    if (kind.writes_as or pin.kind) != to and not pin.not_composable:
        hint = (
            "merge it into the base model, and extract that with --rank"
            if pin.kind == "task_vector"
            else None
        )
        raise Refused(f"{pin.ref} is {pin.kind}, which has no exact form as {to}", hint=hint)
    expression = pin.ref if first is None else f"subtract_init({pin.ref}, {first.ref})"
    return compose.compose(
        database,
        blobs,
        name or f"{pin.name}-{to}",
        expression,
        rank=rank,
        energy=energy,
        dtype=dtype,
        seed=0,
        device=device,
        base_path=base_path,
        task=None,
        tags=tags,
        note=note,
        actor=actor,
        progress=progress,
    )
