# SPDX-License-Identifier: Apache-2.0
"""The file that a snapshot is.

    popcorn-snapshot FORMAT\\n
    SHA256 HEADER\\n            a line of JSON and its digest
    a frame of zstd, with the checksum of its content:
        blob                   names of the run's files, JSON
        blob …                 each of them
        blob                   QEMU's state: CPUs and devices
        node, first page, pages, new pages; the pages' numbers; the new pages (see `pages`)
        …                      zeros in place of these four end the memory
    popcorn-snapshot-end\\n

A blob is its length and its bytes; integers are little-endian. What was cut off lacks the last line, and what was
changed fails one of the sums; the machine runs only after all of them were right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np
import zstandard

from popcorn.errors import UserError
from popcorn.snapshot.pages import PAGE_BYTES, Node, Numbers, Pages, Spread

FORMAT = 1
_MAGIC = b"popcorn-snapshot"
_END = b"popcorn-snapshot-end\n"
_LENGTH = struct.Struct("<Q")
_PIECE = struct.Struct("<IIII")
# Fastest; higher ones save a tenth of the file and take three times as long.
_LEVEL = 1
_PIECES_AHEAD = 2
_HEAD_LIMIT_BYTES = 1 << 20
_BLOB_LIMIT_BYTES = 1 << 30
_FILE_NAME = re.compile(r"(console/)?[A-Za-z0-9][A-Za-z0-9._-]*")


class CorruptSnapshotError(UserError):
    """A snapshot is not what it was when it was saved."""


@dataclass(frozen=True)
class Header:
    """What is known of a snapshot before it is unpacked. Times in Unix time, sizes in bytes."""

    saved: float
    machine: str
    policy: str
    kernels: tuple[int, ...]
    node_bytes: tuple[int, ...]
    beating: tuple[int, ...]
    """The kernels whose hearts beat."""
    tsc: int
    """The machine's time stamp counter when it stood still."""
    times: Mapping[str, Mapping[str, float]]
    """What the recorder had seen (`Recorder.times`), and"""
    seen_at: float
    """when that was."""
    inputs: Mapping[str, Any]
    """What the machine was made of (`inputs`)."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Header:
        """
        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        known = json.loads(text)
        known = {field.name: known[field.name] for field in fields(Header)}
        lists = ("kernels", "node_bytes", "beating")
        return Header(**{**known, **{name: tuple(known[name]) for name in lists}})


class Writer:
    """Writes a snapshot into an open file, in the order of the methods; a context manager."""

    def __init__(self, out: IO[bytes], header: Header, *, threads: int = -1) -> None:
        """
        Args:
            threads: how many compress; -1 for one a CPU.
        """
        self._out = out
        line = header.to_json().encode()
        out.write(_MAGIC + b" %d\n" % FORMAT + hashlib.sha256(line).hexdigest().encode() + b" " + line + b"\n")
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, threads=threads)
        self._frame = compressor.stream_writer(out, closefd=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        self._frame.write(_PIECE.pack(0, 0, 0, 0))
        self._frame.flush(zstandard.FLUSH_FRAME)
        self._out.write(_END)

    def files(self, files: Mapping[str, bytes]) -> None:
        """The files of the run's folder, by their names in it."""
        self._blob(json.dumps(list(files)).encode())
        for content in files.values():
            self._blob(content)

    def state(self, state: bytes) -> None:
        """What QEMU wrote."""
        self._blob(state)

    def pages(self, node: int, first: int, numbers: Numbers, fresh: Pages) -> None:
        """Some pages that follow each other, as `Sieve` tells them; those that are all zeros need not be written."""
        self._frame.write(_PIECE.pack(node, first, len(numbers), len(fresh)))
        self._frame.write(numbers.tobytes())
        self._frame.write(fresh.tobytes())

    def _blob(self, content: bytes) -> None:
        self._frame.write(_LENGTH.pack(len(content)))
        self._frame.write(content)


class _Frame:
    """What lies between the header and the last line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        begin = file.tell()
        self._left = file.seek(0, os.SEEK_END) - len(_END) - begin
        file.seek(begin)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class Reader:
    """Reads a snapshot from an open file, in the order of the methods.

    What each reads raises CorruptSnapshotError when it is not what was written.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        """
        Raises:
            CorruptSnapshotError: it is no whole snapshot.
            UserError: another version of Popcorn wrote it.
        """
        self._path = path
        self.header = self._read_header(file)
        self._stream = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", _Frame(file)), closefd=False)

    def files(self) -> dict[str, bytes]:
        """The files of the run's folder."""
        try:
            names = json.loads(self._blob())
            if not all(isinstance(name, str) and _FILE_NAME.fullmatch(name) for name in names):
                raise ValueError("names")
        except (ValueError, TypeError) as error:
            raise self._corrupt("the names of its files make no sense") from error
        return {name: self._blob() for name in names}

    def state(self) -> bytes:
        """What QEMU wrote."""
        return self._blob()

    def memory(self, nodes: Sequence[Node]) -> None:
        """Write all pages into the memory of the nodes, which is all zeros before, and prove the sum of everything.

        Raises also HostMemoryError: the host has no memory for them.
        """
        spread = Spread(nodes)
        # Unpacking and writing take about as long.
        with ThreadPoolExecutor(1, "pages") as writer:
            written: deque[Future[None]] = deque()
            try:
                for piece in self._pieces():
                    written.append(writer.submit(spread.put, *piece))
                    if len(written) > _PIECES_AHEAD:
                        written.popleft().result()
                for one in written:
                    one.result()
            except ValueError as error:
                raise self._corrupt(str(error)) from error
        # The sum comes after the last byte of the content.
        if self._some(1):
            raise self._corrupt("something follows its memory")

    def _pieces(self) -> Iterator[tuple[int, int, Numbers, Pages]]:
        while True:
            node, first, nr_pages, nr_fresh = _PIECE.unpack(self._read(_PIECE.size))
            if not nr_pages:
                return
            if nr_fresh > nr_pages or nr_pages * PAGE_BYTES > _BLOB_LIMIT_BYTES:
                raise self._corrupt(f"it tells of {nr_fresh} new pages among {nr_pages}")
            numbers = np.frombuffer(self._read(nr_pages * 4), dtype=np.uint32)
            fresh = np.frombuffer(self._read(nr_fresh * PAGE_BYTES), dtype=np.uint8).reshape(-1, PAGE_BYTES)
            yield node, first, numbers, fresh

    def _read_header(self, file: IO[bytes]) -> Header:
        magic, _, number = file.readline(len(_MAGIC) + 16).rstrip(b"\n").partition(b" ")
        if magic != _MAGIC or not number.isdigit():
            raise self._corrupt("it does not begin as a snapshot does")
        if int(number) != FORMAT:
            raise UserError(
                f"the snapshot {self._path} has format {int(number)}; this Popcorn reads {FORMAT}",
                hint="boot the machine and save it again",
            )
        digest, _, line = file.readline(_HEAD_LIMIT_BYTES).rstrip(b"\n").partition(b" ")
        if hashlib.sha256(line).hexdigest().encode() != digest:
            raise self._corrupt("its header does not have the digest that was written with it")
        begin = file.tell()
        file.seek(-len(_END), os.SEEK_END)
        if file.read() != _END:
            raise self._corrupt("its end is missing")
        file.seek(begin)
        try:
            return Header.from_json(line.decode())
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"its header makes no sense: {error}") from error

    def _blob(self) -> bytes:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > _BLOB_LIMIT_BYTES:
            raise self._corrupt(f"it tells of a file of {length} bytes")
        return self._read(length)

    def _read(self, nr_bytes: int) -> bytes:
        data = self._some(nr_bytes)
        if len(data) < nr_bytes:
            raise self._corrupt("it ends too early")
        return data

    def _some(self, nr_bytes: int) -> bytes:
        pieces = []
        try:
            while nr_bytes and (piece := self._stream.read(nr_bytes)):
                pieces.append(piece)
                nr_bytes -= len(piece)
        except zstandard.ZstdError as error:
            raise self._corrupt(str(error)) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _corrupt(self, what: str) -> CorruptSnapshotError:
        return CorruptSnapshotError(
            f"the snapshot {self._path} is corrupted: {what}", hint="remove it, boot the machine and save it again"
        )
