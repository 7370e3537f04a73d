# SPDX-License-Identifier: Apache-2.0
"""Beginning a patch: an empty commit with a template for its message, to be amended."""

from __future__ import annotations

import re
from pathlib import Path

from popcorn.build.git import output
from popcorn.build.patchtree import TEMPLATE_MARK, finished_checkout
from popcorn.errors import UserError
from popcorn.process import run

_SUBJECT_CHARS = 72
_TEMPLATE = f"""\
{{subject}}

{TEMPLATE_MARK} write the message in place of these lines, which git leaves out.
# 1. The problem: what goes wrong, or cannot be done, without this patch, and who notices.
# 2. The design: what the patch does about it, and why so.
# 3. What it leaves out, and how it was tested.
# Hooks into existing files are few and behind CONFIG_POPCORN; new code goes into files of its own.
"""


def new_patch(directory: Path, subject: str) -> str:
    """Begin a patch on top of those of a work tree; returns its commit.

    `popcorn kernel refresh` refuses it until it changes something and its message is written.

    Raises:
        UserError: the subject is none, the work tree is no finished series, or git does not know the author.
    """
    subject = subject.strip()
    if not re.fullmatch(r"[\w/. -]+: \S.*[^.\s]", subject) or len(subject) > _SUBJECT_CHARS:
        raise UserError(
            f"{subject!r} is no subject of a kernel patch",
            hint=f"write 'subsystem: what it does', of {_SUBJECT_CHARS} characters at most, without a full stop",
        )
    tree = finished_checkout(directory)
    # By the user's own configuration: the author is theirs.
    words = ("git", "commit", "--quiet", "--allow-empty", "--no-verify", "--cleanup=verbatim", "--file=-")
    done = run(words, cwd=tree.directory, input=_TEMPLATE.format(subject=subject), check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise UserError(
            f"git cannot commit: {said[:300]}", hint="tell git who you are: git config --global user.name, user.email"
        )
    return output("rev-parse", "HEAD", cwd=tree.directory)
