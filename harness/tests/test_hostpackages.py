# SPDX-License-Identifier: Apache-2.0
"""Installing what the host lacks; apt, sudo and the packages are stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn import hostpackages
from popcorn.errors import HostError
from popcorn.hostpackages import HostPackage

NEEDED = HostPackage("needed", "everything", frozenset({"build"}), programs=("needed-program",))
WANTED = HostPackage("wanted", "speed", frozenset({"build"}), programs=("wanted-program",), required=False)


class Host:
    """A directory of programs that is the whole PATH."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = place / "bin"
        self.bin.mkdir()
        self.calls = place / "calls"
        self.calls.touch()
        monkeypatch.setenv("PATH", f"{self.bin}")
        monkeypatch.setattr(hostpackages, "PACKAGES", (NEEDED, WANTED))
        hostpackages._forget()

    def has(self, name: str, script: str = "") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>{self.calls}\n{script}\n')
        path.chmod(0o755)

    def has_apt(self, *, works: bool = True) -> None:
        self.has("env", 'shift; exec "$@"')
        makes = "".join(
            f"echo >{self.bin}/{name}; /bin/chmod +x {self.bin}/{name};"
            for name in ("needed-program", "wanted-program")
        )
        self.has("apt-get", f'case "$*" in *install*) {makes if works else "exit 100;"} :;; esac')

    def called(self, what: str) -> int:
        return sum(line.startswith("apt-get ") and what in line for line in self.calls.read_text().splitlines())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_nothing_is_done_when_nothing_is_missing(host: Host) -> None:
    host.has("needed-program")
    host.has("wanted-program")
    host.has_apt()
    hostpackages.ensure("build")
    assert host.called("apt-get") == 0


def test_a_verb_that_needs_nothing_is_not_held_up(host: Host) -> None:
    hostpackages.ensure("plan")


def test_root_installs_what_is_missing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    host.has_apt()
    hostpackages.ensure("build")
    assert host.called("install -y --no-install-recommends needed wanted") == 1
    assert hostpackages.missing("build") == []


def test_old_package_lists_are_updated_and_the_installation_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    host.has_apt(works=False)
    with pytest.raises(HostError, match="could not install needed wanted") as caught:
        hostpackages.ensure("build")
    assert "apt-get update && apt-get install -y --no-install-recommends needed wanted" in caught.value.hint
    assert host.called(" install ") == 2
    assert host.called("update") >= 1


def test_without_apt_the_packages_are_named(host: Host) -> None:
    with pytest.raises(HostError, match="missing: needed") as caught:
        hostpackages.ensure("build")
    assert caught.value.exit_status == 3
    assert "apt-get install -y --no-install-recommends needed wanted" in caught.value.hint


def test_without_root_or_sudo_the_packages_are_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.has_apt()
    with pytest.raises(HostError, match="missing: needed"):
        hostpackages.ensure("build")
    assert host.called("install") == 0


def test_sudo_that_asks_for_no_password_is_used(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.has_apt()
    host.has("sudo", '[ "$1" = -n ] && exit 0; exec "$@"')
    hostpackages.ensure("build")
    assert host.called("install -y") >= 1


def test_sudo_that_would_ask_is_not_used_without_a_terminal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.has_apt()
    host.has("sudo", "exit 1")
    with pytest.raises(HostError, match="missing: needed"):
        hostpackages.ensure("build")


def test_what_is_only_wanted_stops_nobody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    host.has("needed-program")
    host.has_apt(works=False)
    hostpackages.ensure("build")


def test_who_cannot_install_is_not_told_each_time_what_is_only_wanted(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.has("needed-program")
    host.has_apt()
    hostpackages.ensure("build")
    assert host.called("install") == 0
    assert capsys.readouterr().err == ""


def test_this_host_is_asked_for_headers_and_static_libraries_too() -> None:
    hostpackages._forget()
    there = HostPackage("x", "x", frozenset(), headers=("no/such/header.h",))
    assert not there.is_there
    assert not HostPackage("x", "x", frozenset(), libraries=("libno-such.a",)).is_there
    assert not HostPackage("x", "x", frozenset(), modules=("no_such_module",)).is_there
    assert HostPackage("x", "x", frozenset(), modules=("json",)).is_there
