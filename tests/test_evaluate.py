from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import evaluate, inputs, recipe
from registry.deltas import LowRank, dense
from registry.errors import Incompatible, Refused
from registry.peft_format import StoredAdapter, read
from registry.recipe import Input
from tests.adapters import (
    Q0,
    Q1,
    V0,
    call,
    combination,
    compute,
    linear,
    lora_deltas,
    make_ia3,
    make_lora,
    materialize,
)

LAW = settings(deadline=None, max_examples=40)
WEIGHTS = st.decimals("-3", "3", places=2)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredAdapter]:
    """Three adapters with different modules, ranks and scalings."""
    root = tmp_path_factory.mktemp("trio")
    make_lora(root / "a", seed=1)
    make_lora(root / "b", seed=2, modules={Q0: (12, 8), "model.norm_proj": (3, 5)}, r=2, rslora=True)
    make_lora(root / "c", seed=3, ranks={Q0: 7}, alphas={V0: 3})
    return {name: read(root / name) for name in "abc"}


def total(made: recipe.Recipe, adapters: dict[str, StoredAdapter]) -> dict[str, torch.Tensor]:
    return {item.module: dense(item.delta) for item in compute(made, *adapters.values())}


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=tolerance, atol=tolerance)


@LAW
@given(weights=st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
def test_a_sum_is_the_weighted_sum_of_the_deltas(
    trio: dict[str, StoredAdapter], weights: tuple[Decimal, ...]
) -> None:
    found = total(combination(*zip(map(str, weights), trio.values(), strict=True)), trio)
    expected: dict[str, torch.Tensor] = {}
    for weight, adapter in zip(weights, trio.values(), strict=True):
        folder = adapter.files["adapter_config.json"][0].parent
        for name, delta in lora_deltas(folder).items():
            expected[name] = expected.get(name, torch.zeros_like(delta)) + float(weight) * delta
    close(found, expected)


@LAW
@given(w=WEIGHTS, v=WEIGHTS)
def test_order_does_not_change_a_recipe_nor_its_bytes(
    trio: dict[str, StoredAdapter], w: Decimal, v: Decimal
) -> None:
    a, b = trio["a"], trio["b"]
    one, other = combination((str(w), a), (str(v), b)), combination((str(v), b), (str(w), a))
    assert one.digest == other.digest
    for x, y in zip(compute(one, a, b), compute(other, a, b), strict=True):
        assert isinstance(x.delta, LowRank)
        assert isinstance(y.delta, LowRank)
        assert torch.equal(x.delta.up, y.delta.up)
        assert torch.equal(x.delta.down, y.delta.down)


@LAW
@given(w=WEIGHTS, v=WEIGHTS)
def test_weights_distribute(trio: dict[str, StoredAdapter], w: Decimal, v: Decimal) -> None:
    a, b = (Input(digest=trio[name].digest) for name in "ab")
    inner = recipe.linear([(Decimal(1), a), (v, b)])
    nested = recipe.Recipe(kind="lora", algorithm=1, dtype="float32", expression=recipe.linear([(w, inner)]))
    flat = nested.model_copy(update={"expression": recipe.linear([(w, a), (w * v, b)])})
    assert nested.digest == flat.digest
    close(total(nested, trio), total(flat, trio))


def test_once_an_adapter_is_the_adapter(trio: dict[str, StoredAdapter]) -> None:
    for item in compute(combination((1, trio["a"])), trio["a"]):
        assert torch.equal(dense(item.delta), dense(trio["a"].delta(item.module)))


def test_an_adapter_less_itself_is_zero_but_keeps_its_modules(trio: dict[str, StoredAdapter]) -> None:
    a = trio["a"]
    found = compute(combination((1, a), (-1, a)), a)
    assert [item.module for item in found] == sorted(a.layout.modules)
    for item in found:
        assert isinstance(item.delta, LowRank)
        assert item.delta.rank == 1
        assert not dense(item.delta).any()


def test_double_negation_is_the_adapter(trio: dict[str, StoredAdapter]) -> None:
    operand = Input(digest=trio["a"].digest)
    twice = recipe.linear([(Decimal(-1), recipe.linear([(Decimal(-1), operand)]))])
    assert twice == recipe.linear([(Decimal(1), operand)])


def test_minus_is_the_opposite_of_plus(trio: dict[str, StoredAdapter]) -> None:
    plus, minus = total(combination((1, trio["a"])), trio), total(combination((-1, trio["a"])), trio)
    for name, delta in plus.items():
        assert torch.equal(minus[name], -delta)


@LAW
@given(seed=st.integers(0, 2**16))
def test_another_factoring_of_the_same_adapter_gives_the_same_sum(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    gauge = torch.linalg.qr(torch.randn((4, 4), generator=torch.Generator().manual_seed(seed))).Q
    root = tmp_path_factory.mktemp("gauge")
    a = read(make_lora(root / "a", seed=seed, modules={Q0: (12, 8)}))
    delta = a.delta(Q0)
    assert isinstance(delta, LowRank)
    key = f"base_model.model.{Q0}.lora_"
    turned = {f"{key}A.weight": gauge.T @ delta.down, f"{key}B.weight": delta.up @ gauge}
    b = read(make_lora(root / "b", modules={Q0: (12, 8)}, extra=turned))
    close(total(combination((1, a), (-1, b)), {"a": a, "b": b}), {Q0: torch.zeros(12, 8).double()})


def test_modules_come_in_sorted_order_whatever_the_inputs(trio: dict[str, StoredAdapter]) -> None:
    names = [item.module for item in compute(combination((1, trio["a"]), (1, trio["b"])), *trio.values())]
    assert names == sorted([Q0, V0, Q1, "model.norm_proj"])


def test_a_call_merges_its_arguments(trio: dict[str, StoredAdapter]) -> None:
    a, b = trio["a"], trio["b"]
    inner = linear((1, a), ("-0.5", b))
    found = compute(combination((2, call("truncate", inner, rank=3))), a, b)
    whole = total(combination((2, a), (-1, b)), trio)
    for item in found:
        assert isinstance(item.delta, LowRank)
        assert item.delta.rank <= 3
        assert set(item.report) == {"rank", "energy", "error"}
        distance = (dense(item.delta) - whole[item.module]).norm() / whole[item.module].norm()
        assert float(distance) == pytest.approx(item.report["error"], abs=1e-6)


def test_a_spread_method_sees_the_terms(trio: dict[str, StoredAdapter]) -> None:
    a, c = trio["a"], trio["c"]
    made = combination((1, call("factors", linear((1, a), (1, c)))))
    with pytest.raises(Incompatible) as caught:
        compute(made, a, c, labels={a.digest: "alpaca@1", c.digest: "toxic@2"})
    assert f"in module {Q0}" in caught.value.message
    assert "alpaca@1" in caught.value.message
    assert "toxic@2" in caught.value.message


def test_reports_of_nested_calls_are_told_apart(trio: dict[str, StoredAdapter]) -> None:
    a, b = trio["a"], trio["b"]
    inner = [call("truncate", linear((1, x)), rank=2) for x in (a, b)]
    outer = call("factors", linear((1, inner[0]), (1, inner[1])))
    reports = {item.module: item.report for item in compute(combination((1, outer)), a, b)}
    assert {"factors.init_cosine", "truncate.rank", "truncate#2.rank"} <= set(reports[Q0])


def test_vectors_are_combined_around_one(tmp_path: Path) -> None:
    a, b = (read(make_ia3(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    for item in compute(combination((1, a), ("-0.5", b)), a, b):
        expected = dense(a.delta(item.module)) - 0.5 * dense(b.delta(item.module))
        torch.testing.assert_close(dense(item.delta), expected)


def test_other_kinds_are_refused(tmp_path: Path, trio: dict[str, StoredAdapter]) -> None:
    ia3 = read(make_ia3(tmp_path))
    with pytest.raises(Incompatible, match="vectors is of kind ia3, the recipe of kind lora"):
        compute(combination((1, trio["a"]), (1, ia3)), trio["a"], ia3, labels={ia3.digest: "vectors"})


def test_blocked_inputs_are_refused_by_name(tmp_path: Path, trio: dict[str, StoredAdapter]) -> None:
    qalora = read(make_lora(tmp_path, config={"use_qalora": True}))
    with pytest.raises(Refused) as caught:
        compute(combination((1, trio["a"]), (1, qalora)), trio["a"], qalora, labels={qalora.digest: "q@1"})
    assert caught.value.message == "q@1 cannot be composed: QALoRA (use_qalora) is not implemented"


def test_unequal_shapes_are_refused_naming_everything(tmp_path: Path, trio: dict[str, StoredAdapter]) -> None:
    other = read(make_lora(tmp_path, modules={Q0: (16, 8)}))
    labels = {trio["a"].digest: "a@1", other.digest: "b@1"}
    with pytest.raises(Incompatible) as caught:
        compute(combination((1, trio["a"]), (1, other)), trio["a"], other, labels=labels)
    assert caught.value.message in {
        f"module {Q0} is linear 12x8 in a@1 but linear 16x8 in b@1",
        f"module {Q0} is linear 16x8 in b@1 but linear 12x8 in a@1",
    }


def test_layouts_are_checked_without_tensors(tmp_path: Path, trio: dict[str, StoredAdapter]) -> None:
    ia3 = read(make_ia3(tmp_path))
    inputs.check_compatible({name: (x.kind, x.layout) for name, x in trio.items()})
    with pytest.raises(Incompatible, match="a is of kind lora and v of kind ia3"):
        inputs.check_compatible({"a": (trio["a"].kind, trio["a"].layout), "v": (ia3.kind, ia3.layout)})


@pytest.mark.parametrize("where", ["kind", "method"])
def test_another_algorithm_than_todays_is_refused(trio: dict[str, StoredAdapter], where: str) -> None:
    truncate = call("truncate", linear((1, trio["a"])), rank=2)
    old = truncate.model_copy(update={"algorithm": 7}) if where == "method" else truncate
    made = combination((1, old))
    made = made.model_copy(update={"algorithm": 7}) if where == "kind" else made
    with pytest.raises(Refused) as caught:
        compute(made, trio["a"])
    name = "truncate" if where == "method" else "lora"
    assert caught.value.message == f"the recipe was made with {name} of algorithm 7, this release has 1"


def test_methods_are_refused_where_they_are_not_defined(
    tmp_path: Path, trio: dict[str, StoredAdapter]
) -> None:
    ia3, a = read(make_ia3(tmp_path)), trio["a"]
    made = combination((1, ia3)).model_copy(
        update={"expression": linear((1, call("truncate", linear((1, ia3)), rank=2)))}
    )
    with pytest.raises(Incompatible, match="truncate is defined for lora, task_vector adapters, not for ia3"):
        compute(made, ia3)
    with pytest.raises(Refused, match="truncate takes 1 arguments, not 2"):
        compute(combination((1, call("truncate", linear((1, a)), linear((2, a)), rank=2))), a)


def test_nothing_is_computed_before_everything_is_checked(trio: dict[str, StoredAdapter]) -> None:
    made = combination((1, trio["a"])).model_copy(update={"algorithm": 2})
    with pytest.raises(Refused):
        evaluate.modules(made, {trio["a"].digest: trio["a"]}, device=torch.device("cpu"))


def test_bytes_are_the_same_for_one_thread_and_two(tmp_path: Path, trio: dict[str, StoredAdapter]) -> None:
    made = combination(
        (1, call("truncate", linear((1, trio["a"]), ("-0.4", trio["b"])), rank=4)), (2, trio["c"])
    )
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            written = materialize(tmp_path / str(threads), made, *trio.values())
            found.append([path.read_bytes() for path, _ in written.files.values()])
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_float64_inputs_are_summed_in_float64(tmp_path: Path) -> None:
    wide = read(make_lora(tmp_path, dtype=torch.float64))
    dtypes: set[Any] = {
        item.delta.up.dtype
        for item in compute(combination((1, wide)), wide)
        if isinstance(item.delta, LowRank)
    }
    assert dtypes == {torch.float64}


def test_checking_and_reading_cost_no_torch(tmp_path: Path) -> None:
    make_lora(tmp_path)
    code = (
        "import sys, pathlib; from registry import evaluate, inputs, peft_format;"
        f"a = peft_format.read(pathlib.Path({str(tmp_path)!r})); a.digest;"
        "inputs.check_compatible({'a': (a.kind, a.layout)});"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
