# SPDX-License-Identifier: Apache-2.0
"""Login keys: made once per user, private, in the formats that ssh and dropbear read."""

from __future__ import annotations

import stat

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from popcorn.errors import UserError
from popcorn.image.keys import from_dropbear, keys, to_dropbear


def test_the_keys_stay_the_same() -> None:
    assert keys() == keys()


def test_the_private_keys_are_for_their_owner_only() -> None:
    made = keys()
    for path in (made.client, made.host):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_paramiko_reads_the_client_key() -> None:
    made = keys()
    key = paramiko.Ed25519Key.from_private_key_file(str(made.client))
    assert f"{key.get_name()} {key.get_base64()}" == made.client_public


def test_the_guest_is_told_the_public_half() -> None:
    content, mode = keys().guest_files()["/root/.ssh/authorized_keys"]
    assert content.decode().startswith(keys().client_public)
    assert mode == 0o600


def test_dropbears_format_holds_type_seed_and_public_half() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    content = to_dropbear(key)
    assert content == b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(32) + key.public_key().public_bytes_raw()
    assert from_dropbear(content).private_bytes_raw() == bytes(32)


def test_a_damaged_key_is_the_users_to_remove() -> None:
    made = keys()
    made.host.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged") as caught:
        keys()
    assert "remove it" in caught.value.hint
