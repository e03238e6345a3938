"""Signatures over published files, in the format of the OpenSSF model-signing package (the extra ``signing``).

A signature lists the sha256 of every signed file, so that a repo is checked by what the Hub lists of it, without its
weights. Keys are elliptic curve keys in PEM; the password of a private one is ``REGISTRY_SIGNING_PASSWORD``. Neither
ever stands in an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

from registry import _partial, digest
from registry._paths import open_regular
from registry.errors import IntegrityFailure, UsageError

SIGNATURE = "model.sig"
PASSWORD = "REGISTRY_SIGNING_PASSWORD"  # noqa: S105  (the variable's name)
MAX_SIZE = 4 << 20

UNSIGNED = ("README.md", ".gitattributes", SIGNATURE)
"""What a signature leaves out: people may add to the card, the Hub writes the attributes."""

_IGNORED = (*UNSIGNED, ".cache", ".git", ".gitignore", ".github")  # what a download or a clone adds
_LARGEST_KEY = 1 << 16
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_INSTALL = "pip install 'adapter-registry[signing]'"


def sign(files: Mapping[str, str], key: Path) -> bytes:
    """The signature over files with these digests (path to ``"sha256:…"``), by the private key in ``key``.

    Raises ``UsageError`` for a key that cannot be used.
    """
    signing, hashing, _ = _package()
    pem = _read(key)
    _private(key, pem)
    known = _manifest_of(hashing, files)
    with _folder() as folder, tempfile.TemporaryFile() as given:
        # The package reads the key from a path, so it is given the very bytes that were checked. The file has no name:
        # it goes with this process, whatever ends it.
        given.write(pem)
        given.seek(0)
        path, made = Path(f"/dev/fd/{given.fileno()}"), folder / SIGNATURE
        config = signing.Config().set_hashing_config(known)
        config.use_elliptic_key_signer(private_key=path, password=_password()).sign(folder, made)
        return made.read_bytes()


def check_key(key: Path) -> None:
    """Raise ``UsageError`` for a private key that could not sign."""
    _package()
    _private(key, _read(key))


def signed(signature: bytes, public_key: Path) -> dict[str, str]:
    """The files that a signature tells of, path to ``"sha256:…"``, once it was verified against the public key.

    Nothing but the two is read. Raises ``IntegrityFailure`` where the signature does not hold, ``UsageError`` for a key
    that cannot be used.
    """
    return _signed(signature, _public(public_key))


def signed_by(signature: bytes, key: Path) -> dict[str, str]:
    """As :func:`signed`, against the public half of the private key in ``key``."""
    _package()
    from cryptography.hazmat.primitives import serialization

    public = _private(key, _read(key)).public_key()
    return _signed(
        signature,
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def covered(files: Iterable[str]) -> list[str]:
    """The paths among these that a signature has to tell of."""
    return [path for path in files if path not in UNSIGNED]


def _signed(signature: bytes, public_pem: bytes) -> dict[str, str]:
    _, hashing, verifying = _package()
    from cryptography.exceptions import InvalidSignature

    told = _told(signature)
    with _folder() as folder:
        key, path = folder / "key.pub", folder / SIGNATURE
        key.write_bytes(public_pem)
        path.write_bytes(signature)
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        try:
            config.set_hashing_config(_manifest_of(hashing, told)).verify(folder, path)
        except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise IntegrityFailure(
                f"{SIGNATURE} is not a signature by this key", hint="ask the publisher which key signs"
            ) from None
    return told


def _folder() -> AbstractContextManager[Path]:
    """One that the next who needs one removes where this process is killed."""
    return _partial.new(Path(tempfile.gettempdir()), "signature", folder=True)


def _told(signature: bytes) -> dict[str, str]:
    """What a signature says, before it is known to be true."""
    wrong = IntegrityFailure(f"{SIGNATURE} is no signature of files", hint="look at who wrote it")
    if len(signature) > MAX_SIZE:
        raise wrong
    try:
        bundle = json.loads(signature)
        # Without it the package only warns, on the standard output.
        if not isinstance(bundle["verificationMaterial"]["publicKey"]["hint"], str):
            raise wrong
        predicate = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))[
            "predicate"
        ]
        if predicate["serialization"]["method"] != "files":
            raise wrong
        found: dict[str, str] = {}
        for each in predicate["resources"]:
            path = str(PurePosixPath(each["name"]))
            if (
                each["algorithm"] != "sha256"
                or path in found
                or not digest.is_digest(digest.PREFIX + each["digest"])
            ):
                raise wrong
            found[path] = digest.PREFIX + each["digest"]
    except (ValueError, LookupError, TypeError, RecursionError, binascii.Error):
        raise wrong from None
    return found


def _manifest_of(hashing: Any, files: Mapping[str, str]) -> Any:
    """What the package would find in a folder of these files, from their digests alone."""
    from model_signing import manifest as module

    manifest: Any = module  # it has more names than it says

    class Known(hashing.Config):  # type: ignore[misc]  # the package's own place for another way of hashing
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            del model_path, files_to_hash
            return found

    parameters = {"method": "files", "hash_type": "sha256", "allow_symlinks": True, "ignore_paths": _IGNORED}
    form = manifest.SerializationType.from_args(parameters)
    items = [
        form.new_item(
            path, manifest.hashing.Digest("sha256", bytes.fromhex(found.removeprefix(digest.PREFIX)))
        )
        for path, found in sorted(files.items())
    ]
    found = manifest.Manifest("model", items, form)
    return Known()


def _private(path: Path, pem: bytes) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        found = serialization.load_pem_private_key(pem, _password())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            f"{path!s:.200} cannot be used as a private key",
            hint=f"give a PEM file with an EC key; where it has a password, and only there, set {PASSWORD}",
        ) from None
    if getattr(getattr(found, "curve", None), "name", None) not in _CURVES:
        raise _unusable(path, "private")
    return found


def _public(path: Path) -> bytes:
    _package()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    pem = _read(path)
    try:
        found = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(path, "public") from None
    if getattr(getattr(found, "curve", None), "name", None) not in _CURVES:
        raise _unusable(path, "public")
    return pem


def _unusable(path: Path, half: str) -> UsageError:
    return UsageError(
        f"{path!s:.200} is no {half} key that can be used here", hint=f"give an EC key: {', '.join(_CURVES)}"
    )


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            found = file.read(_LARGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"cannot read the key {path!s:.200}: {error.strerror}") from None
    if len(found) > _LARGEST_KEY:
        raise UsageError(f"{path!s:.200} is too large for a key", hint="give a PEM file")
    return found


def _password() -> bytes | None:
    found = os.environ.get(PASSWORD)
    return found.encode() if found else None


def _package() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise UsageError(
            "signatures need the package model-signing", hint=f"install it: {_INSTALL}"
        ) from None
    return signing, hashing, verifying
