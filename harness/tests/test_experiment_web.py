# SPDX-License-Identifier: Apache-2.0
"""nginx asked by ApacheBench: what it says, what counts as an answer, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from experiment_fakes import FakeBooted, Stage, staged

from popcorn.config import load_machine
from popcorn.errors import GuestError
from popcorn.experiment.executor import LocalExecutor
from popcorn.experiment.protocols import Booted, Kernel, Outcome, Setting, Share
from popcorn.experiment.record import begin_record
from popcorn.experiment.runner import take_trials
from popcorn.experiment.systems import SYSTEMS
from popcorn.experiment.workloads.web import PERCENTILE, Web, WebOptions
from popcorn.guest.finished import Finished
from popcorn.report.distribution import curves, draw_distribution
from popcorn.report.experiment import write_experiment_report
from popcorn.report.points import read_run
from popcorn.run import web
from popcorn.run.results import Measurement

_SAID = """\
Benchmarking 10.80.0.2 (be patient).....done

Concurrency Level:      100
Time taken for tests:   2.5 seconds
Complete requests:      {complete}
Failed requests:        {failed}
{more}Requests per second:    400.03 [#/sec] (mean)

Percentage served,Time in ms
"""


def _said(complete: int = 1000, failed: int = 0, more: str = "", percents: int = 101, status: int = 0) -> Finished:
    rows = "".join(f"{percent},{percent * 1.5 + 3:.3f}\n" for percent in range(percents))
    text = _SAID.format(complete=complete, failed=failed, more=more) + rows
    return Finished(("ab",), status, text.encode(), b"Connection reset by peer" if status else b"")


class _Client:
    def __init__(self, done: Finished) -> None:
        self.done = done
        self.asked: list[Sequence[str]] = []

    def address(self, kernel: Kernel) -> str:
        return f"10.0.0.{kernel.id}"

    def run(self, argv: Sequence[str], timeout_s: float) -> Finished:
        self.asked.append(argv)
        return self.done


class _Looking(FakeBooted):
    """Its kernels count the looks at them."""

    looks = 0

    def run(self, commands: object, timeout_s: float) -> dict[int, Finished]:
        self.looks += 1
        return {3: Finished((), 0, f"@@ /proc/stat\nctxt {self.looks * 100}\n".encode(), b"")}


def _measured(done: Finished) -> tuple[Outcome, _Client]:
    kernel = Kernel(3, 1, 1 << 30, "x")
    booted = _Looking([kernel], Stage())
    booted.client = client = _Client(done)
    return Web(1000, 100).measure(booted, [Share(kernel, 1)], 60), client


@pytest.mark.parametrize("percents", [100, 101])
def test_response_times_and_rate_are_read(percents: int) -> None:
    answer = web.read_answer(_said(percents=percents))
    assert (answer.complete, answer.failed, answer.seconds, answer.per_second) == (1000, 0, 2.5, 400.03)
    assert len(answer.times_ms) == 100
    assert answer.times_ms[50] == 78.0


def test_an_answer_without_an_end_is_none() -> None:
    with pytest.raises(ValueError, match="97"):
        web.read_answer(_said(percents=98))


def test_a_trial_gives_times_and_counts_of_the_kernel_that_was_asked() -> None:
    outcome, client = _measured(_said())
    values = {one.metric: one.value for one in outcome.measurements}
    assert values["median_response"] == values["response.p50"] == 78.0
    assert values["count.context_switches"] == 100
    assert list(client.asked[0][-3:]) == ["1000", "100", "10.0.0.3"]


@pytest.mark.parametrize(
    ("done", "status"),
    [
        (_said(failed=3), "void"),
        (_said(more="Non-2xx responses:      7\n"), "void"),
        (_said(complete=999), "void"),
        (_said(status=104), "failed"),
        (Finished(("ab",), 0, b"", b""), "failed"),
        (Finished(("ab",), 124, b"", b""), "hung"),
    ],
)
def test_what_was_not_served_is_no_measurement(done: Finished, status: str) -> None:
    outcome, _ = _measured(done)
    assert outcome.status == status
    assert not outcome.measurements
    assert outcome.reason


def test_a_system_without_a_client_is_told() -> None:
    kernel = Kernel(3, 1, 1 << 30, "x")
    with pytest.raises(GuestError, match="without a client"):
        Web(1000, 100).measure(FakeBooted([kernel], Stage()), [Share(kernel, 1)], 60)


def test_classes_are_numbers_of_requests() -> None:
    options = WebOptions.model_validate({"class": "S", "concurrency": [10, 20]})
    assert [(one.name, tuple(one.cores([1, 2, 4]))) for one in options.workloads()] == [
        ("web.1000.c10", (1,)),
        ("web.1000.c20", (1,)),
    ]


@pytest.mark.parametrize("system", ["popcorn", "smp", "vm"])
def test_a_client_is_one_more_machine(system: str) -> None:
    alone = SYSTEMS[system](Setting("x", load_machine("small"), "6.12", 2)).machine_names
    asked = SYSTEMS[system](Setting("x", load_machine("small"), "6.12", 2, client=True)).machine_names
    assert list(asked) == [*alone, "x-client"]


def test_the_figure_has_a_line_for_each_system(tmp_path: Path) -> None:
    curve = {percent: [1.0 + percent, 2.0 + percent] for percent in range(100)}
    drawing = draw_distribution({"Popcorn": curve, "SMP Linux": curve})
    assert len(drawing.figure.axes[0].lines) == 2
    drawing.write(tmp_path / "figure")
    assert "<svg" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_the_report_draws_who_was_served_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(booted: Booted, shares: Sequence[Share]) -> Outcome:
        percentiles = [Measurement(f"{PERCENTILE}{percent}", 1.0 + percent, "ms") for percent in range(100)]
        return Outcome("ok", (Measurement("time", 51.0, "s"), *percentiles))

    ready = staged(monkeypatch, Stage(script))()
    begin_record(ready, "tcg", ["popcorn", "run", "test"], tmp_path)
    take_trials(ready, tmp_path, LocalExecutor(ready, "tcg", tmp_path / "boots", quiet_s=0.0))
    page = write_experiment_report([tmp_path]).read_text(encoding="utf-8")
    assert "the shades reach from the shortest to the longest" in page
    assert "the dots beside them are the samples" not in page
    data = read_run(tmp_path)
    shown = curves(data, data.record.workloads[0])
    assert list(shown) == ["system one", "system other"]
    # Of each percentage the three iterations with one core, and those with two.
    assert {percent: len(times) for percent, times in shown["system one"].items()} == dict.fromkeys(range(100), 6)
