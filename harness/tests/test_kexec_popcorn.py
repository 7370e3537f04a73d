# SPDX-License-Identifier: Apache-2.0
"""kexec --popcorn: where it puts a kernel, and what it tells that kernel."""

from __future__ import annotations

import itertools
import json
import os
import platform
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kexec_program import ENTRY, IMAGE_SIZE, LOW, MIB, PAGE, Kernel, Load, message, vmlinux

from popcorn.dirs import source_root

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="kexec --popcorn exists on x86-64 only")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def segment(layout: Any, name: str) -> Any:
    (found,) = (item for item in layout["segments"] if item["name"] == name)
    return found


def end(range: Any) -> int:
    return int(range["start"] + range["size"])


def assert_sound(layout: Any) -> None:
    segments = layout["segments"]
    for item in segments:
        assert item["start"] % PAGE == 0
        assert item["size"] % PAGE == 0
        assert 0 <= item["bytes"] <= item["size"]
        assert any(window["start"] <= item["start"] and end(item) <= end(window) for window in layout["windows"])
    for one, other in itertools.combinations(segments, 2):
        assert end(one) <= other["start"] or end(other) <= one["start"]


@pytest.mark.parametrize("start", [0x200000, 0x40000000, 0xFFE00000, 0x140000000, 0x1F80000000])
def test_kernel_moves_to_the_start_of_its_window_as_a_whole(kernel: Kernel, start: int) -> None:
    layout = kernel.layout(address=f"{start:#x}+64M")
    parts = [item for item in layout["segments"] if item["name"] == "kernel"]
    assert [item["start"] - start for item in parts] == [0, 0x200000, 0x201000]
    assert [item["bytes"] for item in parts] == [0x2345, 0x1000, 0x5000]
    assert [item["size"] for item in parts] == [0x3000, 0x1000, 0x180000]
    assert layout["entry"] == start + ENTRY - LOW
    assert_sound(layout)


def test_move_is_a_multiple_of_2_mib_even_if_the_lowest_segment_is_not_aligned(kernel: Kernel) -> None:
    kernel.file.write_bytes(vmlinux((Load(0x1003000, b"x" * 64, 64),), entry=0x1003010))
    layout = kernel.layout()
    assert segment(layout, "kernel")["start"] == 0x40003000
    assert layout["entry"] == 0x40003010
    assert_sound(layout)


def test_segments_come_in_the_order_that_the_kernel_expects(kernel: Kernel) -> None:
    names = [item["name"] for item in kernel.layout("--initrd", kernel.initrd(1))["segments"]]
    assert names == ["setup_data", "boot_params", "command_line", "initrd", "kernel", "kernel", "kernel"]


def test_nothing_lies_in_bss_and_brk_of_the_image_or_between_its_segments(kernel: Kernel) -> None:
    layout = kernel.layout("--initrd", kernel.initrd(10 * MIB))
    others = [item for item in layout["segments"] if item["name"] != "kernel"]
    assert min(item["start"] for item in others) == 0x40000000 + IMAGE_SIZE


def test_initrd_ends_where_its_window_ends(kernel: Kernel) -> None:
    assert end(segment(kernel.layout("--initrd", kernel.initrd(5 * MIB + 1)), "initrd")) == 0x44000000


def test_initrd_goes_to_the_first_window_with_room(kernel: Kernel) -> None:
    layout = kernel.layout("--initrd", kernel.initrd(7 * MIB), address="0x40000000+8M,0x60000000+2M,0x140000000+8M")
    assert end(segment(layout, "initrd")) == 0x140000000 + 8 * MIB
    assert_sound(layout)


def test_tables_go_to_another_window_if_the_image_fills_the_first(kernel: Kernel) -> None:
    kernel.file.write_bytes(vmlinux((Load(LOW, b"x" * 64, 4 * MIB),), entry=LOW))
    layout = kernel.layout(address="0x40000000+4M,0x80000000+2M")
    assert [segment(layout, name)["start"] for name in ("setup_data", "boot_params", "command_line")] == [
        0x80000000,
        0x80001000,
        0x80002000,
    ]


@pytest.mark.parametrize(
    ("size", "expected"), [("", 128 * MIB), ("+0x4000000", 64 * MIB), ("+6144K", 6 * MIB), ("+1G", 1 << 30)]
)
def test_window_sizes_have_units_and_a_default(kernel: Kernel, size: str, expected: int) -> None:
    assert kernel.layout(address=f"0x40000000{size}")["windows"] == [{"start": 0x40000000, "size": expected}]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=16),
    gaps=st.lists(st.integers(0, 3000), min_size=16, max_size=16),
    initrd=st.integers(0, 12 * MIB),
    order=st.randoms(use_true_random=False),
)
def test_layout_is_sound_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], gaps: list[int], initrd: int, order: Any
) -> None:
    kernel = Kernel(tmp_path_factory.mktemp("layout"))
    windows, start = [], 0x200000
    for size, gap in zip(sizes, gaps, strict=False):
        start += gap * 2 * MIB
        windows.append(f"{start:#x}+{size * 2}M")
        start += size * 2 * MIB
    order.shuffle(windows)
    options = [f"--initrd={kernel.initrd(initrd)}"] if initrd else []
    done = kernel.load("--dry-run", *options, address=",".join(windows))
    if done.returncode == 0:
        assert_sound(json.loads(done.stdout))
    elif windows[0].endswith("+2M"):
        assert "kernel image does not fit" in message(done)
    else:
        assert initrd
        assert "initrd is too large" in message(done)


def test_debug_prints_the_layout_for_people(kernel: Kernel) -> None:
    done = kernel.load("--dry-run", "--debug")
    assert "boot_params  0x000040382000-0x000040382fff       4096 bytes" in done.stderr


def test_boot_params_describe_exactly_the_windows(kernel: Kernel) -> None:
    layout = kernel.layout(address="0x140000000+64M,0x40000000+32M")
    params = bytes.fromhex(segment(layout, "boot_params")["hex"])
    assert len(params) == PAGE
    table = [struct.unpack_from("<QQI", params, 0x2D0 + 20 * index) for index in range(params[0x1E8])]
    assert table == [(0, PAGE, 2), (0x140000000, 64 * MIB, 1), (0x40000000, 32 * MIB, 1)]


def test_boot_params_point_to_what_was_placed_above_4_gib(kernel: Kernel) -> None:
    layout = kernel.layout("--initrd", kernel.initrd(3 * MIB + 5), "--command-line=quiet", address="0x140000000+64M")
    params = bytes.fromhex(segment(layout, "boot_params")["hex"])
    low = {name: struct.unpack_from("<I", params, at)[0] for name, at in (("i", 0x218), ("s", 0x21C), ("c", 0x228))}
    high = dict(zip("isc", struct.unpack_from("<III", params, 0xC0), strict=True))
    address = {name: high[name] << 32 | low[name] for name in "isc"}
    assert address["i"] == segment(layout, "initrd")["start"]
    assert address["s"] == 3 * MIB + 5
    assert address["c"] == segment(layout, "command_line")["start"]
    assert struct.unpack_from("<Q", params, 0x250)[0] == segment(layout, "setup_data")["start"]


def test_boot_params_are_of_protocol_2_15(kernel: Kernel) -> None:
    params = bytes.fromhex(segment(kernel.layout(), "boot_params")["hex"])
    assert struct.unpack_from("<H4sH", params, 0x1FE)[0] == 0xAA55
    assert params[0x202:0x206] == b"HdrS"
    assert struct.unpack_from("<H", params, 0x206)[0] == 0x020F
    assert params[0x210] == 0xFF
    assert params[0x211] == 1
    assert struct.unpack_from("<I", params, 0x238)[0] == 2047


def test_kernel_without_initrd_is_told_of_none(kernel: Kernel) -> None:
    params = bytes.fromhex(segment(kernel.layout(), "boot_params")["hex"])
    assert params[0x218:0x220] == bytes(8)
    assert params[0xC0:0xC8] == bytes(8)


def test_command_line_ends_with_a_zero_byte(kernel: Kernel) -> None:
    line = "present_mask=5-8 panic=-1"
    layout = kernel.layout(f"--command-line={line}")
    assert bytes.fromhex(segment(layout, "command_line")["hex"]) == line.encode() + b"\0"


def test_record_names_the_kernel_its_cpus_and_its_memory(kernel: Kernel) -> None:
    layout = kernel.layout(address="0x140000000+64M,0x40000000+32M", boot="130,7,64-66")
    assert layout["id"] == 7
    assert layout["cpus"] == [7, 64, 65, 66, 130]
    node = bytes.fromhex(segment(layout, "setup_data")["hex"])
    assert struct.unpack_from("<QII", node) == (0, 0x504F5043, len(node) - 16)
    record = node[16:]
    magic, version, id = struct.unpack_from("<8sII", record)
    assert (magic, version, id) == (b"PPCORN01", 2, 7)
    nr_cpus, nr_ranges = struct.unpack_from("<II", record, 60)
    assert (nr_cpus, nr_ranges) == (5, 2)
    assert struct.unpack_from("<QQQQ", record, 72) == (0x140000000, 64 * MIB, 0x40000000, 32 * MIB)
    assert struct.unpack_from("<QQQ", record, 72 + 256) == (1 << 7, 0b111, 1 << 2)


def listed(series: Path) -> list[str]:
    """The patches of a series, without its comments."""
    return [line for line in (series / "series").read_text().splitlines() if line and not line.startswith("#")]


def file_after(series: Path, path: str, into: Path) -> str | None:
    """What a file that a series of patches adds looks like after the last of them."""
    into.mkdir()
    outside_any_repository = {**os.environ, "GIT_CEILING_DIRECTORIES": str(into.parent)}
    for name in listed(series):
        patch = (series / name).resolve()
        if f"b/{path}\n" in patch.read_text():
            subprocess.run(
                ["git", "apply", f"--include={path}", patch], cwd=into, env=outside_any_repository, check=True
            )
    return (into / path).read_text() if (into / path).exists() else None


def test_contract_header_is_the_one_of_the_kernel_series(tmp_path: Path) -> None:
    root = source_root()
    ours = file_after(root / "tools/kexec-popcorn", "include/linux/popcorn.h", tmp_path / "tool")
    kernels = file_after(root / "kernel-patches/6.12", "include/uapi/linux/popcorn.h", tmp_path / "kernel")
    assert ours is not None
    assert ours == kernels


def test_series_lists_every_patch_in_order() -> None:
    directory = source_root() / "tools/kexec-popcorn"
    assert listed(directory) == sorted(path.name for path in directory.glob("*.patch"))
