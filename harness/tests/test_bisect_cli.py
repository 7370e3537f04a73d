# SPDX-License-Identifier: Apache-2.0
"""What somebody types wrong at `popcorn bisect` is told before anything is built."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from popcorn import hostpackages
from popcorn.bisect import journal, setup
from popcorn.cli import bisect as commands
from popcorn.cli.bisect import bisect
from popcorn.errors import UserError


def _assert_refused(words: list[str], cause: str) -> None:
    error = CliRunner().invoke(bisect, words, standalone_mode=False).exception
    assert isinstance(error, UserError), error
    assert cause in str(error)
    assert list(journal.searches_dir().glob("*")) == []


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
        ("--test testsuites/test_nothing.py", "test_nothing.py: file or directory not found"),
        ("--test no_such_test_at_all", "there are no such tests: testsuites -k"),
        ("--test and", "Wrong expression passed to '-k'"),
        ("--metric msg.nothing", "there is no metric 'msg.nothing'"),
        ("--metric msg.fanout --parameter policy=smp", "'policy=smp' changes nothing"),
        ("--resume --good 3 --build", "as it began: --good, --build cannot change it"),
        ("--command true --name ../x", "'../x' is no name for a search"),
        ("--resume nowhere", "there is no search 'nowhere'"),
    ],
)
def test_the_users_mistakes_are_told_and_nothing_is_begun(
    words: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _what: None)
    monkeypatch.setattr(setup, "new_task", lambda *_, **__: pytest.fail("begun"))
    _assert_refused(words.split(), cause)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("--parameter policy=wrong", "at the bad end, 1: policy=wrong: unknown policy 'wrong'"),
        ("--parameter append=x --parameter machine=nope", "at the bad end, 2: machine=nope: unknown machine 'nope'"),
        ("--parameter policy=smp --kernel 3", "at the bad end, 1: policy=smp: the plan has no kernel 3"),
        ("--parameter append=x --policy wrong", "at the good end, 0: without them: unknown policy 'wrong'"),
    ],
)
def test_parameters_that_make_no_machine_are_the_users_mistake_and_no_answer(
    words: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _what: None)
    monkeypatch.setattr(commands, "_conduct", lambda *_, **__: pytest.fail("begun"))
    _assert_refused(["--command", "true", *words.split()], cause)
