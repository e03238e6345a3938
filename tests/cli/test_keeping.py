"""verify, gc and db."""

import json

import pytest

from registry import Registry
from registry.results import Damage, DatabaseCheck, Garbage, Schema
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run

NOTHING_ELSE = {"base_path": None, "key": None, "repair": False, "sources": ()}


def test_verify_prints_all_and_then_fails(fake: FakeRegistry, run: Run) -> None:
    fake.answers["verify"] = (
        samples.verification(),
        samples.verification(ref="detox@1", ok=False, problems=("adapter_model.safetensors is damaged",)),
    )
    done = run("verify", "toxic", "detox", "--rebuild")
    assert fake.asked == {**NOTHING_ELSE, "refs": ("toxic", "detox"), "rebuild": True}
    assert "verify_database" not in dict(fake.calls)
    assert done.exit_code == 5
    assert "toxic@3" in done.stdout
    assert "adapter_model.safetensors is damaged" in done.stdout
    assert done.stderr.startswith("error: 1 version of 2 not as recorded: detox@1\n")
    fake.answers["verify_database"] = DatabaseCheck(ok=True)
    as_json = run("verify", "--format", "json")
    told = [(item["ref"], item["ok"]) for item in json.loads(as_json.stdout)]
    assert told == [("toxic@3", True), ("detox@1", False), ("database", True)]
    assert json.loads(as_json.stderr)["error"]["code"] == "INTEGRITY"


def test_verify_passes_when_everything_holds(fake: FakeRegistry, run: Run) -> None:
    fake.answers["verify"] = (samples.verification(rebuilt=samples.DIGEST),)
    fake.answers["verify_database"] = DatabaseCheck(ok=True)
    done = run("verify")
    assert fake.asked == {**NOTHING_ELSE, "refs": (), "rebuild": False}
    assert done.exit_code == 0
    assert "same bytes" in done.stdout


def test_what_is_damaged_in_the_database_is_shown_and_fails(fake: FakeRegistry, run: Run) -> None:
    row = Damage(
        table="tags",
        row="version_id 3, key \x1b[31m",
        problem="it is not what was written",
        versions=("toxic@3",),
    )
    derived = Damage(table="words", row="version_id 4", problem="other words", derived=True, repaired=True)
    fake.answers["verify"] = (samples.verification(),)
    fake.answers["verify_database"] = DatabaseCheck(ok=False, damage=(row, derived), quarantined=("/aside",))
    done = run("verify", "--repair", "--from", "/backup")
    assert fake.asked == {
        **NOTHING_ELSE,
        "refs": (),
        "rebuild": False,
        "repair": True,
        "sources": ("/backup",),
    }
    assert done.exit_code == 5
    for part in ("tags", "it is not what was written", "toxic@3", "repaired"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout
    assert "error: 1 thing in the database not as written" in done.stderr
    assert "1 damaged file put aside" in done.stderr
    healed = samples.verification(
        ref="detox@1", healed={samples.DIGEST: "/backup"}, quarantined=(samples.DIGEST, f"sha256:{'9' * 64}")
    )
    lost = samples.verification(ref="lost@1", ok=False, problems=("it is missing",))
    fake.answers["verify"] = (healed, lost)
    done = run("verify", "--repair")
    for part in ("1 file healed from /backup", "1 damaged file put aside"):
        assert part in " ".join(done.stdout.split())
    assert "no good copy was found" in done.stderr  # and not that a repair looks for one
    fake.answers["verify"] = (samples.verification(),)
    fake.answers["verify_database"] = DatabaseCheck(ok=True, damage=(derived,))
    assert run("verify", "--repair").exit_code == 0


def test_a_catalog_too_damaged_to_be_verified_is_an_integrity_failure(fake: FakeRegistry, run: Run) -> None:
    fake.answers["verify"] = ValueError("nonsense")
    fake.answers["verify_database"] = DatabaseCheck(
        ok=False, damage=(Damage(table="", row="", problem="malformed"),)
    )
    done = run("verify")
    assert (done.exit_code, "malformed" in done.stdout) == (5, True)
    fake.answers["verify_database"] = DatabaseCheck(ok=True)
    assert run("verify").exit_code == 1


def test_a_place_to_heal_from_without_repair_is_refused(fake: FakeRegistry, run: Run) -> None:
    done = run("verify", "--from", "/backup")
    assert (done.exit_code, fake.calls) == (2, [])
    assert "--repair" in done.stderr


def test_gc_looks_first_and_applies_when_told(fake: FakeRegistry, run: Run) -> None:
    fake.answers["gc"] = samples.garbage()
    done = run("gc")
    assert fake.asked == {"apply": False, "quarantine": False}
    assert "would remove 1 blob and 1 leftover, 2.0 kB" in done.stdout
    assert samples.DIGEST in done.stdout
    assert "registry gc --apply removes it" in done.stderr
    assert "registry gc --quarantine --apply removes it" in run("gc", "--quarantine").stderr
    assert run("gc", "--format", "quiet").stdout == f"{samples.DIGEST}\n"
    fake.answers["gc"] = samples.garbage(applied=True)
    applied = run("gc", "--apply")
    assert fake.asked == {"apply": True, "quarantine": False}
    assert "removed 1 blob" in applied.stdout
    assert applied.stderr == ""
    assert Garbage.model_validate_json(run("gc", "--format", "json").stdout) == samples.garbage(applied=True)


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        (samples.schema(), 0),
        (samples.schema(current="0000", ok=False), 6),
        (samples.schema(current=None, ok=False), 6),
    ],
)
def test_db_check(monkeypatch: pytest.MonkeyPatch, run: Run, schema: Schema, code: int) -> None:
    monkeypatch.setattr(Registry, "check_schema", lambda: schema)
    done = run("db", "check")
    assert done.exit_code == code
    assert "0001" in done.stdout
    assert ("registry db upgrade" in done.stderr) == (code == 6)
    assert Schema.model_validate_json(run("db", "check", "--format", "json").stdout) == schema


def test_db_check_names_what_was_changed_by_hand(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    changed = samples.schema(ok=False, problems=("index a.b is missing",))
    monkeypatch.setattr(Registry, "check_schema", lambda: changed)
    done = run("db", "check")
    assert done.exit_code == 6
    assert "index a.b is missing" in done.stderr
    assert "changed by hand" in done.stdout


def test_db_current_prints_the_revision(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(Registry, "schema", samples.schema)
    assert run("db", "current").stdout == "0001\n"
    monkeypatch.setattr(Registry, "schema", lambda: samples.schema(current=None, ok=False))
    assert run("db", "current").stdout == "none\n"


def test_db_shows_no_password(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    url = "postgresql+psycopg://ada:s3cret/@db:5432/registry?sslpassword=key1"
    monkeypatch.setattr(Registry, "upgrade", lambda: samples.schema(url=url))
    for form in ("human", "json"):
        done = run("db", "upgrade", "--format", form)
        assert "ada:***@db:5432/registry" in done.stdout
        assert "s3cret" not in done.output
        assert "key1" not in done.output
