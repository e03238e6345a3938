"""How the S3 store treats its bucket, its copies and its network."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import blobs
from registry.blobs import BlobStore, Room, s3
from registry.digest import of_bytes
from registry.errors import IntegrityFailure, RegistryError, StorageFailure, UsageError
from tests.blobs.places import AN_HOUR, NO_TIME, ROOT, put
from tests.buckets import KEY, SECRET, Answer, Asked, Bucket, refusal

MIB = 1 << 20
PART = 5 * MIB  # the smallest that S3 takes


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", PART)


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path) -> Callable[..., BlobStore]:
    """The store as a machine of this name sees it."""

    def open_(name: str = "one", size: int = 1 << 30) -> BlobStore:
        return blobs.open_store(bucket.url, Room(tmp_path / name, size))

    return open_


Machine = Callable[..., BlobStore]


def copies(folder: Path) -> list[Path]:
    return [path for path in (folder / "sha256").rglob("*") if path.is_file()]


# Uploads

UPLOADING = """
import sys
from pathlib import Path
from registry import blobs
from registry.blobs import s3
from registry.digest import of_bytes
s3.PART = 5 << 20
store = blobs.open_store(sys.argv[1], blobs.Room(Path(sys.argv[2]), 1 << 30))
source = Path(sys.argv[3])
with store.stage() as folder:
    (folder / "blob").write_bytes(source.read_bytes())
    store.put(folder / "blob", of_bytes(source.read_bytes()))
"""


@pytest.fixture
def interrupted(bucket: Bucket, tmp_path: Path) -> bytes:
    """A blob of eight parts, whose upload was killed when some of them had arrived."""
    data = os.urandom(7 * PART + 1000)
    (tmp_path / "source").write_bytes(data)
    stuck, killed = threading.Semaphore(0), threading.Event()
    arrived = 0

    def stall(asked: Asked) -> Answer | None:
        nonlocal arrived
        if asked.sends_a_part:
            arrived += 1
            if arrived > 3:
                stuck.release()
                killed.wait()
                return refusal("503 Slow Down", "SlowDown")
        return None

    bucket.server.order = stall
    words = [bucket.url, str(tmp_path / "killed"), str(tmp_path / "source")]
    with subprocess.Popen([sys.executable, "-c", UPLOADING, *words], cwd=ROOT) as other:
        assert stuck.acquire(timeout=60)
        while bucket.parts != [3]:  # the first three may still be on their way
            stuck.acquire(timeout=0.01)
        other.kill()
    killed.set()
    bucket.server.order = None
    bucket.server.requests.clear()
    return data


def test_a_killed_upload_goes_on_where_it_stopped_even_on_another_machine(
    bucket: Bucket, machine: Machine, interrupted: bytes
) -> None:
    assert not machine().has(of_bytes(interrupted))
    digest = put(machine("another"), interrupted)
    assert len(bucket.sent()) == len(set(bucket.sent())) == 5
    assert bucket.parts == []
    assert machine().path(digest).read_bytes() == interrupted
    assert machine().intact(digest)


def test_parts_with_other_bytes_are_not_taken_over(
    bucket: Bucket, machine: Machine, interrupted: bytes
) -> None:
    (upload,) = bucket.unfinished
    kept = sorted(upload.parts)
    upload.set_part(kept[0], os.urandom(PART))
    upload.set_part(kept[1], b"short")
    digest = put(machine(), interrupted)
    assert sorted(bucket.sent()) == sorted(set(range(1, 9)) - {kept[2]})
    assert machine("another").path(digest).read_bytes() == interrupted


def test_an_upload_that_somebody_else_ends_begins_again(
    bucket: Bucket, machine: Machine, interrupted: bytes
) -> None:
    turns = itertools.count(1)

    def collect(asked: Asked) -> None:
        if asked.sends_a_part and next(turns) == 2:
            bucket.end_uploads()

    bucket.server.order = collect
    digest = put(machine(), interrupted)
    assert machine("another").path(digest).read_bytes() == interrupted
    assert set(bucket.sent()) == set(range(1, 9))


def test_an_upload_that_always_ends_is_given_up_with_one_line(bucket: Bucket, machine: Machine) -> None:
    bucket.server.order = lambda asked: bucket.end_uploads() if asked.sends_a_part else None
    with pytest.raises(StorageFailure, match="ended by somebody else"):
        put(machine(), os.urandom(2 * PART))


def test_an_unfinished_upload_is_a_leftover_once_no_part_came_for_a_while(
    bucket: Bucket, machine: Machine, interrupted: bytes
) -> None:
    store = machine()
    assert store.leftovers(AN_HOUR) == []
    (left,) = store.leftovers(NO_TIME)
    assert left.startswith(f"s3://{bucket.name}/{bucket.key(of_bytes(interrupted))}?uploadId=")
    bucket.age(timedelta(hours=2))
    assert store.leftovers(AN_HOUR) == [left]
    store.discard(left)
    store.discard(left)
    assert bucket.parts == []
    assert store.leftovers(NO_TIME) == []
    put(store, interrupted)
    assert sorted(bucket.sent()) == list(range(1, 9))


def test_what_the_bucket_has_is_not_sent_again(bucket: Bucket, machine: Machine) -> None:
    for data in (b"small", os.urandom(2 * PART)):
        put(machine(), data)
        bucket.server.requests.clear()
        put(machine("another"), data)
        assert bucket.sent() == []
        assert {each.path.split("/")[4] for each in bucket.asked() if each.method in {"PUT", "POST"}} == {
            "used"
        }


def test_what_was_just_put_is_at_hand_without_a_download(bucket: Bucket, machine: Machine) -> None:
    digest = put(machine(), b"x" * 3 * MIB)
    assert machine().path(digest).stat().st_size == 3 * MIB
    assert [each for each in bucket.asked() if each.method == "GET"] == []


def test_a_deleted_blob_leaves_nothing(bucket: Bucket, machine: Machine) -> None:
    put(machine(), b"x")
    digest = put(machine("another"), b"x")
    assert len(bucket.keys) == 2
    machine().delete(digest)
    assert bucket.keys == []


def test_foreign_objects_are_left_alone(bucket: Bucket, machine: Machine) -> None:
    digest = put(machine(), b"x")
    for key in ("some/where/sha256/README", "some/where/sha256/ab/c", bucket.key(digest) + "/x", "some/else"):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"somebody's")
    assert list(machine().digests()) == [(digest, 1)]


def test_a_blob_that_was_copied_without_its_metadata_is_known_by_its_bytes(
    bucket: Bucket, machine: Machine
) -> None:
    data = b"as rclone leaves it"
    bucket.client.put_object(Bucket=bucket.name, Key=bucket.key(of_bytes(data)), Body=data)
    assert machine().intact(of_bytes(data))
    assert machine().path(of_bytes(data)).read_bytes() == data


# Damage


@pytest.mark.parametrize("size", [1000, 2 * PART])
def test_what_the_bucket_lost_is_found_by_reading_and_mended_by_putting_it_again(
    bucket: Bucket, machine: Machine, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    digest = put(machine(), data)
    bucket.rot(digest, data[:-1] + bytes([data[-1] ^ 1]))
    reader = machine("another")
    assert reader.intact(digest)  # nothing shows
    with pytest.raises(IntegrityFailure, match=digest) as caught:
        reader.path(digest)
    assert bucket.url in caught.value.message
    assert not reader.intact(digest)
    assert copies(tmp_path / "another") == []
    put(reader, data)
    assert reader.intact(digest)
    assert machine("third").path(digest).read_bytes() == data


def test_a_recheck_reads_the_bucket_though_there_is_a_copy(bucket: Bucket, machine: Machine) -> None:
    digest = put(machine(), b"whole")
    machine().recheck(digest)
    bucket.rot(digest, b"whose")
    assert machine().path(digest).read_bytes() == b"whole"
    with pytest.raises(IntegrityFailure, match="damaged"):
        machine().recheck(digest)
    assert machine().path(digest).read_bytes() == b"whole"
    put(machine(), b"whole")
    machine().recheck(digest)


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("harm", ["truncated", "emptied", "changed", "removed"])
def test_a_copy_that_came_to_harm_is_fetched_again(
    bucket: Bucket, machine: Machine, size: int, harm: str
) -> None:
    data = os.urandom(size)
    digest = put(machine(), data)
    path = machine().path(digest)
    path.chmod(0o600)
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes({"truncated": data[:-1], "emptied": b"", "changed": data[:-1] + b"\0"}[harm])
    assert machine().path(digest).read_bytes() == data
    assert [each.method for each in bucket.asked()].count("GET") == 1


def test_the_copies_may_be_removed_at_any_time(machine: Machine, tmp_path: Path) -> None:
    store = machine()
    small, large = put(store, b"small"), put(store, b"l" * 3 * MIB)
    for _ in range(2):
        shutil.rmtree(tmp_path / "one")
        assert store.path(small).read_bytes() == b"small"
        assert store.path(large).stat().st_size == 3 * MIB
        shutil.rmtree(tmp_path / "one")
        assert store.leftovers(NO_TIME) == []
        put(store, b"more")


def test_no_room_for_a_copy_does_not_lose_what_is_put(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = machine()
    with store.stage():
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        digest = put(store, b"x")
        assert store.has(digest)
        with pytest.raises(StorageFailure, match="No space left"):
            machine("another").path(digest)
    assert machine("another").path(digest).read_bytes() == b"x"


# Copies

FETCHING = """
import sys
from pathlib import Path
from registry import blobs
store = blobs.open_store(sys.argv[1], blobs.Room(Path(sys.argv[2]), int(sys.argv[3])))
print("ready", flush=True)
for line in sys.stdin:
    print(store.path(line.strip()), flush=True)
"""


def fetching(bucket: Bucket, folder: Path, size: int) -> Any:
    words = [bucket.url, str(folder), str(size)]
    other: Any = subprocess.Popen(
        [sys.executable, "-c", FETCHING, *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "ready\n"
    return other


def ask(other: Any, digest: str) -> None:
    other.stdin.write(f"{digest}\n")
    other.stdin.flush()


def test_processes_that_want_the_same_blob_fetch_it_once(
    bucket: Bucket, machine: Machine, tmp_path: Path
) -> None:
    data = os.urandom(3 * MIB)
    digest = put(machine(), data)
    others = [fetching(bucket, tmp_path / "shared", 1 << 30) for _ in range(3)]
    for other in others:
        ask(other, digest)
    for other in others:
        assert Path(other.stdout.readline().strip()).read_bytes() == data
        other.communicate()
    assert [each.method for each in bucket.asked()].count("GET") == 1


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in copies(folder))


def test_the_copies_stay_within_their_room_and_those_used_last_stay(machine: Machine, tmp_path: Path) -> None:
    writer = machine("writer")
    digests = [put(writer, os.urandom(MIB + number)) for number in range(8)]
    for number, digest in enumerate(digests):
        store = machine("small", 5 * MIB)
        store.path(digest)
        store.path(digests[0])
        del store
        gc.collect()
        assert held(tmp_path / "small") <= 5 * MIB
        assert number < 2 or len(copies(tmp_path / "small")) > 2
    kept = {f"sha256:{path.parent.name}{path.name}" for path in copies(tmp_path / "small")}
    assert {digests[0], digests[-1]} <= kept


def test_what_is_put_keeps_to_the_room_too(machine: Machine, tmp_path: Path) -> None:
    store = machine("small", 2 * MIB)
    for number in range(8):
        put(store, os.urandom(MIB + number))
        assert held(tmp_path / "small") <= 2 * MIB
    put(store, os.urandom(4 * MIB))
    assert held(tmp_path / "small") <= 2 * MIB


def test_what_a_process_was_given_stays_until_it_ends_even_by_a_kill(
    bucket: Bucket, machine: Machine, tmp_path: Path
) -> None:
    writer = machine("writer")
    digests = [put(writer, os.urandom(MIB + number)) for number in range(6)]
    holder = fetching(bucket, tmp_path / "small", MIB)
    for digest in digests[:3]:  # more than there is room for
        ask(holder, digest)
    paths = [Path(holder.stdout.readline().strip()) for _ in range(3)]
    for digest in digests[3:]:
        machine("small", MIB).path(digest)
        gc.collect()
    assert all(path.exists() for path in paths)
    assert len(copies(tmp_path / "small")) == 3
    holder.kill()
    holder.communicate()
    machine("small", 2 * MIB).path(digests[5])
    gc.collect()
    assert held(tmp_path / "small") <= 2 * MIB
    assert list((tmp_path / "small" / "leases").iterdir()) == []


def test_copies_are_private_and_only_to_read(machine: Machine, tmp_path: Path) -> None:
    path = machine().path(put(machine(), b"x"))
    assert path.stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "one" / "sha256").stat().st_mode & 0o777 == 0o700


# Network


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries, nobody waits."""
    monkeypatch.setattr("botocore.httpsession.time", None, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_a_download_that_breaks_off_goes_on_from_there(bucket: Bucket, machine: Machine) -> None:
    data = os.urandom(5 * MIB)
    digest = put(machine(), data)
    cuts = iter([2 * MIB + 5, MIB, 0])
    bucket.server.cut = lambda asked: next(cuts, None) if asked.method == "GET" else None
    bucket.server.requests.clear()
    assert machine("another").path(digest).read_bytes() == data
    assert [each.method for each in bucket.asked()].count("GET") == 4


def test_a_download_that_always_breaks_off_is_one_line(bucket: Bucket, machine: Machine) -> None:
    digest = put(machine(), b"x" * 1000)
    bucket.server.cut = lambda asked: 0 if asked.method == "GET" else None
    with pytest.raises(StorageFailure, match="cannot read s3://") as caught:
        machine("another").path(digest)
    assert "run it again" in str(caught.value.hint)
    bucket.server.cut = None
    assert machine("another").intact(digest)


def test_an_object_that_is_replaced_while_it_is_read_is_not_pieced_together(
    bucket: Bucket, machine: Machine
) -> None:
    digest = put(machine(), os.urandom(3 * MIB))

    def replace(asked: Asked) -> int | None:
        if asked.method != "GET" or "/sha256/" not in asked.path:
            return None
        bucket.rot(digest, os.urandom(3 * MIB))
        bucket.refresh(digest)
        return MIB

    bucket.server.cut = replace
    with pytest.raises(StorageFailure, match="412"):
        machine("another").path(digest)


@pytest.mark.usefixtures("quick")
def test_a_passing_trouble_is_not_noticed(bucket: Bucket, machine: Machine) -> None:
    seen: set[tuple[str, str]] = set()

    def once(asked: Asked) -> Answer | None:
        first = (asked.method, asked.path) not in seen
        seen.add((asked.method, asked.path))
        return refusal("503 Slow Down", "SlowDown") if first else None

    bucket.server.order = once
    store = machine()
    digest = put(store, os.urandom(2 * PART))
    assert machine("another").path(digest).stat().st_size == 2 * PART
    assert [digest for digest, _ in store.digests()] == [digest]
    store.delete(digest)


ACTIONS: dict[str, Callable[[BlobStore, str], Any]] = {
    "put": lambda store, _: put(store, b"other"),
    "put large": lambda store, _: put(store, b"o" * 2 * PART),
    "path": lambda store, digest: store.path(digest),
    "has": lambda store, digest: store.has(digest),
    "intact": lambda store, digest: store.intact(digest),
    "delete": lambda store, digest: store.delete(digest),
    "digests": lambda store, _: list(store.digests()),
    "unused_for": lambda store, digest: store.unused_for(digest, AN_HOUR),
    "leftovers": lambda store, _: store.leftovers(AN_HOUR),
}
TROUBLES = {
    "403 Forbidden": ("AccessDenied", "credentials"),
    "401 Unauthorized": ("InvalidAccessKeyId", "credentials"),
    "400 Bad Request": ("AuthorizationHeaderMalformed", "AWS_REGION"),
    "500 Internal Server Error": ("InternalError", "again"),
    "503 Slow Down": ("SlowDown", "again"),
    "501 Not Implemented": ("NotImplemented", "again"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", TROUBLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_the_bucket_refuses_is_one_line_that_says_what_to_do(
    bucket: Bucket, machine: Machine, action: str, status: str
) -> None:
    digest = put(machine("writer"), b"x")
    code, hint = TROUBLES[status]
    bucket.server.order = lambda _: refusal(status, code)
    with pytest.raises(StorageFailure) as caught:
        ACTIONS[action](machine(), digest)
    one_clear_line(caught.value, bucket, status.split(maxsplit=1)[0], hint)
    bucket.server.order = None
    assert machine().intact(digest)


def one_clear_line(error: RegistryError, bucket: Bucket, *parts: str) -> None:
    said = f"{error.message} {error.hint}"
    assert "\n" not in said
    for part in (bucket.url, *parts):
        assert part in said
    assert KEY not in said
    assert SECRET not in said


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = blobs.open_store("s3://no-such-bucket/x", Room(tmp_path / "one", 1 << 30))
    for action in ("put", "put large", "path", "digests", "leftovers"):
        with pytest.raises(StorageFailure, match="s3://no-such-bucket/x: there is no such bucket") as caught:
            ACTIONS[action](store, of_bytes(b"x"))
        assert "REGISTRY_BLOBS" in str(caught.value.hint)


@pytest.mark.usefixtures("quick")
def test_nobody_there_and_nobody_who_answers_are_one_line(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(s3, "READ_TIMEOUT", 0.2)
        with pytest.raises(StorageFailure, match="no answer") as caught:
            machine().has(of_bytes(b"x"))
        one_clear_line(caught.value, bucket, "AWS_ENDPOINT_URL")
    with pytest.raises(StorageFailure, match="no answer") as caught:
        machine().has(of_bytes(b"x"))
    one_clear_line(caught.value, bucket, "AWS_ENDPOINT_URL")


def test_no_credentials_are_asked_for(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageFailure, match="no credentials") as caught:
        machine().has(of_bytes(b"x"))
    one_clear_line(caught.value, bucket, "AWS_ACCESS_KEY_ID")


# Settings


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        f"s3://{KEY}:{SECRET}@bucket/x",
        "s3://bucket/x?versioning",
        "s3://bucket/a b",
        "s3://bucket//x",
        "s3://bu cket/x",
        "s3://bucket/../x",
        "s3://b",
    ],
)
def test_a_url_that_is_not_understood_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        blobs.open_store(url)
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    assert "s3://bucket/prefix" in str(caught.value.hint)


def test_a_whole_bucket_may_be_the_store(bucket: Bucket, tmp_path: Path) -> None:
    for url in (f"s3://{bucket.name}", f"s3://{bucket.name}/"):
        store = blobs.open_store(url, Room(tmp_path / "one", 1 << 30))
        put(store, b"x")
        assert [size for _, size in store.digests()] == [1]


def test_plain_http_to_another_machine_has_to_be_allowed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.internal:9000")
    with pytest.raises(UsageError, match="plain http"):
        machine()
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    machine()


def test_an_endpoint_that_is_none_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(UsageError, match="AWS_"):
        machine()


def test_without_its_package_the_store_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from registry import blobs\nfrom registry.errors import UsageError\n"
        "try: blobs.open_store('s3://bucket/x')\nexcept UsageError as error: print(error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "pip install 'adapter-registry[s3]'\n"
