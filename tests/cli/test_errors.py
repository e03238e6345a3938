"""Errors: one line or one JSON object, the right code, and no secrets."""

import errno
import json

import click
import pytest

from registry import errors
from registry._secrets import redact
from tests.cli.conftest import FakeRegistry, Run


def every_error(base: type[errors.RegistryError] = errors.RegistryError) -> list[type[errors.RegistryError]]:
    below = [error for child in base.__subclasses__() for error in every_error(child)]
    return [base, *(error for error in below if error.__module__ == errors.__name__)]


def made(kind: type[errors.RegistryError]) -> errors.RegistryError:
    if issubclass(kind, errors.ExpressionError):
        return kind("something is wrong", text="a ++ b", column=4, hint="do this")
    return kind("something is wrong", hint="do this")


@pytest.mark.parametrize("kind", every_error())
def test_each_error_is_one_line_with_a_hint_and_its_exit_code(
    fake: FakeRegistry, run: Run, kind: type[errors.RegistryError]
) -> None:
    error = fake.answers["show"] = made(kind)
    done = run("show", "toxic")
    assert done.exit_code == kind.exit_code
    assert done.stdout == ""
    assert done.stderr == f"error: {error.message}\nhint: do this\n"


@pytest.mark.parametrize("kind", every_error())
@pytest.mark.parametrize(
    "words",
    [
        ["show", "toxic", "--format", "json"],
        ["show", "--format=json", "toxic"],
        ["--format", "json", "show", "toxic"],
        ["--format", "quiet", "show", "toxic", "--format", "json"],
    ],
)
def test_each_error_is_an_object_under_json(
    fake: FakeRegistry, run: Run, kind: type[errors.RegistryError], words: list[str]
) -> None:
    error = fake.answers["show"] = made(kind)
    done = run(*words)
    assert done.exit_code == kind.exit_code
    assert done.stdout == ""
    expected = {"code": kind.code, "message": error.message, "hint": "do this"}
    assert json.loads(done.stderr) == {"error": expected}


def test_a_syntax_error_names_the_column(fake: FakeRegistry, run: Run) -> None:
    fake.answers["check"] = made(errors.ExpressionError)
    assert "at column 4 of 'a ++ b'" in run("check", "a ++ b").stderr


def test_an_error_without_a_hint_has_none(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = errors.NotFound("no such adapter")
    assert run("show", "toxic").stderr == "error: no such adapter\n"
    assert json.loads(run("show", "toxic", "--format", "json").stderr)["error"]["hint"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "no such command 'lst', did you mean 'list'?"),
        (["frobnicate"], "no such command 'frobnicate'"),
        (["show"], "missing argument 'REF'"),
        (["list", "--limit", "0"], "invalid value for '--limit'"),
        (["list", "--bogus"], "no such option"),
        (["--format", "xml", "list"], "invalid value for '--format'"),
    ],
)
def test_usage_errors_have_the_same_style(run: Run, words: list[str], message: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {message}")
    assert second.startswith("hint: try 'registry")
    as_json = json.loads(run(*words, "--format", "json").stderr)["error"]
    assert as_json["code"] == "USAGE"
    assert as_json["message"].startswith(message)


def test_no_command_shows_the_help(run: Run) -> None:
    done = run()
    assert done.exit_code == 2
    assert "Commands:" in done.stderr
    assert json.loads(run("--format", "json").stderr)["error"]["message"] == "missing command"


def test_a_bug_is_one_line_and_a_traceback_only_on_request(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = ZeroDivisionError("division\nby zero")
    done = run("show", "toxic")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: internal error: ZeroDivisionError: division by zero\nhint: ")
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr
    for words in (["show", "toxic", "--debug"], ["--debug", "show", "toxic"]):
        debugged = run(*words)
        assert debugged.exit_code == 1
        assert "Traceback" in debugged.stderr
        assert "test_errors" not in debugged.stdout
    assert json.loads(run("show", "toxic", "--format", "json").stderr)["error"]["code"] == "INTERNAL"


def test_known_errors_have_a_traceback_only_on_request(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = errors.NotFound("no such adapter")
    assert "Traceback" in run("show", "toxic", "--debug").stderr
    assert "Traceback" not in run("show", "--", "--debug").stderr


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort(), EOFError()])
def test_an_interruption_is_one_line(fake: FakeRegistry, run: Run, interruption: BaseException) -> None:
    fake.answers["show"] = interruption
    done = run("show", "toxic")
    assert done.exit_code == 130
    assert done.stderr.strip() == "error: interrupted"


def test_the_disk_is_one_line(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = OSError(errno.ENOSPC, "No space left on device", "some/file")
    done = run("show", "toxic")
    assert done.exit_code == 1
    assert done.stderr == "error: No space left on device: some/file\n"


def test_a_message_is_one_line_and_holds_no_escapes(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = errors.NotFound("no\n\x1b[31madapter\u202e", hint="a\r\nb")
    done = run("show", "toxic")
    assert done.stderr == "error: no \\x1b[31madapter\\u202e\nhint: a b\n"
    as_json = run("show", "toxic", "--format", "json").stderr
    assert "\x1b" not in as_json
    assert json.loads(as_json)["error"]["message"] == "no \\x1b[31madapter\\u202e"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("401 for hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567", "AbCdEf"),
        ("token=hf_secret123x", "secret123x"),
        ("hf_abcdefghijklmnopqrst", "abcdefghij"),
        ("hf_jwt_eyJhbGciOi.J9x-abc", "eyJ"),
        ("hf_oauth_abcdefghij", "abcdefghij"),
        ("api_org_abcdefghij", "abcdefghij"),
        ("Authorization: Bearer abcdefghij", "abcdefghij"),
        ("cannot reach postgresql://ada:pa55word@db/registry", "pa55word"),
        ("cannot reach postgresql://ada:pa55/w@rd@db/registry", "pa55"),
        ("postgresql+psycopg://:pa55@db", "pa55"),
        ("db?user=ada&password=pa55&x=1", "pa55"),
        ("the token is plain-token", "plain-token"),
    ],
)
def test_secrets_are_never_shown(
    fake: FakeRegistry, run: Run, monkeypatch: pytest.MonkeyPatch, text: str, secret: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "plain-token")
    for error in (errors.HubUnauthorized(text, hint=text), RuntimeError(text)):
        fake.answers["show"] = error
        for words in ([], ["--format", "json"], ["--debug"]):
            done = run("show", "toxic", *words)
            assert secret not in done.output
            assert "***" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "no folder ./hf_adapters/toxic",
        "http://127.0.0.1:5000/team/repo@main does not answer",
        "hf://team/repo@main",
        "toxic@3 and sha256:abc",
        "user@example.org",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redact(text) == text
