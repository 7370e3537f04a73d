# SPDX-License-Identifier: Apache-2.0
"""A search on disk: kept run by run, gone on with after any end, and told."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fake_search
import pytest
from click.testing import CliRunner
from killpoints import run_to

from popcorn import hostpackages
from popcorn.bisect import conduct as conducting
from popcorn.bisect.actions import Found
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.journal import Journal, create, find
from popcorn.bisect.task import SEARCH_REPOSITORY
from popcorn.bisect.trial import Laboratory
from popcorn.cli.bisect import bisect
from popcorn.errors import UserError


@pytest.fixture(autouse=True)
def _real_laboratory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hostpackages, "ensure", lambda verb: None)
    yield
    conducting.Laboratory = Laboratory  # type: ignore[misc]


def guilty(journal: Journal, found: object) -> str:
    assert isinstance(found, Found)
    return journal.task().labels[found.commits[0]]


def killed_in(name: str, run: int, period: int) -> subprocess.CompletedProcess[str]:
    """Go on with a search until it is killed in a run."""
    return run_to(-1, f"import fake_search\nbegin()\nfake_search.gone_on({name!r}, {run}, {period})")


def test_a_search_that_is_killed_again_and_again_ends_with_the_answer_of_an_undisturbed_one() -> None:
    period = 3
    whole = fake_search.begun("whole")
    undisturbed, answer = fake_search.conducted(whole, period=period)
    assert guilty(whole, answer) == f"12: {fake_search.GUILTY}"

    journal = fake_search.begun("killed")
    for die_at in range(2, len(undisturbed.runs), max(1, len(undisturbed.runs) // 3)):
        assert killed_in("killed", die_at, period).returncode == -signal.SIGKILL
        assert len(journal.runs()) == die_at - 1
    resumed, again = fake_search.conducted(journal, period=period)
    assert again == answer
    assert resumed.runs == undisturbed.runs


def test_a_line_that_a_crash_cut_short_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first, second = Run("a" * 40, "failed", Stage.BOOT, "panic: ü"), Run("b" * 40, "passed", value=0.5)
    journal.add(first)
    with (tmp_path / "journal.jsonl").open("ab") as out:
        out.write(b'{"commit": "cut sh')
    assert journal.runs() == [first]
    journal.add(second)
    assert journal.runs() == [first, second]


def test_two_commands_do_not_conduct_the_same_search() -> None:
    journal = fake_search.begun("twice")
    with journal.held(), pytest.raises(UserError, match="'twice' is going on"):
        fake_search.conducted(find("twice"))


def test_names_are_taken_once_and_unknown_ones_refused() -> None:
    fake_search.begun("mine")
    with pytest.raises(UserError, match="there is a search 'mine' already"):
        create("mine")
    with pytest.raises(UserError, match="no search 'yours'"):
        find("yours")
    with pytest.raises(UserError, match="is no name"):
        create("../mine")
    assert find("").name == "mine"


def test_status_and_log_tell_how_far_it_is_and_leave_it_alone() -> None:
    journal = fake_search.begun("told")
    assert killed_in("told", 6, 1).returncode == -signal.SIGKILL
    state = (journal.folder / SEARCH_REPOSITORY / "BISECT_LOG").read_bytes()
    with journal.held():
        told = CliRunner().invoke(bisect, ["status", "told"])
    assert told.exit_code == 0, told.output
    assert "it is going on" in told.output
    assert (journal.folder / SEARCH_REPOSITORY / "BISECT_LOG").read_bytes() == state
    told = CliRunner().invoke(bisect, ["status"])
    assert "next: search: " in told.output
    listed = CliRunner().invoke(bisect, ["log"]).output.splitlines()
    assert len(listed) == 5
    assert "it broke" in listed[0]
    found = json.loads(CliRunner().invoke(bisect, ["status", "--json"]).output)
    assert (found["runs"], found["outcome"]) == (5, None)
    fake_search.conducted(journal)
    told = CliRunner().invoke(bisect, ["status"])
    assert f"ended: 12: {fake_search.GUILTY}" in told.output


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ([], "needs one test"),
        (["--test", "x", "--command", "true"], "--test and --command are two tests"),
        (["--command", "true", "--tree", ".", "--fragment", "x"], "--tree and --fragment are two searches"),
        (["--test", "x", "--parameter", "append=y"], "which a suite chooses itself"),
        (["--command", "true", "--parameter", "colour=red"], "'colour=red' is no parameter"),
        (["--command", "true", "--error", "200%"], "is no share"),
        (["--command", "true", "--title", "("], "is no regular expression"),
        (["--command", "true", "--parameter", "append=y", "--bad", "2"], "'2' names no entry"),
        (["--command", "true", "--parameter", "append=y", "--good", "1"], r"has to come before the bad end \(1\)"),
        (["--command", "true", "--tree", "/nonexistent", "--good", "a", "--bad", "b"], "is no git tree"),
        (["--resume"], "there is no search"),
    ],
)
def test_mistakes_are_told_and_leave_nothing_behind(words: list[str], cause: str) -> None:
    done = CliRunner().invoke(bisect, words)
    assert isinstance(done.exception, UserError), done.output
    with pytest.raises(UserError, match=cause):
        raise done.exception
    with pytest.raises(UserError, match="there is no search"):
        find("")
