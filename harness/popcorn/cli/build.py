# SPDX-License-Identifier: Apache-2.0
"""``popcorn build``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

PARTS = ("kernel", "kexec", "images")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[kernel] [kexec] [images]")
@click.option("--series", default="6.12", show_default=True, help="Which kernel series.")
@click.option("--flavour", default="default", show_default=True, help="default, or debug (lockdep, KASAN, …).")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="TREE|TARBALL",
    help="Kernel source, instead of Debian's package or kernel.org's release.",
)
@click.option("--debug-info", is_flag=True, help="Build the kernel's twin with debug information, too.")
@click.option("--rebuild", is_flag=True, help="Build even what the cache has; mends a corrupted entry.")
@click.option("--update", is_flag=True, help="Look for newer sources first.")
@click.option("-j", "--jobs", default=0, metavar="N", help="Compilers at once; default: one a CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def build(
    parts: tuple[str, ...],
    series: str,
    flavour: str,
    source: Path | None,
    debug_info: bool,
    rebuild: bool,
    update: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Build the kernel, kexec and the guest images; all of them unless some are named.

    What is unchanged since it was last built comes from the cache.
    """
    from popcorn import hostpackages
    from popcorn.build.debuginfo import build_debug_info
    from popcorn.build.kernel import build_kernel
    from popcorn.build.kexec import build_kexec

    hostpackages.ensure("build")
    wanted = parts or PARTS
    built: dict[str, dict[str, Any]] = {}
    kernel = kexec = None
    if "kernel" in wanted or "images" in wanted:
        fresh = rebuild and "kernel" in wanted
        kernel = build_kernel(series, flavour, source, rebuild=fresh, update=update, jobs=jobs)
        built["kernel"] = {
            "dir": str(kernel.dir),
            "key": kernel.key,
            "release": kernel.release,
            # A kernel of a single commit, which the environment may name, has neither.
            "base": kernel.manifest["inputs"].get("base"),
            "patches": len(kernel.manifest["inputs"].get("patches", ())),
        }
        if debug_info:
            _, vmlinux = build_debug_info(series, flavour, source, rebuild=fresh, jobs=jobs)
            built["debug information"] = {"dir": str(vmlinux.parent), "key": vmlinux.parent.name}
    if "kexec" in wanted or "images" in wanted:
        kexec = build_kexec(rebuild=rebuild and "kexec" in wanted, update=update)
        built["kexec"] = {"dir": str(kexec.dir), "key": kexec.key, "version": kexec.version}
    if "images" in wanted and kernel is not None:
        from popcorn.image.build import build_image
        from popcorn.image.recipe import Role

        roles: tuple[Role, ...] = ("primary", "secondary")
        for role in roles:
            image = build_image(role, kernel=kernel, kexec=kexec, rebuild=rebuild)
            built[f"{role} image"] = {"dir": str(image.dir), "key": image.key}
    if as_json:
        click.echo(json.dumps(built, indent=2))
        return
    for part, facts in built.items():
        about = facts.get("release") or facts.get("version") or ""
        click.echo(f"{part:17} {about:28} {facts['dir']}")
