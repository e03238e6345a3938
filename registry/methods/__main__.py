"""``python -m registry.methods > docs/methods.md``: the page about the methods, from their declarations."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from registry.methods._describe import everything
from registry.results import MethodInfo, MethodParameter

_HEAD = """\
# Merge methods

Made by `python -m registry.methods > docs/methods.md` from what each method declares; `registry methods NAME` tells
the same.

`δᵢ` is the delta of input i: `ΔWᵢ = sᵢBᵢAᵢ` for LoRA, with `sᵢ` = alpha/r (or alpha/√r), `ℓᵢ − 1` for (IA)³, `θᵢ − θ₀` for a task
vector. `wᵢ` is its weight, N the number of inputs. The cost is that of one module of size m×n, with k the sum of the inputs'
ranks. What is for `lora` is for the kinds that are stored as LoRA too: LoHa, LoKr and VeRA.

| domain | the formula works on |
| --- | --- |
| vector space | the deltas as vectors: a linear combination, kept exactly |
| core | the deltas' small exact cores: no m×n matrix is formed |
| element-wise | single elements of ΔW (or of A and B, with `on=factors`): ΔW is formed, one module at a time |
| factors | LoRA's A and B: it matters how a ΔW is factored |

"In PEFT", "in mergekit" and "in adapters" name what computes the same there, and the parameters with which it does so
here. — is for what has no counterpart. What they compute otherwise, or wrongly, is in [correctness](correctness.md).
"""

_COLUMNS = (
    "method", "formula", "source", "domain", "parameters", "cost", "in PEFT", "in mergekit", "in adapters",
)  # fmt: skip


def page() -> str:
    """The whole page, in Markdown."""
    methods = everything()
    table = _table(_COLUMNS, (_row(method) for method in methods))
    return "\n".join([_HEAD, *table, *(line for method in methods for line in _section(method))])


def _row(method: MethodInfo) -> Iterator[str]:
    yield f"[{method.name}](#{method.name})"
    yield f"`{method.formula}`"
    yield method.source
    yield f"{method.domain}; {', '.join(method.kinds)}"
    yield ", ".join(f"`{_short(parameter)}`" for parameter in method.parameters) or "—"
    yield method.cost
    for peer in (method.in_peft, method.in_mergekit, method.in_adapters):
        yield peer or "—"


def _short(parameter: MethodParameter) -> str:
    return parameter.name if parameter.default is None else f"{parameter.name}={parameter.default}"


def _section(method: MethodInfo) -> Iterator[str]:
    yield from ("", f"## {method.name}", "", method.summary, "", f"`{method.formula}`", "", method.definition)
    if method.parameters:
        yield ""
        rows = (
            [f"`{p.name}`", p.type, "required" if p.required else p.default or "—", p.description]
            for p in method.parameters
        )
        yield from _table(["parameter", "value", "default", "what it is"], rows)
    yield from ("", f"Inputs: {method.inputs}. For example `{method.example}`.")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(columns)
    for cells in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
