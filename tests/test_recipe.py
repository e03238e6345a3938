"""Recipes: one canonical form, and a digest that changes with everything that matters and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import Registry, decimals, digest, recipe
from registry.recipe import Call, Input, Recipe, Sum, Term, linear
from registry.results import Check
from tests.adapters import load_tensors, make_lora, write_adapter

GOLDEN = Path(__file__).with_name("golden") / "recipes.json"
inputs = st.sampled_from([Input(digest="sha256:" + letter * 64) for letter in "abcd"])
weights = st.decimals("-1000", "1000", places=3, allow_nan=False, allow_infinity=False)
pairs = st.lists(st.tuples(weights, inputs), min_size=1, max_size=6)
ONE = Decimal(1)


@given(pairs, st.randoms())
def test_sums_commute(terms: list[tuple[Decimal, Input]], random: Any) -> None:
    shuffled = random.sample(terms, len(terms))
    assert linear(terms) == linear(shuffled)


@given(pairs, pairs, pairs)
def test_sums_associate(a: Any, b: Any, c: Any) -> None:
    left = linear([(ONE, linear([(ONE, linear(a)), (ONE, linear(b))])), (ONE, linear(c))])
    right = linear([(ONE, linear(a)), (ONE, linear([(ONE, linear(b)), (ONE, linear(c))]))])
    assert left.canonical() == right.canonical() == linear([*a, *b, *c]).canonical()


@given(weights, weights, pairs)
def test_coefficients_distribute_exactly(one: Decimal, other: Decimal, terms: Any) -> None:
    nested = linear([(one, linear([(other, linear(terms))]))])
    flat = linear([(one * other * weight, operand) for weight, operand in terms])
    assert nested.canonical() == flat.canonical()


@given(weights, inputs)
def test_equal_operands_merge(weight: Decimal, operand: Input) -> None:
    assert linear([(weight, operand), (weight, operand)]) == linear([(2 * weight, operand)])


@given(weights, inputs)
def test_a_term_that_cancels_stays_with_weight_zero(weight: Decimal, operand: Input) -> None:
    cancelled = linear([(weight, operand), (-weight, operand)])
    assert cancelled.canonical() == {"sum": [["0", {"adapter": operand.digest}]]}


@given(weights, inputs)
def test_how_a_coefficient_is_written_does_not_matter(weight: Decimal, operand: Input) -> None:
    padded = Decimal(f"{weight}000") if "." in str(weight) else weight
    assert linear([(padded, operand)]).canonical() == linear([(weight, operand)]).canonical()


@given(weights)
def test_a_decimal_is_written_plainly_and_exactly(weight: Decimal) -> None:
    text = decimals.format_decimal(weight)
    assert Decimal(text) == weight
    assert set(text) <= set("-0123456789.")
    assert not ("." in text and text.endswith("0"))


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("0.40", "0.4"),
        ("4E-1", "0.4"),
        ("-0", "0"),
        ("0E+5", "0"),
        ("1E+3", "1000"),
        ("-2.50", "-2.5"),
        ("100", "100"),
    ],
)
def test_decimals_have_one_notation(written: str, plain: str) -> None:
    assert decimals.format_decimal(Decimal(written)) == plain


def test_coefficients_never_lose_a_digit() -> None:
    third = Decimal("0." + "3" * 40)
    operand = Input(digest="sha256:" + "a" * 64)
    (term,) = linear([(third, linear([(third, operand)]))]).terms
    with_room = decimals.exactly.multiply(third, third)
    assert term.weight == with_room
    assert len(term.weight.as_tuple().digits) == 80


@given(pairs)
def test_a_canonical_recipe_is_read_back(terms: Any) -> None:
    call = Call(method="truncate", algorithm=1, parameters={"rank": 4}, arguments=(linear(terms),))
    made = a_recipe(expression=linear([(ONE, call), *terms]))
    again = recipe.parse(json.loads(digest.canonical_json(made.canonical())))
    assert again.digest == made.digest
    assert again.inputs == made.inputs


def test_a_recipe_of_another_format_is_not_guessed_at() -> None:
    for found in (2, None, "1"):
        with pytest.raises(ValueError, match="format"):
            recipe.parse({**a_recipe().canonical(), "format": found})


def test_order_matters_between_the_arguments_of_a_method_but_not_within() -> None:
    one, other = (Input(digest="sha256:" + letter * 64) for letter in "ab")
    first, second = (linear([(ONE, operand)]) for operand in (one, other))

    def call(*arguments: Sum) -> Recipe:
        made = Call(method="slerp", algorithm=1, parameters={}, arguments=arguments)
        return a_recipe(expression=linear([(ONE, made)]))

    assert call(first, second).digest != call(second, first).digest
    within = [linear([(ONE, a), (ONE, b)]) for a, b in ((one, other), (other, one))]
    assert call(within[0]).digest == call(within[1]).digest


def a_call(**changes: Any) -> Recipe:
    operand = Input(digest="sha256:" + "a" * 64)
    values: dict[str, Any] = {
        "method": "ties",
        "algorithm": 1,
        "parameters": {"density": "0.2", "sign": True},
    }
    call = Call(**(values | {"arguments": (linear([(ONE, operand)]),)} | changes))
    return a_recipe(expression=linear([(ONE, call)]))


def a_recipe(**changes: Any) -> Recipe:
    terms = [(Decimal("0.4"), Input(digest="sha256:" + "a" * 64)), (ONE, Input(digest="sha256:" + "b" * 64))]
    values: dict[str, Any] = {
        "kind": "lora",
        "algorithm": 1,
        "dtype": "float32",
        "seed": 0,
        "expression": linear(terms),
    }
    return Recipe(**(values | changes))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (a_recipe(), a_recipe(kind="ia3")),
        (a_recipe(), a_recipe(algorithm=2)),
        (a_recipe(), a_recipe(dtype="bfloat16")),
        (a_recipe(), a_recipe(seed=1)),
        (
            a_recipe(),
            a_recipe(
                expression=linear(
                    [
                        (Decimal("0.4000000000000000000001"), Input(digest="sha256:" + "a" * 64)),
                        (ONE, Input(digest="sha256:" + "b" * 64)),
                    ]
                )
            ),
        ),
        (
            a_recipe(),
            a_recipe(
                expression=linear(
                    [
                        (Decimal("0.4"), Input(digest="sha256:" + "c" * 64)),
                        (ONE, Input(digest="sha256:" + "b" * 64)),
                    ]
                )
            ),
        ),
        (a_recipe(), a_recipe(expression=linear([(Decimal("0.4"), Input(digest="sha256:" + "a" * 64))]))),
        (a_call(), a_call(method="dare")),
        (a_call(), a_call(algorithm=2)),
        (a_call(), a_call(parameters={"density": "0.20001", "sign": True})),
        (a_call(), a_call(parameters={"density": "0.2", "sign": 1})),
        (a_call(), a_call(parameters={"density": "0.2", "sign": True, "more": None})),
    ],
)
def test_the_digest_changes_with_everything_that_decides_the_result(before: Recipe, after: Recipe) -> None:
    assert before.digest != after.digest


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert a_call(parameters={"sign": True, "density": "0.2"}).digest == a_call().digest


def golden_recipes() -> dict[str, Recipe]:
    a, b = (Input(digest="sha256:" + letter * 64) for letter in "ab")
    inner = Call(
        method="truncate",
        algorithm=1,
        parameters={"energy": None, "rank": 16},
        arguments=(linear([(ONE, a), (Decimal("-0.4"), b)]),),
    )
    return {
        "identity": recipe.identity(a.digest, kind="lora", algorithm=1, dtype="float32"),
        "difference": a_recipe(),
        "negation in half precision": a_recipe(dtype="float16", expression=linear([(-ONE, a)])),
        "a cancelled term, another seed": a_recipe(
            seed=-7, expression=linear([(ONE, a), (-ONE, a), (ONE, b)])
        ),
        "ia3": a_recipe(kind="ia3", algorithm=3, dtype="bfloat16"),
        "truncated": a_recipe(expression=linear([(ONE, inner)])),
        "a method inside a sum": a_recipe(expression=linear([(Decimal("1E-7"), inner), (Decimal(12300), b)])),
        "a method of methods": a_recipe(
            dtype="float64",
            expression=linear(
                [
                    (
                        ONE,
                        Call(
                            method="mean",
                            algorithm=2,
                            parameters={"é": "ü", "t": "0.5"},
                            arguments=(linear([(ONE, inner)]), linear([(ONE, b)])),
                        ),
                    )
                ]
            ),
        ),
    }


def test_digests_are_what_they_were_in_every_release() -> None:
    """A change here breaks every cache and every published recipe: it needs a new FORMAT, not a new file."""
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {name: made.digest for name, made in golden_recipes().items()} == recorded
    assert recipe.FORMAT == 1


def test_digests_are_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "import json; from tests.test_recipe import golden_recipes as g; "
        "print(json.dumps({name: made.digest for name, made in g().items()}))"
    )
    expected = {name: made.digest for name, made in golden_recipes().items()}
    for seed in ("0", "4242"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        assert json.loads(done.stdout) == expected


def test_the_recipe_digest_does_not_depend_on_names_tags_or_how_files_were_saved(
    local: Registry, tmp_path: Path
) -> None:
    first, second = make_lora(tmp_path / "a", seed=1), make_lora(tmp_path / "b", seed=2)
    local.add(first, "one", tags={"k": "v"}, note="a note")
    local.add(second, "two")
    resaved = make_lora(tmp_path / "again", seed=1, infix=".default", config={"lora_dropout": 0.5})
    tensors = dict(reversed(load_tensors(resaved).items()))
    write_adapter(
        resaved, dict(reversed(json.loads((resaved / "adapter_config.json").read_text()).items())), tensors
    )
    local.add(resaved, "team/renamed")
    expected = check(local, "one - 0.4*two").recipe_digest
    for text in ("team/renamed@1 - 0.40*two", "-4e-1*two + one", "0.6*one + 2*(0.2*team/renamed - 0.2*two)"):
        assert check(local, text).recipe_digest == expected


def test_the_recipe_digest_changes_with_one_byte_of_an_input(local: Registry, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a", seed=1)
    local.add(folder, "x")
    tensors = load_tensors(folder)
    name = min(tensors)
    tensors[name].view(-1)[0] += 1e-7 * tensors[name].view(-1)[0].abs() + 1e-9
    write_adapter(folder, json.loads((folder / "adapter_config.json").read_text()), tensors)
    local.add(folder, "x")
    assert local.show("x").version == 2
    assert check(local, "2*x@1").recipe_digest != check(local, "2*x@2").recipe_digest


def test_the_recipe_digest_changes_with_what_is_asked_for(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", seed=1), "x")
    digests = {
        check(local, "x").recipe_digest,
        check(local, "2*x").recipe_digest,
        check(local, "2*x", dtype="float16").recipe_digest,
        check(local, "2*x", rank=2).recipe_digest,
        check(local, "2*x", rank=3).recipe_digest,
        check(local, "2*x", energy="0.9").recipe_digest,
        check(local, "factors(2*x)").recipe_digest,
        local.compose("seeded", "2*x", seed=5).recipe.digest,  # type: ignore[union-attr]
    }
    assert len(digests) == 8
    assert check(local, "2*x", rank=2).recipe_digest == check(local, "truncate(x + x, rank=2)").recipe_digest


def test_a_recipe_is_frozen_and_knows_its_fields() -> None:
    with pytest.raises(ValueError, match="frozen"):
        a_recipe().seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs"):
        a_recipe(note="x")
    with pytest.raises(ValueError, match="dtype"):
        a_recipe(dtype="int8")
    assert isinstance(a_recipe().expression.terms[0], Term)


def check(catalog: Registry, text: str, **options: Any) -> Check:
    return catalog.check(text, **options)
