"""The difference of two checkpoints of one architecture, read tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from registry._targets import find_tie, is_conv1d
from registry._values import tensor_of
from registry.errors import Incompatible, Refused
from registry.kinds import Layout, Module
from registry.kinds._weights import stored_at

if TYPE_CHECKING:
    from torch import Tensor

    from registry.checkpoint import BaseCheckpoint
    from registry.deltas import Delta

_EMBEDDINGS = (
    "embed_tokens",
    "wte",
    "wpe",
    "word_embeddings",
    "position_embeddings",
    "embed_in",
    "tokens_embed",
)


class Difference:
    """What fine-tuning changed, as an input of a recipe (an ``inputs.Reader``).

    As ``lora``, weights of Linear, Conv1D, embedding and convolution layers are modules to be cut to a low rank,
    and what else changed (norms, biases) is kept whole. As ``task_vector``, every parameter is a difference. What is
    equal in both is left out. Raises ``Incompatible`` where the two do not have the same parameters, and ``Refused``
    where nothing changed.
    """

    def __init__(
        self, base: BaseCheckpoint, finetuned: BaseCheckpoint, kind: Literal["lora", "task_vector"]
    ) -> None:
        self.kind = kind
        self._base, self._finetuned = base, finetuned
        self._tie = find_tie(base.tensors, base.config)
        self._same_parameters()
        modules = {module.name: module for module in self._changed()}
        if not modules:
            raise Refused("the two checkpoints hold the same weights", hint="give the fine-tuned one second")
        self.layout = Layout({name: stored_at(module, modules) for name, module in sorted(modules.items())})

    def delta(self, module: str) -> Delta:
        """``θ_finetuned − θ_base`` in float64, ``(m, n)`` in the module's orientation."""
        from registry.deltas import Dense

        found = self.layout.modules[module]
        name = found.target if self._tie is None else found.target.removeprefix(self._tie.prefix)
        before, after = (value.double() for value in self._values(name))
        change = after - before
        if not bool(change.isfinite().all()):
            raise Refused(f"tensor {found.target} is not finite in one of the checkpoints")
        turned = found.form == "embedding" or (found.form == "linear" and self._is_transposed(found.name))
        weight = change.T if turned else change.reshape(found.shape)
        form: Any = found.form
        return Dense(weight.contiguous(), min(found.shape), form, found.kernel)

    @property
    def conv1d(self) -> bool:
        """Whether some layers keep their weight as (in, out): PEFT's ``fan_in_fan_out``."""
        return any(m.form == "linear" and self._is_transposed(m.name) for m in self.layout.modules.values())

    def _same_parameters(self) -> None:
        tied = {self._tie.embedding, self._tie.head} if self._tie is not None else set()
        for one, other, what in (
            (self._base, self._finetuned, "the fine-tuned model lacks"),
            (self._finetuned, self._base, "the base model lacks"),
        ):
            missing = sorted(one.tensors.keys() - other.tensors.keys() - tied)
            if missing:
                raise Incompatible(
                    f"{what} {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
                    hint="extract from two checkpoints of one architecture",
                )
        for name in sorted(self._base.tensors.keys() & self._finetuned.tensors.keys()):
            shapes = self._base.tensors[name].shape, self._finetuned.tensors[name].shape
            if shapes[0] != shapes[1]:
                raise Incompatible(
                    f"{name!r} is {list(shapes[0])} in the base model and {list(shapes[1])} in the fine-tuned one",
                    hint="a resized vocabulary cannot be extracted: compare it with a base resized the same way",
                )

    def _values(self, name: str) -> tuple[Tensor, Tensor]:
        """A parameter in both; that of a head which is not stored is the embedding it is tied to."""
        sides = (self._base, self._finetuned)
        tied = self._tie.embedding if self._tie is not None else name
        before, after = (tensor_of(each, name if name in each.tensors else tied) for each in sides)
        return before, after

    def _changed(self) -> Iterator[Module]:
        names = self._base.tensors.keys() & self._finetuned.tensors.keys()
        head = {self._tie.head} if self._tie is not None and self.kind == "lora" else set()
        for name in sorted(names | head):
            before, after = self._values(name)
            if not (before.is_floating_point() and after.is_floating_point()):
                continue
            if not before.double().equal(after.double()):
                yield self._module(name, tuple(before.shape))

    def _module(self, name: str, stored: tuple[int, ...]) -> Module:
        shape = (stored[0], math.prod(stored[1:])) if stored else (1, 1)
        if self._tie is not None and name != self._tie.head and self.kind == "lora":
            name = self._tie.prefix + name  # as the model with its head names it
        whole = Module(name, {"value": name}, shape, form="whole", kernel=stored, parameter=name, based=True)
        if self.kind == "task_vector":
            return replace(whole, form="difference", based=False)
        owner, _, last = name.rpartition(".")
        if last != "weight" or not owner or not 2 <= len(stored) <= 5:
            return whole
        if len(stored) > 2:
            return Module(owner, {}, shape, form="conv", kernel=stored[2:])
        if owner.rpartition(".")[2] in _EMBEDDINGS:
            return Module(owner, {}, shape[::-1], form="embedding")
        return Module(owner, {}, shape[::-1] if self._is_transposed(owner) else shape)

    def _is_transposed(self, module: str) -> bool:
        return is_conv1d(module, self._base.config)
