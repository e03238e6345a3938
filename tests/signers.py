"""Keys to sign with, for tests that have the package for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def keys(
    folder: Path, name: str = "key", *, made: Any = None, password: str | None = None
) -> tuple[Path, Path]:
    """A private and a public key, as PEM files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = made or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    closed: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        closed = serialization.BestAvailableEncryption(password.encode())
    private.write_bytes(made.private_bytes(encoding, form, closed))
    told = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(made.public_key().public_bytes(encoding, told))
    return private, public
