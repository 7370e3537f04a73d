# SPDX-License-Identifier: Apache-2.0
"""An ssh server on loopback that stands in for the primary: it runs commands on this host.

The command ``hang-up`` breaks the connection, as a primary does that goes. Through its tunnels one reaches others like
it, which stand in for the secondaries: there `$KERNEL` is their id.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import paramiko

from popcorn.guest.primary import Tunnel
from popcorn.image.keys import from_dropbear, keys
from popcorn.image.recipe import images_folder
from popcorn.plan.address import address_of


class _Server(paramiko.ServerInterface):
    def __init__(self, environment: dict[str, str], silent: Collection[int]) -> None:
        self._environment = environment
        self._silent = silent
        self.tunnels: dict[int, int] = {}
        """Channel number to the kernel at its end."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = keys().client_public.split()[1]
        allowed = username == "root" and key.get_base64() == known
        return int(paramiko.AUTH_SUCCESSFUL if allowed else paramiko.AUTH_FAILED)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        kernels = [id for id in range(64) if (str(address_of(id).v4), 22) == destination]
        if not kernels or kernels[0] in self._silent:
            return int(paramiko.OPEN_FAILED_CONNECT_FAILED)
        self.tunnels[chanid] = kernels[0]
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, command, self._environment), daemon=True).start()
        return True


def _execute(channel: paramiko.Channel, command: bytes, environment: dict[str, str]) -> None:
    if command.endswith(b"hang-up"):
        while channel.recv(65536):
            pass
        channel.get_transport().close()
        return
    process = subprocess.Popen(
        [b"sh", b"-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
    threading.Thread(target=_end_with, args=(channel.get_transport(), process), daemon=True).start()
    errors = threading.Thread(target=_pass_on, args=(process.stderr, channel.sendall_stderr), daemon=True)
    errors.start()
    _pass_on(process.stdout, channel.sendall)
    errors.join()
    # A client that hung up wants no answer.
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.send_exit_status(process.wait() & 0xFF)
        # The thread that took the request for the command may have yet to grant it; who sees the channel closed before
        # that takes the command for lost. It gets the answer to this when it has done so.
        channel.get_transport().global_request("keepalive@popcorn", wait=True)
        channel.close()


def _end_with(transport: paramiko.Transport, process: subprocess.Popen[bytes]) -> None:
    """As the parent of a command that ends with its connection tells popcorn-leash by ending."""
    transport.join()
    if process.poll() is None:
        process.terminate()


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    # A command that ends while its input goes on is no error.
    with suppress(OSError), stdin:
        while piece := channel.recv(65536):
            stdin.write(piece)


def _pass_on(stream: IO[bytes], send: Callable[[bytes], object]) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException), stream:
        while piece := stream.read(65536):
            send(piece)


def _serve(
    connection: socket.socket | Tunnel,
    host_key: paramiko.PKey,
    environment: dict[str, str],
    silent: Collection[int] = (),
) -> paramiko.Transport:
    transport = paramiko.Transport(connection)
    transport.add_server_key(host_key)
    server = _Server(environment, silent)

    def follow_tunnels() -> None:
        ends = []
        while transport.is_active():
            channel = transport.accept(1)
            if channel is not None and channel.get_id() in server.tunnels:
                kernel = {"KERNEL": str(server.tunnels[channel.get_id()])}
                ends.append(_serve(Tunnel(channel), host_key, {**environment, **kernel}))

    # With an event it negotiates by itself; a client that leaves early is no matter.
    transport.start_server(event=threading.Event(), server=server)
    threading.Thread(target=follow_tunnels, daemon=True).start()
    return transport


@contextmanager
def loopback_ssh(programs: Path, silent: Collection[int] = ()) -> Iterator[int]:
    """Serve until the block ends; gives the port.

    Args:
        programs: a folder that goes first on the PATH of the commands.
        silent: kernels whose sshd does not answer.
    """
    host_key = paramiko.Ed25519Key.from_private_key(_openssh_file())
    environment = {"PATH": os.pathsep.join([str(programs), str(_leash()), os.environ["PATH"]])}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transports: list[paramiko.Transport] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                transports.append(_serve(connection, host_key, environment, silent))

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for transport in transports:
                transport.close()


@functools.cache
def _leash() -> Path:
    """A folder with popcorn-leash."""
    folder = Path(tempfile.mkdtemp(prefix="popcorn-leash-"))
    atexit.register(shutil.rmtree, folder)
    source = images_folder() / "programs" / "popcorn-leash" / "popcorn-leash.c"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", str(folder / "popcorn-leash"), str(source)], check=True)
    return folder


def _openssh_file() -> object:
    import io

    from cryptography.hazmat.primitives import serialization

    private = from_dropbear(keys().host.read_bytes())
    return io.StringIO(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
    )
