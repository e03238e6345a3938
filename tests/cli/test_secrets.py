"""Tokens, passwords and keys are in nothing that comes out: marked ones in every place, many commands, many failures."""

from __future__ import annotations

import logging
import shlex
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from registry import Registry, settings
from registry._secrets import redact
from registry.catalog.tables import Base
from registry.errors import RegistryError
from tests import hubs
from tests.adapters import make_lora
from tests.buckets import KEY, SECRET, Bucket, refusal
from tests.cli.conftest import Run
from tests.signers import keys

# The Hub's client warns about its own way of calling httpx when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

Q = "model.layers.0.self_attn.q_proj"
SECRETS = {
    "token": hubs.OWNER,
    "database": "pa55-of-the-database",
    "certificate": "pa55-of-the-certificate",
    "bucket": SECRET,
    "session": "s3ss10n-of-the-bucket",
    "key": "pa55-of-the-signing-key",
    "libpq": "pa55-of-libpq",
}
WORK = """
add {tmp}/private/a a --base tiny/base
add {tmp}/private/b b --base tiny/base --note hello
compose c '0.5*a + b'
show c
events --format json
db current
db check --format json
alias set c prod 1
publish c team/c --public --license mit
publish c team/c-two --tag v1
publications --check
rule add c --to 'team/{{name}}-three' --alias prod
sync --report {tmp}/report.json
sync --format json
watch
export {tmp}/bundle
verify
gc --apply
card c --repo team/c
checkout c {tmp}/out
lineage c --as json
unpublish team/c-two --reason old
"""
FAILING = """
publish c nobody/c
publish a team/c --sign-key {tmp}/none.pem
publish a team/c --sign-key {tmp}/report.json
add hf://team/none d
add hf://team/c@none d
verify hf://team/none
import {tmp}/report.json
compose c 'a + nothing'
show nothing
"""


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What the libraries log, as it is by default and a step more."""
    lines: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    ear, root = Ear(logging.INFO), logging.getLogger()
    before = root.level
    root.addHandler(ear)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(ear)
    root.setLevel(before)


@pytest.fixture
def url(postgres_url: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog whose every door has a secret."""
    made = make_url(postgres_url).set(password=SECRETS["database"])
    made = made.update_query_dict({"sslpassword": SECRETS["certificate"]})
    url = made.render_as_string(hide_password=False)
    monkeypatch.setenv("REGISTRY_DATABASE_URL", url)
    monkeypatch.setenv("REGISTRY_BLOBS", bucket.url)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRETS["session"])
    monkeypatch.setenv("PGPASSWORD", SECRETS["libpq"])
    monkeypatch.setenv("REGISTRY_SIGNING_PASSWORD", SECRETS["key"])
    private, _ = keys(tmp_path, password=SECRETS["key"])
    monkeypatch.setenv("REGISTRY_SIGNING_KEY", str(private))
    make_lora(tmp_path / "private" / "a", modules={Q: (32, 32)})
    make_lora(tmp_path / "private" / "b", modules={Q: (32, 32)}, seed=1)
    make_lora(tmp_path / "private" / "c", modules={Q: (32, 32)}, seed=2)
    return url


def leaks(found: str | bytes) -> list[str]:
    there = found if isinstance(found, bytes) else found.encode()
    return [name for name, secret in SECRETS.items() if secret.encode() in there]


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def rows(url: str) -> str:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [
            repr(connection.execute(text(f'SELECT * FROM "{table}"')).all())  # noqa: S608  (our own names)
            for table in Base.metadata.tables
        ]
    engine.dispose()
    return "\n".join(found)


def test_marked_secrets_are_in_nothing_that_comes_out(
    url: str, bucket: Bucket, run: Run, monkeypatch: pytest.MonkeyPatch, heard: list[str]
) -> None:
    tmp_path = settings.load().home.parent
    said: dict[str, str] = {}

    def tell(words: str, *, fails: bool) -> None:
        done = run(*shlex.split(words.format(tmp=tmp_path)), "--debug")
        assert (done.exit_code != 0) is fails, (words, done.output)
        said[words] = done.stdout + done.stderr

    with hubs.running(tmp_path, monkeypatch) as server:
        (tmp_path / "hf").mkdir(exist_ok=True)
        for words in WORK.strip().splitlines():
            tell(words, fails=False)
        for words in FAILING.strip().splitlines():
            tell(words, fails=True)
        server.fail(".", times=10_000, status=403, error=f"the token {hubs.OWNER} is of somebody else")
        for words in ("publish a team/c", "add hf://team/c e", "sync --retries 0"):
            tell(words, fails=True)
    bucket.server.order = lambda _: refusal("403 Forbidden", "AccessDenied")
    for words in ("verify", "add {tmp}/private/c new --base tiny/base"):
        tell(words, fails=True)
    bucket.server.order = None
    for change in ({"port": 1, "host": "127.0.0.1", "query": {"sslpassword": SECRETS["certificate"]}},):
        broken = make_url(url).set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
        monkeypatch.setenv("REGISTRY_DATABASE_URL", broken)
        tell("list", fails=True)
        tell("db current", fails=True)
        tell("db roles", fails=True)
    for nonsense in (
        f"postgresql://me:{SECRETS['database']}@host:port/x",
        f"mysql://me:{SECRETS['database']}@host/x",
        f"postgresql://me:{SECRETS['database']}@[/x",
        f"postgresql+psycopg2://me:{SECRETS['database']}@host/x",
        f"sqlite:///:memory:?password={SECRETS['database']}",
        f"postgresql://host/x?user=me&password={SECRETS['database']}&host=/nowhere",
        f"me:{SECRETS['database']}@host",
    ):
        monkeypatch.setenv("REGISTRY_DATABASE_URL", nonsense)
        tell("list" + " " * len(said), fails=True)
    monkeypatch.delenv("REGISTRY_DATABASE_URL")
    for nonsense in (f"s3://{KEY}:{SECRET}@bucket/x", f"https://me:{SECRET}@host/x"):
        monkeypatch.setenv("REGISTRY_BLOBS", nonsense)
        tell("add {tmp}/private/a a --base tiny/base" + " " * len(said), fails=True)
    assert {words: leaks(output) for words, output in said.items() if leaks(output)} == {}
    assert {line for line in heard if leaks(line)} == set()
    kept = [path for path in files(tmp_path) if leaks(path.read_bytes())]
    assert kept == []
    assert leaks(rows(url)) == []
    published = [path for path in files(tmp_path / "hub") if str(tmp_path).encode() in path.read_bytes()]
    assert published == [], "a path of this machine was published"


@pytest.mark.usefixtures("url")
def test_nothing_that_python_shows_has_a_secret() -> None:
    with Registry.open() as catalog:
        shown = [
            repr(catalog),
            str(catalog),
            repr(vars(catalog)),
            repr(catalog._config),
            repr(catalog._blobs),
        ]
        shown += [repr(vars(catalog._blobs)), repr(settings.load()), Registry.schema().url]
    assert {text for text in shown if leaks(text)} == set()


def everything(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield from (repr(error), str(error), repr(error.args))
        yield "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "broken",
    [
        {"host": "127.0.0.1", "port": 1, "query": {"sslpassword": SECRETS["certificate"]}},
        {"database": "there_is_none"},
        {"username": "nobody"},
    ],
)
def test_no_error_has_a_secret_in_what_it_carries(url: str, broken: dict[str, Any]) -> None:
    wrong = make_url(url).set(**broken).render_as_string(hide_password=False)
    with pytest.raises(RegistryError) as caught:
        Registry.open(database_url=wrong)
    assert {line for line in everything(caught.value) if leaks(line)} == set()


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("name", list(SECRETS))
def test_what_a_library_would_say_of_a_secret_is_taken_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hubs.OWNER)
    assert leaks(redact(f"it was {SECRETS[name]}, and so refused")) == []
