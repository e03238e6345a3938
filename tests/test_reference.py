"""References: what names a version, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import reference
from registry.errors import RegistryError, UsageError
from registry.reference import Reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("toxic", Reference(name="toxic")),
        ("team/alpaca-7b.v2_x", Reference(name="team/alpaca-7b.v2_x")),
        ("toxic@3", Reference(name="toxic", version=3)),
        ("toxic@v3", Reference(name="toxic", version=3)),
        ("toxic@V12", Reference(name="toxic", version=12)),
        ("toxic@prod", Reference(name="toxic", alias="prod")),
        ("toxic@v3-rc.1", Reference(name="toxic", alias="v3-rc.1")),
        ("toxic@latest", Reference(name="toxic")),
        ("toxic@LATEST", Reference(name="toxic")),
        (DIGEST, Reference(digest=DIGEST)),
        (DIGEST[:15], Reference(digest=DIGEST[:15])),
    ],
)
def test_a_reference_is_read_as_what_it_means(text: str, expected: Reference) -> None:
    assert reference.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "3",
        "3toxic",
        "-toxic",
        ".toxic",
        "toxic ",
        "toxic\n",
        "tox ic",
        "töxic",
        "team/",
        "/toxic",
        "team/3",
        "a/b/c",
        "../toxic",
        "toxic@",
        "toxic@0",
        "toxic@v0",
        "toxic@03",
        "toxic@-1",
        "toxic@3.5",
        "toxic@a b",
        "toxic@prod@2",
        "toxic@1234567890",
        "toxic@٣",
        "sha256:",
        "sha256:0123456",
        "sha256:0123456789abcdeg",
        DIGEST.upper().replace("SHA256", "sha256"),
        DIGEST + "0",
        "md5:0123456789abcdef",
        "x" * 201,
        "toxic@" + "x" * 201,
        "toxic\0",
        "\ud800",
    ],
)
def test_what_is_no_reference_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        reference.parse(text)
    assert caught.value.hint
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("alias", ["latest", "Latest", "3", "v3", "V3", "", "a/b", "a b", "-x", "x" * 201])
def test_an_alias_never_looks_like_something_else(alias: str) -> None:
    with pytest.raises(UsageError):
        reference.check_alias(alias)


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except UsageError:
        return
    assert reference.parse(str(parsed)) == parsed


@given(st.text(alphabet="ab@/:.-_19v\nsh256", max_size=24))
def test_writing_a_reference_and_reading_it_gives_it_back(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except RegistryError:
        return
    assert reference.parse(str(parsed)) == parsed


def test_where_a_reference_stands_is_no_part_of_what_it_means() -> None:
    assert reference.parse("toxic@3", column=9) == reference.parse("toxic@3")
    assert len({reference.parse("toxic@3", column=9), reference.parse("toxic@3")}) == 1
