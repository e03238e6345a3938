"""Our part of a README beside other people's, which stay as they wrote them."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import Conflict
from registry.publishers._card import card
from registry.publishers._merge import MAX_SIZE, compose, merge, part
from registry.testing.hub import _cards
from tests.publishers import releases

OURS = card(releases.release(license="mit"), "team/detox")
LATER = card(releases.release(license="apache-2.0", note="a note"), "team/detox")
END = b"<!-- adapter-registry: end -->\n"


def front(page: bytes) -> dict[str, object]:
    return _cards.metadata(page.decode())


def with_front(page: bytes, old: str, new: str) -> bytes:
    assert old in page.decode()
    return page.decode().replace(old, new, 1).encode()


def test_a_card_of_ours_alone_is_our_part() -> None:
    assert part(OURS) == OURS
    assert merge(OURS, None) == merge(OURS, b"") == merge(OURS, b" \n") == OURS
    assert merge(LATER, OURS) == LATER


@pytest.mark.parametrize(
    "theirs",
    [
        b"# Detox\n\nHand-written.\n",
        b"no newline at the end",
        b"---\nlicense: mit\n---\n",
        b"---\ndatasets:\n- a/b   # the best\nlanguage: en\n---\n# Detox\r\n\r\nwith both\nendings\r\n",
        b"\xef\xbb\xbf---\r\nlanguage: en\r\n---\r\nhello\r\n",
        b"---\n---\nsome words",
        b"\n\n---\nlanguage: en\n---\n",
        "\u00fc\u20ac \U0001f600\n".encode() + b"\xff\xfe not UTF-8\n",
        b"--- \nlanguage: en\n---",
    ],
)
def test_a_readme_without_our_part_gets_it_behind_its_text(theirs: bytes) -> None:
    made = merge(OURS, theirs)
    body = theirs.partition(b"---")[2].partition(b"---")[2].lstrip() if b"---" in theirs else theirs
    assert body in made
    assert made.endswith(END)
    assert part(made) == part(OURS)
    assert merge(OURS, made) == made
    # A later release changes our part only.
    assert not body or merge(LATER, made).count(body) == 1
    assert part(merge(LATER, made)) == part(LATER)
    if b"language" in theirs:
        assert b"language: en" in made


def test_text_around_our_part_and_keys_of_others_are_kept_byte_for_byte() -> None:
    edited = OURS.replace(
        b"---\n\n<!--", b"thumbnail: x.png  # mine\n\n# a comment\n---\nIntro\r\n\r\n<!--", 1
    )
    edited = with_front(edited, "tags:\n", "tags:\n- mine\n") + b"\n## More\n\n  trailing  \n\n\n"
    assert merge(OURS, edited) == edited
    later = merge(LATER, edited)
    assert b"thumbnail: x.png  # mine\n\n# a comment\n" in later
    assert b"---\nIntro\r\n\r\n<!--" in later
    assert later.endswith(END + b"\n## More\n\n  trailing  \n\n\n")
    assert front(later)["license"] == "apache-2.0"
    assert front(later)["tags"] == ["mine", *front(LATER)["tags"]]  # type: ignore[misc]
    assert b"a note" in later
    assert merge(LATER, later) == later
    assert part(later) == part(LATER)


def test_edits_inside_our_part_are_put_back() -> None:
    for old, new in [
        ("# detox, version 2", "# The best"),
        ("license: mit", "license: wtfpl"),
        ("library_name: peft\n", ""),
        ("- lora\n", ""),
    ]:
        edited = with_front(OURS, old, new) + b"mine\n"
        assert part(edited) != part(OURS)
        assert merge(OURS, edited) == OURS + b"mine\n" or front(merge(OURS, edited)) == front(OURS)
        assert part(merge(OURS, edited)) == part(OURS)
        assert merge(OURS, edited).endswith(b"mine\n")


def test_what_a_later_release_does_not_say_is_taken_back() -> None:
    evaluated = card(releases.release(license="mit", evaluations=(releases.evaluation(),)), "team/detox")
    theirs = merge(evaluated, b"---\nlanguage: en\n---\nhello\n")
    assert "model-index" in front(theirs)
    bare = merge(card(releases.imported(), "team/detox"), theirs)
    assert not {"model-index", "license"} & set(front(bare))
    assert front(bare)["language"] == "en"
    assert "merge" not in front(bare)["tags"]  # type: ignore[operator]


def test_a_license_that_we_do_not_claim_is_theirs_to_claim() -> None:
    bare = card(releases.imported(), "team/detox")
    made = merge(bare, b"---\nlicense: mit\ntags:\n- mine\n---\nhello\n")
    assert front(made)["license"] == "mit"
    assert front(made)["tags"] == ["mine", "lora", "adapter-registry", "base_model:adapter:org/llama"]
    edited = with_front(bare, "library_name", "license: mit\nlibrary_name")
    assert part(edited) == part(bare)
    assert merge(bare, edited) == edited


@pytest.mark.parametrize(
    "theirs",
    [
        OURS + OURS.partition(b"\n\n")[2],
        OURS.replace(END, b""),
        END + OURS,
        OURS.replace(b"<!-- What", b"<!-- adapter-registry: begin {} -->\n<!-- What", 1),
        OURS.replace(b'{"keys"', b'{"kays"', 1),
        OURS.replace(b'{"keys": [', b'{"keys": [1, ', 1),
        b"---\n: [\n---\ntext\n",
        b"---\n- a list\n---\ntext\n",
        b"---\n1: a\n---\ntext\n",
        b"---\na: &x [*x, *y]\n---\n",
        b"x" * (MAX_SIZE + 1),
    ],
)
def test_where_it_cannot_be_told_what_is_whose_nothing_is_guessed(theirs: bytes) -> None:
    with pytest.raises(Conflict, match=r"^README.md of team/detox ") as refused:
        merge(OURS, theirs, repo="team/detox")
    assert refused.value.hint
    assert "\n" not in refused.value.message
    assert part(theirs) == b"" or theirs.startswith(b"---\n:")


def test_front_matter_that_cannot_be_mended_line_by_line_keeps_its_values() -> None:
    for theirs in (
        b"---\n{language: en, license: gpl}\n---\nhello\n",
        b"---\nlicense: &l gpl\nlanguage: en\nmine: *l\n---\nhello\n",
        b"---\nlicense: |\n  gpl\n\n  # not a comment\nlanguage: en\n---\nhello\n",
        b'---\n"license": gpl\nlanguage: en\nx: .nan\n---\nhello\n',
    ):
        made = merge(OURS, theirs)
        assert (front(made)["language"], front(made)["license"]) == ("en", "mit")
        assert made.count(b"hello\n") == 1
        assert merge(OURS, made) == made


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    data=st.dictionaries(keys | st.sampled_from(["license", "tags", "base_model"]), values, max_size=5),
    flow=st.sampled_from([None, True, False]),
    before=st.text(max_size=40),
    after=st.text(max_size=40),
)
def test_whatever_others_write_is_kept(
    data: dict[str, object], flow: bool | None, before: str, after: str
) -> None:
    fenced = "---\n" + yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow) + "---\n"
    data = yaml.safe_load(fenced.split("---\n", 2)[1])  # what a reader makes of it
    before, after = f"Intro {before}\n", f"{after}\n"
    first = merge(OURS, (fenced + before).encode("utf-8", "surrogatepass"))
    made = first + after.encode()
    for ours in (OURS, LATER, OURS):
        made = merge(ours, made)
        assert part(made) == part(ours)
        assert merge(ours, made) == made
        assert before.encode() in made
        assert made.endswith(END + after.encode())
        theirs = {key: value for key, value in data.items() if key not in front(ours)}
        assert {key: front(made)[key] for key in theirs} == theirs


@settings(deadline=None)
@given(text=st.text(max_size=200) | st.sampled_from(["<!-- adapter-registry: end -->", "\n---\n", "-->"]))
def test_no_text_of_a_release_ends_its_part(text: str) -> None:
    body = f"a\n{text}\n<!-- adapter-registry: end -->\n<!-- adapter-registry: begin {{}} -->\nb"
    made = compose({"tags": [text, "-->"], text or "key": "value"}, body.encode("utf-8", "replace").decode())
    assert part(made) == made
    assert merge(made, made + b"theirs\n") == made + b"theirs\n"


def test_the_first_marker_says_what_is_ours() -> None:
    line = next(line for line in OURS.decode().splitlines() if "begin" in line)
    said = json.loads(line.removeprefix("<!-- adapter-registry: begin ").removesuffix(" -->"))
    assert said["keys"] == list(front(OURS))
    assert said["tags"] == front(OURS)["tags"]
