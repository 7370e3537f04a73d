# SPDX-License-Identifier: Apache-2.0
"""What somebody types wrong at `popcorn bisect` is told before anything is built."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from popcorn import hostpackages
from popcorn.bisect import journal, setup
from popcorn.cli.bisect import bisect
from popcorn.errors import UserError


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "a search needs one test"),
        ("--build --command true", "--command and --build are two tests"),
        ("--command true --kernel 77", "the plan has no kernel 77"),
        ("--test smoke --kernel 1", "--kernel says where --command runs"),
        ("--command true --timeout -5", "--timeout -5 is no time"),
        ("--command true --timeout nan", "--timeout nan is no time"),
        ("--command true --error 60%", "--error 60% is not below one half"),
        ("--command true --alpha 0.5", "--alpha 0.5 is not below one half"),
        ("--command true --noise 99%", "--noise 99% is not below one half"),
        ("--command true --flaky-rate 0", "--flaky-rate 0 is no share"),
        ("--command true --title [", "--title '[' is no regular expression"),
        ("--command true --tree . --fragment x", "are two searches"),
        ("--test x --parameter append=y", "--parameter changes the machine"),
        ("--command true --name ../x", "'../x' is no name for a search"),
        ("--resume nowhere", "there is no search 'nowhere'"),
    ],
)
def test_the_users_mistakes_are_told_and_nothing_is_begun(
    words: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _what: None)
    monkeypatch.setattr(setup, "new_task", lambda *_, **__: pytest.fail("begun"))
    error = CliRunner().invoke(bisect, words.split(), standalone_mode=False).exception
    assert isinstance(error, UserError), error
    assert cause in str(error)
    assert list(journal.searches_dir().glob("*")) == []
