# SPDX-License-Identifier: Apache-2.0
"""Building the initramfs of a primary or a secondary kernel."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact, KexecArtifact
from popcorn.build.store import get_or_build
from popcorn.files import sha256_file, sha256_tree
from popcorn.image.cpio import Tree, device, directory, link, regular, write_cpio
from popcorn.image.debian import PACKAGES, debian_files
from popcorn.image.dropbear import dropbear_program
from popcorn.image.programs import guest_program, npb_program
from popcorn.image.recipe import Recipe, Role, images_folder, load_recipe
from popcorn.process import run
from popcorn.progress import step

RULES = 1
"""Raised when the same inputs would give another image."""

_PERMISSIONS = {"/tmp": 0o1777, "/root": 0o700}


@dataclass(frozen=True)
class ImageArtifact:
    """One built initramfs in the store."""

    dir: Path
    key: str
    role: Role
    cpio: Path
    """Uncompressed newc archive, its size a multiple of 4, so that others can follow it."""
    programs: dict[str, str]
    """Name to guest path of the programs that this project adds."""


def build_image(
    role: Role,
    *,
    kernel: KernelArtifact | None = None,
    kexec: KexecArtifact | None = None,
    rebuild: bool = False,
) -> ImageArtifact:
    """The initramfs of a role. The same inputs always give the same bytes.

    Args:
        kernel: the kernel it is for. All its drivers are built in, so that nothing of it goes into the image;
            programs are compiled with its headers, and its configuration tells which tools are of use.
        kexec: what the primary starts other kernels with; without it, it starts none.

    Raises UserError for a broken recipe, HostError when a package or the compiler is missing.
    """
    recipe = load_recipe(role).for_kernel(kernel.config.read_text() if kernel is not None else None)
    debian = debian_files(recipe.packages)
    names = dict(recipe.programs)
    include = kernel.include if kernel is not None else None
    programs = {target: guest_program(name, include) for name, target in names.items()}
    if recipe.npb is not None:
        names["npb"] = recipe.npb
        programs[recipe.npb] = npb_program()
    if recipe.dropbear is not None:
        names["dropbear"] = recipe.dropbear
        programs[recipe.dropbear] = dropbear_program()
    if recipe.kexec is not None and kexec is not None:
        names["kexec"] = recipe.kexec
        programs[recipe.kexec] = kexec.binary
    files = images_folder() / recipe.files
    inputs = {
        "rules": RULES,
        "recipe": recipe.model_dump(),
        "files": sha256_tree(files),
        # How the files were collected, and of which versions.
        "debian": [debian.name, sha256_file(debian / PACKAGES)],
        # The store's keys of the programs stand for their content.
        "programs": {target: f"{path.parent.parent.name}/{path.parent.name}" for target, path in programs.items()},
    }

    def build(into: Path) -> None:
        with step(f"building the {role} image"), (into / "image.cpio").open("wb") as out:
            write_cpio(out, _tree(recipe, debian / "root", files, programs))

    entry = get_or_build("image", inputs, build, rebuild=rebuild)
    return ImageArtifact(entry, entry.name, role, entry / "image.cpio", names)


def _tree(recipe: Recipe, debian_root: Path, files: Path, programs: dict[str, Path]) -> Tree:
    tree: Tree = {"/dev/console": device(5, 1, 0o600), "/dev/null": device(1, 3, 0o666)}
    for path in recipe.directories:
        tree[path] = directory(_PERMISSIONS.get(path, 0o755))
    if recipe.applets:
        tree.update(_applets(debian_root / "bin" / "busybox"))
    tree.update(_copied(debian_root))
    tree.update({path: link(target) for path, target in recipe.links.items()})
    tree.update(_copied(files))
    tree.update({target: regular(program, 0o755) for target, program in programs.items()})
    return tree


def _copied(folder: Path) -> Tree:
    """A folder of the host as it is, but for owners, times and permissions that depend on the user's umask."""
    tree: Tree = {}
    for path in sorted(folder.rglob("*")):
        target = f"/{path.relative_to(folder).as_posix()}"
        if path.is_symlink():
            tree[target] = link(os.readlink(path))
        elif path.is_dir():
            tree[target] = directory()
        else:
            executable = path.stat().st_mode & stat.S_IXUSR
            tree[target] = regular(path, 0o755 if executable else 0o644)
    return tree


def _applets(busybox: Path) -> Tree:
    """A link for each name that busybox goes by."""
    listed = run([busybox, "--list-full"]).stdout.split()
    return {f"/{path}": link("/bin/busybox") for path in listed if path != "bin/busybox"}
