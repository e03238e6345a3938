"""The difference of two checkpoints of one architecture, read tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from registry._targets import find_tie, is_conv1d
from registry._values import tensor_of
from registry.errors import Incompatible, Refused
from registry.forms import OF_PARAMETERS
from registry.kinds import Layout, Module
from registry.kinds._weights import stored_at

if TYPE_CHECKING:
    from torch import Tensor

    from registry.checkpoint import BaseCheckpoint
    from registry.deltas import Delta

_EMBEDDINGS = frozenset(
    {
        "embed_tokens",
        "wte",
        "wpe",
        "word_embeddings",
        "position_embeddings",
        "token_type_embeddings",
        "embed_in",
        "tokens_embed",
        "shared",
        "relative_attention_bias",
    }
)
"""Plain embedding layers. What else is called an embedding may look its rows up in a way of its own."""


class Difference:
    """What fine-tuning changed, as an input of a recipe (an ``inputs.Reader``).

    As ``lora``, weights of Linear, Conv1D, embedding and convolution layers are modules to be cut to a low rank,
    and what else changed (norms, biases) is kept whole. As ``task_vector``, every parameter is a difference. What is
    equal in both is left out. Raises ``Incompatible`` where the two do not have the same parameters, and ``Refused``
    where nothing changed, or something that cannot be said in that way.
    """

    def __init__(
        self, base: BaseCheckpoint, finetuned: BaseCheckpoint, kind: Literal["lora", "task_vector"]
    ) -> None:
        self.kind = kind
        self._base, self._finetuned = base, finetuned
        self._tie = find_tie(base.tensors, base.config)
        self._names = self._common()
        modules = {module.name: module for module in self._changed()}
        if not modules:
            raise Refused("the two checkpoints hold the same weights", hint="give the fine-tuned one second")
        if kind == "lora" and all(module.form in OF_PARAMETERS for module in modules.values()):
            raise Refused(
                f"no weight matrix changed, only {next(iter(modules))} and the like",
                hint="extract without --rank: a task vector holds them",
            )
        self.layout = Layout({name: stored_at(module, modules) for name, module in sorted(modules.items())})

    def delta(self, module: str) -> Delta:
        """``θ_finetuned − θ_base`` in float64, ``(m, n)`` in the module's orientation."""
        from registry.deltas import Dense

        found = self.layout.modules[module]
        before, after = (value.double() for value in self._values(found.target))
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

    def _common(self) -> dict[str, tuple[str, str]]:
        """Every parameter of both, by its name in a model with a head, with its names in the two.

        A head that one of them does not store is the embedding it is tied to.
        """
        sides = [{self._full(name): name for name in each.tensors} for each in (self._base, self._finetuned)]
        if self._tie is not None and any(self._tie.head in side for side in sides):
            for side in sides:
                side.setdefault(self._tie.head, side[self._full(self._tie.embedding)])
        for one, other, what in ((0, 1, "the fine-tuned model lacks"), (1, 0, "the base model lacks")):
            if missing := sorted(sides[one].keys() - sides[other].keys()):
                raise Incompatible(
                    f"{what} {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
                    hint="extract from two checkpoints of one architecture",
                )
        names = {name: (sides[0][name], sides[1][name]) for name in sorted(sides[0])}
        for name, (old, new) in names.items():
            shapes = self._base.tensors[old].shape, self._finetuned.tensors[new].shape
            if shapes[0] != shapes[1]:
                raise Incompatible(
                    f"{name!r} is {list(shapes[0])} in the base model and {list(shapes[1])} in the fine-tuned one",
                    hint="a resized vocabulary cannot be extracted: compare it with a base resized the same way",
                )
        if self._tie is not None and self.kind == "lora":  # as LoRA, both ends need the change
            names.setdefault(self._tie.head, names[self._full(self._tie.embedding)])
        return names

    def _full(self, name: str) -> str:
        """A tensor's name in a model with its head, which a checkpoint of the body alone may shorten."""
        if self._tie is None or not self._tie.prefix or name.startswith(self._tie.prefix):
            return name
        return name if name == self._tie.head or name in self._tie.copies else self._tie.prefix + name

    def _values(self, name: str) -> tuple[Tensor, Tensor]:
        old, new = self._names[name]
        return tensor_of(self._base, old), tensor_of(self._finetuned, new)

    def _changed(self) -> Iterator[Module]:
        for name in self._names:
            before, after = self._values(name)
            if before.is_floating_point() and after.is_floating_point():
                if not before.double().equal(after.double()):
                    yield self._module(name, tuple(before.shape))
            elif before.dtype != after.dtype or not before.equal(after):
                raise Refused(
                    f"tensor {name!r} changed, and holds {str(after.dtype).removeprefix('torch.')}",
                    hint="only floating-point parameters have a difference that can be scaled",
                )

    def _module(self, name: str, stored: tuple[int, ...]) -> Module:
        shape = (stored[0], math.prod(stored[1:])) if stored else (1, 1)
        whole = Module(name, {"value": name}, shape, form="whole", kernel=stored, parameter=name, based=True)
        if self.kind == "task_vector":
            return replace(whole, form="difference", based=False)
        owner, _, last = name.rpartition(".")
        if last not in {"weight", "bias"} and any(self._below(owner)):
            raise Refused(
                f"parameter {name!r} belongs to a module that holds others, which PEFT would save as a whole",
                hint="extract without --rank: a task vector holds it",
            )
        kind = owner.rpartition(".")[2]
        if last != "weight" or not owner or not 2 <= len(stored) <= 5:
            return whole
        if len(stored) > 2:
            return Module(owner, {}, shape, form="conv", kernel=stored[2:])
        if kind in _EMBEDDINGS:
            return Module(owner, {}, shape[::-1], form="embedding")
        if "embed" in kind:
            return whole
        return Module(owner, {}, shape[::-1] if self._is_transposed(owner) else shape)

    def _below(self, owner: str) -> Iterator[str]:
        """The modules inside a module, whose parameters would go with it."""
        return (found for name in self._names if (found := name.rpartition(".")[0]).startswith(f"{owner}."))

    def _is_transposed(self, module: str) -> bool:
        return is_conv1d(module, self._base.config)
