"""Expressions: the whole grammar, errors that point at the column, and input that means harm."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import expression, reference
from registry.errors import ExpressionError, RegistryError, UsageError
from registry.expression import Call, Node, Scaled, Sum
from registry.reference import Reference

A, B, C = (Reference(name=name) for name in "abc")


def total(*terms: Node) -> Sum:
    return Sum(terms, 0)


def times(coefficient: str, operand: Reference | Call | Sum) -> Scaled:
    return Scaled(Decimal(coefficient), operand)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a", A),
        ("  a\t", A),
        ("(((a)))", A),
        ("a@prod", Reference(name="a", alias="prod")),
        ("a@latest", A),
        ("sha256:01234567", Reference(digest="sha256:01234567")),
        ("a-b", Reference(name="a-b")),
        ("team/a", Reference(name="team/a")),
        ("-a", times("-1", A)),
        ("- a", times("-1", A)),
        ("--a", times("1", A)),
        ("0.5*a", times("0.5", A)),
        ("0.5 * a", times("0.5", A)),
        (".5*a", times("0.5", A)),
        ("1.*a", times("1", A)),
        ("5e-1*a", times("0.5", A)),
        ("2E+1*a", times("20", A)),
        ("0*a", times("0", A)),
        ("2*3*a", times("6", A)),
        ("2*-3*a", times("-6", A)),
        ("-0.4*a", times("-0.4", A)),
        ("a + b", total(A, B)),
        ("a - b", total(A, times("-1", B))),
        ("a - -b", total(A, times("1", B))),
        ("a\n+\nb", total(A, B)),
        ("a + b - 2*c", total(A, B, times("-2", C))),
        ("a - (b - c)", total(A, times("-1", total(B, times("-1", C))))),
        ("2*(a + b)", times("2", total(A, B))),
        ("f(a)", Call("f", (A,), (), 1, 1)),
        ("f (a)", Call("f", (A,), (), 1, 1)),
        ("f(a, b)", Call("f", (A, B), (), 1, 1)),
        ("f(a - b)", Call("f", (total(A, times("-1", B)),), (), 1, 1)),
        ("f(-a, n=-2)", Call("f", (times("-1", A),), (("n", -2),), 1, 1)),
        ("f(a, rank=16)", Call("f", (A,), (("rank", 16),), 1, 1)),
        ("f(rank = 16, a)", Call("f", (A,), (("rank", 16),), 1, 1)),
        ("f(a, d=0.20)", Call("f", (A,), (("d", Decimal("0.2")),), 1, 1)),
        ("f(a, x=true, y=False)", Call("f", (A,), (("x", True), ("y", False)), 1, 1)),
        ("f(a, x=none)", Call("f", (A,), (("x", None),), 1, 1)),
        ("f(a, x=sum)", Call("f", (A,), (("x", "sum"),), 1, 1)),
        ('f(a, x="q r")', Call("f", (A,), (("x", "q r"),), 1, 1)),
        ("2*f(g(a))", times("2", Call("f", (Call("g", (A,), (), 5, 1),), (), 3, 2))),
    ],
)
def test_the_grammar_means_what_it_says(text: str, tree: Node) -> None:
    assert shape(expression.parse(text)) == shape(tree)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "an adapter is missing"),
        ("   ", 1, "an adapter is missing"),
        ("a +b", 3, "space on both sides"),
        ("a -b", 3, "space on both sides"),
        ("a- b", 4, "space on both sides"),
        ("a + ", 5, "ends too early"),
        ("a + + b", 5, "space on both sides"),
        ("+a", 1, ""),
        ("a b", 3, "unexpected 'b'"),
        ("a*2", 2, "a coefficient stands before its adapter"),
        ("2a", 2, "'*'"),
        ("a + 0.4toxic", 8, "'*'"),
        ("1", 2, "ends too early"),
        ("(a + b", 7, "ends too early"),
        ("a)", 2, "unexpected ')'"),
        ("()", 2, ""),
        ("f()", 3, ""),
        ("a + f(rank=1)", 5, "needs at least one adapter"),
        ("f(a, r=1, r=2)", 1, "r twice"),
        ("f(a, r=)", 8, ""),
        ("f(a, r=1e400)", 8, "finite"),
        ("a + 1e39*b", 5, "finite"),
        ("a + 1e-50*b", 5, "finite"),
        ("1e99999999999999999999*a", 1, "finite"),
        ("9" * 60 + "*a", 1, "too long"),
        ("inf*a", 4, "not a finite number"),
        ("a + nan*b", 8, "not a finite number"),
        ("a@", 1, "neither a version nor an alias"),
        ("b + a@0", 5, "neither a version nor an alias"),
        ("b + sha256:zz", 5, "not a digest"),
        ("a/b/c", 4, ""),
        ("a; drop", 2, "';'"),
        ("a + é", 5, "é"),
        ("٣*a", 1, ""),
        ("\ud800", 1, ""),
        ("a\0", 2, ""),
        ("b + " + "x" * 300, 5, "not an adapter name"),
    ],
)
def test_a_syntax_error_points_at_the_column(text: str, column: int, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression.parse(text)
    assert caught.value.column == column
    assert caught.value.exit_code == 2
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert f"column {column}" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "text",
    [
        "(" * 40_000 + "a" + ")" * 40_000,
        "-" * 99_999 + "a",
        "1*" * 49_000 + "a",
        "a + " * 24_000 + "a",
        "a\n" * 49_000,
        "(" * 99_999,
        "(a + " * 15_000 + "a" + ")" * 15_000,
        "-(a + " * 12_000 + "a" + ")" * 12_000,
        "f(" * 40_000 + "a" + ")" * 40_000,
        "a" * 99_999,
        "9" * 99_999 + "*a",
        "0." + "1" * 37 + "*0." + "1" * 37 + "*a",
        ("0." + "1" * 37 + "*") * 2_000 + "a",
        "f(a, " + ", ".join(f"p{i}=1" for i in range(10_000)) + ")",
        "x" * 200_000,
    ],
    ids=str.__len__,
)
def test_long_and_deep_input_is_an_expression_or_an_error_never_a_crash(text: str) -> None:
    try:
        tree = expression.parse(text)
    except UsageError:
        return
    assert list(expression.references(tree))
    assert shape(expression.parse(expression.render(tree))) == shape(tree)


def test_nesting_is_allowed_to_a_depth_nobody_types() -> None:
    for opening, closing in (("f(", ")"), ("(a - ", ")")):
        assert list(expression.references(expression.parse(opening * 40 + "a" + closing * 40)))
        with pytest.raises(ExpressionError, match="nested deeper than 50"):
            expression.parse(opening * 60 + "a" + closing * 60)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_a_usage_error(text: str) -> None:
    try:
        tree = expression.parse(text)
    except UsageError:
        return
    assert shape(expression.parse(expression.render(tree))) == shape(tree)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(["a", "b@2", "(", ")", " + ", " - ", "-", "0.5", "*", "f(", ", ", "r=", "1"]),
        max_size=14,
    )
)
def test_any_row_of_tokens_parses_or_points_into_the_text(tokens: list[str]) -> None:
    text = "".join(tokens)
    try:
        tree = expression.parse(text)
    except ExpressionError as error:
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017 (both outcomes are right)
        return
    assert shape(expression.parse(expression.render(tree))) == shape(tree)


names = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,6}(/[A-Za-z][A-Za-z0-9._-]{0,3})?", fullmatch=True)
references = st.one_of(
    names.map(lambda name: Reference(name=name)),
    st.builds(Reference, name=names, version=st.integers(1, 999_999_999)),
    st.builds(Reference, name=names, alias=st.sampled_from(["prod", "rc.1", "v3-x"])),
    st.from_regex(r"sha256:[0-9a-f]{8,64}", fullmatch=True).map(lambda digest: Reference(digest=digest)),
)
coefficients = st.decimals("-99999", "99999", places=4, allow_nan=False, allow_infinity=False)
values = st.one_of(
    st.integers(-(10**6), 10**6),
    coefficients,
    st.booleans(),
    st.none(),
    st.from_regex(r'[^"\\]{0,8}', fullmatch=True),
)


def nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    parameters = st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), values, max_size=2)
    calls = st.builds(
        lambda method, arguments, given_: Call(method, tuple(arguments), tuple(given_.items()), 1, 0),
        st.sampled_from(["ties", "truncate"]),
        st.lists(inner, min_size=1, max_size=3),
        parameters,
    )
    sums = st.lists(inner, min_size=2, max_size=4).map(lambda terms: total(*terms))
    bare = st.one_of(inner.filter(lambda node: not isinstance(node, Scaled)), calls)
    scaled = st.builds(Scaled, coefficients, bare)
    return st.one_of(calls, sums, scaled)


@given(st.recursive(references, nodes, max_leaves=12))
def test_rendering_a_tree_and_parsing_it_gives_it_back(tree: Node) -> None:
    assert shape(expression.parse(expression.render(tree))) == shape(tree)


@pytest.mark.parametrize("text", ["- - (a - b)", "1*(a - b)", "-0.5*-2*(a - b)", "1*a", "2*0.5*f(1*a, --b)"])
def test_a_coefficient_of_one_is_none(text: str) -> None:
    said = expression.render(expression.parse(text))
    assert expression.render(expression.parse(said)) == said
    assert "1*" not in said
    assert not said.startswith("(")


def test_a_coefficient_is_written_so_that_it_is_read_again() -> None:
    for text in ("1.23456e-37*a", "0.1111111111111111111*0.1111111111111111111*a", "1e37*a", "2.50*0.40*a"):
        tree = expression.parse(text)
        assert shape(expression.parse(expression.render(tree))) == shape(tree)
    for text in ("1e-30*1e-30*a", "1e30*1e30*a", "0.123456789012345678901234567*0.123456789012345678901*a"):
        with pytest.raises(ExpressionError, match="product of coefficients"):
            expression.parse(text)


def test_references_are_listed_left_to_right_with_repetitions() -> None:
    tree = expression.parse("b@2 - 2*f(a, (c + b@2))")
    assert [str(ref) for ref in expression.references(tree)] == ["b@2", "a", "c", "b@2"]


def test_references_can_be_written_by_another_name() -> None:
    tree = expression.parse("a@prod - 0.40*b")
    assert expression.render(tree, lambda ref: f"{ref.name}@7") == "a@7 - 0.4*b@7"


def test_every_reference_knows_its_column() -> None:
    tree = expression.parse("a - 0.4*(b@2 + f(c))")
    assert [ref.column for ref in expression.references(tree)] == [1, 10, 18]


def test_the_parser_raises_nothing_but_the_projects_errors_for_each_single_character() -> None:
    for code in [*range(0x300), 0x2028, 0xD800, 0xFEFF, 0x1F600]:
        for text in (chr(code), f"a{chr(code)}b", f"0.5*a {chr(code)} b"):
            try:
                expression.parse(text)
            except RegistryError as error:
                assert error.exit_code == 2  # noqa: PT017 (most characters are refused, a few are not)


def shape(node: Node) -> object:
    """A tree with what decides its meaning: no columns and depths, values with their types, 1*x as x."""
    match node:
        case Scaled(coefficient=coefficient, operand=operand):
            return shape(operand) if coefficient == 1 else ("scaled", coefficient, shape(operand))
        case Sum(terms=terms):
            return ("sum", *map(shape, terms))
        case Call(method=method, arguments=arguments, parameters=parameters):
            named = tuple((name, typed(value)) for name, value in parameters)
            return ("call", method, tuple(map(shape, arguments)), named)
        case _:
            return reference.parse(str(node))


def typed(value: object) -> tuple[str, object]:
    """``2.0`` is written ``2``: which of the two number types holds it is no part of the meaning."""
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return ("number", Decimal(value)) if number else (type(value).__name__, value)  # type: ignore[arg-type]
