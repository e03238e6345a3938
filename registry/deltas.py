"""Deltas: what an adapter adds to one module of its base model, and the vector space they form.

Every kind of adapter is read into one of these; every merge method works on them. All functions are pure:
arguments are never changed. ``m`` is the module's output size, ``n`` its input size, ``k`` a rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import RLock

import torch
from torch import Tensor

from registry.errors import Incompatible
from registry.forms import Form

_WHOLE = RLock()  # threads that want a matrix whole wait for the one that computes it


@dataclass(frozen=True)
class LowRank:
    """``ΔW = scale · up @ down``, a LoRA module.

    ``up`` is ``(m, k)`` (PEFT's ``lora_B``), ``down`` is ``(k, n)`` (``lora_A``). ``form`` says how ΔW meets the
    base weight: ``linear`` as it is, ``embedding`` transposed (``up`` is ``(D, k)``, ``down`` ``(k, V)``, the
    table ``(V, D)``), ``conv`` with ``n`` standing for ``in_channels × kernel``, flattened. ``groups`` is for
    storing only: those of a grouped convolution, each of which sees its own part of the rank. The other forms are
    those of :mod:`registry.kinds._weights`.
    """

    up: Tensor
    down: Tensor
    scale: float = 1.0
    form: Form = "linear"
    kernel: tuple[int, ...] = ()
    groups: int = 1

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)``."""
        return self.up.shape[0], self.down.shape[1]

    def to(self, device: torch.device) -> LowRank:
        return replace(self, up=self.up.to(device), down=self.down.to(device))


@dataclass(frozen=True)
class Rows:
    """A matrix ``(m, n)`` whose rows are computed when they are asked for, so that it need never be held whole.

    ``read`` gives the rows of a slice with a start and a stop, in ``dtype`` on ``device``: new memory, and the same
    bits whichever rows are asked for, in any thread.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    read: Callable[[slice], Tensor]

    def to(self, device: torch.device) -> Rows:
        return replace(self, device=device, read=lambda rows: self.read(rows).to(device))


@dataclass(frozen=True)
class Dense:
    """``ΔW = weight``, ``(m, n)``: what an element-wise method makes of LoRA modules, and parameters stored whole.

    A merged model gets it exactly. For a LoRA module an adapter stores a low-rank approximation of it, of rank
    ``rank`` at most. ``form`` is that of :class:`LowRank`; so is ``kernel``, which is the stored shape where the
    form is none of LoRA's.
    """

    values: Tensor | Rows
    rank: int
    form: Form = "linear"
    kernel: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)``."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def weight(self) -> Tensor:
        """All of it; kept from now on where it is computed."""
        if isinstance(self.values, Tensor):
            return self.values
        with _WHOLE:
            return self._whole

    @cached_property
    def _whole(self) -> Tensor:
        return self.rows(slice(0, self.shape[0]))

    def rows(self, rows: slice) -> Tensor:
        """Some of its rows, from a start to a stop; not to be changed."""
        return self.values[rows] if isinstance(self.values, Tensor) else self.values.read(rows)

    def to(self, device: torch.device) -> Dense:
        return self if self.values.device == device else replace(self, values=self.values.to(device))


@dataclass(frozen=True)
class Rescaling:
    """``offset = ℓ − 1``, an (IA)³ module: activations are multiplied by ``ℓ``.

    ``offset`` has one entry per scaled feature. ``feedforward`` modules scale their input (columns of the
    weight), the others their output (rows of the weight, and the bias).
    """

    offset: Tensor
    feedforward: bool

    @property
    def shape(self) -> tuple[int]:
        """``(d,)``."""
        return (self.offset.shape[0],)

    def to(self, device: torch.device) -> Rescaling:
        return replace(self, offset=self.offset.to(device))


Delta = LowRank | Dense | Rescaling


def dense(delta: Delta) -> Tensor:
    """ΔW as one matrix ``(m, n)`` in float64, or ℓ − 1 as a vector ``(d,)``; for tests and small modules."""
    if isinstance(delta, Rescaling):
        return delta.offset.double()  # (d,)
    if isinstance(delta, Dense):
        return delta.weight.double()  # (m, n)
    return delta.scale * (delta.up.double() @ delta.down.double())  # (m, n)


def accumulator(deltas: Sequence[Delta]) -> torch.dtype:
    """The dtype that sums of these are taken in: float64 when one of them holds float64, else float32."""
    held = [each for delta in deltas for each in _held(delta)]
    return torch.float64 if any(each.dtype == torch.float64 for each in held) else torch.float32


def _held(delta: Delta) -> tuple[Tensor | Rows, ...]:
    if isinstance(delta, LowRank):
        return delta.up, delta.down
    return (delta.values,) if isinstance(delta, Dense) else (delta.offset,)


def device_of(delta: Delta) -> torch.device:
    """Where a delta's numbers are."""
    return _held(delta)[0].device


def require_same(deltas: Sequence[Delta]) -> None:
    """Raise ``Incompatible`` unless all deltas belong to one space (type, shape, form, kernel, side)."""
    first = deltas[0]
    for other in deltas[1:]:
        if describe(other) != describe(first):
            raise Incompatible(f"{describe(other)} does not fit {describe(first)}")


def describe(delta: Delta) -> str:
    """What a delta's space is called in messages: ``"linear 64x32"``, ``"output rescaling of 64"``."""
    if isinstance(delta, Rescaling):
        return f"{'input' if delta.feedforward else 'output'} rescaling of {delta.shape[0]}"
    kernel = f" kernel {'x'.join(map(str, delta.kernel))}" if delta.kernel else ""
    return f"{delta.form} {delta.shape[0]}x{delta.shape[1]}{kernel}"


def stack(terms: Sequence[tuple[float, LowRank]]) -> LowRank:
    """``Σ wᵢ·ΔWᵢ``, exactly, as stacked factors of rank ``Σ kᵢ`` with scale 1.

    Weights and scales are folded into ``up`` in the accumulation dtype. Terms of weight 0 add no columns; when
    nothing is left the result has rank 1 and is zero. Raises ``Incompatible`` for unequal spaces.
    """
    deltas = [delta for _, delta in terms]
    require_same(deltas)
    dtype = accumulator(deltas)
    live = [(weight * delta.scale, delta) for weight, delta in terms if weight * delta.scale != 0]
    first = deltas[0]
    if not live:
        return zero(first, dtype)
    if len(live) == 1:
        factor, only = live[0]
        up, down = _scaled(only.up.to(dtype), factor), only.down.to(dtype)
        return LowRank(up, down, form=first.form, kernel=first.kernel)
    up = first.up.new_empty((first.shape[0], sum(delta.rank for _, delta in live)), dtype=dtype)  # (m, Σk)
    for part, (factor, delta) in zip(torch.split(up, [d.rank for _, d in live], 1), live, strict=True):
        torch.mul(delta.up.to(dtype), factor, out=part)
    down = torch.cat([delta.down.to(dtype) for _, delta in live], dim=0)  # (Σk, n)
    return LowRank(up, down, form=first.form, kernel=first.kernel)


def total(terms: Sequence[tuple[float, LowRank | Dense]]) -> Dense:
    """``Σ wᵢ·ΔWᵢ`` as one matrix ``(m, n)`` in the accumulation dtype; its rank is the sum of the terms' ranks.

    Terms of weight 0 add nothing. Where all terms' rows are computed when they are asked for, so are the sum's.
    Raises ``Incompatible`` for unequal spaces.
    """
    deltas = [delta for _, delta in terms]
    require_same(deltas)
    first, dtype = deltas[0], accumulator(deltas)
    (m, n), device = first.shape, device_of(first)
    live = [(factor, delta) for factor, delta in terms if factor != 0]

    def read(rows: slice) -> Tensor:
        found = torch.zeros((rows.stop - rows.start, n), dtype=dtype, device=device)
        for factor, delta in live:
            if isinstance(delta, Dense):
                found.add_(_scaled(delta.rows(rows).to(dtype), factor))
            else:
                found.addmm_(delta.up[rows].to(dtype), delta.down.to(dtype), alpha=factor * delta.scale)
        return found

    later = all(isinstance(delta, Dense) and isinstance(delta.values, Rows) for delta in deltas)
    values = Rows((m, n), dtype, device, read) if later else read(slice(0, m))
    rank = max(1, sum(delta.rank for _, delta in live))
    return Dense(values, rank, form=first.form, kernel=first.kernel)


def factored(delta: Dense) -> LowRank:
    """A dense ΔW written as factors of full rank, exactly: one of them is the identity of the shorter side."""
    m, n = delta.shape
    eye = torch.eye(min(m, n), dtype=delta.weight.dtype, device=delta.weight.device)
    up, down = (eye, delta.weight) if m <= n else (delta.weight, eye)  # (m, k), (k, n)
    return LowRank(up, down, form=delta.form, kernel=delta.kernel)


def zero(like: LowRank | Dense, dtype: torch.dtype) -> LowRank:
    """The zero delta of a module, with rank 1 so that it can be stored and loaded."""
    m, n = like.shape
    up, down = (torch.zeros(size, dtype=dtype, device=device_of(like)) for size in ((m, 1), (1, n)))
    return LowRank(up, down, form=like.form, kernel=like.kernel)


def doubled(delta: LowRank) -> LowRank:
    """The same delta with float64 factors."""
    return replace(delta, up=delta.up.double(), down=delta.down.double())


def inner(a: Delta, b: Delta) -> float:
    """The Frobenius inner product ``⟨a, b⟩`` in float64, never forming ``(m, n)`` for factors.

    For LowRank ``sₐ·s_b·Σ (BₐᵀB_b)∘(AₐA_bᵀ)``, costing O((m + n)·kₐ·k_b). Raises ``Incompatible`` for unequal
    spaces.
    """
    require_same([a, b])
    if not (isinstance(a, LowRank) and isinstance(b, LowRank)):
        return float((dense(a) * dense(b)).sum())
    ups = a.up.double().T @ b.up.double()  # (kₐ, k_b)
    downs = a.down.double() @ b.down.double().T  # (kₐ, k_b)
    return a.scale * b.scale * float((ups * downs).sum())


def norm(delta: Delta) -> float:
    """The Frobenius norm of ΔW, or the Euclidean norm of ℓ − 1, in float64.

    Taken from triangular factors (QR), which keeps full precision where stacked factors nearly cancel; the
    square root of :func:`inner` would keep half of it.
    """
    if not isinstance(delta, LowRank):
        return float(torch.linalg.vector_norm(dense(delta)))
    left = torch.linalg.qr(delta.up.double(), mode="r").R  # (min(m, k), k)
    right = torch.linalg.qr(delta.down.double().T, mode="r").R  # (min(n, k), k)
    return abs(delta.scale) * float(torch.linalg.matrix_norm(left @ right.T))


@dataclass(frozen=True)
class Comparison:
    """Two deltas of one module: both norms, their cosine, and ``‖after − before‖ / ‖before‖``.

    ``cosine`` is None where a norm is zero, ``relative`` where ``before`` is zero.
    """

    before: float
    after: float
    cosine: float | None
    relative: float | None


def compare(before: Delta | None, after: Delta | None) -> Comparison:
    """Norms, cosine and relative change of one module; None is the zero delta of an adapter without it.

    At least one delta is given. Raises ``Incompatible`` for unequal spaces.
    """
    if before is None or after is None:
        lengths = tuple(0.0 if delta is None else norm(delta) for delta in (before, after))
        return Comparison(lengths[0], lengths[1], cosine=None, relative=1.0 if lengths[0] else None)
    require_same([before, after])
    lengths = norm(before), norm(after)
    cosine = inner(before, after) / (lengths[0] * lengths[1]) if all(lengths) else None
    change = norm(_difference(after, before))
    return Comparison(
        *lengths,
        cosine=None if cosine is None else max(-1.0, min(1.0, cosine)),
        relative=change / lengths[0] if lengths[0] else None,
    )


def _difference(a: Delta, b: Delta) -> Delta:
    if isinstance(a, Rescaling) or isinstance(b, Rescaling):
        return Rescaling(dense(a) - dense(b), feedforward=isinstance(a, Rescaling) and a.feedforward)
    if isinstance(a, Dense) or isinstance(b, Dense):
        return Dense(dense(a) - dense(b), a.rank + b.rank, form=a.form, kernel=a.kernel)
    return stack([(1.0, doubled(a)), (-1.0, doubled(b))])


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor
