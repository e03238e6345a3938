"""Of those who are about to compute the same at the same time, one does; the others wait for it, and find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.catalog import turns
from registry.catalog.database import Database

Progress = Callable[[str, int, int], None]
WAITING = "waiting for another process, which is computing the same"


@contextmanager
def alone(database: Database, what: str, progress: Progress | None = None) -> Iterator[None]:
    """Nobody else computes ``what`` meanwhile, however long it takes; who comes next looks again before computing.

    A process that ends, whichever way, ends its turn. Who holds one takes no other, or two would wait for each other; but
    for a sweep, which takes those of its recipes, and nobody takes a sweep's meanwhile.
    """
    waited: list[Progress] = []

    def tell() -> None:
        if progress is not None:
            progress(WAITING, 0, 0)
            waited.append(progress)

    with turns.turn(database, what, patient=True, waiting=tell):
        for each in waited:
            each(WAITING, 1, 1)
        yield
