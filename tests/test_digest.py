"""Digests and the canonical JSON beneath them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import digest
from registry.errors import IntegrityFailure

plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(plain)
def test_canonical_json_is_json(value: Any) -> None:
    assert json.loads(digest.canonical_json(value)) == value


@given(st.dictionaries(st.text("abcé", max_size=4), st.integers(), max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, int], random: Any) -> None:
    shuffled = dict(random.sample(list(value.items()), len(value)))
    assert digest.of_json(shuffled) == digest.of_json(value)


def test_canonical_json_has_these_very_bytes() -> None:
    value = {"b": [1, True, None], "a": "é\n", "B": {}}
    assert digest.canonical_json(value) == b'{"B":{},"a":"\xc3\xa9\\n","b":[1,true,null]}'


@pytest.mark.parametrize("value", [1.5, [0.0], {"a": {"b": [1, 2.0]}}, (1.0,), float("nan")])
def test_a_float_is_refused_wherever_it_hides(value: Any) -> None:
    with pytest.raises(TypeError, match="no floats"):
        digest.canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {None: 1}}, [{True: 1}]])
def test_keys_are_strings(value: Any) -> None:
    with pytest.raises(TypeError, match="string keys"):
        digest.canonical_json(value)


def test_a_digest_is_sha256_with_its_name() -> None:
    assert digest.of_bytes(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert digest.of_json({}) == digest.of_bytes(b"{}")


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "a" * 64, "sha256:" + "a" * 64 + "\n"]
)
def test_a_digest_is_recognised_whole_only(text: str) -> None:
    assert not digest.is_digest(text)
    assert digest.is_digest("sha256:" + "a" * 64)


def test_a_difference_names_the_thing_and_both_digests() -> None:
    one, other = digest.of_bytes(b"1"), digest.of_bytes(b"2")
    digest.check("the file", expected=one, found=one)
    with pytest.raises(IntegrityFailure) as caught:
        digest.check("the file", expected=one, found=other)
    assert all(part in caught.value.message for part in ("the file", one, other))
    assert caught.value.exit_code == 5
