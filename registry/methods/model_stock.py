from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.errors import Incompatible
from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta

_POLE = 1e-9


class ModelStock(Method):
    """The mean, drawn towards the base model by how little the inputs agree.

    ``t = N·c / (1 + (N−1)·c)`` with c the mean cosine of all pairs; each module is one vector. A pair with a zero
    or missing delta has cosine 0. The formula as it stands turns the mean around where c is negative and has a
    pole at c = −1/(N−1), which is refused; ``clamp=true`` keeps t within 0 … 1 instead. Weights are multiplied
    into the inputs. Reports ``cosine`` and ``t``.
    """

    about: ClassVar[About] = About(
        formula="t · (1/N) · Σ wᵢδᵢ",
        source="Jang, Yun & Han, Model Stock, ECCV 2024, arXiv 2403.19522, the equation for N models; on deltas",
        domain="core",
        cost="O((m + n)·k² + k³ + N²·k²)",
        example="model_stock(a, b, c)",
        in_mergekit="`model_stock` with `filter_wise: false`; differs for small deltas, since its cut-off is absolute",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector", "ia3"})
    arity: ClassVar[tuple[int, int | None]] = (2, None)

    clamp: bool = Field(default=False, description="keep t within 0 … 1")

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._flat import combine, vectors

        count, c = len(weights), _mean_cosine(vectors(deltas, weights))
        pole = 1 + (count - 1) * c
        if pole < _POLE and not self.clamp:
            raise Incompatible(
                f"model_stock is not defined where the inputs cancel, as in module {site.module}",
                hint="clamp=true makes such modules zero",
            )
        t = 0.0 if pole < _POLE else count * c / pole
        t = max(0.0, min(1.0, t)) if self.clamp else t
        return Merged(combine([t * w / count for w in weights], deltas), {"cosine": c, "t": t})


def _mean_cosine(rows: Tensor) -> float:
    from registry.methods._flat import lengths

    norms = lengths(rows)
    units = [row / norm if norm else row for row, norm in zip(rows, norms, strict=True)]
    with one_thread(rows.device):
        cosines = [float(u @ v) for u, v in combinations(units, 2)]
    return sum(cosines) / len(cosines)
