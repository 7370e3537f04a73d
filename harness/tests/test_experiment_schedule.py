# SPDX-License-Identifier: Apache-2.0
"""Which trials an experiment has, in which order, where they run, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from experiment_fakes import DESCRIPTION, Stage, staged
from hypothesis import given
from hypothesis import strategies as st

from popcorn.errors import UserError
from popcorn.experiment.description import Source, experiment_names, find_description
from popcorn.experiment.placement import place
from popcorn.experiment.protocols import Kernel
from popcorn.experiment.ready import Wanted, get_ready
from popcorn.experiment.schedule import BootJob, Trial, remaining
from popcorn.experiment.timing import Forecast, as_time


def _trials(jobs: Sequence[BootJob]) -> list[Trial]:
    return [trial for job in jobs for trial in job.trials]


def _kernels(*cpus: int) -> list[Kernel]:
    return [Kernel(id, count, 1 << 30, "") for id, count in enumerate(cpus)]


def test_every_system_workload_core_count_and_iteration_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = staged(monkeypatch, Stage())()
    trials = _trials(ready.jobs)
    assert len(trials) == len(set(trials)) == ready.trials == 2 * 2 * 3
    assert {one.iteration for one in trials} == {1, 2, 3}


def test_the_order_follows_from_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = staged(monkeypatch, Stage())
    text = DESCRIPTION.replace("iterations = 3", "iterations = 20")
    assert ready(text, seed=7).jobs == ready(text, seed=7).jobs
    assert ready(text, seed=7).jobs != ready(text, seed=8).jobs


def test_a_system_is_booted_as_often_as_it_is_told_and_its_iterations_are_divided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = staged(monkeypatch, Stage())(boots=2).jobs
    assert [job.number for job in jobs] == [1, 2, 3, 4]
    assert [sorted(job.system for job in jobs if job.block == block) for block in (0, 1)] == [["one", "other"]] * 2
    assert {trial.iteration for job in jobs if job.block == 0 for trial in job.trials} == {1, 3}


def test_more_boots_than_iterations_would_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = staged(monkeypatch, Stage())(boots=9, iterations=2).jobs
    assert all(job.trials for job in jobs)
    assert len(jobs) == 2 * 2


def test_what_is_done_is_not_taken_again_and_the_rest_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = staged(monkeypatch, Stage())().jobs
    every = _trials(jobs)
    left = remaining(jobs, [("measured", one) for one in every[:7]])
    assert _trials(left) == every[7:]
    assert remaining(jobs, [("measured", one) for one in every]) == []


def test_kernels_are_filled_one_after_the_other() -> None:
    shares = place(_kernels(4, 4, 4), 6)
    assert [(share.kernel.id, share.cores) for share in shares] == [(0, 4), (1, 2)]


def test_threads_stay_in_the_first_kernel_that_is_large_enough() -> None:
    assert [(share.kernel.id, share.cores) for share in place(_kernels(1, 4), 3, together=True)] == [(1, 3)]
    assert place(_kernels(2, 2), 3, together=True) == []


def test_a_workload_between_kernels_is_spread_over_as_many() -> None:
    assert [share.cores for share in place(_kernels(4, 4), 2, least_kernels=2)] == [1, 1]
    # One kernel is all there is: both ends are in it.
    assert [share.cores for share in place(_kernels(4), 2, least_kernels=2)] == [2]


@given(st.lists(st.integers(1, 8), min_size=1, max_size=8), st.integers(1, 70), st.integers(1, 3))
def test_shares_add_up_to_the_cores_and_no_kernel_is_overfilled(cpus: list[int], cores: int, least: int) -> None:
    shares = place(_kernels(*cpus), cores, least_kernels=least)
    if cores >= least and cores <= sum(cpus):
        assert sum(share.cores for share in shares) == cores
    if cores > sum(cpus):
        assert shares == []
    assert all(0 < share.cores <= share.kernel.cpus for share in shares)


@pytest.mark.parametrize("name", experiment_names())
def test_what_comes_with_popcorn_can_be_planned(name: str) -> None:
    ready = get_ready(find_description(name), Wanted())
    assert ready.trials
    assert {job.system for job in ready.jobs} == set(ready.systems)


def test_a_class_on_the_command_line_is_that_of_all_benchmarks() -> None:
    ready = get_ready(find_description("quick"), Wanted(size="S"))
    assert list(ready.workloads) == ["npb-copies.is.S", "npb-copies.cg.S"]


def test_what_a_system_cannot_run_by_its_nature_is_left_out_with_the_reason() -> None:
    ready = get_ready(find_description("fig12"), Wanted(machine="small", size="S", cores=(1, 2)))
    (left,) = ready.left_out
    assert (left.system, left.cores) == ("popcorn", 2)
    assert "no kernel has 2 CPUs" in left.reason


_BAD = [
    (DESCRIPTION.replace('"one"', '"onee"'), {}, "test.toml:3: unknown system 'onee'"),
    (DESCRIPTION, {"systems": ("nobody",)}, "--systems: unknown system 'nobody'"),
    (DESCRIPTION.replace("[1, 2]", "[1, 9]"), {}, "test.toml:4: 9 cores are asked for, and machine small has 8"),
    (DESCRIPTION, {"cores": (16,)}, "--cores: 16 cores are asked for"),
    (DESCRIPTION.replace("iterations", "iteration"), {}, "test.toml:5: unknown key 'iteration'"),
    (DESCRIPTION.replace("= 3", "= 0"), {}, "test.toml:5: iterations"),
    (DESCRIPTION.replace("scripted", "scriptd"), {}, "test.toml:8: unknown kind of workload 'scriptd'"),
    (DESCRIPTION.replace("[1, 2]", "[2, 2]"), {}, "cores names something twice"),
    (DESCRIPTION + "[[workloads]]\n", {}, "test.toml:9: the workload has no kind"),
    (DESCRIPTION + '[[workloads]]\nkind = "scripted"\n', {}, "scripted is there twice"),
    (DESCRIPTION, {"size": "S"}, "no workload of test has a class"),
    (DESCRIPTION + '[[workloads]]\nkind = "npb-copies"\nclass = "Q"\nbenchmark = "is"\n', {}, "test.toml:11: class"),
    (DESCRIPTION + '[[claims]]\ntext = "x"\nratio = ["one"]\nat_most = 1\n', {}, "ratio[1]' is missing"),
    (DESCRIPTION + '[[workloads]]\nkind = "tcp"\nsecond = 1\n', {}, "test.toml:11: unknown key 'second'"),
    (DESCRIPTION + '[[claims]]\ntext = "x"\nratio = ["one", "two"]\nat_most = 1\n', {}, "unknown system 'two'"),
    (DESCRIPTION + '[[claims]]\ntext = "x"\nratio = ["one", "other"]\n', {}, "needs at_least or at_most"),
    (DESCRIPTION.replace("= 3", "= "), {}, "test.toml:5"),
]


@pytest.mark.parametrize(("text", "wanted", "told"), _BAD, ids=range(len(_BAD)))
def test_a_mistake_is_told_with_its_place(
    text: str, wanted: dict[str, object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as raised:
        staged(monkeypatch, Stage())(text, **wanted)
    assert told in str(raised.value)


def test_a_class_that_does_not_fit_into_a_kernel_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"npb-copies.ft.B on 1 core takes 1073 MiB, and kernel 1 of popcorn has 512 MiB"
    ):
        get_ready(_copies("ft", "B"), Wanted())


def test_an_unknown_experiment_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError) as raised:
        find_description("quik")
    assert "did you mean 'quick'" in raised.value.hint


def _copies(benchmark: str, size: str) -> Source:
    text = (
        'title = "x"\nmachine = "small"\nsystems = ["popcorn"]\ncores = [1]\niterations = 1\n'
        f'[[workloads]]\nkind = "npb-copies"\nbenchmark = "{benchmark}"\nclass = "{size}"\n'
    )
    return Source("x", "x.toml", text)


def test_a_forecast_learns_from_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = staged(monkeypatch, Stage())()
    forecast = Forecast(ready.systems, ready.workloads)
    first, second = Trial("one", "scripted", 1, 1), Trial("one", "scripted", 2, 1)
    job = ready.jobs[0]
    guessed = forecast.of_trial_s(job, second)
    forecast.trial_took(job, first, 10 * forecast.of_trial_s(job, first))
    assert forecast.of_trial_s(job, first) == 10 * guessed
    # What was not seen yet is corrected by how wrong the guesses were.
    assert forecast.of_trial_s(job, second) == 10 * guessed
    # It takes longer with instructions counted.
    assert forecast.of_trial_s(replace(job, counting=True), first) > 15 * guessed


def test_the_quick_look_takes_less_than_five_minutes_on_a_host_that_has_other_work_too() -> None:
    ready = get_ready(find_description("quick"), Wanted())
    forecast = Forecast(ready.systems, ready.workloads)
    # Measured: 1.27 times the forecast beside three other emulators on two cores.
    assert 1.5 * forecast.of_all_s(ready.jobs) < 300


def test_times_are_told_as_people_do() -> None:
    assert [as_time(value) for value in (5.4, 65, 3600, 12345)] == ["5 s", "1 min 05 s", "1 h 00 min", "3 h 25 min"]
