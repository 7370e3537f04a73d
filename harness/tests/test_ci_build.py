# SPDX-License-Identifier: Apache-2.0
"""`popcorn ci`, its first step: what is built, and on whom it is blamed when that fails."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from popcorn import hostpackages
from popcorn.ci import steps
from popcorn.ci.job import Wanted, check
from popcorn.cli.ci import ci
from popcorn.errors import HostError, SeriesError
from popcorn.testing.verdict import Outcome


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _what: None)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_a_build_that_the_host_lost_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from popcorn.build import kernel

    calls: list[int] = []

    def lost(*_: object, **__: object) -> None:
        calls.append(1)
        raise HostError("no memory")

    monkeypatch.setattr(kernel, "build_kernel", lost)
    (tmp_path / "out").mkdir()
    assert steps.build(check(Wanted(retries=2), tmp_path / "out")) == (Outcome.LOST, "no memory")
    assert len(calls) == 3


def test_patches_that_do_not_apply_are_a_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what such a job is there to try, contrary to what its command line asks for."""
    from popcorn.build import kernel

    def refused(*_: object, **__: object) -> None:
        raise SeriesError("the patch 0007-x.patch does not apply: a.c:7", hint="mend it")

    monkeypatch.setattr(kernel, "build_kernel", refused)
    (tmp_path / "out").mkdir()
    job = check(Wanted(retries=2), tmp_path / "out")
    assert steps.build(job) == (Outcome.FAILED, "the patch 0007-x.patch does not apply: a.c:7")
    assert "mend it" in (tmp_path / "out" / "build.log").read_text()


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("series", "0001-nowhere.patch\n", "series:1: 0001-nowhere.patch is not in"),
        ("config/base.config", "CONFIG_64BIT yes\n", "base.config:1: 'CONFIG_64BIT yes' is no configuration line"),
    ],
)
def test_a_series_that_cannot_be_read_is_a_regression(
    file: str, content: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from popcorn.build import kernel
    from popcorn.build import series as module
    from popcorn.build.base import Base

    folder = tmp_path / "project" / "kernel-patches" / "6.12"
    (folder / "config").mkdir(parents=True)
    (folder / "base.toml").write_text('version = "6.12"\ntested = "6.12.1"\ndebian = "linux-source-6.12"\n')
    for name in ("series", "config/base.config", "config/popcorn.config"):
        (folder / name).write_text("# nothing\n")
    (folder / file).write_text(content)
    monkeypatch.setattr(module, "source_root", lambda: tmp_path / "project")
    monkeypatch.setattr(kernel, "find_base", lambda *_, **__: Base("6.12.1", "a test", "0" * 40, "0" * 40))
    monkeypatch.setattr(kernel, "apply_series", lambda *_: SimpleNamespace(head="0" * 40))
    monkeypatch.setenv("POPCORN_CACHE", str(tmp_path / "cache"))
    argv = ["--no-tests", "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(ci, argv, standalone_mode=False).return_value == 1
    assert told in json.loads((tmp_path / "out" / "ci.json").read_text())["steps"][0]["detail"]


@pytest.mark.parametrize("named", [True, False])
def test_what_was_built_is_what_is_tested(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites and experiments choose their kernels themselves, and know nothing of a --source."""
    from popcorn.build import kernel, kexec
    from popcorn.image import build as image

    built = SimpleNamespace(release="6.12.0", dir=Path("/store/kernel/x"))
    monkeypatch.setattr(kernel, "build_kernel", lambda *_: built)
    monkeypatch.setattr(kexec, "build_kexec", lambda: None)
    monkeypatch.setattr(image, "build_image", lambda _role, **_: None)
    monkeypatch.chdir(tmp_path)
    Path("tree").mkdir()
    expected = ("/store/kernel/x", str(tmp_path / "tree")) if named else (None, None)
    Path("test_it.py").write_text(
        "import os\ndef test_kernel():\n    names = 'POPCORN_KERNEL', 'POPCORN_SOURCE_6_12'\n"
        f"    assert tuple(map(os.environ.get, names)) == {expected}\n"
    )
    argv = ["--suite", "test_it.py", "--output", "out", "-n", "0", *(["--source", "tree"] if named else [])]
    assert CliRunner().invoke(ci, argv, standalone_mode=False).return_value == 0
