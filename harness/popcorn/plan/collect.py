# SPDX-License-Identifier: Apache-2.0
"""Carrying what `probe` reads from one Linux to another, as text."""

from __future__ import annotations

import base64
from pathlib import Path, PurePosixPath

from popcorn.errors import GuestError
from popcorn.plan.probe import SOURCES

_MARK = "== "


def script() -> str:
    """A shell script that prints every readable source; busybox is enough for it."""
    patterns = " ".join(SOURCES)
    return (
        f'cd / && for f in {patterns}; do [ -r "$f" ] && printf "{_MARK}%s\\n" "$f" && base64 "$f"; done; '
        f'printf "{_MARK}end\\n"'
    )


def unpack(text: str, into: Path) -> None:
    """Make the tree that the script's output describes.

    Raises:
        GuestError: the output is not whole, or not the script's.
    """
    path: Path | None = None
    content: list[str] = []
    for line in [*text.splitlines(), ""]:
        if not line.startswith(_MARK):
            content.append(line.strip())
            continue
        if path is not None:
            _write(path, "".join(content))
        name = line.removeprefix(_MARK).strip()
        if name == "end":
            return
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise GuestError(f"the guest named a file {name!r} outside the tree that was asked for")
        path, content = into / pure, []
    raise GuestError("the description of the guest's machine broke off", hint="run it again")


def _write(path: Path, content: str) -> None:
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise GuestError(f"the guest's copy of {path.name} is damaged: {error}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (IsADirectoryError, NotADirectoryError, FileExistsError, ValueError) as error:
        raise GuestError(f"the guest named a file that cannot be beside the others: {path.name!r}") from error
