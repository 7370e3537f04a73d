# SPDX-License-Identifier: Apache-2.0
"""Debian's source packages are fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.build import apt
from popcorn.build.debsource import fetch_source
from popcorn.dirs import cache_dir


def test_a_cache_that_was_moved_needs_no_new_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    downloads = []

    def download(package: str, into: Path) -> str:
        downloads.append(into)
        for kind in ("orig", "debian"):
            (into / f"{package}_1.{kind}.tar.xz").write_bytes(b"x")
        return "1-1"

    monkeypatch.setattr(apt, "download_source", download)
    first = fetch_source("kexec-tools")
    moved = tmp_path / "elsewhere"
    cache_dir().rename(moved)
    monkeypatch.setenv("POPCORN_CACHE", str(moved))
    again = fetch_source("kexec-tools")
    assert again == first
    assert again.path(again.tarball) == moved / "source" / "debian" / "kexec-tools" / "kexec-tools_1.orig.tar.xz"
    assert len(downloads) == 1
