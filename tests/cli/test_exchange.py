"""fetch, watch, and what others show of versions that are only known."""

from __future__ import annotations

import json

from registry.results import Fetched, Watched
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run

COMMIT = "a" * 40


def watched(state: str, **changes: object) -> Watched:
    fields = {
        "ref": "toxic@3",
        "repo": "team/toxic",
        "revision": "main",
        "imported": COMMIT,
        "commit": "b" * 40,
        "state": state,
    }
    return Watched.model_validate({**fields, **changes})


def test_watch_says_how_to_take_what_moved(fake: FakeRegistry, run: Run) -> None:
    fake.answers["watch"] = (watched("moved"), watched("gone", ref="b@1", commit=None))
    done = run("watch", "toxic", "b")
    assert fake.asked == {"refs": ("toxic", "b")}
    assert done.exit_code == 0
    assert "registry add hf://team/toxic@main toxic" in done.stderr
    assert "gone" in done.stdout
    assert run("watch", "--format", "quiet").stdout == "toxic@3\nb@1\n"


def test_watch_check_fails_after_printing_where_one_moved_or_is_gone(fake: FakeRegistry, run: Run) -> None:
    for state, code in (("moved", 6), ("gone", 6), ("same", 0), ("same files", 0), ("unknown", 1)):
        fake.answers["watch"] = (watched(state),)
        done = run("watch", "--check", "--format", "json")
        assert done.exit_code == code, state
        assert json.loads(done.stdout)[0]["state"] == state


def test_watch_with_nothing_to_watch_says_so(fake: FakeRegistry, run: Run) -> None:
    fake.answers["watch"] = ()
    done = run("watch", "--check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing came from a branch of the Hub" in done.stderr


def test_fetch_passes_what_is_said_and_tells_where_from(fake: FakeRegistry, run: Run) -> None:
    source = f"hf://team/toxic@{COMMIT}"
    fake.answers["fetch"] = (
        Fetched(ref="toxic@3", digest=samples.DIGEST, source=source, size=10),
        Fetched(ref="b@1", digest=samples.OTHER, source="this catalog", size=10, changed=False),
    )
    done = run("fetch", "toxic", "b", "--device", "cpu", "--base-path", "llama")
    assert fake.asked == {"refs": ("toxic", "b"), "device": "cpu", "base_path": "llama"}
    assert source in done.stdout
    assert "held already" in done.stdout
    assert run("fetch").exit_code == 2


def test_show_and_list_say_what_is_not_held(fake: FakeRegistry, run: Run) -> None:
    origin = f"hf://team/detox@{COMMIT}#toxic@9"
    known = samples.version(held=False, origin=origin, source=f"hf://team/toxic@{COMMIT}")
    fake.answers["show"] = known
    shown = run("show", "toxic@3").stdout
    assert "NOT HELD" in shown
    assert "registry fetch toxic@3" in shown
    assert origin in shown
    fake.answers["show"] = samples.version()
    assert "NOT HELD" not in run("show", "toxic@3").stdout


def test_add_can_leave_provenance_aside(fake: FakeRegistry, run: Run) -> None:
    fake.answers["add"] = samples.added()
    run("add", "hf://team/x", "x", "--no-provenance")
    assert fake.asked["provenance"] is False


def test_what_to_do_about_a_repo_is_not_to_restore_it(fake: FakeRegistry, run: Run) -> None:
    wrong = samples.verification(ref=f"hf://team/x@{COMMIT}", ok=False, problems=("it is not signed",))
    fake.answers["verify"] = (wrong,)
    done = run("verify", "hf://team/x")
    assert done.exit_code == 5
    assert "hint: do not use what is on the Hub" in done.stderr
    assert "restore" not in done.stderr


def test_verify_passes_the_key(fake: FakeRegistry, run: Run) -> None:
    fake.answers["verify"] = (samples.verification(ref=f"hf://team/x@{COMMIT}", notes=("a note",)),)
    done = run("verify", "hf://team/x", "--key", "k.pem")
    assert (fake.asked["key"], fake.asked["refs"]) == ("k.pem", ("hf://team/x",))
    assert "a note" in done.stdout
