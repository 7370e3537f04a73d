# SPDX-License-Identifier: Apache-2.0
"""A kernel that cannot be loaded, does not boot or ends is told as such, and its neighbours live on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import pytest
from faults import inflict

from popcorn import cpulist
from popcorn.errors import GuestError
from popcorn.machine.machine import Machine
from popcorn.machine.recorded import recorded_events
from popcorn.machine.status import KernelStatus
from popcorn.testing import Kernel, Pool

pytestmark = pytest.mark.machine("small", policy="per-core", scratch=True)

_VICTIM, _NEIGHBOUR = 3, 4
_DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _neighbours_live_on(machine: Machine, pool: Pool) -> Iterator[None]:
    before = _status(machine, _NEIGHBOUR)
    yield
    assert machine.alive()
    for id in (0, _NEIGHBOUR):
        assert machine.exec(id, ["sh", "-c", "echo fine"], timeout_s=60).stdout == b"fine\n"
    after = _status(machine, _NEIGHBOUR)
    assert (after.state, after.generation) == ("running", before.generation)
    if _status(machine, _VICTIM).state != "running":
        _start_again(machine)


def _status(machine: Machine, id: int) -> KernelStatus:
    return next(kernel for kernel in machine.ps() if kernel.id == id)


def _await_state(machine: Machine, id: int, *states: str) -> KernelStatus:
    deadline = time.monotonic() + _DEADLINE_S
    while (status := _status(machine, id)).state not in states:
        assert time.monotonic() < deadline, f"kernel {id} is {status.state} at {status.stage}, expected {states}"
        time.sleep(0.2)
    return status


def _await_user(machine: Machine, id: int) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while (status := _status(machine, id)).stage != "user" or status.state != "running":
        assert time.monotonic() < deadline, f"kernel {id} is {status.state} at {status.stage}"
        time.sleep(0.2)


def _start_again(machine: Machine) -> None:
    done = machine.exec(0, ["popcorn-launch", str(_VICTIM)], timeout_s=60)
    assert done.status == 0, done.stdout_text + done.stderr_text
    _await_user(machine, _VICTIM)


def _park(machine: Machine) -> None:
    inflict(Kernel(machine, _VICTIM), "busybox poweroff -f")
    _await_state(machine, _VICTIM, "parked")


def _kexec(machine: Machine, before: str = "", **changes: str | None) -> tuple[int, str]:
    """Load the victim's place by hand; returns exit status and what was said."""
    part = machine.plan.partition(_VICTIM)
    options = {
        "load": "/boot/vmlinux",
        "initrd": "/boot/secondary.cpio",
        "command-line": part.cmdline,
        "address": ",".join(f"{window.start:#x}+{window.size:#x}" for window in part.memory),
        "boot": cpulist.format(part.cpus),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    words = [f"--{name}={shlex.quote(value)}" for name, value in options.items() if name != "load" and value]
    script = f"{before or ':'}; kexec --popcorn --load {options['load']} {' '.join(words)}"
    done = machine.exec(0, ["sh", "-c", script], timeout_s=60)
    return done.status, done.stdout_text + done.stderr_text


def _refused(answer: tuple[int, str], cause: str) -> None:
    """kexec said no for this cause; it quotes the kernel's, when that one said why."""
    status, said = answer
    assert status != 0, said
    assert cause in said, said


def _address(machine: Machine, id: int) -> str:
    window = machine.plan.partition(id).memory[0]
    return f"{window.start:#x}+{window.size:#x}"


def test_kexec_refuses_a_truncated_vmlinux(machine: Machine) -> None:
    said = _kexec(machine, "head -c 100000 /boot/vmlinux >/tmp/short", load="/tmp/short")
    _refused(said, "/tmp/short is truncated: segment 0 needs")


def test_kexec_refuses_a_vmlinux_for_another_architecture(machine: Machine) -> None:
    # e_machine is at offset 18 (ELF); 183 is AArch64.
    change = "cp /boot/vmlinux /tmp/arm; printf '\\267\\000' | dd of=/tmp/arm bs=1 seek=18 conv=notrunc 2>/dev/null"
    _refused(_kexec(machine, change + "; true", load="/tmp/arm"), "expected x86-64 (62), found ELF machine 183")


def test_kexec_refuses_an_initrd_that_is_not_there(machine: Machine) -> None:
    _refused(_kexec(machine, initrd="/boot/no-such.cpio"), "cannot open initrd /boot/no-such.cpio: No such file")


def test_a_command_line_over_the_kernels_limit_is_refused(machine: Machine) -> None:
    _refused(_kexec(machine, **{"command-line": "x" * 2100}), "command line of 2100 bytes is too long")


def test_memory_of_a_live_kernel_is_refused(machine: Machine) -> None:
    _park(machine)
    _refused(_kexec(machine, address=_address(machine, _NEIGHBOUR)), f"is memory of kernel {_NEIGHBOUR}")


def test_memory_of_the_primary_is_refused(machine: Machine) -> None:
    _park(machine)
    _refused(_kexec(machine, address="0x2000000+0x8000000"), "0x2000000+0x8000000 is memory of this kernel")


def test_memory_that_the_machine_does_not_have_is_refused(machine: Machine) -> None:
    _park(machine)
    _refused(_kexec(machine, address="0x8000000000+0x10000000"), "0x8000000000+0x10000000 is not RAM of this machine")


def test_a_cpu_of_a_live_kernel_is_refused(machine: Machine) -> None:
    _park(machine)
    _refused(_kexec(machine, boot=f"{_VICTIM},{_NEIGHBOUR}"), f"CPU {_NEIGHBOUR} is in use by kernel {_NEIGHBOUR}")


def test_a_cpu_that_the_machine_does_not_have_is_refused(machine: Machine) -> None:
    _park(machine)
    _refused(_kexec(machine, boot=f"{_VICTIM},40"), "there is no CPU 40")


def test_a_running_kernel_is_not_loaded_over(machine: Machine) -> None:
    _refused(_kexec(machine), f"kernel {_VICTIM} is running")
    assert _status(machine, _VICTIM).state == "running"


def test_kexec_proper_is_refused_while_kernels_share_the_machine(machine: Machine) -> None:
    done = machine.exec(0, ["kexec", "-c", "-l", "/boot/vmlinux", "--append=x"], timeout_s=60)
    assert done.status != 0, done.stdout_text
    assert "busy" in done.stderr_text, done.stderr_text
    said = machine.exec(0, ["dmesg"], timeout_s=60).stdout_text
    assert "popcorn: no kexec while kernel 1 is running: halt or unload it first" in said


def test_a_kernel_that_finds_no_init_panics_alone(machine: Machine) -> None:
    _park(machine)
    # It parks all the same: a kernel that spins keeps its memory for nothing.
    cmdline = machine.plan.partition(_VICTIM).cmdline + " rdinit=/nonexistent init=/nonexistent panic=0"
    status, said = _kexec(machine, **{"command-line": cmdline})
    assert status == 0, said
    done = machine.exec(0, ["kexec", "--popcorn", "--exec", f"--boot={_VICTIM}"], timeout_s=60)
    assert done.status == 0, done.stderr_text
    ended = _await_state(machine, _VICTIM, "dead", "parked")
    assert ended.state == "dead"
    assert ended.reason, "a kernel that panicked tells why"
    time.sleep(0.5)
    assert "Kernel panic" in "\n".join(entry.text for entry in machine.log(_VICTIM))


@pytest.mark.parametrize(
    ("order", "state"),
    [
        ("busybox poweroff -f", "parked"),
        ("busybox reboot -f", "parked"),
        ("busybox halt -f", "parked"),
        ("echo c >/proc/sysrq-trigger", "dead"),
    ],
)
def test_a_secondary_that_ends_leaves_the_machine_alone_and_starts_again_in_place(
    machine: Machine, order: str, state: str
) -> None:
    generation = _status(machine, _VICTIM).generation
    inflict(Kernel(machine, _VICTIM), order)
    assert _await_state(machine, _VICTIM, "parked", "dead").state == state
    _start_again(machine)
    assert _status(machine, _VICTIM).generation == generation + 1
    assert machine.exec(_VICTIM, ["sh", "-c", "exit 5"], timeout_s=60).status == 5


@pytest.mark.parametrize(
    ("order", "told"),
    [("exec busybox poweroff -f", "it has parked"), ("echo c >/proc/sysrq-trigger", "it is dead")],
)
def test_a_command_in_a_kernel_that_ends_is_given_up(machine: Machine, order: str, told: str) -> None:
    # One that is not given up takes all the time that it has, and is told as that.
    with pytest.raises(GuestError, match=told):
        machine.exec(_VICTIM, ["sh", "-c", f"(sleep 1; {order}) & sleep 600"], timeout_s=_DEADLINE_S)
    ends = [event for event in recorded_events(machine.run_dir) if event.get("state") in ("parked", "dead")]
    assert ends[-1]["kernel"] == _VICTIM
