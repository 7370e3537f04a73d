# SPDX-License-Identifier: Apache-2.0
"""Orders for kernels, read and written as the guest's shell does."""

from __future__ import annotations

import subprocess

from popcorn.machine.orders import format_conf, parse_conf

FIELDS = {
    "ID": "3",
    "CPUS": "3,5-6",
    "ADDRESS": "0x40000000+0x8000000",
    "CMDLINE": "quiet word='two words' $HOME `date` \\",
}


def test_orders_come_back_as_they_were_written() -> None:
    assert parse_conf(format_conf(FIELDS)) == FIELDS


def test_a_shell_reads_the_same_orders() -> None:
    script = format_conf(FIELDS) + "".join(f'printf "%s\\n" "${name}"\n' for name in FIELDS)
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == list(FIELDS.values())


def test_comments_are_no_orders() -> None:
    assert parse_conf("# who\nID=3\n") == {"ID": "3"}
