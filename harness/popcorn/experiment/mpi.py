# SPDX-License-Identifier: Apache-2.0
"""Starting MPI programs over the kernels of a system: ``mpiexec`` in one of them, which reaches the others by ssh.

For that the kernels trust a key that is made for the boot and that all of them have; they have one host key anyway.
MPICH's processes talk over shared memory within a kernel, and over TCP between kernels.
"""

from __future__ import annotations

import base64
import weakref
from collections.abc import Sequence
from typing import ClassVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from popcorn.errors import GuestError
from popcorn.experiment.protocols import Booted, Kernel, Share
from popcorn.image.keys import keys, to_dropbear
from popcorn.image.mpi import MPIEXEC, SSH_CLIENT

_FOLDER = "/root/.ssh"
_KEY = f"{_FOLDER}/mpi"
_LAUNCHER = f"{_FOLDER}/mpi-launcher"
_PREPARE_S = 120.0

# mpiexec says -x, which dbclient does not know. The sshd of a primary serves the host alone: another one serves the
# other kernels; a secondary's has the address already.
_TRUST = f"""
umask 077
mkdir -p {_FOLDER}
echo "$1" | base64 -d >{_KEY}
echo "$2" >>{_FOLDER}/authorized_keys
echo "$3" >>{_FOLDER}/known_hosts
cat >{_LAUNCHER} <<'END'
#!/bin/sh
[ "$1" != -x ] || shift
exec {SSH_CLIENT} -i {_KEY} "$@"
END
chmod 700 {_LAUNCHER}
"""
_SERVE = 'dropbear -E -p "$1:22" -r /etc/dropbear/dropbear_ed25519_host_key 2>/tmp/mpi-sshd; true'


class Mpi:
    """MPI in the kernels of one booted system."""

    _of: ClassVar[weakref.WeakKeyDictionary[Booted, Mpi]] = weakref.WeakKeyDictionary()

    def __init__(self, booted: Booted) -> None:
        self._booted = booted
        self._key = Ed25519PrivateKey.generate()
        self._trusting: set[int] = set()

    @classmethod
    def of(cls, booted: Booted) -> Mpi:
        """The one of a booted system, so that there is one key."""
        return cls._of.setdefault(booted, cls(booted))

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        """Make kernels trust each other. One that is alone needs no ssh.

        Raises:
            GuestError: one does not do its part.
        """
        ids = {kernel.id for kernel in kernels}
        if len(ids) < 2 or ids <= self._trusting:
            return
        secret = base64.b64encode(to_dropbear(self._key)).decode()
        public = self._key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        known = "\n".join(f"{kernel.address} {keys().host_public}" for kernel in kernels)
        words = ["sh", "-c", _TRUST, "sh", secret, public.decode(), known]
        # To those that trust some already the others are new.
        self._everywhere(dict.fromkeys(ids, words))
        self._everywhere({kernel.id: ["sh", "-c", _SERVE, "sh", kernel.address] for kernel in kernels})
        self._trusting |= ids

    def command(self, shares: Sequence[Share], argv: Sequence[str]) -> list[str]:
        """What starts a process on each core, to be run in the first kernel."""
        total = sum(share.cores for share in shares)
        return [*mpiexec_words(shares, self._booted.switch), "-n", str(total), *argv]

    def _everywhere(self, commands: dict[int, list[str]]) -> None:
        for kernel, done in self._booted.run(commands, _PREPARE_S).items():
            if done.status:
                said = done.stderr_text.strip() or f"exit status {done.status}"
                raise GuestError(f"kernel {kernel} cannot be made ready for MPI: {said}")


def mpiexec_words(shares: Sequence[Share], switch: str | None) -> list[str]:
    """``mpiexec`` and its options but for the number of processes.

    Args:
        switch: the interface to the other kernels.
    """
    hosts = ",".join(f"{share.kernel.address}:{share.cores}" for share in shares)
    # Else each process reads all of /sys/devices/system/cpu as it starts. Of 48 emulated CPUs 8 that did so at a time
    # spent 6 to 118 s with spinlocks of directories.
    cpus = ["-genv", "HWLOC_COMPONENTS", "no_os,stop"]
    if len(shares) == 1:
        # TCP is not even set up.
        return [MPIEXEC, "-launcher", "fork", "-hosts", hosts, *cpus, "-genv", "UCX_TLS", "self,sm"]
    words = [MPIEXEC, "-launcher", "ssh", "-launcher-exec", _LAUNCHER]
    words += ["-localhost", shares[0].kernel.address, "-hosts", hosts, *cpus, "-genv", "UCX_TLS", "self,sm,tcp"]
    return [*words, *(["-genv", "UCX_NET_DEVICES", switch] if switch else [])]
