"""A team: two machines with homes of their own, one database and one bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from registry import Registry
from registry.blobs import BlobStore
from registry.digest import of_bytes
from registry.errors import IntegrityFailure
from tests.adapters import make_lora
from tests.blobs.places import put
from tests.buckets import SECRET, Asked, Bucket, environment, refusal
from tests.hubs import running
from tests.models import tiny_llama

# The Hub's client warns about its own way of calling httpx when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

Q = "model.layers.0.self_attn.q_proj"
Machine = Callable[[str], Registry]


@pytest.fixture
def machine(postgres_url: str, bucket: Bucket, tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(
            Registry.open(tmp_path / name, database_url=postgres_url, blobs=bucket.url)
        )


def lora(folder: Path, seed: int) -> Path:
    return make_lora(folder, modules={Q: (32, 32)}, seed=seed)


def test_two_machines_work_on_one_catalog(
    machine: Machine, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_llama(tmp_path / "base")
    ann, bob = machine("ann"), machine("bob")
    ann.add(lora(tmp_path / "a", 1), "a", base="tiny/base")
    bob.add(lora(tmp_path / "b", 2), "b", base="tiny/base")
    made = bob.compose("c", "a - 0.4*b")
    assert ann.compose("again", "a - 0.4*b").cached
    assert ann.checkout("c", tmp_path / "out").ref == "c@1"
    model = ann.materialize("c", into="model", base_path=base, device="cpu")
    assert bob.materialize("c", into="model", base_path=base, device="cpu").cached
    bob.materialize("c", into="model", base_path=base, device="cpu", out=tmp_path / "model")
    assert model.digest == bob.materialize("c", into="model", base_path=base, device="cpu").digest
    with running(tmp_path, monkeypatch):
        published = ann.publish("c", "team/c")
        assert bob.publish("c", "team/c").commit == published.commit
    assert [found.ref for found in bob.publications("c")] == [made.ref]
    for user in (ann, bob, machine("eve")):
        assert all(found.ok for found in user.verify(rebuild=True))
        assert user.gc(apply=True).blobs == ()
    assert not (tmp_path / "ann" / "blobs").exists()
    with running(tmp_path / "elsewhere", monkeypatch):
        assert machine("carl").publish("c", "team/c", into="model", base_path=base).commit
    assert bucket.parts == []


def test_a_collection_takes_what_nobody_needs_and_nothing_that_was_just_put(
    machine: Machine, bucket: Bucket, tmp_path: Path
) -> None:
    ann, bob = machine("ann"), machine("bob")
    ann.add(lora(tmp_path / "a", 1), "a")
    ann.add(lora(tmp_path / "b", 2), "b")
    ann.compose("c", "a + b")
    ann.delete("c")
    stray = put(bob._blobs, b"not recorded yet")
    bucket.age(timedelta(hours=2))
    fresh = put(bob._blobs, b"not recorded yet either")
    planned = ann.gc()
    assert stray in planned.blobs
    assert fresh not in planned.blobs
    assert put(bob._blobs, b"not recorded yet") == stray  # used again, in the last moment
    done = ann.gc(apply=True)
    assert len(done.blobs) == len(planned.blobs) - 1
    assert {stray, fresh} <= {digest for digest, _ in bob._blobs.digests()}
    assert all(found.ok for found in bob.verify())
    assert bob.compose("c", "a + b").ref == "c@2"  # bob's copy does not stand for the bucket's
    assert not bob.show("c").deleted_at
    assert all(found.ok for found in machine("eve").verify())


def test_what_a_collection_takes_between_storing_and_recording_is_stored_again(
    machine: Machine, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = machine("ann"), machine("bob")
    store = type(bob._blobs)
    taken: list[str] = []

    def has(self: BlobStore, digest: str) -> bool:
        if not taken:  # just stored, about to be recorded
            taken.append(digest)
            ann._blobs.delete(digest)
        return real(self, digest)

    real = store.has
    monkeypatch.setattr(store, "has", has)
    bob.add(lora(tmp_path / "a", 1), "a")
    assert taken
    assert all(found.ok for found in machine("eve").verify())
    assert bucket.keys


def test_abandoned_uploads_are_listed_and_collected(machine: Machine, bucket: Bucket, tmp_path: Path) -> None:
    ann = machine("ann")
    ann.add(lora(tmp_path / "a", 1), "a")
    key = bucket.key(of_bytes(b"large"))
    upload = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    bucket.client.upload_part(Bucket=bucket.name, Key=key, UploadId=upload, PartNumber=1, Body=b"some")
    assert ann.gc().leftovers == ()
    bucket.age(timedelta(hours=2))
    assert ann.gc().leftovers == (f"s3://{bucket.name}/{key}?uploadId={upload}",)
    assert bucket.parts == [1]
    ann.gc(apply=True)
    assert bucket.parts == []
    assert all(found.ok for found in ann.verify())


def test_damage_in_the_bucket_is_found_by_verify_though_there_are_copies_and_is_mended(
    machine: Machine, bucket: Bucket, tmp_path: Path
) -> None:
    ann, bob = machine("ann"), machine("bob")
    for seed, name in enumerate("ab"):
        ann.add(lora(tmp_path / name, seed), name)
    ann.compose("c", "a + b")
    for digest, _ in list(ann._blobs.digests()):
        bucket.rot(digest, b"other")
    assert [found.ok for found in ann.verify()] == [False] * 3
    with pytest.raises(IntegrityFailure, match=bucket.name):
        bob.compose("d", "a - b")
    for seed, name in enumerate("ab"):
        assert not ann.add(lora(tmp_path / f"{name}{seed}", seed), name).created
    (mended,) = ann.verify(["c"], rebuild=True)
    assert mended.ok
    assert mended.mended
    assert all(found.ok for found in machine("eve").verify(rebuild=True))


def test_a_copy_that_changed_without_a_sign_is_fetched_again(
    machine: Machine, bucket: Bucket, tmp_path: Path
) -> None:
    ann = machine("ann")
    make_lora(tmp_path / "a", modules={Q: (512, 512)}, r=512)
    ann.add(tmp_path / "a", "a")
    large = max((tmp_path / "ann" / "cache" / "sha256").glob("*/*"), key=lambda path: path.stat().st_size)
    assert large.stat().st_size > 1 << 20
    large.chmod(0o600)
    large.write_bytes(bytes(large.stat().st_size))
    note = next((tmp_path / "ann" / "cache" / "seen").glob("*/*"))
    from registry._remembered import stamp

    note.write_text(str(stamp(large.stat())))
    ann.checkout("a", tmp_path / "out")
    assert any(large.read_bytes())
    assert bucket.keys


def test_inputs_are_fetched_at_the_same_time(machine: Machine, bucket: Bucket, tmp_path: Path) -> None:
    ann, bob = machine("ann"), machine("bob")
    for seed, name in enumerate("ab"):
        ann.add(lora(tmp_path / name, seed), name)
    files = len(list(ann._blobs.digests()))
    assert files > 2  # more than one adapter has
    everybody = threading.Barrier(files, timeout=60)

    def meet(asked: Asked) -> None:
        if asked.method == "GET" and "/sha256/" in asked.path:
            everybody.wait()

    bucket.server.order = meet
    assert bob.compose("c", "a + b").created


def command(tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    env = (
        ours | {"REGISTRY_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])} | more
    )
    return subprocess.run(
        [sys.executable, "-m", "registry", *words], env=env, capture_output=True, text=True, check=False
    )


def test_the_command_works_from_the_environment_and_fails_with_one_line(
    bucket: Bucket, tmp_path: Path
) -> None:
    settings = environment(bucket.server) | {"REGISTRY_BLOBS": bucket.url, "REGISTRY_CACHE_SIZE": "10MB"}
    lora(tmp_path / "a", 1)
    done = command(tmp_path, "add", str(tmp_path / "a"), "a", "--format", "quiet", **settings)
    assert (done.stdout, done.returncode) == ("a@1\n", 0)
    assert len(bucket.keys) == 2
    bucket.server.order = lambda _: refusal("403 Forbidden", "AccessDenied")
    done = command(tmp_path, "verify", "a", **settings)
    assert "Traceback" not in done.stderr
    lora(tmp_path / "b", 2)
    done = command(tmp_path, "add", str(tmp_path / "b"), "b", **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"{bucket.url}: it answers 403" in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    bucket.server.order = None
    shown = command(tmp_path, "list", "--format", "quiet", **settings | {"AWS_ENDPOINT_URL": "nonsense"})
    assert shown.stdout == "a@1\n"  # looking things up asks nothing of the bucket
