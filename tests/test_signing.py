"""Signatures: what is signed is what is read back, and the package's own command agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from registry import _partial, signing
from registry.errors import IntegrityFailure, UsageError

pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.signers import keys

FILES = {
    "adapter_model.safetensors": b"weights",
    "adapter_config.json": b"{}",
    "1_Pooling/config.json": b"[]",
}
DIGESTS = {path: "sha256:" + hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signing.PASSWORD, raising=False)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_what_was_signed_is_read_back(curve: Any, tmp_path: Path) -> None:
    private, public = keys(tmp_path, made=ec.generate_private_key(curve()))
    made = signing.sign(DIGESTS, private)
    assert signing.signed(made, public) == DIGESTS == signing.signed_by(made, private)
    assert signing.sign(DIGESTS, private) != made  # which is why a publish looks before it signs anew
    with pytest.raises(IntegrityFailure, match="not a signature by this key"):
        signing.signed(made, keys(tmp_path, "other")[1])


def test_a_process_that_is_killed_while_it_signs_leaves_no_key_and_nothing_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the folder when all is done was there when it might have been killed; the next one removes it."""
    place, left = tmp_path / "tmp", dict[Path, set[str]]()
    place.mkdir()
    remove = _partial.remove

    def killed(path: Path) -> None:
        if path in left:
            remove(path)
        left.setdefault(path, {each.name for each in path.iterdir()} if path.exists() else set())

    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(_partial, "remove", killed)
    private, public = keys(tmp_path)
    assert signing.signed(signing.sign(DIGESTS, private), public) == DIGESTS
    assert list(left.values()) == [{signing.SIGNATURE}, {"key.pub", signing.SIGNATURE}]
    assert list(place.iterdir()) == [list(left)[-1]]


def test_the_packages_own_command_verifies_a_download(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    folder = tmp_path / "downloaded"
    for path, content in {**FILES, "README.md": b"# mine", ".gitattributes": b"", ".cache/x": b""}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / signing.SIGNATURE).write_bytes(signing.sign(DIGESTS, private))

    def verify() -> subprocess.CompletedProcess[str]:
        words = ["verify", "key", str(folder), "--signature", str(folder / signing.SIGNATURE)]
        return subprocess.run(
            [sys.executable, "-m", "model_signing", *words, "--public_key", str(public)],
            capture_output=True,
            text=True,
            check=False,
        )

    done = verify()
    assert (done.returncode, done.stdout) == (0, "Verification succeeded\n"), done.stderr
    (folder / "README.md").write_bytes(b"# another")
    assert verify().returncode == 0
    (folder / "adapter_config.json").write_bytes(b"{ }")
    assert verify().returncode != 0


def test_a_key_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys(tmp_path, password="open sesame")
    for password in (None, "wrong"):
        if password:
            monkeypatch.setenv(signing.PASSWORD, password)
        with pytest.raises(UsageError, match=r"cannot be used as a private key") as refused:
            signing.sign(DIGESTS, private)
        assert refused.value.hint
        assert signing.PASSWORD in refused.value.hint
        assert "wrong" not in f"{refused.value} {refused.value.hint} {refused.value.__context__}"
    monkeypatch.setenv(signing.PASSWORD, "open sesame")
    assert signing.signed(signing.sign(DIGESTS, private), public) == DIGESTS


def test_keys_that_cannot_be_used_are_refused_without_showing_them(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    rsa_key = keys(tmp_path, "rsa", made=rsa.generate_private_key(65537, 2048))
    koblitz = keys(tmp_path, "koblitz", made=ec.generate_private_key(ec.SECP256K1()))
    junk, large = tmp_path / "junk.pem", tmp_path / "large.pem"
    junk.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    large.write_bytes(private.read_bytes() * 1_000)
    for each in (public, rsa_key[0], koblitz[0], junk, large, tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError) as refused:
            signing.check_key(each)
        assert "c2VjcmV0" not in str(refused.value)
        assert "\n" not in refused.value.message
    made = signing.sign(DIGESTS, private)
    for each in (private, rsa_key[1], koblitz[1], junk, tmp_path / "none"):
        with pytest.raises(UsageError):
            signing.signed(made, each)


def changed(signature: bytes, **predicate: Any) -> bytes:
    """The signature with another payload."""
    bundle = json.loads(signature)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"] |= predicate
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(bundle).encode()


def test_a_forged_or_broken_signature_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = keys(tmp_path)
    made = signing.sign(DIGESTS, private)
    bundle = json.loads(made)
    without_hint = json.loads(made)
    del without_hint["verificationMaterial"]["publicKey"]["hint"]
    other = json.loads(signing.sign({"a": DIGESTS["adapter_config.json"]}, private))
    bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]
    unsigned = json.loads(made)
    unsigned["dsseEnvelope"]["signatures"] = []
    resource = {"name": "a", "algorithm": "sha256", "digest": "0" * 64}
    for forged in (
        b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, made[:-9], b"x" * (signing.MAX_SIZE + 1),
        json.dumps(without_hint).encode(), json.dumps(bundle).encode(), json.dumps(unsigned).encode(),
        changed(made, resources=[]), changed(made, resources=[resource]), changed(made, resources=[resource] * 2),
        changed(made, resources=[{**resource, "digest": "zz"}]), changed(made, resources=None),
        changed(made, serialization={"method": "shards"}), made.replace(b"application/", b"a/"),
    ):  # fmt: skip
        with pytest.raises(IntegrityFailure) as refused:
            signing.signed(forged, public)
        assert "\n" not in refused.value.message
    assert capsys.readouterr().out == ""


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = keys(tmp_path)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(UsageError, match="model-signing") as refused:
        signing.sign(DIGESTS, private)
    assert refused.value.hint
    assert "pip install" in refused.value.hint
