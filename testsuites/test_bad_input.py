# SPDX-License-Identifier: Apache-2.0
"""Bad input: exit status 2, a message with cause and remedy, and nothing started or left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command import machines, popcorn, qemus

from popcorn.config import load_machine
from popcorn.dirs import cache_dir
from popcorn.machine.assemble import kernel_files
from popcorn.plan import make_plan

_SMALL = ("--machine", "small")


def _plan(place: Path, change: Callable[[list[dict[str, object]]], None]) -> list[str]:
    """A plan of two kernels, changed."""
    document = json.loads(make_plan(load_machine("small"), "0-3;4-7").to_json())
    change(document["partitions"])
    path = place / "plan.json"
    path.write_text(json.dumps(document))
    return ["--plan", str(path)]


def _overlapping(place: Path) -> list[str]:
    def change(parts: list[dict[str, object]]) -> None:
        parts[1]["memory"] = [{"start": 0x10000000, "size": 0x10000000, "node": 0}]

    return _plan(place, change)


def _unaligned(place: Path) -> list[str]:
    def change(parts: list[dict[str, object]]) -> None:
        parts[1]["memory"][0]["start"] += 4096  # type: ignore[index]

    return _plan(place, change)


def _typo(place: Path) -> list[str]:
    path = place / "typo.toml"
    path.write_text('name = "typo"\nsockets = 1\ncoresss = 4\n\n[[nodes]]\ncpus = "0-3"\nmemory = "2GiB"\n')
    return ["--machine", str(path)]


def _truncated(place: Path) -> list[str]:
    kernel, _ = kernel_files(make_plan(load_machine("small"), "per-node"))
    path = place / "vmlinux"
    path.write_bytes(kernel.vmlinux.read_bytes()[:100_000])
    return [*_SMALL, "--vmlinux", str(path)]


def _foreign(place: Path) -> list[str]:
    kernel, _ = kernel_files(make_plan(load_machine("small"), "per-node"))
    content = bytearray(kernel.vmlinux.read_bytes())
    content[18] = 183  # AArch64
    path = place / "vmlinux"
    path.write_bytes(content)
    return [*_SMALL, "--vmlinux", str(path)]


def _no_initrd(place: Path) -> list[str]:
    return [*_SMALL, "--initrd", str(place / "no-such.cpio")]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        pytest.param(_overlapping, "overlap from 0x10000000 to 0x20000000", id="overlapping windows"),
        pytest.param(_unaligned, "is not aligned to 2 MiB", id="unaligned window"),
        pytest.param([*_SMALL, "--policy", "0-3;3-7"], "gives CPU 3 to two kernels: 0-3 and 3-7", id="a CPU twice"),
        pytest.param(
            [*_SMALL, "--policy", "0-3;4-9"], "CPU 8, which machine small does not have", id="a CPU that is not there"
        ),
        pytest.param(
            [*_SMALL, "--size", "1=100GiB"], "100 GiB are asked of it by kernel 1", id="memory that does not fit"
        ),
        pytest.param(["--machine", "smal"], "unknown machine 'smal'", id="unknown machine"),
        pytest.param([*_SMALL, "--policy", "per-cor"], "unknown policy 'per-cor'", id="unknown policy"),
        pytest.param(_typo, "typo.toml:3: unknown key 'coresss'", id="a typo in TOML"),
        pytest.param(
            [*_SMALL, "--append", "x" * 2100], "bytes; the kernel takes 2047", id="a command line that is too long"
        ),
        pytest.param(_truncated, "vmlinux is truncated: expected", id="a truncated vmlinux"),
        pytest.param(
            _foreign,
            "is for the wrong architecture: expected 64-bit x86-64, found 64-bit",
            id="a vmlinux of another architecture",
        ),
        pytest.param(_no_initrd, "no-such.cpio: No such file or directory", id="an initrd that is not there"),
        pytest.param([*_SMALL, "--series", "9.99"], "there is no series '9.99'", id="unknown series"),
        pytest.param([*_SMALL, "--flavour", "spicy"], "the series 6.12 has no flavour 'spicy'", id="unknown flavour"),
    ],
)
def test_up_refuses(words: list[str] | Callable[[Path], list[str]], cause: str, private_dirs: Path) -> None:
    arguments = words if isinstance(words, list) else words(private_dirs)
    done = popcorn("up", *arguments)
    assert done.returncode == 2, done.stderr
    assert cause in done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert machines() == []
    assert qemus(private_dirs) == []


def test_a_corrupted_kernel_in_the_cache_is_refused(private_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, _ = kernel_files(make_plan(load_machine("small"), "per-node"))
    cache = private_dirs / "cache"
    shutil.copytree(kernel.dir, cache / "store" / "kernel" / kernel.dir.name)
    for ours, theirs in ((cache, cache_dir()), (cache / "store", cache_dir() / "store")):
        for entry in theirs.iterdir():
            if not (ours / entry.name).exists():
                (ours / entry.name).symlink_to(entry)
    image = cache / "store" / "kernel" / kernel.dir.name / "bzImage"
    image.chmod(0o644)
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    monkeypatch.setenv("POPCORN_CACHE", str(cache))
    done = popcorn("up", *_SMALL, "--accel", "tcg")
    assert done.returncode == 2, done.stderr
    assert "is corrupted: bzImage has sha256" in done.stderr
    assert "hint:" in done.stderr
    assert machines() == []
    assert qemus(private_dirs) == []
