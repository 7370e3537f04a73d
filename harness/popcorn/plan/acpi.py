# SPDX-License-Identifier: Apache-2.0
"""CPUs and memory as the firmware's tables list them (ACPI specification, 5.2.12 and 5.2.16)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from popcorn.errors import HostError

_HEADER_BYTES = 36
_MADT_ENTRIES = 44
_SRAT_ENTRIES = 48

_MADT_LOCAL_APIC = 0
_MADT_LOCAL_X2APIC = 9
_SRAT_LOCAL_APIC = 0
_SRAT_MEMORY = 1
_SRAT_LOCAL_X2APIC = 2
_ENABLED = 1


@dataclass(frozen=True)
class MemoryAffinity:
    """Memory of one proximity domain, start and end in bytes."""

    domain: int
    start: int
    end: int


@dataclass(frozen=True)
class Affinities:
    """What the SRAT says: the domain of each APIC id, and the memory of each domain."""

    domain_of_apic_id: dict[int, int]
    memory: tuple[MemoryAffinity, ...]

    @property
    def domains(self) -> list[int]:
        """Proximity domains in the order in which Linux numbers them as nodes."""
        order = [*self.domain_of_apic_id.values(), *(piece.domain for piece in self.memory)]
        return list(dict.fromkeys(order))


def enabled_apic_ids(madt: bytes) -> list[int]:
    """The APIC ids of the CPUs that can be used, in the order of the MADT.

    Raises:
        HostError: the table is damaged.
    """
    ids = []
    for kind, entry in _entries(madt, b"APIC", _MADT_ENTRIES):
        if kind == _MADT_LOCAL_APIC and len(entry) >= 8:
            _, apic_id, flags = struct.unpack_from("<BBI", entry, 2)
        elif kind == _MADT_LOCAL_X2APIC and len(entry) >= 16:
            apic_id, flags = struct.unpack_from("<II", entry, 4)
        else:
            continue
        if flags & _ENABLED and apic_id not in ids:
            ids.append(apic_id)
    return ids


def affinities(srat: bytes) -> Affinities:
    """Which CPUs and which memory are close to each other.

    Raises:
        HostError: the table is damaged.
    """
    domain_of: dict[int, int] = {}
    memory = []
    for kind, entry in _entries(srat, b"SRAT", _SRAT_ENTRIES):
        if kind == _SRAT_LOCAL_APIC and len(entry) >= 16:
            low, apic_id, flags, _, high = struct.unpack_from("<BBIB3s", entry, 2)
            if flags & _ENABLED:
                domain_of[apic_id] = low | int.from_bytes(high, "little") << 8
        elif kind == _SRAT_LOCAL_X2APIC and len(entry) >= 24:
            domain, apic_id, flags = struct.unpack_from("<III", entry, 4)
            if flags & _ENABLED:
                domain_of[apic_id] = domain
        elif kind == _SRAT_MEMORY and len(entry) >= 40:
            domain, _, start, size, _, flags = struct.unpack_from("<IHQQII", entry, 2)
            if flags & _ENABLED and size:
                memory.append(MemoryAffinity(domain, start, start + size))
    return Affinities(domain_of, tuple(memory))


def _entries(table: bytes, signature: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    name = signature.decode()
    if len(table) < _HEADER_BYTES or table[:4] != signature:
        raise HostError(f"the ACPI table {name} does not begin with its name", hint="the copy of it is damaged")
    (length,) = struct.unpack_from("<I", table, 4)
    if not first <= length <= len(table):
        raise HostError(
            f"the ACPI table {name} says that it has {length} bytes, found {len(table)}",
            hint="the copy of it is damaged",
        )
    if sum(table[:length]) & 0xFF:
        raise HostError(f"the ACPI table {name} has a wrong checksum", hint="the copy of it is damaged")
    at = first
    while at + 2 <= length:
        kind, size = table[at], table[at + 1]
        if size < 2 or at + size > length:
            raise HostError(f"the ACPI table {name} has an entry of {size} bytes at offset {at}, which cannot be")
        yield kind, table[at : at + size]
        at += size
