# SPDX-License-Identifier: Apache-2.0
"""A kernel, or what machines run on, that the environment names in place of what would be chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popcorn.build.debuginfo import build_debug_info
from popcorn.build.kernel import FACTS, KERNEL_VARIABLE, build_kernel
from popcorn.build.store import get_or_build
from popcorn.errors import UserError
from popcorn.machine.boot import ACCEL_VARIABLE, BootFiles, choose_accel


@pytest.fixture
def entry() -> Path:
    """A kernel of one commit in the store."""

    def build(staging: Path) -> None:
        (staging / FACTS).write_text(json.dumps({"release": "6.12.1-x", "series": "6.12", "flavour": "default"}))

    return get_or_build("kernel", {"tree": "0" * 40}, build)


def test_the_kernel_that_is_named_is_taken_where_its_series_and_flavour_are_wanted(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, str(entry))
    kernel = build_kernel("6.12")
    assert (kernel.dir, kernel.release) == (entry, "6.12.1-x")
    with pytest.raises(UserError, match="no flavour 'other'"):
        build_kernel("6.12", "other")
    with pytest.raises(UserError, match="its twin cannot be built"):
        build_debug_info("6.12")


def test_a_folder_without_a_kernel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match="which holds no kernel"):
        build_kernel("6.12")


def test_what_auto_means_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = BootFiles(kernel=tmp_path / "bzImage", header=None)
    monkeypatch.setenv(ACCEL_VARIABLE, "tcg")
    assert choose_accel("auto", files.kernel) == "tcg"
    monkeypatch.setenv(ACCEL_VARIABLE, "xen")
    assert choose_accel("tcg", files.kernel) == "tcg"
    with pytest.raises(UserError, match="is 'xen'"):
        choose_accel("auto", files.kernel)
