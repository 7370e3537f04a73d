# SPDX-License-Identifier: Apache-2.0
"""kexec --popcorn: the system calls it makes, and how it explains what the user or the kernel got wrong."""

from __future__ import annotations

import errno
import json
import platform
import random
import re
from pathlib import Path

import pytest
from kexec_program import IMAGE_SIZE, LOW, MIB, PAGE, TEXT, Kernel, Load, message, on_load, on_reboot, run, vmlinux

from popcorn.testing.switches import slow

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="kexec --popcorn exists on x86-64 only")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"#!/bin/sh\n", "is not an ELF file: give a vmlinux"),
        (b"\0" * 0x202 + b"HdrS" + b"\0" * 4096, "is a bzImage: give the vmlinux that it was made from"),
        (vmlinux()[:40], "is truncated: its 40 bytes end inside the ELF header"),
        (vmlinux()[:100], "is truncated: the program headers lie beyond its 100 bytes"),
        (vmlinux()[:-1], "is truncated: segment 2 needs 20480 bytes from offset 13357, the file has 33836"),
        (vmlinux(ident=b"\x7fELF\x01\x01\x01"), "wrong class: expected a 64-bit ELF file, found class 1"),
        (vmlinux(ident=b"\x7fELF\x02\x02\x01"), "wrong byte order: expected little-endian, found 2"),
        (vmlinux(machine=183), "wrong machine: expected x86-64 (62), found ELF machine 183"),
        (vmlinux(type=3), "wrong type: expected an executable (2) like vmlinux, found ELF type 3"),
        (vmlinux(phentsize=32), "program headers of 32 bytes instead of 56"),
        (vmlinux(()), "has no LOAD segments"),
        (vmlinux(entry=LOW - 1), "its entry 0xffffff is outside its segments"),
        (vmlinux(entry=LOW + 0x2345), "its entry 0x1002345 is outside its segments"),
        (vmlinux(entry=0xFFFFFFFF81000000), "its entry 0xffffffff81000000 is outside its segments"),
        (vmlinux((Load(LOW, b"x" * 64, 32),)), "segment 0 is larger in the file than in memory"),
        (vmlinux((Load(LOW + 8, b"x" * 64, 64),)), "segment 0 at 0x1000008 is not page-aligned"),
        (vmlinux((Load(1 << 60, b"x" * 64, 64),)), "segment 0 has no possible physical address or size"),
        (vmlinux((TEXT, Load(LOW + 0x2000, b"x", 1))), "segment 1 overlaps another at 0x1000000"),
        (vmlinux(tuple(Load(LOW + i * PAGE, b"x" * 99, 99) for i in range(13))), "has more than 12 LOAD segments"),
        (vmlinux((Load(LOW, b"x" * 99, 65 * MIB),)), "kernel image does not fit"),
        (vmlinux((Load(LOW, b"x" * 99, 64 * MIB),)), "no room for the setup_data beside it"),
        (b"", "is empty"),
    ],
)
def test_bad_kernel_file_is_refused(kernel: Kernel, content: bytes, expected: str) -> None:
    kernel.file.write_bytes(content)
    assert expected in kernel.refused()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", 'malformed window ""'),
        ("here", 'malformed window "here"'),
        ("-0x40000000+64M", "malformed window"),
        ("0x40000000+64M,", "malformed window"),
        ("0x40000000+64M 0x50000000", 'found " 0x50000000"'),
        ("0x40000000+64T", 'found "T"'),
        ("0x40000000-0x50000000", 'found "-0x50000000"'),
        ("0x40000000+0", "window at 0x40000000 is empty"),
        ("0x40100000+64M", "window 0x40100000+0x4000000 is not aligned: start and size must be multiples of 2 MiB"),
        ("0x40000000+3M", "window 0x40000000+0x300000 is not aligned"),
        ("0+64M", "reaches below 1 MiB"),
        ("0xffffffffffe00000+4M", "ends beyond any physical address"),
        ("0x40000000+0xffffffffffe00000", "ends beyond any physical address"),
        ("0x40000000+17179869184G", "not aligned"),
        ("0x99999999999999999", "malformed window"),
        ("0x40000000+64M,0x42000000+64M", "windows overlap: 0x40000000+0x4000000 and 0x42000000+0x4000000"),
        (",".join(f"{0x40000000 + i * 2 * MIB:#x}+2M" for i in range(17)), "too many windows"),
        ("0x40000000+2M", "kernel image does not fit"),
    ],
)
def test_bad_windows_are_refused(kernel: Kernel, address: str, expected: str) -> None:
    assert expected in kernel.refused(address=address)


@pytest.mark.parametrize(
    ("boot", "expected"),
    [
        ("", 'malformed CPU list ""'),
        ("5,", "malformed CPU list"),
        ("five", "malformed CPU list"),
        ("-5", "malformed CPU list"),
        ("5-", "malformed CPU list"),
        ("5;6", 'found ";6"'),
        ("8-5", "the range 8-5 is reversed"),
        ("5-8,7", "CPU 7 is listed twice in --boot=5-8,7"),
        ("512", "CPU 512 in --boot is out of range: the largest is 511"),
        ("99999999999999999999", "out of range"),
    ],
)
def test_bad_cpu_list_is_refused(kernel: Kernel, boot: str, expected: str) -> None:
    assert expected in kernel.refused(boot=boot)


def test_missing_files_are_named(kernel: Kernel) -> None:
    assert "cannot open initrd /nowhere/initrd: No such file" in kernel.refused("--initrd=/nowhere/initrd")
    assert "is not a regular file" in kernel.refused("--initrd", kernel.directory)
    assert "is empty" in kernel.refused("--initrd", kernel.initrd(0))
    kernel.file.unlink()
    assert f"cannot open kernel {kernel.file}: No such file" in kernel.refused()


def test_initrd_larger_than_the_free_memory_is_refused(kernel: Kernel) -> None:
    room = 64 * MIB - IMAGE_SIZE - 3 * PAGE
    kernel.layout("--initrd", kernel.initrd(room))
    refusal = kernel.refused("--initrd", kernel.initrd(room + 1))
    assert f"initrd is too large: no window has the {room + 1} bytes" in refusal


def test_command_line_may_have_2047_bytes_and_no_more(kernel: Kernel) -> None:
    kernel.layout("--command-line=" + "x" * 2047)
    assert "command line of 2048 bytes is too long: the kernel takes 2047" in kernel.refused("--append=" + "x" * 2048)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "nothing to do: give --load, --exec, --unload or --stop"),
        (("--load", "--boot=5", "vmlinux"), "--address is missing"),
        (("--load", "--address=0x40000000", "vmlinux"), "--boot is missing: it gives the CPUs"),
        (("--load", "--address=0x40000000", "--boot=5"), "no kernel given"),
        (("--load", "--address=0x40000000", "--boot=5", "a", "b"), 'one kernel expected, found also "b"'),
        (("--exec",), "--boot is missing: it gives the id of the kernel"),
        (("--exec", "--boot=5-7"), "--boot=5-7 names several CPUs"),
        (("--exec", "--boot=5", "vmlinux"), "go with --load only"),
        (("--unload", "--boot=5", "--dry-run"), "go with --load only"),
        (("--unload", "--load", "--boot=5"), "--unload does not go with --load or --exec"),
        (("--stop", "--unload", "--boot=5"), "--stop does not go with --load, --exec or --unload"),
        (("--load", "--force"), "option --force does not go with --popcorn"),
        (("--load", "-xl"), "option -x does not go with --popcorn"),
        (("--load", "--boot"), "option --boot needs a value"),
    ],
)
def test_misused_options_are_refused(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in message(run(*arguments))


def test_load_passes_flag_entry_and_all_segments(kernel: Kernel) -> None:
    accept = on_load(0, a0=0x40000040, a1=6)
    assert kernel.load(kernel_answers=(accept,)).returncode == 0


def test_load_and_exec_in_one_call_start_the_smallest_cpu(kernel: Kernel) -> None:
    answers = (on_load(0), on_reboot(0, id=5))
    done = kernel.load("--exec", boot="8,5-6", kernel_answers=answers)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exec_and_unload_name_the_kernel(kernel: Kernel) -> None:
    assert run("--exec", "--boot=7", kernel_answers=(on_reboot(0, id=7),)).returncode == 0
    assert run("-e", "-b", "7", kernel_answers=(on_reboot(0, id=7),)).returncode == 0
    assert run("--unload", "--boot=7", kernel_answers=(on_load(0, a0=7, a1=0),)).returncode == 0


def test_dry_run_asks_the_kernel_nothing(kernel: Kernel) -> None:
    answers = (on_load(errno.EBUSY), on_reboot(errno.EBUSY, id=5))
    assert kernel.load("--exec", "--dry-run", kernel_answers=answers).returncode == 0


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EPERM, "not allowed to load a kernel: run as root, with CAP_SYS_BOOT"),
        (errno.EADDRINUSE, "memory 0x40000000-0x43ffffff is owned by a live kernel"),
        (errno.EADDRNOTAVAIL, "memory 0x40000000-0x43ffffff is not all RAM of this machine"),
        (errno.EBUSY, "CPU 5 is in use, or kernel 5 exists already"),
        (errno.ENODEV, "CPU 5 is not on this machine"),
        (errno.ENOEXEC, "the kernel refused boot_params or entry"),
        (errno.ENOTCONN, "this kernel has no shared region: boot it with popcorn="),
        (errno.ENOMEM, "not enough memory"),
        (errno.ENOSYS, "CONFIG_POPCORN=y"),
        (errno.EIO, "cannot load kernel 5: Input/output error"),
    ],
)
def test_refusal_of_a_load_is_explained(kernel: Kernel, number: int, expected: str) -> None:
    assert expected in kernel.refused(kernel_answers=(on_load(number),))


@pytest.mark.skipif(Path("/proc/popcorn").exists(), reason="this host runs a Popcorn kernel")
def test_ordinary_kernel_is_recognised(kernel: Kernel) -> None:
    assert "this kernel is not a Popcorn kernel" in kernel.refused(kernel_answers=(on_load(errno.EINVAL),))


def test_refusal_names_all_windows_and_cpus(kernel: Kernel) -> None:
    address = "0x40000000+64M,0x140000000+2M"
    refusal = kernel.refused(address=address, kernel_answers=(on_load(errno.EADDRINUSE),))
    assert "memory 0x40000000-0x43ffffff, 0x140000000-0x1401fffff is owned" in refusal
    assert "a CPU of 5,6,9 is in use" in kernel.refused(boot="9,5-6", kernel_answers=(on_load(errno.EBUSY),))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EPERM, "not allowed to start a kernel"),
        (errno.ENOENT, "kernel 5 is not loaded, or was started already: see /proc/popcorn/kernels, load it"),
        (errno.EBUSY, "kernel 5 was already started, CPU 5 is in use, or another launch does not end"),
        (errno.ETIMEDOUT, "CPU 5 did not answer when kernel 5 was started"),
    ],
)
def test_refusal_of_a_start_is_explained(number: int, expected: str) -> None:
    assert expected in message(run("--exec", "--boot=5", kernel_answers=(on_reboot(number, id=5),)))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EBUSY, "kernel 5 is running: only a kernel that was not started can be unloaded"),
        (errno.ENOENT, "kernel 5 is not loaded, or was started already: only what --load put there can be unloaded"),
    ],
)
def test_refusal_of_an_unload_is_explained(number: int, expected: str) -> None:
    assert expected in message(run("--unload", "--boot=5", kernel_answers=(on_load(number, a0=5, a1=0),)))


_NASTY = (0, 1, 2, 7, 40, 55, 56, 64, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, 1 << 46, 1 << 63, (1 << 64) - 1)


def _spoiled(seed: int) -> bytes:
    """A kernel file some of whose header fields, or the headers' place, are wrong, or which ends too early."""
    choose = random.Random(seed)
    content = bytearray(vmlinux())
    headers = 64 + 56 * 3
    for _ in range(choose.randrange(1, 5)):
        size = choose.choice((2, 4, 8))
        at = choose.randrange(0, headers - size, 2)
        value = choose.choice((choose.choice(_NASTY), choose.randrange(1 << 64), choose.randrange(1 << 16)))
        content[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(content[: choose.choice((len(content), choose.randrange(len(content))))])


def test_a_spoiled_kernel_file_is_laid_out_in_its_window_or_refused_in_one_line(kernel: Kernel) -> None:
    refusals = set()
    for seed in range(2000 if slow() else 120):
        kernel.file.write_bytes(_spoiled(seed))
        done = kernel.load("--dry-run")
        assert done.returncode in (0, 1), f"seed {seed}: {done.returncode} {done.stderr}"
        if done.returncode:
            refusals.add(re.sub(r"[0-9][0-9a-fx]*", "N", message(done)))
            continue
        for segment in json.loads(done.stdout)["segments"]:
            assert segment["start"] >= 0x40000000, f"seed {seed}"
            assert segment["start"] + segment["size"] <= 0x44000000, f"seed {seed}"
            assert segment["bytes"] <= segment["size"], f"seed {seed}"
    assert len(refusals) >= 8, refusals
