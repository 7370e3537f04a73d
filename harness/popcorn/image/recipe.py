# SPDX-License-Identifier: Apache-2.0
"""What an image holds, as `images/ROLE.toml` says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from popcorn.dirs import source_root
from popcorn.errors import UserError

Role = Literal["primary", "secondary"]
Packages = dict[str, dict[str, str]]


class Recipe(BaseModel):
    """One image. Paths on the right-hand side are the guest's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: str
    """Folder below images/ that is copied as it is."""
    directories: tuple[str, ...]
    programs: dict[str, str]
    """Folder below images/programs/ to where its program goes."""
    npb: str | None = None
    """Where the benchmarks go."""
    kexec: str | None = None
    """Where kexec goes, if one was built."""
    dropbear: str | None = None
    """Where the sshd goes."""
    applets: bool
    """Whether each of busybox's names gets a link."""
    packages: Packages
    """Debian package to {path in it: path in the image}."""
    configured: dict[str, Packages] = {}
    """Kernel symbol (NF_TABLES) to what is added where the kernel is configured with it."""
    unconfigured: dict[str, Packages] = {}
    """The same, where it is not."""
    links: dict[str, str] = {}
    """Symbolic link to its target."""

    def for_kernel(self, config: str | None) -> Recipe:
        """The recipe for one kernel.

        Args:
            config: its .config; None for a kernel that is not known, and taken to have all.
        """
        packages = dict(self.packages)
        for wanted, choices in ((True, self.configured), (False, self.unconfigured)):
            for symbol, more in choices.items():
                if wanted == (config is None or f"\nCONFIG_{symbol}=y\n" in config):
                    packages |= more
        return self.model_copy(update={"packages": packages, "configured": {}, "unconfigured": {}})


def images_folder() -> Path:
    return source_root() / "images"


def load_recipe(role: Role) -> Recipe:
    """Read the recipe of a role. Raises UserError, which names the file and what is wrong in it."""
    path = images_folder() / f"{role}.toml"
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"there is no image recipe {path}", hint="the roles are primary and secondary") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}") from error
