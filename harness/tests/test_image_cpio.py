# SPDX-License-Identifier: Apache-2.0
"""Initramfs archives: what `cpio` reads back, and that nothing of the host gets in."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from popcorn.errors import UserError
from popcorn.image.cpio import Tree, device, directory, link, regular, write_cpio
from popcorn.image.initrd import overlay

TREE: Tree = {
    "/etc/a/file": regular(b"text\n", 0o600),
    "/tmp": directory(0o1777),
    "/sh": link("bin/busybox"),
    "/dev/console": device(5, 1, 0o600),
}


def packed(tree: Tree) -> bytes:
    out = io.BytesIO()
    write_cpio(out, tree)
    return out.getvalue()


def listing(archive: bytes) -> list[list[str]]:
    if shutil.which("cpio") is None:
        pytest.skip("needs cpio")
    done = subprocess.run(
        ["cpio", "-itv", "--numeric-uid-gid"],
        input=archive,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"]},
    )
    return [line.split() for line in done.stdout.decode().splitlines()]


def test_cpio_reads_every_kind_of_node() -> None:
    rows = {row[-1]: row[0] for row in listing(packed(TREE))}
    assert rows == {
        "dev": "drwxr-xr-x",
        "dev/console": "crw-------",
        "etc": "drwxr-xr-x",
        "etc/a": "drwxr-xr-x",
        "etc/a/file": "-rw-------",
        "bin/busybox": "lrwxrwxrwx",
        "tmp": "drwxrwxrwt",
    }


def test_everything_belongs_to_root_and_has_no_date() -> None:
    for row in listing(packed(TREE)):
        assert row[2:4] == ["0", "0"]
        assert row[-4:-1] == ["Jan", "1", "1970"] or "->" in row


def test_the_order_of_the_tree_does_not_matter() -> None:
    assert packed(TREE) == packed(dict(reversed(TREE.items())))


def test_a_files_date_and_owner_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text\n")
    before = packed({"/file": regular(path)})
    os.utime(path, (1, 1))
    assert packed({"/file": regular(path)}) == before


def test_archives_can_follow_each_other() -> None:
    assert len(packed(TREE)) % 4 == 0
    assert len(overlay({"/a": (b"12345", 0o644)})) % 4 == 0


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(UserError, match="no absolute path"):
        packed({"etc/passwd": regular(b"")})


def test_a_path_that_climbs_is_refused() -> None:
    with pytest.raises(UserError, match="no absolute path"):
        packed({"/etc/../../passwd": regular(b"")})
