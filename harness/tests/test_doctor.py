# SPDX-License-Identifier: Apache-2.0
"""What the doctor says about hosts in several states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popcorn import doctor, hostpackages
from popcorn.cli import main as cli
from popcorn.dirs import cache_dir
from popcorn.doctor import BAD, OK, WARN
from popcorn.hostpackages import HostPackage
from popcorn.machine import kvm

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hostpackages, "PACKAGES", ())
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")


def ended(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def state(name: str) -> tuple[str, str]:
    finding = next(finding for finding in doctor.examine().findings if finding.name == name)
    return finding.state, finding.detail


def test_a_missing_package_is_bad_and_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    absent = HostPackage("libfoo-dev", "foo", frozenset(), headers=("no/foo.h",))
    monkeypatch.setattr(hostpackages, "PACKAGES", (absent,))
    assert state("packages") == (BAD, "missing: libfoo-dev")
    assert ended(["doctor"]) == 3
    assert "apt-get install -y --no-install-recommends libfoo-dev" in capsys.readouterr().out


def test_a_missing_package_that_is_only_wanted_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = HostPackage("foo", "speed", frozenset(), programs=("no-such-program",), required=False)
    monkeypatch.setattr(hostpackages, "PACKAGES", (absent,))
    assert state("more packages") == (WARN, "would be good to have: foo (speed)")


def test_a_kvm_device_that_no_kernel_was_booted_on_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    assert state("kvm")[0] == WARN
    assert "not yet proven" in state("kvm")[1]


def test_a_kvm_that_booted_a_kernel_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    built = cache_dir() / "store" / "kernel" / "0123" / "bzImage"
    built.parent.mkdir(parents=True)
    built.touch()
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("popcorn.machine.qemu.host_version", lambda: (7, 2))
    for usable, expected in ((True, OK), (False, WARN)):
        monkeypatch.setattr(kvm, "probe", lambda kernel, usable=usable: kvm.Verdict(usable, f"tried {kernel.name}"))
        assert state("kvm")[0] == expected
        assert "tried bzImage" in state("kvm")[1]


def test_a_host_without_kvm_is_told_as_slower() -> None:
    assert state("kvm")[0] == WARN


def test_the_caches_are_listed_with_their_sizes(capsys: Capture) -> None:
    (cache_dir() / "sources").mkdir(parents=True)
    (cache_dir() / "sources" / "tarball").write_bytes(b"x" * 3_000_000)
    ended(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    sizes = {Path(entry["path"]).name: entry["bytes"] for entry in document["caches"]}
    assert sizes["sources"] >= 3_000_000
    assert Path(document["runs"]["path"]).name not in sizes
    assert {finding["name"] for finding in document["findings"]} >= {"host", "qemu", "kvm", "memory", "disk for cache"}
