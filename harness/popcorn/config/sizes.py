# SPDX-License-Identifier: Apache-2.0
"""Amounts of memory as people write them (``8GiB``) and as the kernel does (``8G``)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from popcorn.errors import UserError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
# No amount of bytes has more digits, and int() refuses what is much longer.
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]{1,20}|[0-9]{1,20})\s*([A-Za-z]*)")


def parse_size(text: str) -> int:
    """Bytes of ``8GiB``, ``512M``, ``0x1000`` or ``4096``.

    Raises:
        UserError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise UserError(
            f"{text[:40]!r} is no amount of memory", hint="write a number and KiB, MiB, GiB or TiB, e.g. 512MiB or 8GiB"
        )
    return int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) * _UNITS[match[2]]


def format_size(size_bytes: int) -> str:
    """The amount in the largest unit that gives a short number: ``8 GiB``, ``1365.3 MiB``."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and (size_bytes % unit == 0 or size_bytes >= 8 * unit):
            return f"{size_bytes / unit:.1f}".removesuffix(".0") + f" {name}"
        if size_bytes >= unit and unit <= MIB:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def kernel_size(size_bytes: int) -> str:
    """The amount as the kernel's command line takes it, exactly: ``32M``."""
    for unit, suffix in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit}{suffix}"
    return str(size_bytes)


def _size_field(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except UserError as error:
            raise ValueError(f"{error}; {error.hint}") from error
    return value


SizeField = Annotated[int, BeforeValidator(_size_field)]
"""A field of a model that takes bytes or text such as ``8GiB`` or ``0x80000000``."""
