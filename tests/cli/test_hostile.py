"""Every command, given hostile text in each place, and shown a catalog that is full of it: nothing of it acts on a terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import huggingface_hub
import pytest
from click.testing import CliRunner, Result

from cli import root
from cli._render import _json
from cli._text import UNSAFE
from registry import Registry
from tests.cli import samples
from tests.reliability.fuzz.bundles import exported, read, write

EVIL = (
    "x\x1b]0;owned\x07\x1b[2J\u202ey\x9b31mz[bold]b[/bold][link=http://evil.test]l[/link]:smile:\u2066\u200b"
)
_OWN = re.compile(r"\n|\r|\x1b\[(?:\?25[lh]|[0-9]?[AK])")
"""What ends a line, and what a progress bar moves the cursor by."""
FORMATS = ("human", "json", "quiet")
# What is told of these is decided elsewhere: names, kinds, states, times and digests have a grammar.
_FIELDS = {
    "base_models": ("repo", "revision", "license"), "base_aliases": ("updated_by",), "adapters": ("created_by",),
    "artifacts": ("kind", "dtype"), "realisations": ("device", "dtype", "variant"),
    "versions": ("task", "license", "note", "source", "source_revision", "origin", "created_by", "expression", "resolved"),
    "aliases": ("updated_by",), "revocations": ("reason", "revoked_by"), "evaluations": ("metric", "dataset", "split", "created_by"),
    "publications": ("repo", "revision", "commit", "url", "error", "tag", "created_by"),
    "rules": ("selector", "repo", "revision", "tag", "license", "created_by"), "events": ("actor", "action", "subject"),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog in which every text that an import takes is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    tables, blobs = read(exported(folder))
    when = tables["versions"][0]["created_at"]
    tables["publications"] = [
        {
            "publish_id": "1", "version": 1, "repo": "team/a", "revision": "main", "target": "adapter", "state": state, "commit": "0" * 40,
            "url": "https://hub.test/x", "files": {EVIL: EVIL}, "error": "gone", "pull_request": None, "tag": "v1", "tagged": False,
            "created_at": when, "created_by": "ann", "finished_at": when, "withdrawn_at": None, "withdrawn_by": None, "reason": None,
        }
        for state in ("done", "failed")
    ]  # fmt: skip
    for number, each in enumerate(tables["publications"]):
        each["publish_id"] += str(number)
    for table, fields in _FIELDS.items():
        assert tables[table], f"there is nothing of {table} to look at"
        for line in tables[table]:
            line.update(
                {
                    field: f"{line[field] or ''}{EVIL}"
                    for field in fields
                    if isinstance(line[field], str | None)
                }
            )
    for line in tables["versions"]:
        line["tags"] = {f"team{EVIL}": EVIL}
        for parent in line["parents"]:
            parent["coefficient"] = EVIL
        if line["recipe"] is None:
            line["expression"] = line["resolved"] = None
    for line in tables["artifacts"]:
        line["not_composable"] = [EVIL]
    for line in tables["events"]:
        line["detail"] = {EVIL: [EVIL, {EVIL: EVIL}]}
    write(tables, blobs, folder / "evil.tar")
    with Registry.open(folder / "into") as catalog:
        catalog.import_bundle(folder / "evil.tar")
    return folder / "into"


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("REGISTRY_", "HF_"))]:
        monkeypatch.delenv(name)
    environment = {
        "REGISTRY_HOME": str(home),
        "REGISTRY_ACTOR": "ann",
        "HF_HOME": str(tmp_path / "hf"),
        "NO_COLOR": "1",
    }

    def invoke(*words: str) -> Result:
        return CliRunner(env=environment).invoke(root, words)

    return invoke


def quiet(done: Result, words: Any) -> None:
    """Nothing raw reached either stream, and what went wrong is told as one of ours."""
    for text in (done.stdout, done.stderr):
        found = UNSAFE.search(_OWN.sub("", text))
        assert found is None, f"{words!r} shows {found.group()!r} raw: {text!r:.1000}"
    assert "internal error" not in done.stderr, f"{words!r}: {done.stderr}"
    assert done.exit_code in range(8), f"{words!r}: {done.exit_code} {done.stderr}"


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, *path, name)
        if found is not None and (not isinstance(found, click.Group) or found.invoke_without_command):
            yield (*path, name), found


ALL = {" ".join(path): command for path, command in commands(root) if path != ("demo",)}


def asked(command: click.Command, evil: click.Parameter) -> list[str]:
    """A command line that is given hostile text in one place, and something plain in every other that needs a word."""
    words: list[str] = []
    for each in command.params:
        given = EVIL if each is evil else "7" if isinstance(each.type, click.types.FloatParamType) else "a"
        if each.name == "tags" and each is evil:
            given = f"{EVIL}={EVIL}"
        if isinstance(each, click.Option) and (each is evil or each.required):
            words += [each.opts[0], given]
    places = [each for each in command.params if isinstance(each, click.Argument)]
    last = max((at for at, each in enumerate(places) if each is evil or each.required), default=-1)
    arguments = [
        EVIL if each is evil else "0.5" if each.name == "value" else "a" for each in places[: last + 1]
    ]
    return [*words, "--", *arguments]


def test_the_walk_meets_every_command() -> None:
    assert len(ALL) > 50
    assert {"show", "list", "alias set", "eval compare", "rule add", "publish", "sync-dir"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_a_command_line_shows_no_hostile_word_raw(name: str, run: Callable[..., Result]) -> None:
    command = ALL[name]
    for evil in command.params:
        if isinstance(evil, click.Option) and evil.is_flag:
            continue
        for form in FORMATS:
            words = [*name.split(), "--format", form, *asked(command, evil)]
            quiet(run(*words), words)


LOOKS = [
    "list", "list --latest", "list --limit 1", "list yyy", "show a", "show mix", "show cut@1", "log a", "log mix", "lineage cut", "lineage a --down",
    "lineage cut --as dot", "lineage cut --as mermaid", "lineage cut --as json", "impact a", "stale", "stale --all", "diff a mix", "check a", "check mix",
    "events", "events a", "alias list", "alias list mix", "eval list a", "eval compare a", "tag set a k=v", "base list", "rule list", "publications",
    "publications a", "card a", "card mix", "verify", "gc", "fetch a", "watch", "sync --dry-run", "rebuild --dry-run", "methods", "db check", "db current",
    "materialize mix --explain", "materialize a", "checkout a out", "export all.tar", "sync-dir served live --dry-run", "publish mix team/x --dry-run",
    "compose new a", "convert a", "revoke a --undo", "fetch gone", "unpublish a --from team/a --dry-run",
]  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_catalog_full_of_hostile_text_is_shown_plainly(
    look: str, terminal: bool, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setattr("cli._render._is_terminal", lambda stream: stream is not None)
        monkeypatch.setenv("COLUMNS", "20000")
    for form in FORMATS if not terminal else ("human",):
        quiet(run(*look.split(), "--format", form), look)


def test_what_json_holds_is_what_is_stored(run: Callable[..., Result]) -> None:
    shown = json.loads(run("show", "a", "--format", "json").stdout)
    assert shown["note"] == EVIL
    assert shown["tags"][f"team{EVIL}"] == EVIL


@pytest.mark.parametrize("many", [True, False])
def test_the_name_of_a_file_that_is_no_text_is_told_in_json(many: bool) -> None:
    done = samples.checkout(path=os.fsdecode(b"out\xff"))
    text = _json([done] if many else done)
    shown = json.loads(text)[0] if many else json.loads(text)
    assert shown["path"] == "out\udcff"
    assert shown == json.loads(_json(samples.checkout())) | {"path": "out\udcff"}


def test_a_message_has_an_end(run: Callable[..., Result]) -> None:
    for words in (
        ["show", f"sha256:{'z' * 100_000}"],
        ["list", f"{'k' * 100_000} = 3"],
        ["add", "x" * 100_000, "n"],
        ["x" * 100_000],
    ):
        done = run(*words)
        quiet(done, words[0])
        assert len(done.stderr) < 5000
