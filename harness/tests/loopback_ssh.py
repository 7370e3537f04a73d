# SPDX-License-Identifier: Apache-2.0
"""An ssh server on loopback that stands in for the primary: it runs commands on this host.

The command ``hang-up`` breaks the connection, as a primary does that goes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from popcorn.image.keys import from_dropbear, keys


class _Server(paramiko.ServerInterface):
    def __init__(self, path: str) -> None:
        self._path = path

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = keys().client_public.split()[1]
        allowed = username == "root" and key.get_base64() == known
        return int(paramiko.AUTH_SUCCESSFUL if allowed else paramiko.AUTH_FAILED)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, command.decode(), self._path), daemon=True).start()
        return True


def _execute(channel: paramiko.Channel, command: str, path: str) -> None:
    stdin = b""
    while piece := channel.recv(65536):
        stdin += piece
    if command == "hang-up":
        channel.get_transport().close()
        return
    done = subprocess.run(
        ["sh", "-c", command], input=stdin, capture_output=True, check=False, env={"PATH": path}, cwd="/"
    )
    channel.sendall(done.stdout)
    channel.sendall_stderr(done.stderr)
    channel.send_exit_status(done.returncode & 0xFF)
    channel.close()


@contextmanager
def loopback_ssh(programs: Path) -> Iterator[int]:
    """Serve until the block ends; gives the port.

    Args:
        programs: a folder that goes first on the PATH of the commands.
    """
    host_key = paramiko.Ed25519Key.from_private_key(_openssh_file())
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transports: list[paramiko.Transport] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                transport = paramiko.Transport(connection)
                transport.add_server_key(host_key)
                transports.append(transport)
                # With an event it negotiates by itself; a client that leaves early is no matter.
                transport.start_server(event=threading.Event(), server=_Server(path))

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for transport in transports:
                transport.close()


def _openssh_file() -> object:
    import io

    from cryptography.hazmat.primitives import serialization

    private = from_dropbear(keys().host.read_bytes())
    return io.StringIO(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
    )
