# SPDX-License-Identifier: Apache-2.0
"""A run is called worse when it is, and not when nobody can say."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from experiment_fakes import Stage, staged
from hypothesis import given
from hypothesis import strategies as st
from some_run import manifest

from popcorn.cli.compare import compare as command
from popcorn.errors import UserError
from popcorn.experiment.executor import LocalExecutor
from popcorn.experiment.protocols import Booted, Outcome, Share
from popcorn.experiment.record import begin_record
from popcorn.experiment.runner import take_trials
from popcorn.gate.compare import Verdict, compare
from popcorn.gate.measured import Measured, Point, Samples, read_measured
from popcorn.gate.thresholds import Rule, Thresholds, load_thresholds
from popcorn.run.results import Measurement, Results

_TIME = Point("cg", "popcorn", 4, "time")
_COUNT = Point("cg", "popcorn", 4, "count.page_faults")
_IPIS = Point("cg", "popcorn", 4, "count.message_ipis")


def _run(values: dict[Point, Sequence[float]], *, accel: str = "kvm", name: str = "h") -> Measured:
    host = manifest().host.model_copy(update={"name": name})
    points = {
        point: Samples("s", True, not point.metric.startswith("count."), list(own), list(map(str, range(len(own)))))
        for point, own in values.items()
    }
    return Measured(Path("run"), host, accel, points)


def _verdict(base: Sequence[float], new: Sequence[float], point: Point = _TIME, **rules: object) -> Verdict:
    thresholds = load_thresholds().model_copy(update=rules)
    (found,) = compare(_run({point: base}), _run({point: new}), thresholds).findings
    return found.verdict


def _samples(mean: float, count: int, seed: int, spread: float = 0.03) -> list[float]:
    choose = random.Random(seed)
    return [choose.gauss(mean, spread * mean) for _ in range(count)]


def test_a_time_is_worse_only_if_all_of_its_interval_is() -> None:
    assert _verdict(_samples(1.0, 10, 1), _samples(1.3, 10, 2)) is Verdict.WORSE
    assert _verdict(_samples(1.0, 10, 1), _samples(1.0, 10, 2)) is Verdict.SAME
    assert _verdict(_samples(1.0, 10, 1), _samples(0.7, 10, 2)) is Verdict.BETTER
    assert _verdict(_samples(1.0, 6, 1, 0.5), _samples(1.3, 6, 2, 0.5)) is Verdict.CANNOT_SAY


def test_few_samples_are_no_evidence_of_a_time() -> None:
    assert _verdict([1.0, 1.0, 1.0], [9.0, 9.0, 9.0]) is Verdict.CANNOT_SAY
    assert _verdict([1.0], [9.0]) is Verdict.CANNOT_SAY


def test_what_differs_from_boot_to_boot_is_no_regression() -> None:
    """Within a boot all values are alike, and boots are a tenth apart: thirty samples, three independent ones."""
    base, new = _run({_TIME: [1.0, 1.1, 1.2] * 10}), _run({_TIME: [1.15, 1.25, 1.35] * 10})
    for run in (base, new):
        run.points[_TIME].boots[:] = ["a", "b", "c"] * 10
    rules = Thresholds(rule=(Rule(metric="*", kind="timed", worse=0.02),))
    (found,) = compare(base, new, rules).findings
    assert found.verdict is Verdict.CANNOT_SAY
    blind = Thresholds(rule=(Rule(metric="*", kind="timed", worse=0.02, boots=1),))
    (found,) = compare(base, new, blind).findings
    assert found.verdict is Verdict.WORSE


def test_one_boot_is_no_evidence_of_a_time() -> None:
    run = _run({_TIME: [1.0] * 6})
    run.points[_TIME].boots[:] = ["a"] * 6
    (found,) = compare(run, run, load_thresholds()).findings
    assert (found.verdict, found.why) == (Verdict.CANNOT_SAY, "1 and 1 boots, 3 are needed on both sides")


def test_a_count_needs_one_sample() -> None:
    assert _verdict([10_000], [13_000], _COUNT) is Verdict.WORSE
    assert _verdict([10_000], [10_100], _COUNT) is Verdict.SAME
    assert _verdict([10_000], [7_000], _COUNT) is Verdict.BETTER


def test_a_count_that_depends_on_who_runs_when_needs_three() -> None:
    assert _verdict([1000], [1300], _IPIS) is Verdict.CANNOT_SAY
    assert _verdict([1000, 1010, 990], [1200, 1210, 1190], _IPIS) is Verdict.WORSE
    assert _verdict([1000, 1010, 990], [1010, 990, 1000], _IPIS) is Verdict.SAME


def test_a_count_that_was_zero_has_some_slack() -> None:
    assert _verdict([0], [40], _COUNT) is Verdict.SAME
    assert _verdict([0, 0], [400, 410], _COUNT) is Verdict.WORSE


def test_a_count_whose_samples_show_no_difference_is_not_called_worse() -> None:
    assert _verdict([100, 2000, 900, 1000], [2100, 300, 1500, 1400], _IPIS) is Verdict.CANNOT_SAY


def test_times_of_two_hosts_or_accelerators_and_emulated_ones_are_not_judged() -> None:
    worse = {_TIME: _samples(2.0, 10, 2)}
    base = _run({_TIME: _samples(1.0, 10, 1)})
    for new in (_run(worse, accel="tcg"), _run(worse, name="other")):
        (found,) = compare(base, new, load_thresholds()).findings
        assert (found.verdict, bool(found.why)) == (Verdict.CANNOT_SAY, True)
    emulated = dataclasses.replace(base, accel="tcg")
    (found,) = compare(emulated, _run(worse, accel="tcg"), load_thresholds()).findings
    assert found.verdict is Verdict.CANNOT_SAY
    allowed = load_thresholds().model_copy(update={"emulated_times": True})
    (found,) = compare(emulated, _run(worse, accel="tcg"), allowed).findings
    assert found.verdict is Verdict.WORSE


@pytest.mark.parametrize(
    ("base", "new", "point"),
    [
        ([0.0] * 6, [1.0] * 6, _TIME),
        ([0.0] * 6, [0.0] * 6, _TIME),
        ([-1.0, 1.0] * 3, [1.0] * 6, _TIME),
        ([1.0] * 6, [math.inf] * 6, _TIME),
        ([1.0] * 6, [math.nan] * 6, _TIME),
        ([1.0] * 6, [1e308] * 6, _TIME),
        ([5000], [math.nan], _COUNT),
        ([math.nan], [5000], _COUNT),
        ([math.inf], [5000], _COUNT),
    ],
)
def test_what_has_no_ratio_is_neither_worse_nor_fine(base: list[float], new: list[float], point: Point) -> None:
    (found,) = compare(_run({point: base}), _run({point: new}), load_thresholds()).findings
    assert (found.verdict, bool(found.why)) == (Verdict.CANNOT_SAY, True)
    assert all(value is None or math.isfinite(value) for value in (found.base, found.new, found.ratio))


def test_a_count_below_zero_is_not_worse_than_itself() -> None:
    assert _verdict([-10_000], [-10_000], _COUNT) is Verdict.SAME
    assert _verdict([-10_000], [-8_000], _COUNT) is Verdict.WORSE


def test_two_units_do_not_compare() -> None:
    base, new = _run({_TIME: _samples(1.0, 10, 1)}), _run({_TIME: _samples(1000.0, 10, 2)})
    new.points[_TIME].unit = "ms"
    (found,) = compare(base, new, load_thresholds()).findings
    assert (found.verdict, found.why) == (Verdict.CANNOT_SAY, "the units differ: s before, ms now")


def test_what_fails_now_and_did_not_is_a_regression_and_what_nobody_tried_is_not() -> None:
    base = _run({_TIME: [1.0, 1.0], _IPIS: [5, 5]})
    failed = _run({})
    failed.points[_TIME] = Samples("s", main=True, lost=["hung: no progress"])
    verdicts = {one.point: one.verdict for one in compare(base, failed, load_thresholds()).findings}
    assert verdicts == {_TIME: Verdict.LOST, _IPIS: Verdict.MISSING}
    assert compare(base, _run({}), load_thresholds()).regressions == []


def test_rates_are_worse_when_they_are_less() -> None:
    rules = (Rule(metric="time", kind="timed", worse=0.1, better="more"),)
    assert _verdict(_samples(1.0, 10, 1), _samples(0.7, 10, 2), rule=rules) is Verdict.WORSE
    assert _verdict(_samples(1.0, 10, 1), _samples(1.5, 10, 2), rule=rules) is Verdict.BETTER


def test_equal_runs_are_hardly_ever_called_worse() -> None:
    """40 comparisons of 10 points each without any difference, with a bound of nothing at all."""
    rules = Thresholds(rule=(Rule(metric="*", kind="timed", worse=0.0),))
    blamed = 0
    for seed in range(40):
        choose = random.Random(seed)
        runs = [
            _run({Point(f"w{n}", "s", 1, "time"): [choose.gauss(1, 0.1) for _ in range(5)] for n in range(10)})
            for _ in range(2)
        ]
        blamed += bool(compare(runs[0], runs[1], rules).regressions)
    assert blamed <= 3


@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=7), st.floats(0.5, 2.0))
def test_what_is_worse_one_way_is_never_worse_the_other_way(base: list[float], factor: float) -> None:
    new = [value * factor for value in base]
    assert not (_verdict(base, new) is Verdict.WORSE and _verdict(new, base) is Verdict.WORSE)
    assert _verdict(base, base) is not Verdict.WORSE


def test_the_users_rules_come_first_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('[[rule]]\nmetric = "cg time"\nkind = "told"\nworse = 0\n')
    assert load_thresholds(path).of("cg", "time").kind == "told"  # type: ignore[union-attr]
    assert load_thresholds(path).of("is", "time").kind == "timed"  # type: ignore[union-attr]
    path.write_text('[[rule]]\nmetric = "time"\nkind = "hard"\nworse = 0\n')
    with pytest.raises(UserError, match=r"t\.toml:3"):
        load_thresholds(path)
    with pytest.raises(UserError, match="cannot read the thresholds"):
        load_thresholds(tmp_path / "none.toml")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of an experiment as `popcorn run` records it."""

    def script(booted: Booted, shares: Sequence[Share]) -> Outcome:
        return Outcome("ok", (Measurement("time", 1.0, "s"), Measurement("count.messages", 1000.0, "")))

    ready = staged(monkeypatch, Stage(script))()
    begin_record(ready, "tcg", ["popcorn", "run", "test"], tmp_path / "base")
    take_trials(ready, tmp_path / "base", LocalExecutor(ready, "tcg", tmp_path / "base" / "boots", quiet_s=0.0))
    return tmp_path / "base"


def _worse(recorded: Path) -> Path:
    """The same run, with a tenth more messages."""
    new = recorded.with_name("new")
    shutil.copytree(recorded, new)
    with closing(sqlite3.connect(new / "results.sqlite")) as db:
        db.execute("DROP TRIGGER measurements_stay")
        db.execute("UPDATE measurements SET value = 1100 WHERE metric = 'count.messages'")
        db.commit()
    return new


def test_the_command_ends_with_1_for_a_regression(recorded: Path) -> None:
    new = _worse(recorded)
    fine = CliRunner().invoke(command, [str(recorded), str(recorded)], standalone_mode=False)
    assert fine.return_value == 0
    found = CliRunner().invoke(command, [str(recorded), str(new)], standalone_mode=False)
    assert found.return_value == 1
    # The regressions stand first.
    assert found.output.splitlines()[1].split()[0] == "count.messages"
    assert found.output.splitlines()[1].endswith("worse")
    as_json = json.loads(CliRunner().invoke(command, [str(recorded), str(new), "--json"], standalone_mode=False).output)
    assert as_json["regressions"] == 4
    assert as_json["findings"][0] | {"interval": None} == {
        "metric": "count.messages",
        "workload": "scripted",
        "system": "one",
        "cores": 1,
        "unit": "",
        "kind": "counted",
        "verdict": "worse",
        "regression": True,
        "why": "",
        "base": 1000.0,
        "new": 1100.0,
        "samples": [3, 3],
        "ratio": 1.1,
        "interval": None,
        "may_be_worse_by": 0.01,
    }


def test_runs_with_nothing_in_common_are_not_called_fine(recorded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(recorded, other)
    for file in ("experiment.json", "experiment.toml"):
        path = other / file
        path.write_text(path.read_text(encoding="utf-8").replace("scripted", "another"), encoding="utf-8")
    with closing(sqlite3.connect(other / "results.sqlite")) as db:
        db.execute("DROP TRIGGER trials_stay")
        db.execute("UPDATE trials SET workload = 'another'")
        db.commit()
    done = CliRunner().invoke(command, [str(recorded), str(other)], standalone_mode=False)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"nothing was measured in both {recorded.name} and other"


def test_of_what_ci_left_one_run_is_to_be_named(recorded: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    shutil.copytree(recorded, left / "runs" / "quick" / "1")
    done = CliRunner().invoke(command, [str(left), str(recorded)], standalone_mode=False)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"{left} holds 1 run and is none itself"
    assert done.exception.hint == f"name one:\n  {left / 'runs' / 'quick' / '1'}"


def test_a_rule_that_fits_nothing_is_told(recorded: Path, tmp_path: Path) -> None:
    rules = tmp_path / "t.toml"
    rules.write_text("".join(f'[[rule]]\nmetric = "{name}"\nkind = "told"\nworse = 0\n' for name in ("time", "tiem")))
    words = [str(recorded), str(recorded), "--thresholds", str(rules)]
    found = CliRunner().invoke(command, words, standalone_mode=False)
    assert found.return_value == 0
    assert found.stderr == f"the rule for 'tiem' in {rules} fits nothing that was measured; --all lists what was\n"


@pytest.mark.parametrize("metric", ["msg.ipis.0", "msg.ipis_idle"])
def test_runs_of_bench_are_compared_too(metric: str, tmp_path: Path) -> None:
    for name, ipis in (("base", 0.1), ("new", 0.3)):
        (tmp_path / name).mkdir()
        manifest().save(tmp_path / name)
        with Results(tmp_path / name, "bench messages") as results:
            results.add(*[Measurement(metric, ipis, "IPIs")] * 3, Measurement(metric, 9.0, "IPIs", kernel=3))
    found = compare(read_measured(tmp_path / "base"), read_measured(tmp_path / "new"), load_thresholds())
    assert [(str(one.point), one.verdict) for one in found.findings] == [(f"{metric}, benchmark", Verdict.WORSE)]
