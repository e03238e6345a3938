from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry.deltas import dense
from registry.errors import Refused
from registry.peft_format import read
from tests.adapters import call, combination, compute, linear, make_lora
from tests.methods.cases import LAW, Stack, around, distance, largest, low, merged, stacks, turned, wholes


def elected(matrices: list[Tensor]) -> Tensor:
    """What depends on the basis: in each element, the inputs that have the sign of the sum."""
    sign = torch.stack(matrices).sum(0).sign()
    return torch.stack([torch.where(x.sign() == sign, x, 0) for x in matrices]).sum(0)


def added(matrices: list[Tensor]) -> Tensor:
    return torch.stack(matrices).sum(0)


def basis(stacked: Tensor) -> Tensor:
    """Left singular vectors, the largest entry of each positive."""
    u, s, _ = torch.linalg.svd(stacked, full_matrices=False)
    u = u[:, s > 1e-12 * s.max()]
    found: Tensor = u * u.gather(0, u.abs().argmax(0, keepdim=True)).sign()
    return found


def unique(stacked: Tensor) -> bool:
    """Whether the singular vectors are, up to sign, and their largest entries too."""
    s = torch.linalg.svdvals(stacked)
    s = s[s > 1e-12 * s.max()]
    top = basis(stacked).abs().topk(min(2, stacked.shape[0]), dim=0).values
    return bool(((s[:-1] - s[1:]) > 1e-3 * s[0]).all()) and (
        len(top) < 2 or bool((top[0] - top[1] > 1e-6).all())
    )


def spread(stack: Stack, *, factors: bool) -> tuple[Tensor, Tensor]:
    """What U and V are the singular vectors of."""
    given = [d for d in stack[0] if d is not None]
    if factors:
        return torch.cat([d.scale * d.up for d in given], dim=1), torch.cat([d.down for d in given]).T
    matrices = [dense(d) for d in given]
    return torch.cat(matrices, dim=1), torch.cat(matrices).T


def in_core(matrices: list[Tensor], u: Tensor, v: Tensor) -> Tensor:
    return u @ elected([u.T @ x @ v for x in matrices]) @ v.T


@pytest.mark.parametrize("factors", [True, False])
def test_it_is_its_dense_definition(factors: bool) -> None:
    @LAW
    @given(stacks())
    def law(stack: Stack) -> None:
        ups, downs = spread(stack, factors=factors)
        if not ups.any() or not unique(ups) or not unique(downs):
            return
        matrices = wholes(stack[0])
        cores = [basis(ups).T @ x @ basis(downs) for x in matrices]
        if bool((torch.stack(cores).sum(0).abs() < 1e-9).any()):
            return  # an election that rounding decides
        expected = in_core(matrices, basis(ups), basis(downs))
        found = around("core", stack[0], elected, basis="factors" if factors else "deltas")
        assert float((found - expected).norm()) < 1e-10 * largest(matrices)

    law()


@LAW
@given(stacks(), st.sampled_from(["factors", "deltas"]))
def test_what_is_linear_is_what_it_is_outside(stack: Stack, name: str) -> None:
    matrices = wholes(stack[0])
    found = around("core", stack[0], added, basis=name)
    assert float((found - added(matrices)).norm()) < 1e-12 * (largest(matrices) or 1)


def test_the_basis_of_the_deltas_does_not_depend_on_the_factors() -> None:
    deltas = [low(8, 7, 2, seed) for seed in range(3)]
    others = [turned(delta, 9) for delta in deltas]
    first = around("core", deltas, elected, basis="deltas")
    assert distance(around("core", others, elected, basis="deltas"), first) < 1e-10
    assert distance(around("core", others, elected), around("core", deltas, elected)) > 1e-3
    assert distance(around("core", deltas[::-1], elected), around("core", deltas, elected)) < 1e-10


def test_zero_adapters_stay_zero() -> None:
    a = low(5, 4, 2, 0)
    a.up.zero_()
    assert not around("core", [a, None], elected).any()


@pytest.mark.parametrize("name", ["core", "knots"])
def test_in_a_recipe_it_wraps_a_call(tmp_path: Path, name: str) -> None:
    a, b = (read(make_lora(tmp_path / str(seed), seed=seed, ranks={})) for seed in (1, 2))
    inside = call("slerp", linear(("0.5", a)), linear((1, b)), t="0.25")
    outside = {item.module: item for item in compute(combination((1, inside)), a, b)}
    for item in compute(combination(("-2", call(name, linear((1, inside))))), a, b):
        assert distance(dense(item.delta), -2 * dense(outside[item.module].delta)) < 1e-6
        assert item.report == pytest.approx(outside[item.module].report)
    twice = call("core", linear((1, call("knots", linear((1, inside))))))
    for item in compute(combination((1, twice)), a, b):
        assert distance(dense(item.delta), dense(outside[item.module].delta)) < 1e-6


@pytest.mark.parametrize("weight", ["2", "-1"])
def test_in_a_recipe_nothing_else_than_a_call_is_wrapped(tmp_path: Path, weight: str) -> None:
    a = read(make_lora(tmp_path))
    inside = call("average", linear((1, a)))
    for argument in (linear((1, a)), linear((weight, inside)), linear((1, a), (1, inside))):
        with pytest.raises(Refused, match="core takes one call of another method"):
            compute(combination((1, call("core", argument))), a)


def test_the_inner_method_applies_its_weights() -> None:
    deltas = [low(5, 4, 2, seed) for seed in (0, 1)]
    found = around("core", deltas, lambda cores: 2 * cores[0] - cores[1])
    assert distance(found, 2 * wholes(deltas)[0] - wholes(deltas)[1]) < 1e-12
    assert distance(found, 2 * merged("average", deltas, [2.0, -1.0])) < 1e-12
