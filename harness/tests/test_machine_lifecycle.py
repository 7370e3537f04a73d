# SPDX-License-Identifier: Apache-2.0
"""A machine from `up` to its end, with a stand-in for QEMU (fake_qemu.py)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from fake_machine import HERE, Boot, boot_files, two_kernels

from popcorn.cli.main import main
from popcorn.config import load_machine
from popcorn.errors import GuestError, HostError, MachineLostError, UserError
from popcorn.machine import registry, starved
from popcorn.machine.boot import up
from popcorn.machine.control import ask
from popcorn.machine.machine import attach, attach_up
from popcorn.machine.recorded import recorded_logs
from popcorn.plan import make_plan

CHILD = """
import sys, time
sys.path[:0] = {paths!r}
from fake_machine import boot_files, two_kernels
from popcorn.machine.boot import start
machine = start(two_kernels(), boot_files(), accel="tcg")
print(machine.record.qemu_pid, flush=True)
time.sleep(60)
"""


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_a_machine_is_up_when_all_its_kernels_are(boot: Boot) -> None:
    with boot() as machine:
        assert machine.record.ssh_port == 42811
        assert [(kernel.id, kernel.state, kernel.stage) for kernel in machine.ps()] == [
            (0, "running", "user"),
            (4, "running", "user"),
        ]
        assert machine.ps()[1].heartbeat_age_s is not None
        assert [entry.text for entry in machine.log(4)] == ["hello from 4"]
        assert machine.memory.resident_bytes(0, 1 << 31) > 0


def test_a_tied_machine_ends_with_its_block_and_its_record_goes(boot: Boot) -> None:
    with boot() as machine:
        qemu = machine.record.qemu_pid
    assert gone(qemu)
    assert registry.records() == []
    assert recorded_logs(registry.last_run("default")) == ["0", "4"]


def test_an_untied_machine_goes_on_until_down(boot: Boot) -> None:
    with boot(tied=False) as machine:
        qemu = machine.record.qemu_pid
    assert psutil.pid_exists(qemu)
    attach_up().down()
    assert gone(qemu)
    with pytest.raises(UserError, match="no machine named 'default'"):
        attach()


def test_a_second_machine_of_the_same_name_is_refused(boot: Boot) -> None:
    with boot() as machine:
        with pytest.raises(UserError, match="is up already") as caught:
            boot()
        assert "popcorn down --name default" in caught.value.hint
        assert machine.alive()
        with boot(name="other") as other:
            assert {record.name for record in registry.records()} == {"default", other.name}


def test_a_new_plan_is_everybodys_at_once(boot: Boot) -> None:
    with boot() as machine:
        other = attach()
        assert [partition.id for partition in other.plan.partitions] == [0, 4]
        machine.replan(make_plan(load_machine("small"), "0-3;4;5-7"))
        assert machine.record.kernels == (0, 4, 5)
        assert [partition.id for partition in machine.plan.partitions] == [0, 4, 5]
        assert other.refresh().policy == "0-3;4;5-7"
        assert other.plan == machine.plan
        assert attach().plan == machine.plan


def test_a_plan_that_cannot_be_read_is_not_taken(boot: Boot) -> None:
    with boot() as machine:
        (machine.run_dir / registry.NEXT_PLAN_FILE).write_text('{"partitions": [{}]}')
        with pytest.raises(HostError, match="cannot be taken"):
            ask(machine.record, "replan")
        assert machine.refresh().kernels == (0, 4)
        assert [partition.id for partition in attach().plan.partitions] == [0, 4]


def test_a_kernel_that_gets_stuck_is_named_with_its_stage_and_last_line(boot: Boot) -> None:
    with pytest.raises(GuestError, match=r"kernel 4 is started at stage trampoline, last line 'hello from 4'"):
        boot("stuck", stall_s=0.5)
    assert not registry.is_live("default") or gone(registry.find("default").qemu_pid)


def test_the_registers_of_a_kernel_that_gets_stuck_are_kept(boot: Boot) -> None:
    with pytest.raises(GuestError):
        boot("stuck", stall_s=0.5, tied=False, keep_failed=True)
    with attach_up() as machine:
        kept = (machine.run_dir / "registers.txt").read_text()
        machine.down()
    assert "what info registers -a prints" in kept
    assert "CPU 4, kernel 4\nwhat info lapic 4 prints" in kept


def test_a_kernel_that_dies_at_boot_is_told_at_once(boot: Boot) -> None:
    with pytest.raises(GuestError, match=r"kernel 4 ended while it booted: dead at stage smp, no more magic smoke"):
        boot("panic")


def test_a_panic_of_the_primary_is_told_at_once(boot: Boot) -> None:
    with pytest.raises(GuestError, match=r"the primary panicked while it booted: not syncing: Fatal exception in int"):
        boot("primary-panic")


def test_a_launch_that_the_primary_reports_as_failed_is_told_at_once(boot: Boot) -> None:
    with pytest.raises(GuestError, match=r"kernel 4 could not be launched: CPU 4 is in use"):
        boot("launch-failure")


def test_a_machine_with_a_stuck_kernel_can_be_kept(boot: Boot) -> None:
    with pytest.raises(GuestError):
        boot("stuck", stall_s=0.5, tied=False, keep_failed=True)
    with attach_up() as machine:
        assert machine.ps()[1].stage == "trampoline"
        machine.down()


def test_a_qemu_that_refuses_is_told_with_its_own_words(boot: Boot) -> None:
    with pytest.raises(HostError, match="cannot do this"):
        boot("refuses")
    assert registry.records() == []


def test_a_machine_that_ends_by_itself_leaves_a_record_that_tells_why(boot: Boot) -> None:
    with boot("reboots", tied=False) as machine:
        assert gone(machine.record.qemu_pid)
        while registry.is_live("default"):
            time.sleep(0.02)
        with pytest.raises(MachineLostError, match="the primary rebooted"):
            raise machine.lost()
    dead = attach()
    assert dead.record.status == "dead"
    assert dead.ps()[1].state == "running"
    assert [entry.text for entry in dead.log(0)] == ["hello from 0"]
    with pytest.raises(MachineLostError, match="has died"):
        attach_up()


def test_a_dead_machine_is_listed_with_the_way_to_be_rid_of_it(boot: Boot, capsys: pytest.CaptureFixture[str]) -> None:
    with boot("reboots", tied=False) as machine:
        assert gone(machine.record.qemu_pid)
        while registry.is_live("default"):
            time.sleep(0.02)
    assert main(["ls"]) == 0
    assert "`popcorn down --name default` takes a dead machine off this list" in capsys.readouterr().err
    assert main(["ps"]) == 0
    assert "the machine 'default' has died: the primary rebooted" in capsys.readouterr().err
    assert main(["down"]) == 0
    assert "default: was dead: the primary rebooted" in capsys.readouterr().out
    assert main(["ls"]) == 0
    assert "no machine is up" in capsys.readouterr().err


def test_killing_the_supervisor_kills_qemu_and_is_told(boot: Boot) -> None:
    with boot(tied=False) as machine:
        os.kill(machine.record.supervisor_pid, signal.SIGKILL)
        assert gone(machine.record.qemu_pid)
        assert machine.refresh().reason == "its supervisor was killed, and QEMU with it"
    with boot(name="default"):
        assert registry.find("default").status == "up"


def test_killing_the_command_before_it_has_finished_ends_the_machine(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU", "well")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(paths=[str(HERE), str(HERE.parent)])], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    qemu = int(child.stdout.readline())
    assert psutil.pid_exists(qemu)
    child.kill()
    child.wait()
    child.stdout.close()
    assert gone(qemu)


def test_an_impossible_name_is_refused_before_anything_starts(boot: Boot) -> None:
    with pytest.raises(UserError, match="is no name for a machine"):
        boot(name="../etc")


def test_a_missing_kernel_is_refused_before_anything_starts(boot: Boot) -> None:
    files = boot_files()
    files.kernel.unlink()
    with pytest.raises(UserError, match="there is no kernel"):
        up(two_kernels(), files, accel="tcg")
    assert registry.records() == []


def test_a_qemu_that_is_not_there_is_told_before_anything_starts(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="qemu-system-x86_64 is not on this host") as caught:
        boot()
    assert "qemu-system-x86" in caught.value.hint
    assert caught.value.exit_status == 3
    assert registry.records() == []


def test_a_qemu_that_is_killed_is_told_with_the_signal(boot: Boot) -> None:
    with boot(tied=False) as machine:
        os.kill(machine.record.qemu_pid, signal.SIGKILL)
        while registry.is_live("default"):
            time.sleep(0.02)
        with pytest.raises(MachineLostError, match="QEMU was killed by SIGKILL"):
            raise machine.lost()


def test_lack_of_the_hosts_memory_is_told_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    before = starved.oom_kills()
    assert starved.why_killed(signal.SIGKILL, before) == ""
    monkeypatch.setattr(starved, "oom_kills", lambda: before + 1)
    assert starved.why_killed(signal.SIGKILL, before) == ": the host ran out of memory"
    assert starved.why_killed(signal.SIGTERM, before) == ""
    assert "fewer kernels" in starved.remedy("QEMU ended with status 1: ram0: Cannot allocate memory")
    assert starved.remedy("down") == ""


def test_memory_that_the_host_does_not_give_is_told_with_the_remedy(boot: Boot) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limits[1]))
    try:
        with pytest.raises(HostError, match="cannot make 2048 MiB of memory for node 0") as caught:
            boot()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "ulimit -f" in caught.value.hint
    assert registry.records() == []


def test_the_supervisor_answers_nonsense_with_an_error(boot: Boot) -> None:
    with boot() as machine:
        with pytest.raises(HostError, match="unknown wish 'dance'"):
            ask(machine.record, "dance")  # type: ignore[arg-type]
        assert machine.alive()


def test_a_name_whose_sockets_have_too_long_paths_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest's own folders can have long names.
    with tempfile.TemporaryDirectory() as short:
        place = Path(short) / ("d" * (107 - len(f"{short}//popcorn/machines/fits/monitor.sock")))
        place.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
        registry.require_free("fits")
        with pytest.raises(HostError, match="paths of 108 bytes"):
            registry.require_free("fits-")
