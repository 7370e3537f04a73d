# SPDX-License-Identifier: Apache-2.0
"""Releases of Linux from kernel.org."""

from __future__ import annotations

from pathlib import Path

from popcorn.build.basefile import KernelOrg
from popcorn.build.download import UnreachableError
from popcorn.build.download import download as fetch
from popcorn.errors import HostError

MIRROR = "https://cdn.kernel.org/pub/linux/kernel"


def download(release: KernelOrg, folder: Path) -> list[Path]:
    """Fetch the files of a release into a folder, each checked, in their order.

    Raises HostError, which says what else would do when kernel.org cannot be reached.
    """
    place = f"{MIRROR}/v{release.version.partition('.')[0]}.x"
    files = [folder / file.name for file in release.files]
    try:
        for file, target in zip(release.files, files, strict=True):
            fetch(f"{place}/{file.name}", target, file.sha256)
    except UnreachableError as error:
        raise HostError(
            f"the source of Linux {release.version} is neither in the cache nor to be had: {error}",
            hint=f"get linux-{release.version}.tar.xz or a tree of it by other means and name it once with "
            "--source; the cache keeps it",
        ) from error
    return files
