# SPDX-License-Identifier: Apache-2.0
"""Images: the same inputs give the same bytes, and nothing is built twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from popcorn.build.artifacts import KexecArtifact
from popcorn.image import build, build_image
from popcorn.image.initrd import Startable, overlay, write_initrd
from popcorn.image.recipe import Role, images_folder, load_recipe


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for what comes from Debian and the compiler."""
    busybox = tmp_path / "parts" / "debian" / "root" / "bin" / "busybox"
    busybox.parent.mkdir(parents=True)
    busybox.write_text("#!/bin/sh\nprintf 'bin/busybox\\nbin/cat\\nsbin/init\\n'\n")
    busybox.chmod(0o755)
    (tmp_path / "parts" / "debian" / "packages.json").write_text("{}")
    program = tmp_path / "parts" / "program" / "key" / "program"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"ELF")
    monkeypatch.setattr(build, "debian_files", lambda packages: tmp_path / "parts" / "debian")
    monkeypatch.setattr(build, "guest_program", lambda name, include: program)
    monkeypatch.setattr(build, "npb_program", lambda: program)
    monkeypatch.setattr(build, "dropbear_program", lambda: program)
    return tmp_path / "parts"


def kexec(parts: Path) -> KexecArtifact:
    binary = parts / "kexec" / "key" / "kexec"
    binary.parent.mkdir(parents=True, exist_ok=True)
    binary.write_bytes(b"KEXEC")
    return KexecArtifact(binary.parent, "key", "1", binary, binary, {})


def contents(archive: Path) -> list[str]:
    done = subprocess.run(["cpio", "-it"], stdin=archive.open("rb"), capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_two_builds_give_the_same_bytes(role: Role) -> None:
    first = build_image(role)
    before = first.cpio.read_bytes()
    umask = os.umask(0o077)
    try:
        second = build_image(role, rebuild=True)
    finally:
        os.umask(umask)
    assert (second.key, second.cpio.read_bytes()) == (first.key, before)


def test_an_image_that_is_there_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_image("secondary")
    monkeypatch.setattr(build, "write_cpio", None)
    assert build_image("secondary") == first


def test_the_primary_gets_kexec_when_there_is_one(parts: Path) -> None:
    without, with_kexec = build_image("primary"), build_image("primary", kexec=kexec(parts))
    assert "sbin/kexec" not in contents(without.cpio)
    assert "sbin/kexec" in contents(with_kexec.cpio)
    assert without.key != with_kexec.key


def test_every_kernel_has_an_sshd_and_only_the_primary_starts_others_and_is_a_gateway(parts: Path) -> None:
    primary = set(contents(build_image("primary", kexec=kexec(parts)).cpio))
    secondary = set(contents(build_image("secondary", kexec=kexec(parts)).cpio))
    assert "usr/sbin/dropbear" in primary & secondary
    assert "sbin/kexec" in primary - secondary
    assert "etc/nftables.conf" in primary - secondary


def test_each_of_busyboxs_names_is_a_link_in_the_primary() -> None:
    assert {"bin/cat", "sbin/init", "bin/busybox"} <= set(contents(build_image("primary").cpio))


def test_an_image_holds_no_keys() -> None:
    assert not [name for name in contents(build_image("primary").cpio) if "key" in name]


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_no_two_parts_of_a_recipe_claim_the_same_path(role: Role) -> None:
    recipe = load_recipe(role)
    targets = [
        *recipe.programs.values(),
        *recipe.links,
        *(target for paths in recipe.for_kernel(None).packages.values() for target in paths.values()),
        *(path for path in (recipe.npb, recipe.kexec, recipe.dropbear) if path),
    ]
    assert len(targets) == len(set(targets))


def test_what_translates_addresses_is_what_the_kernel_has_for_it() -> None:
    recipe = load_recipe("primary")
    new, old = recipe.for_kernel("\nCONFIG_NF_TABLES=y\n"), recipe.for_kernel("\n# CONFIG_NF_TABLES is not set\n")
    assert "nftables" in new.packages
    assert "iptables" not in new.packages
    assert "iptables" in old.packages
    assert "nftables" not in old.packages
    assert recipe.for_kernel(None) == new


def startable(folder: Path, image: Path, name: str = "/boot") -> Startable:
    vmlinux = folder / "vmlinux"
    vmlinux.write_bytes(b"a kernel")
    return Startable(vmlinux, image, name)


def test_a_primary_keeps_every_kernel_that_others_run(tmp_path: Path) -> None:
    image = build_image("secondary").cpio
    path = tmp_path / "initrd"
    runs = [startable(tmp_path, image, "/boot/3.2"), startable(tmp_path, image, "/boot/6.12")]
    write_initrd(path, build_image("primary"), {}, startable=runs)
    kept = path.read_bytes()[build_image("primary").cpio.stat().st_size :]
    for one in runs:
        for name in (one.folder, one.vmlinux_path, one.initrd_path):
            assert name.lstrip("/").encode() + b"\0" in kept


def test_an_initrd_is_the_image_and_what_one_boot_adds(tmp_path: Path) -> None:
    primary, secondary = build_image("primary"), build_image("secondary")
    path = tmp_path / "initrd"
    write_initrd(
        path, primary, {"/etc/popcorn/launch": (b"1\n", 0o644)}, startable=[startable(tmp_path, secondary.cpio)]
    )
    content = path.read_bytes()
    assert content.startswith(primary.cpio.read_bytes())
    assert secondary.cpio.read_bytes() in content
    assert len(content) % 4 == 0


def test_a_secondary_finds_keys_after_an_image_of_any_length(tmp_path: Path) -> None:
    odd = tmp_path / "odd.cpio"
    odd.write_bytes(b"070701")
    path = tmp_path / "initrd"
    runs = [startable(tmp_path, odd)]
    write_initrd(path, build_image("primary"), {}, startable=runs, secondary_files={"/etc/key": (b"k", 0o600)})
    assert b"070701\0\0" + overlay({"/etc/key": (b"k", 0o600)}) in path.read_bytes()


def test_the_scripts_of_the_images_are_executable() -> None:
    folder = images_folder() / "primary"
    for name in ("etc/init.d/rcS", "sbin/popcorn-launch"):
        assert os.access(folder / name, os.X_OK)
