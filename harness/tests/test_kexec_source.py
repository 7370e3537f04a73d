# SPDX-License-Identifier: Apache-2.0
"""Where kexec's source comes from, and that it is fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.build import apt, kexec
from popcorn.dirs import cache_dir


def test_a_cache_that_was_moved_needs_no_new_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    downloads = []

    def download(package: str, into: Path) -> str:
        downloads.append(into)
        (into / f"{package}_1.orig.tar.xz").write_bytes(b"x")
        return "1-1"

    monkeypatch.setattr(apt, "download_source", download)
    first = kexec._upstream(update=False)
    moved = tmp_path / "elsewhere"
    cache_dir().rename(moved)
    monkeypatch.setenv("POPCORN_CACHE", str(moved))
    assert kexec._upstream(update=False) == first
    assert len(downloads) == 1
