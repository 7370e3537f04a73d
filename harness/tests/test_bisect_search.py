# SPDX-License-Identifier: Apache-2.0
"""The search for a bad change, on simulated outcomes: git's bisection is the real one, the tests are dice."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from popcorn.bisect.actions import Found, Refused, Terms, Try
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.history import Answer, History, Mark, Next
from popcorn.bisect.next import run_search
from popcorn.bisect.search import Search
from popcorn.build.git import git, output
from popcorn.errors import UserError

NR_CHANGES = 30
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""git knows it without being given it."""
ONE_PERCENT = Terms(alpha=0.005, beta=0.005)
CRASH = "NULL pointer dereference in popcorn_send"

Trial = Callable[[Try], Run]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository with a straight line of commits, the good end first."""
    repository = new_repository(tmp_path_factory.mktemp("straight"))
    line = [commit(repository, "base")]
    for number in range(1, NR_CHANGES + 1):
        line.append(commit(repository, f"change {number}", line[-1]))
    return repository, line


class Remembering(History):
    """git's answers, asked for once: they follow from the commits and the verdicts alone."""

    def __init__(self, repository: Path, good: str, bad: str) -> None:
        super().__init__(repository, good, bad)
        self._answers: dict[tuple[Mark, ...], Next | Answer] = {}

    def ask(self, marks: Sequence[Mark]) -> Next | Answer:
        asked = tuple(marks)
        if asked not in self._answers:
            self._answers[asked] = super().ask(marks)
        return self._answers[asked]


@pytest.fixture(scope="module")
def simulated(straight: tuple[Path, list[str]]) -> tuple[Remembering, list[str]]:
    """The straight line in a repository of its own, for many searches that only their dice tell apart."""
    repository, line = straight
    place = repository.with_name("simulated")
    shutil.copytree(repository, place)
    return Remembering(place, line[0], line[-1]), line


def new_repository(path: Path) -> Path:
    git("init", "--quiet", "--bare", path, cwd=path.parent)
    return path


def commit(repository: Path, subject: str, *parents: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return git("commit-tree", EMPTY_TREE, *words, "-m", subject, cwd=repository).stdout.strip()


def search_in(straight: tuple[Path, list[str]], terms: Terms = ONE_PERCENT, runs: Sequence[Run] = ()) -> Search:
    repository, line = straight
    return Search(History(repository, line[0], line[-1]), terms, runs)


def dice(
    line: Sequence[str], guilty: int, *, rate: float = 1.0, lost: float = 0.0, seed: int = 0, title: str = CRASH
) -> Trial:
    """A test that fails at this rate from the guilty change on, and that the host loses at another rate."""
    thrown = random.Random(seed)

    def trial(step: Try) -> Run:
        if thrown.random() < lost:
            return Run(step.commit, "lost", title="QEMU was killed")
        if line.index(step.commit) >= guilty and thrown.random() < rate:
            return Run(step.commit, "failed", Stage.TEST, title)
        return Run(step.commit, "passed")

    return trial


def go(search: Search, trial: Trial) -> Found | Refused:
    return run_search(search, trial, lambda step, run: None)


@pytest.mark.parametrize("guilty", [1, 2, 15, 16, NR_CHANGES])
def test_a_failure_that_always_shows_takes_one_run_a_step(
    simulated: tuple[Remembering, list[str]], guilty: int
) -> None:
    search = Search(simulated[0], ONE_PERCENT)
    found = go(search, dice(simulated[1], guilty))
    assert isinstance(found, Found)
    assert (found.commits, found.confirmed) == ((simulated[1][guilty],), True)
    assert found.error <= 0.01
    # Three at the bad end, one at the good one, one a step of the five, and some more to confirm.
    assert len(search.runs) <= 3 + 1 + 5 + 5


@pytest.mark.parametrize("seed", range(20))
def test_a_failure_in_one_of_five_runs_is_found_with_an_error_bound_of_one_percent(
    simulated: tuple[Remembering, list[str]], seed: int
) -> None:
    guilty = random.Random(seed).randint(1, NR_CHANGES)
    search = Search(simulated[0], ONE_PERCENT)
    found = go(search, dice(simulated[1], guilty, rate=0.2, seed=seed))
    assert isinstance(found, Found)
    assert found.commits == (simulated[1][guilty],)
    assert found.error <= 0.01
    assert found.confirmed


@pytest.mark.parametrize("seed", range(8))
def test_lost_runs_are_never_held_against_a_change(simulated: tuple[Remembering, list[str]], seed: int) -> None:
    guilty = random.Random(seed).randint(1, NR_CHANGES)
    search = Search(simulated[0], ONE_PERCENT)
    found = go(search, dice(simulated[1], guilty, lost=0.1, seed=seed))
    assert isinstance(found, Found)
    assert found.commits == (simulated[1][guilty],)


@pytest.mark.parametrize("seed", range(4))
def test_lost_runs_and_a_flaky_failure_together(simulated: tuple[Remembering, list[str]], seed: int) -> None:
    search = Search(simulated[0], Terms(alpha=0.005, beta=0.005, rate=0.2))
    found = go(search, dice(simulated[1], 11, rate=0.2, lost=0.1, seed=seed))
    assert isinstance(found, Found)
    assert found.commits == (simulated[1][11],)


def test_a_host_that_loses_every_run_ends_the_search_without_an_answer(straight: tuple[Path, list[str]]) -> None:
    search = search_in(straight)
    refused = go(search, dice(straight[1], 7, lost=1.0))
    assert isinstance(refused, Refused)
    assert refused.by_host
    assert "QEMU was killed" in refused.cause
    # Resumed, it tries again before it gives up again.
    again = search_in(straight, runs=search.runs)
    again.forgiven = len(search.runs)
    found = go(again, dice(straight[1], 7))
    assert isinstance(found, Found)
    assert found.commits == (straight[1][7],)


def test_a_first_good_verdict_by_chance_is_mended_when_the_answer_is_confirmed(
    straight: tuple[Path, list[str]],
) -> None:
    line = straight[1]
    tried: dict[str, int] = {}

    def trial(step: Try) -> Run:
        """The change of the middle passes once, and never again."""
        tried[step.commit] = tried.get(step.commit, 0) + 1
        if line.index(step.commit) < 9 or (step.commit == line[15] and tried[step.commit] == 1):
            return Run(step.commit, "passed")
        return Run(step.commit, "failed", title=CRASH)

    search = search_in(straight)
    found = go(search, trial)
    assert isinstance(found, Found)
    assert found.commits == (line[9],)
    # What passed and failed is flaky: the rate was measured after that.
    assert search.tally(line[-1]).counts.fails >= 8


def test_candidates_that_do_not_build_are_skipped(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]
    inner = dice(line, 20)

    def trial(step: Try) -> Run:
        if 10 <= line.index(step.commit) <= 16:
            return Run(step.commit, "failed", Stage.BUILD, "does not build: x.c: 'y' undeclared")
        return inner(step)

    search = search_in(straight)
    found = go(search, trial)
    assert isinstance(found, Found)
    assert found.commits == (line[20],)
    broken = [run for run in search.runs if run.stage is Stage.BUILD]
    assert len({run.commit for run in broken}) == len(broken), "a compiler is not asked twice"


def test_a_change_among_candidates_that_cannot_be_tested_is_told_with_its_neighbours(
    straight: tuple[Path, list[str]],
) -> None:
    line = straight[1]
    inner = dice(line, 12)

    def trial(step: Try) -> Run:
        if 10 <= line.index(step.commit) <= 14:
            return Run(step.commit, "failed", Stage.BOOT, "panic: something else")
        return inner(step)

    found = go(search_in(straight), trial)
    assert isinstance(found, Found)
    assert set(found.commits) == set(line[10:16])


def test_another_failure_is_not_taken_for_this_one(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]

    def trial(step: Try) -> Run:
        number = line.index(step.commit)
        if number >= 22:
            return Run(step.commit, "failed", title=CRASH)
        if number % 2:
            return Run(step.commit, "failed", title="test_messages failed: expected 5, found 4")
        return Run(step.commit, "passed")

    found = go(search_in(straight), trial)
    assert isinstance(found, Found)
    assert set(found.commits) == {line[21], line[22]}


def test_what_fails_later_than_the_failure_sought_is_past_it(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]

    def trial(step: Try) -> Run:
        if line.index(step.commit) >= 9:
            return Run(step.commit, "failed", Stage.BUILD, "does not build: a.c: error")
        return Run(step.commit, "failed", Stage.TEST, "the test needs another machine")

    search = search_in(straight)
    found = go(search, trial)
    assert isinstance(found, Found)
    assert found.commits == (line[9],)
    assert len(search.runs) <= 2 + 5, "a compiler is asked once for each candidate"


def test_the_search_is_told_to_stop_a_run_that_is_past_the_failure(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]
    asked: list[Stage] = []

    def trial(step: Try) -> Run:
        asked.append(step.until)
        if line.index(step.commit) >= 9:
            return Run(step.commit, "failed", Stage.BUILD, "does not build: a.c: error")
        return Run(step.commit, "passed", Stage.BUILD)

    go(search_in(straight), trial)
    assert asked[0] is Stage.TEST
    assert set(asked[1:]) == {Stage.BUILD}


def test_a_title_chooses_among_failures(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]
    throws = random.Random(1)

    def trial(step: Try) -> Run:
        number = line.index(step.commit)
        if number >= 6 and throws.random() < 0.3:
            return Run(step.commit, "failed", title="lockup in the idle loop")
        return Run(step.commit, "failed" if number >= 18 else "passed", title=CRASH)

    terms = Terms(alpha=0.005, beta=0.005, pattern="popcorn_send")
    found = go(search_in(straight, terms), trial)
    assert isinstance(found, Found)
    assert found.commits == (line[18],)


@pytest.mark.parametrize(
    ("guilty", "title", "cause"),
    [
        (NR_CHANGES + 1, "", "the bad end does not fail"),
        (0, "", "the good end fails as the bad one does"),
        (5, "no such title", "not with a title that holds 'no such title'"),
    ],
)
def test_wrong_ends_are_refused(straight: tuple[Path, list[str]], guilty: int, title: str, cause: str) -> None:
    refused = go(search_in(straight, Terms(alpha=0.005, beta=0.005, pattern=title)), dice(straight[1], guilty))
    assert isinstance(refused, Refused)
    assert cause in refused.cause
    assert refused.remedy
    assert not refused.by_host


def test_a_good_end_that_cannot_be_tested_is_refused(straight: tuple[Path, list[str]]) -> None:
    line = straight[1]
    inner = dice(line, 5)

    def trial(step: Try) -> Run:
        if step.commit == line[0]:
            return Run(step.commit, "failed", Stage.BOOT, "never started: nobody launched it")
        return inner(step)

    refused = go(search_in(straight), trial)
    assert isinstance(refused, Refused)
    assert "the good end cannot be tested: never started" in refused.cause


def test_ends_in_the_wrong_order_are_refused(straight: tuple[Path, list[str]]) -> None:
    repository, line = straight
    with pytest.raises(UserError, match="nothing lies between"):
        History(repository, line[5], line[2])


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_search_interrupted_after_any_run_ends_with_the_same_answer(
    straight: tuple[Path, list[str]], rate: float
) -> None:
    line = straight[1]
    whole = search_in(straight)
    answer = go(whole, dice(line, 13, rate=rate, seed=3))
    for kept in range(0, len(whole.runs), 6 if rate == 1.0 else 80):
        resumed = search_in(straight, runs=whole.runs[:kept])
        rest = iter(whole.runs[kept:])
        assert go(resumed, lambda step, rest=rest: next(rest)) == answer  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(10))
def test_a_measurement_that_got_worse_by_a_fifth_is_found_in_noise(
    simulated: tuple[Remembering, list[str]], seed: int
) -> None:
    line = simulated[1]
    noise = random.Random(seed)
    guilty = noise.randint(1, NR_CHANGES)

    def trial(step: Try) -> Run:
        value = noise.gauss(0.012 if line.index(step.commit) >= guilty else 0.010, 0.0005)
        # Now and then the host is busy.
        return Run(step.commit, "passed", value=value * (3 if noise.random() < 0.02 else 1))

    found = go(Search(simulated[0], Terms(alpha=0.005, beta=0.005, worse=0.1)), trial)
    assert isinstance(found, Found)
    assert found.commits == (line[guilty],)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_measurement_that_is_not_clearly_worse_is_refused(straight: tuple[Path, list[str]], spread: float) -> None:
    noise = random.Random(7)
    refused = go(
        search_in(straight, Terms(alpha=0.005, beta=0.005, worse=0.1)),
        lambda step: Run(step.commit, "passed", value=noise.gauss(1.0, spread)),
    )
    assert isinstance(refused, Refused)
    assert "not clearly worse by 10%" in refused.cause


def test_merges_are_followed(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "merged")
    base = commit(repository, "base")
    left = [commit(repository, "left 1", base)]
    right = [commit(repository, "right 1", base)]
    for number in range(2, 9):
        left.append(commit(repository, f"left {number}", left[-1]))
        right.append(commit(repository, f"right {number}", right[-1]))
    merge = commit(repository, "merge", left[-1], right[-1])
    top = commit(repository, "top", merge)
    guilty = right[4]

    def trial(step: Try) -> Run:
        has = guilty == step.commit or guilty in output("rev-list", step.commit, cwd=repository).split()
        return Run(step.commit, "failed" if has else "passed", title=CRASH)

    found = go(Search(History(repository, base, top), ONE_PERCENT), trial)
    assert isinstance(found, Found)
    assert found.commits == (guilty,)


@pytest.mark.parametrize("guilty", [1, 3])
def test_a_good_end_on_another_branch_is_compared_at_the_merge_base(tmp_path: Path, guilty: int) -> None:
    repository = new_repository(tmp_path / "branched")
    line = [commit(repository, "base")]
    for number in range(1, 7):
        line.append(commit(repository, f"change {number}", line[-1]))
    side = commit(repository, "stable", line[2])

    def trial(step: Try) -> Run:
        bad = step.commit in line and line.index(step.commit) >= guilty
        return Run(step.commit, "failed" if bad else "passed", title=CRASH)

    search = Search(History(repository, side, line[-1]), ONE_PERCENT)
    if guilty == 3:
        found = go(search, trial)
        assert isinstance(found, Found)
        assert found.commits == (line[3],)
        assert line[2] in search.tried()
    else:
        with pytest.raises(UserError, match=r"git bisect bad refused: .*merge base"):
            go(search, trial)


def test_marks_in_conflict_with_later_ones_are_left_out(straight: tuple[Path, list[str]]) -> None:
    repository, line = straight
    history = History(repository, line[0], line[-1])
    # The verdict on 10 came first and says good; 8 was bad after all.
    marks = [(line[10], "bad"), (line[12], "bad"), (line[8], "bad"), (line[7], "good")]
    assert history.ask(marks) == Answer((line[8],))  # type: ignore[arg-type]
