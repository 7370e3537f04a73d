# SPDX-License-Identifier: Apache-2.0
"""A series as mail: cover letter, one message a patch, and what git send-email would do with them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from popcorn.build.git import output
from popcorn.build.patchtree import finished_checkout, refuse_unwritten
from popcorn.errors import HostError, UserError
from popcorn.process import run

MBOX = "series.mbox"
_BLURB = ("*** SUBJECT HERE ***", "*** BLURB HERE ***")


@dataclass(frozen=True)
class Outgoing:
    """What was written, and what is missing before it may be sent."""

    folder: Path
    patches: tuple[str, ...]
    missing: tuple[str, ...]
    sendable: bool
    """Whether git send-email was tried on it (without sending)."""


def prepare(
    directory: Path,
    folder: Path,
    *,
    to: Sequence[str] = (),
    cc: Sequence[str] = (),
    reroll: int = 1,
    cover: Path | None = None,
    prefix: str = "PATCH",
) -> Outgoing:
    """Write the patches of a work tree as mail into a folder, which is replaced, and have git send-email try them.

    Args:
        folder: where to write; it must not exist, or hold nothing but an earlier preparation.
        reroll: the version of the series that is told in the subjects, from 2 on.
        cover: a file with the cover letter: its first line is the subject, the rest the text.

    Raises:
        UserError: the work tree is no finished series, the folder holds something else or cannot be made, an address
            is none, or git knows no author.
        HostError: git send-email refuses the messages.
    """
    letter = _read_cover(cover) if cover is not None else None
    for one in (*to, *cc):
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(one)[1]):
            raise UserError(f"{one!r} is no mail address", hint="write one such as list@example.org")
    tree = finished_checkout(directory)
    refuse_unwritten(tree)
    commits = tree.commits()
    if not commits:
        raise UserError(f"{tree.directory} has no patches", hint="commit some")
    folder = folder.resolve()
    if folder.exists() and not _is_ours(folder):
        raise UserError(f"{folder} holds other things", hint="name a folder that does not exist yet, with --output")
    fresh = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}", hint="name another --output") from error
    addresses = [f"--{kind}={one}" for kind, several in (("to", to), ("cc", cc)) for one in several]
    words = ["format-patch", "--quiet", "--cover-letter", "--thread=shallow", "--encode-email-headers", *addresses]
    words += [f"--subject-prefix={prefix}", f"--base={tree.start}"]
    words += [f"--reroll-count={reroll}"] if reroll > 1 else []
    # By the user's own configuration: author, signature and recipients are theirs.
    done = run(
        ["git", *words, f"--output-directory={fresh}", f"{tree.start}..HEAD"],
        cwd=tree.directory,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(f"git format-patch failed: {' '.join(done.stderr.split())[:300]}", hint="see git's words")
    messages = sorted(fresh.glob("*.patch"))
    if letter is not None:
        _write_cover(messages[0], *letter)
    with (fresh / MBOX).open("wb") as out:
        for message in messages:
            # In an mbox no line of a message may begin like the next message.
            first, _, rest = message.read_bytes().partition(b"\n")
            out.write(first + b"\n" + re.sub(rb"^(>*From )", rb">\1", rest, flags=re.MULTILINE) + b"\n")
    missing = _missing(messages, to)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    sendable = _try_sending(tree.directory, folder, to, cc)
    return Outgoing(folder, tuple(message.name for message in messages), tuple(missing), sendable)


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == MBOX or path.suffix == ".patch" for path in folder.iterdir())


def _read_cover(cover: Path) -> tuple[str, str]:
    """Subject and text."""
    try:
        subject, _, text = cover.read_text(encoding="utf-8").strip().partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the cover letter {cover}: {getattr(error, 'strerror', None) or error}",
            hint="--cover takes a text file: the subject, an empty line, the text",
        ) from error
    return subject, text.strip()


def _write_cover(message: Path, subject: str, text: str) -> None:
    letter = message.read_text(encoding="utf-8")
    message.write_text(letter.replace(_BLURB[0], subject, 1).replace(_BLURB[1], text, 1), encoding="utf-8")


def _missing(messages: Sequence[Path], to: Sequence[str]) -> list[str]:
    found = []
    letter, *patches = (message.read_text(encoding="utf-8", errors="replace") for message in messages)
    if any(blank in letter for blank in _BLURB):
        found.append(f"subject and text of the cover letter: write them into {messages[0].name}, or give --cover FILE")
    unsigned = sum("\nSigned-off-by: " not in patch for patch in patches)
    if unsigned:
        found.append(f"Signed-off-by in {unsigned} of {len(patches)} patches: a person adds it (git rebase --signoff)")
    if not to:
        found.append("recipients: --to; scripts/get_maintainer.pl in the work tree names them")
    return found


def _try_sending(directory: Path, folder: Path, to: Sequence[str], cc: Sequence[str]) -> bool:
    """Have git send-email do all but send; whether it is installed."""
    listed = output("--list-cmds=main,others", cwd=directory).split()
    if "send-email" not in listed:
        return False
    addresses = [f"--{kind}={one}" for kind, several in (("to", to), ("cc", cc)) for one in several]
    done = run(
        [
            *("git", "send-email", "--dry-run", "--quiet", "--confirm=never", "--suppress-cc=all", *addresses),
            *(() if to else ("--to=nobody@localhost",)),
            *sorted(folder.glob("*.patch")),
        ],
        cwd=directory,
        check=False,
    )
    if done.returncode != 0:
        raise HostError(f"git send-email refuses the messages: {' '.join((done.stderr or done.stdout).split())[:400]}")
    return True
