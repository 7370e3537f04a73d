# SPDX-License-Identifier: Apache-2.0
"""Reading the memory that the kernels share, through the kernel's own header.

Offsets, sizes and constants come from the ``popcorn.h`` that the running kernel was
built with; none is repeated here. Everything read was written by kernels that may
have failed, so each index and length is bounded before it is used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from mmap import mmap
from pathlib import Path
from typing import Any

import cffi

from popcorn.errors import GuestError, HostError

_FIXED_WIDTH_TYPES = """
typedef uint8_t __u8; typedef uint16_t __u16; typedef uint32_t __u32; typedef uint64_t __u64;
typedef int8_t __s8; typedef int16_t __s16; typedef int32_t __s32; typedef int64_t __s64;
"""
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_INTEGER_DEFINE = re.compile(
    r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(0[xX][0-9a-fA-F]+|\d+)[uUlL]*[ \t]*$", re.MULTILINE
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", re.MULTILINE)
_WORD_BITS = 64


class NotFormattedError(GuestError):
    """The region does not (yet) hold what the primary writes into it."""


@dataclass(frozen=True)
class Range:
    """Physical memory, in bytes."""

    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """What the primary says about the machine and the region; every field was checked against the region's size."""

    version: int
    nr_kernels: int
    start: int
    size: int
    slot_offset: int
    slot_stride: int
    log_offset: int
    log_stride: int
    primary: int
    ram: tuple[Range, ...]
    apic_ids: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """What a kernel says about itself. Times are in TSC cycles, memory in bytes, CPU time in nanoseconds."""

    id: int
    state: str
    stage: str
    stage_number: int
    generation: int
    loader: int
    primary: bool
    cpus: tuple[int, ...]
    nr_online: int
    ranges: tuple[Range, ...]
    heartbeat: int
    heartbeat_tsc: int
    loaded_tsc: int
    started_tsc: int
    early_tsc: int
    running_tsc: int
    ended_tsc: int
    cpu_ns: int
    mem_total: int
    mem_free: int
    log_head: int
    release: str
    reason: str
    range_seq: int = 0
    """Of one moment is ``ranges`` if this is even and the same when it is read again."""

    @property
    def ended(self) -> bool:
        """Whether it does nothing more."""
        return self.state in ("dead", "parked")


class Layout:
    """The types and constants of one ``popcorn.h``."""

    def __init__(self, header: str) -> None:
        """
        Args:
            header: text of the header file.

        Raises:
            HostError: the header cannot be parsed or lacks what is read here.
        """
        code = _COMMENT.sub(" ", header)
        self.constants: Mapping[str, int] = {name: int(value, 0) for name, value in _INTEGER_DEFINE.findall(code)}
        defines = "".join(f"#define {name} {value}\n" for name, value in self.constants.items())
        self.ffi = cffi.FFI()
        try:
            self.ffi.cdef(_FIXED_WIDTH_TYPES + defines + _DIRECTIVE.sub("", code))
            self.magic = self.constants["POPCORN_MAGIC"]
            self.version = self.constants["POPCORN_VERSION"]
            self.max_kernels = self.constants["POPCORN_MAX_CPUS"]
            self.primary_flag = self.constants["POPCORN_SLOT_PRIMARY"]
            self.header_size: int = self.ffi.sizeof("struct popcorn_header")
            self.slot_size: int = self.ffi.sizeof("struct popcorn_slot")
            self.tsc_khz_offset: int = self.ffi.offsetof("struct popcorn_header", "tsc_khz")
            self.log_head_offset: int = self.ffi.offsetof("struct popcorn_slot", "log_head")
            self.log_claimed_offset: int = self.ffi.offsetof("struct popcorn_slot", "log_claimed")
        except (cffi.CDefError, cffi.FFIError, KeyError, ValueError) as error:
            raise HostError(
                f"the kernel's popcorn.h cannot be read: {error}",
                hint="the kernel series and the harness are of different versions: build the kernel again",
            ) from error
        self.states = self._names("POPCORN_STATE_")
        self.stages = self._names("POPCORN_STAGE_")

    def _names(self, prefix: str) -> dict[int, str]:
        return {
            value: name.removeprefix(prefix).lower()
            for name, value in self.constants.items()
            if name.startswith(prefix)
        }

    def state_name(self, number: int) -> str:
        """``running`` for POPCORN_STATE_RUNNING; ``unknown(N)`` for what the header does not name."""
        return self.states.get(number, f"unknown({number})")

    def stage_name(self, number: int) -> str:
        """``user`` for POPCORN_STAGE_USER; ``unknown(N)`` for what the header does not name."""
        return self.stages.get(number, f"unknown({number})")

    def stage_number(self, name: str) -> int:
        """The number of a stage, e.g. ``user``."""
        return self.constants[f"POPCORN_STAGE_{name.upper()}"]


@functools.cache
def load_layout(header: Path) -> Layout:
    """The layout that a kernel artifact's header describes.

    Raises:
        HostError: the file cannot be read or parsed.
    """
    try:
        return Layout(header.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise HostError(f"cannot read the shared-memory header {header}: {error.strerror}") from error


class Region:
    """The shared region of a machine, seen from outside. Owns the mapping that it was given."""

    def __init__(self, layout: Layout, memory: mmap | bytes | bytearray, start: int) -> None:
        """
        Args:
            memory: exactly the region's bytes.
            start: its physical address, which the header must agree with.
        """
        self.layout = layout
        self.start = start
        self.size = len(memory)
        self._memory = memory
        self._view: memoryview | None = memoryview(memory)
        self._header: Header | None = None

    def close(self) -> None:
        """Give the mapping back; reading fails from then on."""
        if self._view is not None:
            self._view.release()
            self._view = None
            if isinstance(self._memory, mmap):
                self._memory.close()

    def _open_view(self) -> memoryview:
        if self._view is None:
            raise GuestError("the shared region is closed")
        return self._view

    def _struct(self, kind: str, offset: int) -> Any:
        """A private copy of a structure, so that what was checked is what is used."""
        ffi = self.layout.ffi
        size: int = ffi.sizeof(f"struct {kind}")
        copy = ffi.new(f"struct {kind} *")
        ffi.memmove(copy, self._open_view()[offset : offset + size], size)
        return copy

    def formatted(self) -> bool:
        """Whether the primary has written the header."""
        try:
            self.header()
        except NotFormattedError:
            return False
        return True

    def header(self) -> Header:
        """The header, once the primary has written it.

        Raises:
            NotFormattedError: no magic yet, or values that cannot be true.
        """
        if self._header is None:
            self._header = self._read_header()
        return self._header

    def _read_header(self) -> Header:
        layout = self.layout
        if self.size < layout.header_size:
            raise NotFormattedError(f"the region of {self.size} bytes is smaller than its header")
        raw = self._struct("popcorn_header", 0)
        if raw.magic != layout.magic:
            raise NotFormattedError(
                f"the shared region at {self.start:#x} is not formatted: expected magic {layout.magic:#x}, "
                f"found {raw.magic:#x}"
            )
        problem = ""
        if raw.version != layout.version:
            problem = f"version {raw.version} where {layout.version} was built"
        elif raw.start != self.start or raw.size != self.size:
            problem = f"it says {raw.size:#x}@{raw.start:#x} but lies at {self.size:#x}@{self.start:#x}"
        elif not 0 < raw.nr_kernels <= layout.max_kernels:
            problem = f"{raw.nr_kernels} kernels"
        elif raw.slot_stride < layout.slot_size or not self._holds(raw.slot_offset, raw.slot_stride, raw.nr_kernels):
            problem = f"slots at {raw.slot_offset:#x} by {raw.slot_stride:#x}"
        elif not raw.log_stride or not self._holds(raw.log_offset, raw.log_stride, raw.nr_kernels):
            problem = f"logs at {raw.log_offset:#x} by {raw.log_stride:#x}"
        elif raw.nr_ram > len(raw.ram) or raw.nr_cpus > len(raw.cpu):
            problem = f"{raw.nr_ram} RAM ranges and {raw.nr_cpus} CPUs"
        if problem:
            raise NotFormattedError(f"the header of the shared region at {self.start:#x} is damaged: {problem}")
        return Header(
            version=raw.version,
            nr_kernels=raw.nr_kernels,
            start=raw.start,
            size=raw.size,
            slot_offset=raw.slot_offset,
            slot_stride=raw.slot_stride,
            log_offset=raw.log_offset,
            log_stride=raw.log_stride,
            primary=raw.primary,
            ram=tuple(Range(raw.ram[i].start, raw.ram[i].size) for i in range(raw.nr_ram)),
            apic_ids=tuple(raw.cpu[i].apic_id for i in range(raw.nr_cpus)),
        )

    def tsc_khz(self) -> int | None:
        """Rate of the time stamp counter; None until the primary, some seconds after its start, knows it for good.

        Raises:
            NotFormattedError: the region is not formatted.
        """
        self.header()
        at = self.layout.tsc_khz_offset
        return int.from_bytes(self._open_view()[at : at + 4], "little") or None

    def _holds(self, offset: int, stride: int, count: int) -> bool:
        return offset % 8 == 0 and stride % 8 == 0 and offset + stride * count <= self.size

    def slot(self, id: int) -> Slot:
        """What kernel ``id`` says about itself.

        Raises:
            NotFormattedError: the region is not formatted or has no such slot.
        """
        header = self.header()
        if not 0 <= id < header.nr_kernels:
            raise NotFormattedError(f"no slot for kernel {id}: the region has {header.nr_kernels}")
        raw = self._struct("popcorn_slot", header.slot_offset + id * header.slot_stride)
        bits = len(raw.cpus) * _WORD_BITS
        words = [int(word) for word in raw.cpus]
        return Slot(
            id=id,
            state=self.layout.state_name(raw.state),
            stage=self.layout.stage_name(raw.stage),
            stage_number=raw.stage,
            generation=raw.generation,
            loader=raw.loader,
            primary=bool(raw.flags & self.layout.primary_flag),
            cpus=tuple(n for n in range(bits) if words[n // _WORD_BITS] >> n % _WORD_BITS & 1),
            nr_online=raw.nr_online,
            ranges=tuple(
                Range(raw.range[i].start, raw.range[i].size) for i in range(min(raw.nr_ranges, len(raw.range)))
            ),
            heartbeat=raw.heartbeat,
            heartbeat_tsc=raw.heartbeat_tsc,
            loaded_tsc=raw.loaded_tsc,
            started_tsc=raw.started_tsc,
            early_tsc=raw.early_tsc,
            running_tsc=raw.running_tsc,
            ended_tsc=raw.ended_tsc,
            cpu_ns=raw.cpu_ns,
            mem_total=raw.mem_total,
            mem_free=raw.mem_free,
            log_head=raw.log_head,
            release=self._text(raw.release),
            reason=self._text(raw.reason),
            range_seq=raw.range_seq,
        )

    def _text(self, field: Any) -> str:
        text: bytes = self.layout.ffi.unpack(field, len(field))
        shown = text.split(b"\0", 1)[0].decode("utf-8", "replace")
        return "".join(char if char.isprintable() else "?" for char in shown)

    def raw_slot(self, id: int) -> bytes:
        """The bytes of a slot, to see cheaply whether anything changed; errors as for `slot`."""
        header = self.header()
        if not 0 <= id < header.nr_kernels:
            raise NotFormattedError(f"no slot for kernel {id}: the region has {header.nr_kernels}")
        begin = header.slot_offset + id * header.slot_stride
        return bytes(self._open_view()[begin : begin + self.layout.slot_size])

    def slots(self) -> list[Slot]:
        """All slots, those of kernels never loaded too."""
        return [self.slot(id) for id in range(self.header().nr_kernels)]

    def log_heads(self) -> list[int]:
        """How many bytes each kernel ever wrote to its ring; cheap, for polling."""
        header = self.header()
        view = self._open_view()
        first = header.slot_offset + self.layout.log_head_offset
        stride = header.slot_stride
        return [
            int.from_bytes(view[at : at + 8], "little")
            for at in range(first, first + stride * header.nr_kernels, stride)
        ]

    def log_oldest(self, id: int) -> int:
        """Number of the first byte of a kernel's console that its ring still holds, and that is not being overwritten.

        To be asked after the bytes were copied: a writer says how far it is going to write before it writes.
        """
        header = self.header()
        if not 0 <= id < header.nr_kernels:
            return 0
        view, slot = self._open_view(), header.slot_offset + id * header.slot_stride
        head, claimed = (
            int.from_bytes(view[slot + offset : slot + offset + 8], "little")
            for offset in (self.layout.log_head_offset, self.layout.log_claimed_offset)
        )
        # A claim that cannot be counts for nothing.
        end = claimed if 0 < claimed - head <= header.log_stride else head
        return max(0, end - header.log_stride)

    def ring_bytes(self, id: int, begin: int, end: int) -> bytes:
        """The bytes number ``begin`` up to ``end`` of a kernel's console, at most the last ring full of them."""
        header = self.header()
        if not 0 <= id < header.nr_kernels or end <= begin:
            return b""
        view = self._open_view()
        size = header.log_stride
        begin = max(begin, end - size)
        base = header.log_offset + id * size
        first, last = begin % size, (end - 1) % size + 1
        if first < last:
            return bytes(view[base + first : base + last])
        return bytes(view[base + first : base + size]) + bytes(view[base : base + last])

    def log_tail(self, id: int) -> bytes:
        """What the ring of a kernel still holds of its console."""
        head = self.slot(id).log_head
        data = self.ring_bytes(id, max(0, head - self.header().log_stride), head)
        return data[max(0, self.log_oldest(id) - (head - len(data))) :]


def unknown_slot(id: int) -> Slot:
    """The slot of a kernel about which nothing is known."""
    return replace(_NOTHING, id=id)


_NOTHING = Slot(
    id=0, state="none", stage="none", stage_number=0, generation=0, loader=0, primary=False, cpus=(), nr_online=0,
    ranges=(), heartbeat=0, heartbeat_tsc=0, loaded_tsc=0, started_tsc=0, early_tsc=0, running_tsc=0, ended_tsc=0,
    cpu_ns=0, mem_total=0, mem_free=0, log_head=0, release="", reason="",
)  # fmt: skip
