"""Collect garbage: bytes that nothing live needs, and what interrupted work left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import compress
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from registry import _partial
from registry.blobs import BlobStore
from registry.catalog import artifacts, rot, turns
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.turns import turn
from registry.errors import DatabaseDamaged
from registry.results import Garbage

T = TypeVar("T")

GRACE = timedelta(hours=1)
"""Unrecorded bytes younger than this may belong to work in progress and are left alone."""

TURN = "the bytes: a backup or a collection of garbage"
"""What no collection does while a backup copies."""

_AT_ONCE = 16  # questions to the blob store: one that is far away takes its time over each


def gc(
    database: Database,
    blobs: BlobStore,
    *,
    apply: bool,
    actor: str,
    grace: timedelta = GRACE,
    places: Sequence[Path] = (),
    quarantine: bool = False,
) -> Garbage:
    """Rows go first, in one transaction; then, while no writer can record a blob, the bytes without a row.

    A crash in between leaves bytes without rows, which the next run takes. Raises ``DatabaseDamaged``, and removes
    nothing, where what says who needs which bytes is not as it was written. ``places`` are other folders in which
    killed processes may have left what they were writing. Less than the hour of ``grace`` is for tests, and nothing
    else gives it: a store elsewhere has uploads under way that look abandoned for as long.
    """
    _require_undamaged(database)
    partial = [str(path) for place in places for path in _partial.abandoned(place)]
    sizes = dict(blobs.digests())
    leftovers = blobs.leftovers(grace)
    # Damaged bytes are somebody's last copy until he says that they are not.
    aside = {name: size for name, _, size in blobs.quarantined()} if quarantine else {}
    leftovers += aside
    with database.read() as session:
        free = [] if apply else artifacts.only_in(session, artifacts.unneeded(session))
        known = artifacts.recorded(session)
    strays = _those(lambda digest: blobs.unused_for(digest, grace), sizes.keys() - known)
    if not apply:
        return _report(sizes | aside, sorted({*free, *strays}), [*leftovers, *partial], applied=False)
    with turn(database, TURN):
        freed = database.transact(_forget)
        with database.write() as session:
            artifacts.exclude_writers(session)
            # Looked for before anybody had to wait; only what was found then is looked at again.
            strays = _those(lambda digest: blobs.unused_for(digest, grace), strays)
            taken = artifacts.unrecorded(session, sorted({*freed, *strays}))
            _each(blobs.delete, taken)
            if taken:
                record(session, actor, "gc", "blobs", removed=len(taken))
    _each(blobs.discard, leftovers)
    turns.sweep(database)
    for place in places:
        _partial.sweep(place)
    return _report(sizes | aside, taken, [*leftovers, *partial], applied=True)


def _require_undamaged(database: Database) -> None:
    """A digest that changed by itself would make the bytes of a live version look as if nobody needed them."""
    with database.read() as session:
        found = next(rot.of_needs(session), None)
    if found is not None:
        where = f"{found.table}, {found.row}: " if found.row else ""
        raise DatabaseDamaged(f"nothing is removed by a damaged catalog: {where}{found.problem}")


def _forget(session: Session) -> list[str]:
    artifacts.exclude_writers(session)
    return artifacts.forget_files(session, artifacts.unneeded(session))


def _those(holds: Callable[[str], bool], digests: Iterable[str]) -> list[str]:
    asked = sorted(digests)
    return list(compress(asked, _each(holds, asked)))


def _each(work: Callable[[str], T], names: Iterable[str]) -> list[T]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, names))


def _report(sizes: dict[str, int], digests: list[str], leftovers: list[str], *, applied: bool) -> Garbage:
    return Garbage(
        applied=applied,
        blobs=tuple(digests),
        leftovers=tuple(leftovers),
        size=sum(sizes.get(name, 0) for name in (*digests, *leftovers)),
    )
