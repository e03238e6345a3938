"""The operators of expressions, told as methods are: the exact vector space of deltas, which is the default."""

from __future__ import annotations

from registry.results import MethodInfo

_PAPER = (
    "Zhang, Chen, Liu & He, Composing Parameter-Efficient Modules with Arithmetic Operations, NeurIPS 2023, "
    "arXiv 2306.14870"
)
_KINDS = ("ia3", "lora", "task_vector")

OPERATORS = (
    MethodInfo(
        name="sum",
        summary="The exact sum of the deltas: what + means.",
        formula="Σ δᵢ",
        definition="LoRA's factors are stacked, `B = [s₁B₁ … s_NB_N]` and `A = [A₁; …; A_N]`, so that `B·A` is the sum. "
        "For (IA)³, `ℓ = 1 + Σ (ℓᵢ − 1)`. An input without the module is a zero delta.",
        source=f"{_PAPER}; Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, arXiv 2212.04089",
        domain="vector space",
        kinds=_KINDS,
        inputs="1 or more",
        cost="O((m + n)·k)",
        example="a + b",
        in_peft="`cat`; (IA)³ only where the weights sum to 1 and all adapters have the same modules",
        in_mergekit="`task_arithmetic`, on whole models",
        in_adapters="`lora_delta_w_svd` with `normalize_weights=False`, of rank k or more: r/svd_rank times as large",
    ),
    MethodInfo(
        name="difference",
        summary="The exact difference of two deltas: what - means.",
        formula="δ₁ − δ₂",
        definition="The sum with the second delta negated; an adapter less itself is zero. For (IA)³, `ℓ = 1 + ℓ₁ − ℓ₂`.",
        source=_PAPER,
        domain="vector space",
        kinds=_KINDS,
        inputs="2",
        cost="O((m + n)·k)",
        example="a - b",
        in_peft="`cat` with weights 1 and −1",
        in_mergekit="`task_arithmetic` with weights 1 and −1, on whole models",
        in_adapters="as the sum, with weights 1 and −1",
    ),
    MethodInfo(
        name="scaling",
        summary="A multiple of a delta: what 0.5*a means.",
        formula="w · δ₁",
        definition="The coefficient is an exact decimal and is multiplied into B; weights are never normalized. For (IA)³, "
        "`ℓ = 1 + w(ℓ₁ − 1)`.",
        source=_PAPER,
        domain="vector space",
        kinds=_KINDS,
        inputs="1",
        cost="O((m + n)·k)",
        example="0.5*a",
        in_peft="`add_weighted_adapter` with one adapter, of any type",
        in_mergekit="`task_arithmetic` with one weight, on whole models",
        in_adapters="as the sum, with one weight",
    ),
    MethodInfo(
        name="negation",
        summary="The opposite of a delta: what -a means.",
        formula="−δ₁",
        definition="LoRA's B changes its sign, and A does not. For (IA)³, `ℓ = 2 − ℓ₁`.",
        source=_PAPER,
        domain="vector space",
        kinds=_KINDS,
        inputs="1",
        cost="O((m + n)·k)",
        example="-a",
        in_peft="`add_weighted_adapter` with one adapter and weight −1",
        in_mergekit="`task_arithmetic` with weight −1, on whole models",
        in_adapters="as the sum, with weight −1",
    ),
)
