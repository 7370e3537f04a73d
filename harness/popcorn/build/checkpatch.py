# SPDX-License-Identifier: Apache-2.0
"""The checkpatch that all series are checked with: that of the newest base.

The one of an old kernel does not know the options used here, stumbles over a current perl, and asks for what is no
longer the style.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popcorn.build.base import Base
from popcorn.build.git import git, linux_repository
from popcorn.build.series import Series, load_series, series_names
from popcorn.build.source import find_base
from popcorn.errors import HostError

# What it reads beside itself.
_SCRIPTS = ("scripts/checkpatch.pl", "scripts/const_structs.checkpatch", "scripts/spelling.txt")


def newest_base(series: Series, base: Base) -> Base:
    """The base of the newest series there is; `base` if that is `series`. Errors as `find_base`."""
    newest = max((load_series(name) for name in series_names()), key=lambda one: version_of(one.version))
    return base if version_of(series.version) >= version_of(newest.version) else find_base(newest)


@contextmanager
def checkpatch_of(base: Base) -> Iterator[Path]:
    """A base's checkpatch.pl with what it reads, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="popcorn-checkpatch-") as scratch:
        for name in _SCRIPTS:
            shown = git("show", f"{base.commit}:{name}", cwd=linux_repository(), check=False)
            if shown.returncode == 0:
                Path(scratch, Path(name).name).write_bytes(shown.stdout_bytes)
        script = Path(scratch, "checkpatch.pl")
        if not script.is_file():
            raise HostError(f"Linux {base.version} from {base.origin} has no scripts/checkpatch.pl")
        yield script


def version_of(text: str) -> tuple[int, ...]:
    """A version as numbers that compare as versions do."""
    return tuple(int(part) for part in text.split("."))
