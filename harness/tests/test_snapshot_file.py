# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import io
import mmap
import os
import random
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from popcorn.build.disk import DiskFullError
from popcorn.dirs import cache_dir, snapshots_dir
from popcorn.errors import UserError
from popcorn.snapshot import shelf
from popcorn.snapshot.file import CorruptSnapshotError, Header, Reader, Writer
from popcorn.snapshot.inputs import Inputs, Wanted, differences, unwanted
from popcorn.snapshot.pages import PAGE_BYTES, Node, Pages, Sieve

HEADER = Header(
    saved=1000.0,
    machine="small",
    policy="per-core",
    kernels=(0, 4),
    node_bytes=(64 * PAGE_BYTES,),
    beating=(0, 4),
    tsc=1 << 40,
    times={"0": {"heartbeat_at": 999.5}},
    seen_at=1000.0,
    inputs={"format": 1},
)
FILES = {"plan.json": b"{}", "console/0.log": b"hello\n"}
STATE = bytes(range(256)) * 100


def some_memory() -> Pages:
    chance = np.random.default_rng(1)
    pages = chance.integers(0, 256, (64, PAGE_BYTES), dtype=np.uint8)
    pages[10:20] = 0
    pages[20:30] = pages[0:10]
    return pages


def write(out: io.BufferedIOBase) -> None:
    with Writer(out, HEADER) as writer:  # type: ignore[arg-type]
        writer.files(FILES)
        writer.state(STATE)
        sieve, memory = Sieve(), some_memory()
        for first in range(0, len(memory), 16):
            writer.pages(0, first, *sieve.sift(memory[first : first + 16]))


def written() -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def read(content: bytes) -> tuple[Header, dict[str, bytes], bytes, Pages]:
    reader = Reader(io.BytesIO(content), Path("x.snapshot"))
    files, state = reader.files(), reader.state()
    with tempfile.TemporaryFile() as file:
        file.truncate(64 * PAGE_BYTES)
        node = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8).reshape(-1, PAGE_BYTES)
        reader.memory([Node(file.fileno(), node)])
    return reader.header, files, state, node


def test_what_was_written_is_read() -> None:
    header, files, state, node = read(written())
    assert (header, files, state) == (HEADER, FILES, STATE)
    assert np.array_equal(node, some_memory())


def test_a_page_that_is_there_twice_is_written_once() -> None:
    assert len(written()) < 46 * PAGE_BYTES


@pytest.mark.parametrize("left", [0, 5, 20, 100, 5000, -1, -30, -5000])
def test_a_snapshot_that_was_cut_off_is_refused(left: int) -> None:
    with pytest.raises(CorruptSnapshotError, match=r"x\.snapshot is corrupted"):
        read(written()[:left])


def test_a_snapshot_that_was_changed_anywhere_is_refused() -> None:
    content, chance = written(), random.Random(1)
    for at in [*range(40), *(chance.randrange(len(content)) for _ in range(200)), len(content) - 25]:
        changed = bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        with pytest.raises(UserError, match=r"x\.snapshot (is corrupted|has format)"):
            read(bytes(changed))


def test_a_snapshot_of_another_format_is_refused_by_its_number() -> None:
    content = written().replace(b"popcorn-snapshot 1\n", b"popcorn-snapshot 2\n", 1)
    with pytest.raises(UserError, match="has format 2; this Popcorn reads 1") as caught:
        read(content)
    assert not isinstance(caught.value, CorruptSnapshotError)


def test_no_file_of_a_snapshot_gets_out_of_the_runs_folder() -> None:
    out = io.BytesIO()
    with Writer(out, HEADER) as writer:
        writer.files({"../escaped": b""})
    with pytest.raises(CorruptSnapshotError, match="names of its files"):
        Reader(io.BytesIO(out.getvalue()), Path("x.snapshot")).files()


def put(name: str, kind: shelf.Kind = "named", content: bytes | None = None) -> Path:
    with shelf.writing(name, kind) as out:
        assert out is not None
        out.write(written() if content is None else content)
    return shelf.path_of(name, kind)


def test_snapshots_are_for_their_users_eyes_only() -> None:
    path = put("mine")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def fail(name: str, error: Exception) -> None:
    with shelf.writing(name, "named") as out:
        assert out is not None
        out.write(b"popcorn")
        raise error


def test_a_save_that_fails_leaves_nothing() -> None:
    with pytest.raises(RuntimeError):
        fail("half", RuntimeError())
    assert list(snapshots_dir().iterdir()) == []


def test_a_disk_that_gets_full_is_named_and_nothing_is_left() -> None:
    with pytest.raises(DiskFullError, match="the disk is full: saving the snapshot big ran out of space") as caught:
        fail("big", OSError(errno.ENOSPC, "No space left on device"))
    assert "POPCORN_SNAPSHOTS" in caught.value.hint
    assert list(snapshots_dir().iterdir()) == []


def test_who_comes_second_finds_the_snapshot_of_the_first() -> None:
    put("same", "automatic")
    with shelf.writing("same", "automatic") as out:
        assert out is None
    with shelf.reading("same", "automatic") as reader:
        assert reader.header == HEADER


SAVER = """
import sys, time
from popcorn.snapshot import shelf
with shelf.writing("killed", "automatic") as out:
    out.write(b"half"); out.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_save_left_is_no_snapshot_and_goes() -> None:
    saver = subprocess.Popen([sys.executable, "-c", SAVER], stdout=subprocess.PIPE, env={**os.environ})
    assert saver.stdout is not None
    assert saver.stdout.readline() == b"writing\n"
    shelf.evict(1 << 30)
    assert len(list((cache_dir() / "snapshots").iterdir())) == 1, "it is still being written"
    saver.kill()
    saver.wait()
    saver.stdout.close()
    assert shelf.snapshots("automatic") == []
    shelf.evict(1 << 30)
    assert list((cache_dir() / "snapshots").iterdir()) == []
    put("killed", "automatic")


def used_long_ago(name: str, seconds: int) -> int:
    path = put(name, "automatic")
    os.utime(path, (1e9 - seconds, 1e9 - seconds))
    return path.stat().st_size


def test_those_that_were_not_used_for_longest_are_evicted_first() -> None:
    size = used_long_ago("old", 300)
    used_long_ago("older", 400)
    used_long_ago("new", 100)
    put("mine")
    assert shelf.evict(3 * size) == []
    with shelf.reading("older", "automatic"):
        pass
    assert shelf.evict(2 * size) == ["old"]
    assert [snapshot.name for snapshot in shelf.snapshots("automatic")] == ["new", "older"]
    assert [snapshot.name for snapshot in shelf.snapshots("named")] == ["mine"]


def test_a_snapshot_that_is_being_read_is_neither_evicted_nor_removed() -> None:
    used_long_ago("busy", 400)
    used_long_ago("idle", 300)
    with shelf.reading("busy", "automatic"):
        os.utime(shelf.path_of("busy", "automatic"), (1, 1))
        assert shelf.evict(0) == ["idle"]
        with pytest.raises(UserError, match="goes on from the snapshot 'busy' just now"):
            shelf.remove("busy", "automatic")
    assert shelf.evict(0) == ["busy"]


@pytest.mark.parametrize("name", ["", ".", "../x", "a b", "-x", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no name for a snapshot"):
        shelf.path_of(name)


def test_a_missing_snapshot_is_told_with_those_that_are_there() -> None:
    put("mine")
    with pytest.raises(UserError, match=r"no snapshot 'yours' \(there are: mine\)"), shelf.reading("yours"):
        pass


def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPCORN_SNAPSHOT_LIMIT", "plenty")
    with pytest.raises(UserError, match=r"\$POPCORN_SNAPSHOT_LIMIT: 'plenty' is no amount"):
        shelf.limit_bytes()


def test_a_corrupted_one_is_listed_as_such() -> None:
    put("mine", content=written()[:-1])
    (listed,) = shelf.snapshots("named")
    assert (listed.name, listed.header, listed.trouble) == ("mine", None, "corrupted")


INPUTS = Inputs(
    format=1, qemu="7.2 (abc)", host="CPU A", accel="tcg", hardware=("qemu", "-smp", "8"), keys="k", plan="p",
    kernels={"0": "one", "4": "one"}, image={"primary's image": "i"},
)  # fmt: skip


CHANGES = [
    (replace(INPUTS, qemu="9.0 (def)"), r"saved with QEMU 7\.2 \(abc\), and this is 9\.0"),
    (replace(INPUTS, host="CPU B"), "CPUs of another kind"),
    (replace(INPUTS, hardware=("qemu", "-smp", "4")), "QEMU was told 8, and is now told 4"),
    (replace(INPUTS, keys="other"), "other keys"),
    (replace(INPUTS, plan="other"), "its plan"),
    (replace(INPUTS, kernels={"0": "one", "4": "two"}), "kernel 4 runs build one, and now two is meant"),
    (replace(INPUTS, image={"primary's image": "j"}), "the primary's image is another one"),
]


@pytest.mark.parametrize(("here", "told"), CHANGES, ids=[told for _, told in CHANGES])
def test_what_differs_is_named_and_gives_another_key(here: Inputs, told: str) -> None:
    (difference,) = differences(INPUTS, here)
    assert re.search(told, difference), difference
    assert here.key != INPUTS.key


def test_equal_inputs_differ_in_nothing() -> None:
    assert list(differences(INPUTS, replace(INPUTS))) == []
    assert list(differences(INPUTS, replace(INPUTS, image={}))) == []
    assert list(differences(INPUTS, replace(INPUTS, kernels={}))) == []


def test_what_the_user_did_not_say_is_not_compared() -> None:
    assert list(unwanted(INPUTS, Wanted(None, None))) == []
    assert list(unwanted(INPUTS, Wanted("other", None))) == ["its plan is another one"]
    (told,) = unwanted(INPUTS, Wanted(None, {"0": "one"}))
    assert told == "kernel 4 runs build one, and now none is meant"
