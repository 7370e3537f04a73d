# SPDX-License-Identifier: Apache-2.0
"""With which key one logs in to kernels, and by which key they are known: the ones in the images, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import paramiko

from popcorn.errors import HostError
from popcorn.image.keys import keys


@dataclass(frozen=True)
class Trust:
    """This user's keys, as paramiko has them."""

    client_key: paramiko.PKey
    host_key: paramiko.PKey

    def client(self, host: str, port: int) -> paramiko.SSHClient:
        """A client that knows the host key of one kernel."""
        client = paramiko.SSHClient()
        self.know(client, host, port)
        return client

    def know(self, client: paramiko.SSHClient, host: str, port: int) -> None:
        """Let a client know it."""
        name = host if port == paramiko.config.SSH_PORT else f"[{host}]:{port}"
        client.get_host_keys().add(name, self.host_key.get_name(), self.host_key)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())

    @property
    def credentials(self) -> dict[str, Any]:
        """Arguments of a client's connect()."""
        return {"pkey": self.client_key, "look_for_keys": False, "allow_agent": False}


def load_trust() -> Trust:
    """
    Raises:
        UserError: a key file is damaged.
        HostError: a key cannot be used.
    """
    own = keys()
    entry = paramiko.hostkeys.HostKeyEntry.from_line(f"kernel {own.host_public}")
    if entry is None or entry.key is None:
        raise HostError(f"the host key {own.host} cannot be used", hint="remove that file; it is made again")
    return Trust(paramiko.Ed25519Key.from_private_key_file(str(own.client)), entry.key)
