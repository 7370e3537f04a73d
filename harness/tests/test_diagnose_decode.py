# SPDX-License-Identifier: Apache-2.0
"""From places in code to functions and lines of source."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from popcorn.build.debuginfo import require_same_code
from popcorn.diagnose.decode import SymbolMap, decoded
from popcorn.diagnose.excerpt import essence
from popcorn.errors import HostError

MAP = SymbolMap(
    "ffffffff81000000 T _text\n"
    "ffffffff81000000 T startup_64\n"
    "ffffffff81000100 t twice\n"
    "ffffffff81000140 T once\n"
    "ffffffff81000180 t twice\n"
    "ffffffff81000200 T _etext\n"
    "ffffffff82000000 D data\n"
)


def test_a_place_has_an_address() -> None:
    assert MAP.address("once", 0x10, 0x40) == 0xFFFFFFFF81000150
    assert MAP.address("nowhere", 0x10, 0x40) is None


def test_of_functions_of_one_name_the_size_tells_which() -> None:
    assert MAP.address("twice", 1, 0x40) == 0xFFFFFFFF81000101
    assert MAP.address("twice", 1, 0x80) == 0xFFFFFFFF81000181
    assert MAP.address("twice", 1, 0x30) is None


def test_an_address_is_in_a_function_or_nowhere() -> None:
    assert MAP.place(0xFFFFFFFF81000150) == "once+0x10/0x40"
    assert MAP.place(0xFFFFFFFF81000200) is None
    assert MAP.place(0xFFFFFFFF80000000) is None


def test_addresses_that_the_kernel_did_not_name_are_named() -> None:
    lines = [
        "RIP: 0010:0xffffffff81000150",
        " [<ffffffff81000150>]",
        " [<ffffffff81000150>] ? once+0x10/0x40",
        "RAX: ffffffff81000150",
    ]
    assert decoded(lines, MAP, None) == [
        "RIP: 0010:0xffffffff81000150 once+0x10/0x40",
        " [<ffffffff81000150>] once+0x10/0x40",
        " [<ffffffff81000150>] ? once+0x10/0x40",
        "RAX: ffffffff81000150",
    ]


PROGRAM = """\
static volatile int sink;
__attribute__((noinline)) void called(void)
{
	sink++;
}

void _start(void)
{
	called();
	sink = 2;
	for (;;)
		;
}
"""


def _linked(folder: Path, name: str, *flags: str, source: str = PROGRAM) -> Path:
    (folder / "program.c").write_text(source)
    image = folder / name
    subprocess.run(
        [
            "gcc",
            "-O1",
            "-nostdlib",
            "-static",
            "-fcf-protection=none",
            "-Wl,--build-id=sha1",
            f"-ffile-prefix-map={folder}=.",
            *flags,
            "-o",
            image,
            "program.c",
        ],
        cwd=folder,
        check=True,
    )
    return image


def _symbols(image: Path) -> SymbolMap:
    return SymbolMap(subprocess.run(["nm", "-n", image], capture_output=True, text=True, check=True).stdout)


def test_a_trace_leads_to_the_line_of_the_call_and_a_fault_to_its_own(tmp_path: Path) -> None:
    image = _linked(tmp_path, "twin", "-g")
    symbols = _symbols(image)
    called = symbols.address("called", 0, 0)
    start = symbols.address("_start", 0, 0)
    assert called is not None
    assert start is not None
    # The only call in it returns to behind its five bytes.
    text = subprocess.run(["objdump", "-d", image], capture_output=True, text=True, check=True).stdout
    call = next(int(line.split(":")[0], 16) for line in text.splitlines() if "\tcall " in line)
    lines = ["RIP: 0010:called+0x0/0x10", "Call Trace:", f" ? _start+{call + 5 - start:#x}/0x40", "CR2: 0"]
    told = decoded(lines, symbols, image)
    assert told[0].endswith("(program.c:3)") or told[0].endswith("(program.c:4)")
    assert told[1:] == ["Call Trace:", f"{lines[2]}  (program.c:9)", "CR2: 0"]


def test_debug_information_changes_no_code_and_other_code_is_refused(tmp_path: Path) -> None:
    kernel = _linked(tmp_path, "kernel")
    require_same_code(kernel, _linked(tmp_path, "twin", "-g"))
    other = _linked(tmp_path, "other", "-g", source=PROGRAM.replace("sink = 2", "sink = 3"))
    with pytest.raises(HostError, match=r"section \.text differs"):
        require_same_code(kernel, other)


def test_code_that_is_the_same_under_other_names_is_refused(tmp_path: Path) -> None:
    kernel = _linked(tmp_path, "kernel")
    other = _linked(tmp_path, "other", "-g", source=PROGRAM.replace("called", "callee"))
    with pytest.raises(HostError, match="symbol calle"):
        require_same_code(kernel, other)


def test_what_is_shown_of_a_report_is_where_it_was_and_who_called() -> None:
    report = [
        "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[    1.000000] #PF: supervisor write access in kernel mode",
        "[    1.000000] CPU: 0 UID: 0 PID: 31 Comm: sh Not tainted 6.12",
        "[    1.000000] RIP: 0010:fault_oops+0x0/0x10",
        "[    1.000000] RAX: 0000000000000000 RBX: 0000000000000060 RCX: 00000000fffff7ff",
        "[    1.000000]  ? dump_stack_lvl+0x4f/0x60",
        "[    1.000000]  ? fault_write+0xc7/0x100  (drivers/popcorn/fault.c:12)",
    ]
    assert essence(report) == [*report[:4], report[6]]
