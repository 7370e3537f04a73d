# SPDX-License-Identifier: Apache-2.0
"""The keys for logging in to kernels: made once per user, kept in the cache, never in an image artifact.

The client's key is in OpenSSH's format; the guest's host key is in dropbear's own. Both are ed25519.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from popcorn.build.store import locked
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import write_atomic

_TYPE = b"ssh-ed25519"


@dataclass(frozen=True)
class Keys:
    """Files with the keys, and the public halves as OpenSSH writes them (`ssh-ed25519 BASE64`)."""

    client: Path
    """Private key with which the harness logs in; OpenSSH format, mode 0600."""
    client_public: str
    host: Path
    """Private key of the guests, all of which have the same; dropbear format, mode 0600."""
    host_public: str

    def guest_files(self) -> dict[str, tuple[bytes, int]]:
        """What the image of any kernel needs, for `overlay`."""
        return {
            "/etc/dropbear/dropbear_ed25519_host_key": (self.host.read_bytes(), 0o600),
            "/root/.ssh/authorized_keys": (f"{self.client_public} popcorn\n".encode(), 0o600),
        }


def keys() -> Keys:
    """This user's keys, made on the first call. Raises UserError for a key file that is not one."""
    directory = cache_dir() / "keys"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    client, host = directory / "client_ed25519", directory / "host_ed25519"
    with locked("keys", "another popcorn's making of keys"):
        if not client.exists():
            write_atomic(client, _openssh(Ed25519PrivateKey.generate()), 0o600)
        if not host.exists():
            write_atomic(host, to_dropbear(Ed25519PrivateKey.generate()), 0o600)
    try:
        private = serialization.load_ssh_private_key(client.read_bytes(), None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("not an ed25519 key")
        return Keys(client, _public(private), host, _public(from_dropbear(host.read_bytes())))
    except (ValueError, struct.error) as error:
        raise UserError(f"a key in {directory} is damaged: {error}", hint=f"remove it: rm -r {directory}") from error


def to_dropbear(key: Ed25519PrivateKey) -> bytes:
    """A host key file as dropbear reads it: its type, then seed and public half as one string."""
    return _string(_TYPE) + _string(key.private_bytes_raw() + key.public_key().public_bytes_raw())


def from_dropbear(content: bytes) -> Ed25519PrivateKey:
    """The inverse of `to_dropbear`. Raises ValueError or struct.error."""
    name, rest = _take_string(content)
    pair, rest = _take_string(rest)
    if name != _TYPE or len(pair) != 64 or rest:
        raise ValueError("not a dropbear ed25519 host key")
    return Ed25519PrivateKey.from_private_bytes(pair[:32])


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _take_string(content: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">I", content)
    return content[4 : 4 + length], content[4 + length :]


def _openssh(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(key: Ed25519PrivateKey) -> str:
    encoded = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return encoded.decode()
