# SPDX-License-Identifier: Apache-2.0
"""Who may do what: an ordinary user of a kernel nothing to the others, and nobody from outside without the key."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import paramiko
import psutil
import pytest

from popcorn.image.programs import suite_program
from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of
from popcorn.testing import EVERY_SERIES, Kernel

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)

_PROGRAM = "/tmp/unprivileged"
_OTHER = 2
# What root may do, or is told that there is no such kernel.
_REFUSED = (
    *("/dev/popcorn", f"/dev/vty{_OTHER}", f"/proc/popcorn/log/{_OTHER}", "/proc/popcorn/ready", "/proc/popcorn/fault"),
    *("/proc/sysrq-trigger", "kexec_load", "kexec_load in a user namespace", "reboot to start a kernel"),
    *("reboot to stop a kernel", "raw frames", "clock_settime"),
)
# Ways to memory and devices that 6.12 here has for nobody, root included; in 3.2 some of them are root's.
_ROOTS_AT_MOST = {
    **dict.fromkeys(("/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"), errno.ENOENT),
    "iopl": errno.ENOSYS,
}
# The key by which an sshd is known, and the image that the primary has of those who have it, too.
_SECRETS = ("/etc/dropbear/dropbear_ed25519_host_key", "/boot/secondary.cpio")
_CONNECT_S = 60.0


def _attempts(kernel: Kernel, who: str) -> dict[str, int]:
    lines = kernel.shell(f"{_PROGRAM} {who} {_OTHER}").splitlines()
    return {name: int(number) for name, _, number in (line.rpartition(": ") for line in lines)}


@pytest.mark.parametrize("id", [0, 1])
def test_an_ordinary_user_of_a_kernel_can_do_nothing_to_the_others(
    id: int, series: str, machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    machine.ssh(id).put(suite_program("unprivileged").read_bytes(), _PROGRAM, 0o755)
    nobody, root = _attempts(kernel(id), "nobody"), _attempts(kernel(id), "root")
    for name in _REFUSED:
        assert nobody[name] in (errno.EPERM, errno.EACCES), name
        # That somebody may shows that the attempts are what they are said to be.
        assert root.get(name) not in (errno.EPERM, errno.EACCES), name
    for name, absent in _ROOTS_AT_MOST.items():
        assert nobody[name] in (errno.EPERM, errno.EACCES, absent), name
        assert root[name] == absent or series != "6.12", name
    for name in _SECRETS if id == 0 else _SECRETS[:1]:
        assert (nobody[name], root[name]) == (errno.EACCES, 0), name
    assert nobody["/proc/popcorn/kernels"] == 0
    assert {status.state for status in machine.ps()} == {"running"}


def test_nobody_logs_in_without_the_key(machine: Machine) -> None:
    secondary = machine.primary.tunnel(str(address_of(1).v4), 22, _CONNECT_S)
    for where in (("127.0.0.1", machine.record.ssh_port), secondary):
        transport = paramiko.Transport(where)  # type: ignore[arg-type]
        try:
            transport.start_client(timeout=_CONNECT_S)
            with pytest.raises(paramiko.BadAuthenticationType) as caught:
                transport.auth_none("root")
            assert caught.value.allowed_types == ["publickey"]
            stranger = paramiko.Ed25519Key.from_private_key(_strangers_key())
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("root", stranger)
        finally:
            transport.close()


def _strangers_key():  # type: ignore[no-untyped-def]
    import io

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return io.StringIO(text.decode())


def test_a_machine_listens_on_loopback_alone_and_its_files_are_private(machine: Machine) -> None:
    record = machine.record
    listening = [
        one.laddr
        for pid in (record.qemu_pid, record.supervisor_pid)
        for one in psutil.Process(pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN or one.type == 2
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", record.ssh_port)]
    sockets = [path for path in record.directory.iterdir() if path.is_socket()]
    assert len(sockets) >= 4
    for path in (*sockets, record.directory, *machine.run_dir.glob("*.log"), *machine.run_dir.glob("console/*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
