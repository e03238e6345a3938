"""Adapter kinds: one file each, named after PEFT's ``peft_type`` in lower case.

A kind says how a config and tensors are read as deltas, how deltas are written back, and how a delta changes
a base weight. It does no file access: :mod:`registry.peft_format` hands it normalized tensor names. Kind
modules import torch only inside functions: looking a kind up must not cost it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Refused
from registry.forms import OF_PARAMETERS
from registry.plugins import Family

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta


DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element of the dtypes that are computed with."""


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a stored tensor; dtypes are named as torch names them (``"bfloat16"``)."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Module:
    """One adapted module: which stored tensors it reads, by role, and everything the config says of it.

    ``scale`` multiplies its delta (LoRA: alpha/r, or alpha/√r with rsLoRA; 1 where the kind has none).
    ``shape`` is the delta's: ``(m, n)`` for LoRA, ``(d,)`` for (IA)³.

    ``parameter`` is the base model's tensor that changes, by default the module's weight. ``based``: the delta is
    a difference from that tensor, so that it can be taken only where the base model is at hand. ``rows`` are the
    rows of the tensor that the delta is for, where it is not for all of them. ``groups`` are those of a grouped
    convolution whose ``lora_B`` sees a part of the rank only.
    """

    name: str
    tensors: Mapping[str, str]
    shape: tuple[int, ...]
    rank: int | None = None
    scale: float = 1.0
    form: str = "linear"
    kernel: tuple[int, ...] = ()
    feedforward: bool = False
    parameter: str = ""
    based: bool = False
    rows: tuple[int, ...] = ()
    groups: int = 1

    @property
    def target(self) -> str:
        """The base model's tensor that changes, as the adapter names it."""
        return self.parameter or f"{self.name}.weight"


@dataclass(frozen=True)
class Layout:
    """An adapter as its kind understands it: modules by name in sorted order, and what it cannot compose.

    ``blockers`` has one sentence per part whose maths is not implemented, naming the part. ``semantics`` holds
    the config entries that belong to those parts; with the tensors that no module reads they enter the content
    digest. ``initialization`` is a sentence where the base model was changed before training (PiSSA …), so that
    the deltas mean something only together with the initial adapter.
    """

    modules: Mapping[str, Module]
    blockers: tuple[str, ...] = ()
    semantics: Mapping[str, Any] = field(default_factory=dict)
    initialization: str | None = None


class Kind:
    """Base of the adapter kinds."""

    peft_type: str
    """The value of ``peft_type`` in ``adapter_config.json``."""

    algorithm: ClassVar[int] = 1
    """Version of this kind's linear algebra; part of every recipe."""

    loadable: ClassVar[bool] = True
    """Whether PEFT loads the folders of this kind."""

    writes_as: ClassVar[str | None] = None
    """The kind that results are stored as, where that is another one: its deltas are of that kind."""

    def at(self, module: Module) -> Kind:
        """The rules for this very module, where they depend on more than its delta."""
        del module
        return self

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        """Understand an adapter from its config and the names, shapes and dtypes of its tensors.

        Raises ``Refused`` where shapes disagree with each other or with the config. Parts that are sound but
        not composable become blockers.
        """
        raise NotImplementedError

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> Delta:
        """The delta of one module from its tensors, keyed by role. No tensor is changed or copied needlessly.

        Where the module is ``based``, the role ``base`` holds the base model's value, or is missing where the base
        model has none (a new head).
        """
        raise NotImplementedError

    def combine(self, terms: Sequence[tuple[float, Delta]]) -> Delta:
        """The exact linear combination of one module's deltas.

        Accumulates in float32 (float64 for float64 inputs). A term of weight 0 adds nothing but keeps the
        module alive. Raises ``Incompatible`` for unequal shapes.
        """
        raise NotImplementedError

    def tensors(self, module: str, delta: Delta, dtype: str, base: Tensor | None = None) -> dict[str, Tensor]:
        """The tensors to store for a module, by their key inside PEFT's ``base_model.model.``; one rounding.

        ``base`` is the base model's value of the parameter, for what is stored whole.
        """
        raise NotImplementedError

    def describe(self, module: str, delta: Delta) -> Module:
        """The module as it will be stored by :meth:`tensors`, for :meth:`config`."""
        raise NotImplementedError

    def config(self, modules: Mapping[str, Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The PEFT config of a result, derived from its modules.

        ``inputs`` are the configs of the adapters that went in: only fields that all of them agree on and
        that do not describe shapes or scales (task type, ``fan_in_fan_out``) may be taken from there.
        """
        raise NotImplementedError

    def patch(self, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        """Rows ``row …`` of a base weight with the delta applied, in float32.

        ``block`` is ``(rows, columns)`` of the weight flattened to two dimensions, float32 (or float64). It may be
        changed in place and returned: fresh memory takes longer than the sum.
        ``transposed`` says that the weight is stored as ``(in, out)`` (Conv1D).
        """
        raise NotImplementedError

    def patches_bias(self, delta: Delta) -> bool:
        """Whether the module's bias changes too (then it is patched as a ``(d, 1)`` block)."""
        raise NotImplementedError


family: Family[Kind] = Family(Kind, "adapter kind")


def rules(kind: Kind, module: Module) -> Kind:
    """The rules for one module: those of its adapter's kind, or of what an adapter holds beside its own modules."""
    from registry.kinds._weights import Weights

    return Weights(module) if module.form in OF_PARAMETERS else kind.at(module)


def load(peft_type: str) -> Kind:
    """The kind for a ``peft_type`` (any case).

    Known types that have no file here are understood well enough to be cataloged: their layout is one blocker.
    Raises ``Refused``, listing the known ones, for a type nobody knows.
    """
    from registry.kinds._opaque import KNOWN, Opaque

    name = peft_type.lower()
    if name in family.names():
        return family.load(name)()
    if name in KNOWN:
        return Opaque(name)
    known = ", ".join(sorted({*family.names(), *KNOWN}))
    raise Refused(f"unknown adapter type {peft_type[:64]!r}", hint=f"known are: {known}")
