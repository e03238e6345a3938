"""A bucket for a test: moto's S3 over real HTTP on loopback, with a log of what was asked and answers to order."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "AKIDTESTTESTTESTTEST", "s3cr3t-that-nobody-may-see"
REGION = "eu-central-1"


@dataclass(frozen=True)
class Asked:
    """A request: ``path`` is ``/bucket/key``; ``query`` has the words of the query string."""

    method: str
    path: str
    query: dict[str, list[str]]
    started: float

    @property
    def sends_a_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.query


Answer = tuple[str, bytes]
Order = Callable[[Asked], Answer | None]
"""What to answer instead: a status line and a body, or None to let the server answer."""


def refusal(status: str, code: str) -> Answer:
    return status, f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (werkzeug's name)
        pass


class S3Server:
    """One server for a whole run, with a bucket for each test."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.order: Order | None = None
        self.cut: Callable[[Asked], int | None] | None = None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        asked = Asked(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            parse_qs(environ["QUERY_STRING"], keep_blank_values=True),
            time.monotonic(),
        )
        self.requests.append(asked)
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(sent)
        ordered = self.order(asked) if self.order else None
        if ordered is None:
            with self._one_at_a_time:  # moto's state is not made for threads
                ordered = _ended(asked)
                answer = list(self._app(environ, start)) if ordered is None else []
        if ordered is not None:
            status, body = ordered
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body if asked.method != "HEAD" else b""]
        keep = self.cut(asked) if self.cut else None
        return answer if keep is None else _broken_off(answer, keep)


def _ended(asked: Asked) -> Answer | None:
    """What S3 answers about an upload that is over; moto fails there."""
    if "uploadId" not in asked.query:
        return None
    bucket = s3_backends["123456789012"]["aws"].buckets[asked.path.split("/")[1]]
    over = asked.query["uploadId"][0] not in bucket.multiparts
    return refusal("404 Not Found", "NoSuchUpload") if over else None


def _broken_off(answer: list[bytes], keep: int) -> Iterator[bytes]:
    yield b"".join(answer)[:keep]
    raise ConnectionAbortedError  # the server closes the connection, short of what it announced


@dataclass
class Bucket:
    """A bucket of one test, and what somebody else than the registry does to it."""

    server: S3Server
    name: str = field(default_factory=lambda: f"team-{uuid.uuid4().hex[:12]}")

    @property
    def url(self) -> str:
        return f"s3://{self.name}/some/where"

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.server.url,
            region_name="us-east-1",
            aws_access_key_id="somebody",
            aws_secret_access_key="else",
        )

    @property
    def keys(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def key(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return f"some/where/sha256/{name[:2]}/{name[2:]}"

    def damage(self, digest: str, data: bytes) -> None:
        """Put other bytes in place of a blob's, under the same name."""
        self.client.put_object(Bucket=self.name, Key=self.key(digest), Body=data)

    def rot(self, digest: str, data: bytes) -> None:
        """Other bytes, as if the bucket itself had lost them: all that is said about them stays."""
        self._backend.keys[self.key(digest)].value = data

    def age(self, by: timedelta) -> None:
        """Make every object, and every part of an unfinished upload, this much older."""
        for found in self._backend.keys.values():
            found.last_modified -= by
        for upload in self._backend.multiparts.values():
            for part in upload.parts.values():
                part.last_modified -= by

    def refresh(self, digest: str) -> None:
        """Give an object the tag that its bytes have by now."""
        self._backend.keys[self.key(digest)]._etag = None

    @property
    def unfinished(self) -> list[Any]:
        """The uploads that were begun and not ended."""
        return list(self._backend.multiparts.values())

    @property
    def parts(self) -> list[int]:
        """How many parts each of them has."""
        return [len(upload.parts) for upload in self.unfinished]

    def end_uploads(self) -> None:
        """Abort every unfinished upload."""
        self._backend.multiparts.clear()

    @property
    def _backend(self) -> Any:
        return s3_backends["123456789012"]["aws"].buckets[self.name]

    def asked(self) -> list[Asked]:
        """The requests for this bucket so far, except by those who look on."""
        return [each for each in self.server.requests if each.path.startswith(f"/{self.name}/")]

    def sent(self) -> list[int]:
        """The numbers of the parts that were sent so far, in that order."""
        return [int(each.query["partNumber"][0]) for each in self.asked() if each.sends_a_part]


@contextmanager
def bucket(server: S3Server, patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, with the environment of this process pointing to it as a user's would."""
    for name, value in environment(server).items():
        patch.setenv(name, value)
    found = Bucket(server)
    found.client.create_bucket(Bucket=found.name)
    server.requests.clear()
    try:
        yield found
    finally:
        server.order = server.cut = None
        found._backend.keys.clear()
        found._backend.multiparts.clear()


def environment(server: S3Server) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
