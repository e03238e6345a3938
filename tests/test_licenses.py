"""What licenses leave for a result: the rules, each from the words of its license's steward."""

from __future__ import annotations

import itertools

import pytest

from registry.licenses import LICENSES, Derived, Source, allows, derive, identifier
from registry.testing.hub._cards import problems


def mixed(*licenses: str | None, asked: str | None = None, public: bool = False) -> Derived:
    """A composition of inputs with these licenses."""
    inputs = [Source(f"input-{place}@1", each) for place, each in enumerate(licenses)]
    return derive(asked, inputs, changed=True, public=public)


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (("mit", "mit"), "mit"),
        (("MIT", " apache-2.0 "), "apache-2.0"),
        (("cc0-1.0", "mit", "cc-by-4.0"), "cc-by-4.0"),
        (("apache-2.0", "gpl-3.0"), "gpl-3.0"),
        (("apache-2.0", "cc-by-sa-4.0"), "cc-by-sa-4.0"),
        (("cc-by-sa-4.0", "gpl-3.0"), "gpl-3.0"),
        (("cc-by-sa-3.0", "cc-by-sa-4.0"), "cc-by-sa-4.0"),
        (("gpl-3.0", "agpl-3.0"), "agpl-3.0"),
        (("lgpl-3.0", "gpl-3.0"), "gpl-3.0"),
        (("mpl-2.0", "mit"), "mpl-2.0"),
        (("lgpl-2.1", "apache-2.0"), "gpl-3.0"),
        (("cc-by-nc-4.0", "mit"), "cc-by-nc-4.0"),
        (("cc-by-nc-4.0", "cc-by-nc-sa-4.0"), "cc-by-nc-sa-4.0"),
        (("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"), "cc-by-nc-sa-4.0"),
        (("llama3.1", "apache-2.0"), "llama3.1"),
        (("gemma", "gemma"), "gemma"),
        (("gpl", "apache-2.0"), "gpl-3.0"),
        (("lgpl", "ecl-2.0"), "lgpl-3.0"),
        (("eupl-1.2", "mpl-2.0"), "mpl-2.0"),
        (("eupl-1.2", "lgpl-3.0"), "lgpl-3.0"),
        (("eupl-1.1", "osl-3.0"), "osl-3.0"),
        (("openmdw-1.0", "apple-amlr"), "apple-amlr"),
        (("mit", "fair-noncommercial-research-license"), "fair-noncommercial-research-license"),
        (("apache-2.0", "grok2-community"), "grok2-community"),
    ],
)
def test_a_result_gets_the_strictest_license_that_all_inputs_allow(
    licenses: tuple[str, ...], expected: str
) -> None:
    for order in itertools.permutations(licenses):
        found = mixed(*order)
        assert (found.license, found.conflicts) == (expected, ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpl-2.0", "apache-2.0"),
        ("gpl-2.0", "gpl-3.0"),
        ("cc-by-nc-4.0", "cc-by-sa-4.0"),
        ("cc-by-nc-sa-4.0", "cc-by-sa-4.0"),
        ("cc-by-nc-4.0", "gpl-3.0"),
        ("llama2", "llama3.1"),
        ("gemma", "llama3"),
        ("openrail", "bigscience-openrail-m"),
        ("gpl-3.0", "llama3.1"),
        ("odbl", "cc-by-sa-4.0"),
        ("cc-by-sa-3.0", "gpl-3.0"),
        ("afl-3.0", "gpl-3.0"),
        ("ms-pl", "gpl-3.0"),
        ("ecl-2.0", "gpl-2.0"),
        ("h-research", "intel-research"),
    ],
)
def test_licenses_that_cannot_be_met_at_once_are_a_conflict_that_names_both(one: str, other: str) -> None:
    found = mixed("mit", one, other)
    assert found.license is None
    assert len(found.conflicts) == 1
    assert all(word in found.conflicts[0] for word in ("input-1@1", one, "input-2@1", other))
    assert mixed(one, other, asked="mit").conflicts


@pytest.mark.parametrize("license_", ["cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"])
def test_nothing_derived_from_what_has_no_derivatives_is_passed_on_but_itself_is(license_: str) -> None:
    found = mixed("mit", license_)
    assert "input-1@1" in found.conflicts[0]
    assert mixed("mit", license_, asked=license_).conflicts
    itself = derive(None, [Source("a@1", license_), Source("base", "mit")], changed=False, public=True)
    assert (itself.license, itself.conflicts) == (license_, ())


def test_the_terms_of_a_model_and_non_commercial_ones_add_up_without_one_name_for_both() -> None:
    found = mixed("cc-by-nc-4.0", "llama2")
    assert (found.license, found.conflicts) == (None, ())
    assert "the terms of both hold" in found.notes[-1]
    assert mixed("cc-by-nc-4.0", "llama2", asked="llama2").conflicts


def test_terms_that_hold_beside_each_other_hide_no_conflict_with_a_third() -> None:
    for order in itertools.permutations(("cc-by-nc-4.0", "llama3.1", "gpl-3.0")):
        found = mixed(*order)
        assert "gpl-3.0" in found.conflicts[0]
        assert found.license is None


def test_many_inputs_without_a_common_license_are_judged_by_their_licenses() -> None:
    found = mixed(*["llama2", "cc-by-nc-4.0", "cc-by-nc-2.0"] * 20_000)
    assert len(found.notes) == 2


@pytest.mark.parametrize("unknown", [None, "", "other", "unknown", "Acme license, v2", "cc"])
def test_with_an_unknown_license_none_is_claimed_and_nothing_is_blocked(unknown: str | None) -> None:
    found = mixed("mit", unknown, public=True)
    assert (found.license, found.conflicts) == (None, ())
    assert "input-1@1" in found.notes[0]
    assert mixed("mit", unknown, asked="apache-2.0").license == "apache-2.0"
    assert not mixed("mit", unknown, asked="apache-2.0").conflicts
    assert mixed("gemma", unknown, asked="mit").conflicts


@pytest.mark.parametrize(
    "closed",
    ["proprietary", "Proprietary (Acme)", "All rights reserved", "all_rights-reserved", "NOASSERTION"],
)
def test_what_is_closed_makes_nothing_public(closed: str) -> None:
    assert "input-1@1" in mixed("mit", closed, public=True).conflicts[0]
    assert mixed("mit", closed, asked="mit", public=True).conflicts
    private = mixed("mit", closed)
    assert (private.license, private.conflicts) == (None, ())
    itself = derive(None, [Source("a@1", closed)], changed=False, public=True)
    assert itself.conflicts
    assert itself.license is None


def test_what_is_asked_for_is_judged_by_every_input() -> None:
    found = mixed("mit", "gpl-3.0", "cc-by-sa-4.0", asked="apache-2.0")
    assert [line.split()[0] for line in found.conflicts] == ["input-1@1", "input-2@1"]
    assert mixed("mit", "gpl-3.0", asked="agpl-3.0").license == "agpl-3.0"
    assert mixed("gpl-3.0", asked="my own").conflicts
    assert not mixed("mit", asked="my own").conflicts
    assert mixed("mit", asked="cc0-1.0").conflicts  # its notice has to be kept


def test_an_adapter_that_is_passed_on_keeps_its_license() -> None:
    inputs = [Source("a@1", "mit"), Source("the base model org/llama", "llama3.1")]
    found = derive(None, inputs, changed=False, public=True)
    assert (found.license, found.conflicts) == ("mit", ())
    assert "org/llama" in found.notes[0]
    assert derive("apache-2.0", inputs, changed=False, public=True).conflicts == ()
    assert derive("mit", [Source("a@1", "gpl-3.0")], changed=False, public=True).conflicts
    assert derive(None, [Source("a@1", "Acme, v2")], changed=False, public=True).license == "Acme, v2"


def test_many_unknown_inputs_make_few_notes() -> None:
    found = mixed(*[None] * 10_000, *["Acme"] * 50)
    assert len(found.notes) <= 21
    assert "and 9980 more" in found.notes[-1]
    assert max(map(len, found.notes)) < 1_000


def test_the_licenses_are_those_that_the_hub_accepts() -> None:
    """The local Hub has a list of its own, as a refusal of the Hub told it."""
    accepted = {each for each in LICENSES if not problems(f"---\nlicense: {each}\nlicense_name: x\n---\n")}
    assert accepted == LICENSES
    (refused,) = problems("---\nlicense: none-of-them\n---\n")
    assert set(refused.partition("[")[2].rstrip("]").split(", ")) == LICENSES


def test_every_license_of_the_hub_is_judged() -> None:
    known = sorted(LICENSES - {"other", "unknown", "cc"})
    for each in known:
        assert identifier(each.upper()) == each
        assert mixed(each, each).license == each or "-nd-" in each
        assert allows(each, each)


def test_no_derived_license_is_one_that_an_input_forbids() -> None:
    known = sorted(LICENSES - {"other", "unknown", "cc"})
    for one, other in itertools.product(known, known):
        found = mixed(one, other)
        assert found == mixed(one, other)
        if found.license is not None:
            assert allows(one, found.license)
            assert allows(other, found.license)
        else:
            assert found.conflicts or found.notes
        assert (mixed(other, one).license, len(mixed(other, one).conflicts)) == (
            found.license,
            len(found.conflicts),
        )
