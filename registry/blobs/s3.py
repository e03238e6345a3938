"""Blobs in an S3-compatible bucket: ``s3://bucket/prefix``, one object ``prefix/sha256/ab/cdef…`` per blob.

An object's metadata names the digest it was uploaded with, after the bucket checked the signature over its bytes; to
replace an object is to lose that, so one with the right name and size is what it was. A blob that was put again is
marked by an empty object under ``used/``, whose time is the time of that use. Ages are told by the bucket's clock.

Reading goes through copies on this machine (``_cache``), whose digest is taken while they arrive.

A large blob goes up in parts. An upload that was interrupted is found again by its blob's name, by this machine or any
other; the parts that the bucket has are compared by their MD5 and not sent again. This is why the client is boto3, not
one of the smaller ones: obstore neither names uploads nor lists their parts, and what it signs has no query.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import platformdirs

from registry.blobs import BlobStore, Missing, Room
from registry.blobs._cache import Cache
from registry.blobs._files import storage
from registry.digest import PREFIX, is_digest
from registry.errors import IntegrityFailure, StorageFailure, UsageError

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ResponseStreamingError,
    )
except ModuleNotFoundError as error:
    raise UsageError(f"s3:// blobs need {error.name}", hint="pip install 'adapter-registry[s3]'") from error

PART = 8 << 20
"""Bytes of a part, and of the largest blob that goes up in one piece; more where there would be too many parts."""

READ_TIMEOUT = 60
"""Seconds without a byte after which an answer is given up."""

_MOST_PARTS = 10_000
_AT_ONCE = 4  # parts of one blob on their way: what is in memory is so many of them
_CHUNK = 1 << 20
_TRIES = 5  # of a download that breaks off, or of an upload that somebody else ended
_ROOM = 20 << 30
_URL = re.compile(
    r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,254})(?P<prefix>(/(?!\.+(?:/|$))[A-Za-z0-9!_.*'()=-]+)*)/*"
)
_UPLOAD = "?uploadId="
_ASIDE = "quarantine/"
_AGAIN = "nothing is lost: run it again later, and uploads go on where they stopped"
_DOCS = "see docs/storage.md"


class S3BlobStore(BlobStore):
    """Objects in a bucket that others write to as well, and copies of them on this machine."""

    def __init__(self, client: Any, bucket: str, prefix: str, room: Room) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._cache = Cache(room)

    @classmethod
    def open(cls, url: str, room: Room | None = None) -> Self:
        """Nothing is asked of the bucket yet; credentials, region and endpoint are those of the environment."""
        found = _URL.fullmatch(url)
        if found is None:  # not shown: what people write there by mistake is a secret
            raise UsageError(
                "this s3:// URL of the blob store is not understood",
                hint="write s3://bucket/prefix; credentials and endpoint come from AWS_… variables",
            )
        prefix = found["prefix"].strip("/")
        here = room or Room(platformdirs.user_cache_path("adapter-registry"), _ROOM)
        return cls(_client(), found["bucket"], f"{prefix}/" if prefix else "", here)

    def stage(self) -> AbstractContextManager[Path]:
        return self._cache.stage()

    def put(self, file: Path, digest: str) -> None:
        size = file.stat().st_size
        if self._is_sound(self._head(digest), digest, size):
            self._ask("write", self._client.put_object, Key=self._mark(digest), Body=b"")
        else:
            self._upload(file, digest, size)
            self._cache.accuse(digest, damaged=False)
        with suppress(StorageFailure):  # the bucket has it: no room for a copy is no loss
            self._cache.take(file, digest)

    def path(self, digest: str) -> Path:
        found = self._cache.find(digest)
        if found is None:
            with self._cache.fetching(digest):
                found = self._cache.find(digest) or self._fetch(digest)
        return found

    def forget(self, digest: str) -> None:
        self._cache.drop(digest)

    def recheck(self, digest: str) -> None:
        if self._cache.find(digest) is None:
            self.path(digest)
            return
        state = hashlib.sha256()
        for chunk in self._download(digest):
            state.update(chunk)
        self._check(digest, state.hexdigest())

    def has(self, digest: str) -> bool:
        return self._head(digest) is not None

    def intact(self, digest: str) -> bool:
        head = self._head(digest)
        if head is None or self._is_sound(head, digest):
            return head is not None
        try:  # suspected, or put there by somebody else's copying
            self.recheck(digest)
        except IntegrityFailure:
            return False
        return True

    def delete(self, digest: str) -> None:
        self._remove(digest)
        self._cache.drop(digest)

    def quarantine(self, digest: str) -> bool:
        head = self._head(digest)
        if head is None:
            return False
        try:
            self.recheck(digest)
        except IntegrityFailure:
            pass
        else:
            return False
        name = digest.removeprefix(PREFIX)
        aside = f"{self._prefix}{_ASIDE}{name}.{head['ETag'].strip(chr(34))}"
        source = {"Bucket": self._bucket, "Key": self._key(digest)}
        with self._explained("write"):  # the SDK's own copying, which takes large objects in parts
            self._client.copy(source, self._bucket, aside)
        self._remove(digest)  # the copy on this machine may be the last that is whole
        return True

    def quarantined(self) -> Iterator[tuple[str, str, int]]:
        start = f"{self._prefix}{_ASIDE}"
        for page in self._pages("list_objects_v2", Prefix=start):
            for found in page.get("Contents", ()):
                digest = PREFIX + found["Key"].removeprefix(start).partition(".")[0]
                if is_digest(digest):
                    yield f"s3://{self._bucket}/{found['Key']}", digest, found["Size"]

    def copy_of_quarantined(self, name: str, into: Path) -> None:
        key = name.removeprefix(f"s3://{self._bucket}/")
        with self._explained("read"):
            self._client.download_file(self._bucket, key, str(into))

    def digests(self) -> Iterator[tuple[str, int]]:
        start = f"{self._prefix}sha256/"
        for page in self._pages("list_objects_v2", Prefix=start):
            for found in page.get("Contents", ()):
                digest = PREFIX + found["Key"].removeprefix(start).replace("/", "")
                if is_digest(digest) and found["Key"] == self._key(digest):
                    yield digest, found["Size"]

    def unused_for(self, digest: str, age: timedelta) -> bool:
        heads = (self._head_of(self._key(digest)), self._head_of(self._mark(digest)))
        return all(head is None or _now(head) - head["LastModified"] >= age for head in heads)

    def leftovers(self, age: timedelta) -> list[str]:
        unfinished = [
            f"s3://{self._bucket}/{key}{_UPLOAD}{upload}"
            for key, upload, begun in self._uploads(f"{self._prefix}sha256/")
            if self._idle_for(key, upload, begun, age)
        ]
        return self._cache.leftovers(age) + unfinished

    def discard(self, leftover: str) -> None:
        key, is_upload, upload = leftover.removeprefix(f"s3://{self._bucket}/").partition(_UPLOAD)
        if leftover.startswith(f"s3://{self._bucket}/{self._prefix}{_ASIDE}"):
            self._ask("delete from", self._client.delete_object, Key=key)
            return
        if not is_upload:
            self._cache.discard(leftover)
            return
        with self._explained("delete from"), _unless("NoSuchUpload"):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    # Uploads

    def _upload(self, file: Path, digest: str, size: int) -> None:
        metadata = {"sha256": digest.removeprefix(PREFIX)}
        if size <= PART:
            body = file.read_bytes()
            self._ask("write", self._client.put_object, Key=self._key(digest), Body=body, Metadata=metadata)
            return
        for _ in range(_TRIES):
            upload = self._unfinished(digest) or self._begin(digest, metadata)
            with self._explained("write"), _unless("NoSuchUpload"):
                self._send(file, self._key(digest), upload, size)
                return
            # Somebody else brought this very upload to its end, or collected it as garbage.
            if self._is_sound(self._head(digest), digest, size):
                return
        raise StorageFailure(
            f"an upload to {self._where} was ended by somebody else, {_TRIES} times", hint="run it again"
        )

    def _begin(self, digest: str, metadata: dict[str, str]) -> str:
        begin = self._client.create_multipart_upload
        return str(self._ask("write", begin, Key=self._key(digest), Metadata=metadata)["UploadId"])

    def _unfinished(self, digest: str) -> str | None:
        """The newest upload of this blob that was begun and not ended."""
        key = self._key(digest)
        found = [(begun, upload) for name, upload, begun in self._uploads(key) if name == key]
        return max(found)[1] if found else None

    def _send(self, file: Path, key: str, upload: str, size: int) -> None:
        """Send the parts that the bucket does not have, some at a time, and make the object of them."""
        step = max(PART, -(-size // _MOST_PARTS))
        stored = {
            part["PartNumber"]: part for page in self._parts(key, upload) for part in page.get("Parts", ())
        }
        names = {"Bucket": self._bucket, "Key": key, "UploadId": upload}

        def send(number: int) -> dict[str, Any]:
            with file.open("rb") as source:
                source.seek((number - 1) * step)
                data = source.read(step)
            there = stored.get(number)
            if there is None or not _is_the_part(there, data):
                there = self._client.upload_part(**names, PartNumber=number, Body=data)
            return {"PartNumber": number, "ETag": there["ETag"]}

        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            parts = list(pool.map(send, range(1, -(-size // step) + 1)))
        finally:
            pool.shutdown(cancel_futures=True)
        self._client.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})

    def _uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Key, id and beginning of every unfinished upload below a prefix."""
        for page in self._pages("list_multipart_uploads", Prefix=prefix):
            for found in page.get("Uploads", ()):
                yield found["Key"], found["UploadId"], found["Initiated"]

    def _parts(self, key: str, upload: str) -> list[dict[str, Any]]:
        """The pages of what the bucket has of an upload."""
        lister = self._client.get_paginator("list_parts")
        return list(lister.paginate(Bucket=self._bucket, Key=key, UploadId=upload))

    def _idle_for(self, key: str, upload: str, begun: datetime, age: timedelta) -> bool:
        """Whether nobody sent a part for ``age``, by the bucket's clock."""
        with self._explained("list"), _unless("NoSuchUpload"):
            pages = self._parts(key, upload)
            sent = (part["LastModified"] for page in pages for part in page.get("Parts", ()))
            last: datetime = max([begun, *sent])
            return _now(pages[0]) - last >= age
        return False

    # Downloads

    def _fetch(self, digest: str) -> Path:
        """Make a copy, whose digest is taken while it arrives."""
        self._cache.drop(digest)  # what is there is damaged
        with self._cache.stage() as folder:
            state = hashlib.sha256()
            with storage(folder / "blob"), (folder / "blob").open("wb") as file:
                for chunk in self._download(digest):
                    state.update(chunk)
                    file.write(chunk)
            self._check(digest, state.hexdigest())
            self._cache.take(folder / "blob", digest)
        found = self._cache.find(digest)
        if found is None:
            raise StorageFailure("the folder of cached blobs was emptied meanwhile", hint="run it again")
        return found

    def _download(self, digest: str) -> Iterator[bytes]:
        """The bytes of an object; where the connection breaks, it goes on from there."""
        answer = self._object(digest)
        at, end, tries = 0, answer["ContentLength"], 0
        while True:
            try:
                with self._explained("read"), closing(answer["Body"]) as body:
                    for chunk in body.iter_chunks(_CHUNK):
                        at, tries = at + len(chunk), 0
                        yield chunk
                break
            except StorageFailure:
                tries += 1
                if tries == _TRIES or at >= end:
                    raise
            answer = self._object(digest, Range=f"bytes={at}-", IfMatch=answer["ETag"])
            if not answer.get("ContentRange", "").startswith(f"bytes {at}-"):
                raise StorageFailure(f"{self._where} does not go on where reading it broke off", hint=_AGAIN)

    def _object(self, digest: str, **part: str) -> dict[str, Any]:
        with self._explained("read"), _unless("NoSuchKey"):
            answer: dict[str, Any] = self._client.get_object(
                Bucket=self._bucket, Key=self._key(digest), **part
            )
            return answer
        raise Missing(f"the blob {digest} is missing from {self._where}", hint="restore it from a copy")

    def _check(self, digest: str, found: str) -> None:
        whole = PREFIX + found == digest
        self._cache.accuse(digest, damaged=not whole)
        if not whole:
            raise IntegrityFailure(
                f"the blob {digest} in {self._where} is damaged: its bytes have the digest {PREFIX}{found}",
                hint="add or compose it again to replace it",
            )

    # Objects

    @property
    def _where(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def _key(self, digest: str) -> str:
        name = digest.removeprefix(PREFIX)
        return f"{self._prefix}sha256/{name[:2]}/{name[2:]}"

    def _mark(self, digest: str) -> str:
        name = digest.removeprefix(PREFIX)
        return f"{self._prefix}used/{name[:2]}/{name[2:]}"

    def _remove(self, digest: str) -> None:
        for key in (self._mark(digest), self._key(digest)):  # a mark never outlives its blob
            self._ask("delete from", self._client.delete_object, Key=key)

    def _head(self, digest: str) -> dict[str, Any] | None:
        return self._head_of(self._key(digest))

    def _head_of(self, key: str) -> dict[str, Any] | None:
        with self._explained("look into"), _unless("404"):
            found: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key)
            return found
        return None

    def _is_sound(self, head: dict[str, Any] | None, digest: str, size: int | None = None) -> bool:
        """Whether an object is there as it was uploaded, as far as can be told without reading it."""
        return (
            head is not None
            and head["Metadata"].get("sha256") == digest.removeprefix(PREFIX)
            and size in {None, head["ContentLength"]}
            and not self._cache.suspect(digest)
        )

    def _ask(self, action: str, method: Callable[..., Any], **options: Any) -> Any:
        with self._explained(action):
            return method(Bucket=self._bucket, **options)

    def _pages(self, listing: str, **options: Any) -> Iterator[Any]:
        with self._explained("list"):
            yield from self._client.get_paginator(listing).paginate(Bucket=self._bucket, **options)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            what, hint = _explanation(error)
            raise StorageFailure(f"cannot {action} {self._where}: {what}", hint=hint) from error


def _client() -> Any:
    retries: dict[str, Any] = {"mode": "standard"}
    if not os.environ.get("AWS_MAX_ATTEMPTS"):
        retries["total_max_attempts"] = 6
    try:
        client = boto3.session.Session().client(
            "s3",
            region_name=os.environ.get("AWS_REGION") or None,
            config=Config(
                connect_timeout=10,
                read_timeout=READ_TIMEOUT,
                max_pool_connections=32,
                retries=retries,
                # Checksums that not every store knows; the signature covers the bytes on all of them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"payload_signing_enabled": True},
                user_agent_extra="adapter-registry",
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"the AWS_… variables make no client: {type(error).__name__}",
            hint=f"check AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE; {_DOCS}",
        ) from error
    url = urlsplit(client.meta.endpoint_url)
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"}
    if url.scheme != "https" and not allowed and url.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise UsageError(
            "AWS_ENDPOINT_URL is plain http: everybody on the way can read and change what is sent",
            hint="use https, or set AWS_ALLOW_HTTP=true",
        )
    return client


def _explanation(error: Exception) -> tuple[str, str]:
    """What went wrong, without anything that the environment keeps secret; and what to do."""
    match error:
        case ClientError():
            return _answered(error)
        case NoCredentialsError() | PartialCredentialsError():
            return (
                "there are no credentials",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        case HTTPClientError() | EndpointConnectionError() | ResponseStreamingError() | IncompleteReadError():
            return f"no answer ({type(error).__name__})", f"check the network and AWS_ENDPOINT_URL; {_AGAIN}"
    return type(error).__name__, f"check the AWS_… variables; {_DOCS}"


def _answered(error: ClientError) -> tuple[str, str]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return "there is no such bucket", "create it, or correct REGISTRY_BLOBS and AWS_ENDPOINT_URL"
    hint = _AGAIN
    if status in {401, 403}:
        hint = f"check the AWS_… credentials, and what they are allowed to; {_DOCS}"
    elif status in {301, 307, 400}:
        hint = f"check AWS_REGION and AWS_ENDPOINT_URL; {_DOCS}"
    return f"it answers {status}" + (f" {code}" if re.fullmatch(r"[A-Za-z]+", code) else ""), hint


@contextmanager
def _unless(code: str) -> Iterator[None]:
    """The block ends where the answer is this code."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != code:
            raise


def _is_the_part(stored: dict[str, Any], data: bytes) -> bool:
    """Whether a stored part has these bytes; where its tag is no MD5 (a bucket with KMS keys), it is sent again."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return (stored["Size"], stored["ETag"].strip('"')) == (len(data), md5)


def _now(answer: dict[str, Any]) -> datetime:
    """The time by the bucket's clock."""
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(told) if told else datetime.now(UTC)
