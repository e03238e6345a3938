"""PEFT's own sums of adapters, on ΔW: merged by ``cat`` and ``svd``, active side by side, or as bare tensors.

What PEFT computes otherwise than its formulas say is in ``test_peer_defects.py``; here it agrees, and where a formula of
PEFT's is another one, the test says which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.utils import merge_utils
from torch import Tensor

from registry import Registry
from registry.deltas import dense
from registry.methods._random import Stream
from tests.methods.elements import MODULE, Masks, low, terms, value
from tests.oracles.every_layer import SORTS, composed, deltas, ells, loras, output, shelved, vectors

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

WEIGHTS = [(0.5, -1.5), (1.0, 1.0), (-1.0, 0.25)]


def text(weights: tuple[float, float]) -> str:
    return f"{weights[0]}*a + {weights[1]}*b".replace("+ -", "- ")


def close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-13) -> None:
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_expression_is_pefts_cat(local: Registry, tmp_path: Path, weights: tuple[float, float]) -> None:
    model = loras()
    shelved(model, local, tmp_path / "in")
    model.add_weighted_adapter(["a", "b"], list(weights), "cat", combination_type="cat")
    result = composed(local, text(weights), tmp_path / "out")
    close(deltas(result), deltas(model, "cat"))
    model.set_adapter("cat")
    torch.testing.assert_close(output(result), output(model), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_truncated_expression_is_pefts_svd(
    local: Registry, tmp_path: Path, weights: tuple[float, float], rank: int
) -> None:
    """On ΔW: the factors of the two differ. PEFT decomposes no Conv1d and no Conv3d."""
    model = loras(target_modules=[name for name in SORTS if name not in {"one", "three"}])
    shelved(model, local, tmp_path / "in")
    options = {"combination_type": "svd", "svd_rank": rank, "svd_full_matrices": False}
    model.add_weighted_adapter(["a", "b"], list(weights), "svd", **options)
    result = composed(local, f"truncate({text(weights)}, rank={rank})", tmp_path / "out")
    close(deltas(result), deltas(model, "svd"), 1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_expression_computes_what_two_active_adapters_do(
    local: Registry, tmp_path: Path, weights: tuple[float, float]
) -> None:
    """PEFT adds what active adapters compute, each times its scale; a negative scale takes it away."""
    model = loras()
    shelved(model, local, tmp_path / "in")
    with model.disable_adapter():
        plain = output(model)
    for layer in model.modules():
        for name, weight in zip("ab", weights, strict=True):
            if name in getattr(layer, "scaling", ()):
                layer.scaling[name] *= weight
    model.base_model.set_adapter(["a", "b"])
    both = output(model)
    assert float((both - plain).abs().max()) > 1e-3
    result = composed(local, text(weights), tmp_path / "out")
    torch.testing.assert_close(output(result), both, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.5, -0.5), (1.0, 1.0), (1.0, -1.0)])
def test_vectors_are_pefts_where_the_weights_sum_to_one(
    local: Registry, tmp_path: Path, weights: tuple[float, float]
) -> None:
    """PEFT's ``Σ wᵢℓᵢ`` is ``1 + Σ wᵢ(ℓᵢ − 1)`` less ``1 − Σ wᵢ``, which is nothing there, and wrong elsewhere."""
    model = vectors()
    shelved(model, local, tmp_path / "in")
    model.add_weighted_adapter(["a", "b"], list(weights), "sum")
    result = composed(local, text(weights), tmp_path / "out")
    close(ells(result), {name: ell + (1 - sum(weights)) for name, ell in ells(model, "sum").items()})
    model.set_adapter("sum")
    same = torch.allclose(output(result), output(model), rtol=1e-12, atol=1e-12)
    assert same == (sum(weights) == 1)


def test_two_active_vectors_are_a_product_and_the_sum_is_not(local: Registry, tmp_path: Path) -> None:
    """PEFT multiplies active vectors: ``ℓₐ·ℓ_b`` is ``1 + (ℓₐ − 1) + (ℓ_b − 1)`` and ``(ℓₐ − 1)(ℓ_b − 1)`` more."""
    model = vectors()
    shelved(model, local, tmp_path / "in")
    a, b = ells(model, "a"), ells(model, "b")
    result = composed(local, "a + b", tmp_path / "out")
    close(ells(result), {name: a[name] * b[name] - (a[name] - 1) * (b[name] - 1) for name in a})
    for name in a:
        result.base_model.model.get_submodule(name).ia3_l["default"].data = a[name] * b[name]
    model.base_model.set_adapter(["a", "b"])
    torch.testing.assert_close(output(result), output(model), rtol=1e-12, atol=1e-12)


TENSORS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("magnitude_prune", "magnitude_prune", {}, {}),
    ("ties", "ties", {"elect": "unweighted", "tie": "positive"}, {}),
    (
        "ties",
        "ties",
        {"elect": "unweighted", "tie": "positive", "sign": "frequency"},
        {"majority_sign_method": "frequency"},
    ),
    ("dare_linear", "dare", {}, {}),
    ("dare_ties", "dare_ties", {"elect": "unweighted", "tie": "positive"}, {}),
    (
        "dare_ties",
        "dare_ties",
        {"elect": "unweighted", "tie": "positive", "sign": "frequency"},
        {"majority_sign_method": "frequency"},
    ),
]


@pytest.mark.parametrize("case", TENSORS, ids=lambda case: "-".join([case[0], *case[3].values()]))
@pytest.mark.parametrize("density", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(20, 15), (1, 9), (9, 1)])
@pytest.mark.parametrize("weights", [[0.7, -0.4, 1.3], [1.0, 1.0, 1.0], [-1.0, 0.5, -2.0]])
def test_tensors_are_merged_as_by_pefts_functions(
    case: tuple[str, str, dict[str, Any], dict[str, Any]],
    density: float,
    shape: tuple[int, int],
    weights: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On whole ΔW's, before any SVD; PEFT draws our random numbers."""
    function, name, ours, theirs = case
    given = [low(*shape, rank, seed) for seed, rank in enumerate((1, 4, 2))]
    monkeypatch.setattr(torch, "bernoulli", Masks([Stream(3, MODULE, position=i) for i in range(3)]))
    expected = getattr(merge_utils, function)(
        [dense(delta) for delta in given],
        torch.tensor(weights, dtype=torch.float64),
        density=density,
        **theirs,
    )
    found = value(name, terms(given, weights), seed=3, density=str(density), **ours)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
