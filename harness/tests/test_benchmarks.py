# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of messages and network: answers read, ratios, goals, and their part of the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from some_run import manifest

from popcorn.cli.bench_options import tell
from popcorn.errors import CheckFailed, GuestError, MachineLostError
from popcorn.guest.finished import Finished
from popcorn.report.benchtables import bench_tables
from popcorn.report.page import render, summed_up
from popcorn.run import iperf, msgbench, msgtool, netbench
from popcorn.run.attempt import FAILURES_FILE, attempt
from popcorn.run.goals import GOALS, judge, samples
from popcorn.run.results import Measurement

_COUNTERS = "kernel reachable tx_msgs ipis_sent\n0 1 5 1\n2 1 700 3\n"


def _series(median: float, count: int = 100) -> dict[str, float]:
    return {"count": count, "median": median} if count else {"count": 0}


def _ping(trip_ns: float, ipis: int) -> msgtool.Answer:
    stages = {stage: _series(1000.0) for stage in msgbench.STAGES}
    return {**stages, "ipi": _series(9000.0, ipis), "round_trip": _series(trip_ns)}


def _finished(stdout: str, status: int = 0, stderr: str = "") -> Finished:
    return Finished(("popcorn-msg", "ping", "2"), status, stdout.encode(), stderr.encode())


def _values(found: list[Measurement]) -> dict[str, float | None]:
    return {one.metric: one.value for one in found}


def test_answers_are_an_object_a_line() -> None:
    assert msgtool.answers(1, _finished('{"a": 1}\n{"b": 2}\n')) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (_finished("", 1, "popcorn-msg: ping: the kernel went away"), "status 1: popcorn-msg: ping"),
        (_finished("{"), "no JSON"),
        (_finished(""), "no objects"),
        (_finished("7\n"), "no objects"),
    ],
)
def test_what_is_no_answer_is_told_with_kernel_and_command(done: Finished, told: str) -> None:
    with pytest.raises(GuestError, match=told) as raised:
        msgtool.answers(1, done)
    assert "popcorn-msg ping 2 in kernel 1" in str(raised.value)


def test_counters_of_one_other_kernel_are_found_by_name() -> None:
    assert msgtool.parse_counters(_COUNTERS, 1, 2) == {"kernel": 2, "reachable": 1, "tx_msgs": 700, "ipis_sent": 3}
    with pytest.raises(GuestError, match="nothing of kernel 3"):
        msgtool.parse_counters(_COUNTERS, 1, 3)


def test_a_round_trip_is_compared_with_the_call_of_the_same_round() -> None:
    found = _values(msgbench.latency_measurements("", _ping(30_000.0, 100), {"round_trip": _series(20_000.0)}))
    assert (found["msg.round_trip"], found["msg.call"], found["msg.round_trip/call"]) == (30.0, 20.0, 1.5)
    assert found["msg.stage.ipi"] == 9.0


@pytest.mark.parametrize("ipis", [0, 50])
def test_an_ipi_that_most_round_trips_need_not_is_no_stage(ipis: int) -> None:
    found = _values(msgbench.latency_measurements("_idle", _ping(30_000.0, ipis), {"round_trip": _series(20_000.0)}))
    assert found["msg.stage_idle.ipi"] == 0.0
    assert found["msg.stage_idle.answer"] == 1.0


def test_a_stream_is_compared_with_the_copies_of_the_same_round() -> None:
    stream, copy = ({"delivered": 1000, "ns": ns} for ns in (2_000_000, 1_000_000))
    found = _values(msgbench.throughput_measurements(4096, stream, 125, copy))
    assert found["msg.rate.4096"] == 500_000
    assert found["msg.stream.4096"] == 2048.0
    assert found["msg.stream/copy.4096"] == 0.5
    assert found["msg.ipis.4096"] == 0.125
    assert "msg.stream/copy.0" not in _values(msgbench.throughput_measurements(0, stream, 1, None))


def test_all_to_all_counts_from_the_first_begin_to_the_last_end() -> None:
    lines = {
        1: [{"delivered": 10, "begin_tsc": 1000, "end_tsc": 1500}],
        2: [{"delivered": 20, "begin_tsc": 1400, "end_tsc": 3000}],
    }
    assert msgbench.all_to_all_measurement(lines, 1000).value == 30 * 1_000_000 / 2000
    assert msgbench.all_to_all_measurement(lines, None).status == "void"


def test_the_receivers_figure_counts() -> None:
    told = {"end": {"sum_sent": {"bits_per_second": 9e9}, "sum_received": {"bits_per_second": 3e9}}}
    assert iperf.received_bits_per_second(_finished(json.dumps(told)), "kernel 1") == 3e9


@pytest.mark.parametrize(
    ("stdout", "told"),
    [
        ('{"error": "unable to connect"}', "unable to connect"),
        ('{"end": {}}', "no answer"),
        ("", "it said nothing"),
    ],
)
def test_a_failed_iperf_is_told(stdout: str, told: str) -> None:
    with pytest.raises(GuestError, match=told):
        iperf.received_bits_per_second(_finished(stdout, 1), "kernel 1")


def test_iperf_is_asked_again_while_its_server_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iperf.time, "sleep", lambda _: None)
    said = iter(['{"error": "the server is busy"}', json.dumps({"end": {"sum_received": {"bits_per_second": 1.0}}})])
    assert iperf.throughput(lambda argv, timeout_s: _finished(next(said)), "127.0.0.1", 1, "kernel 1") == 1.0


def test_addresses_follow_from_kernel_ids() -> None:
    assert [netbench._address(id) for id in (0, 47, 255)] == ["10.80.0.1", "10.80.0.48", "10.80.1.0"]


def test_a_goal_is_judged_by_the_median_of_all_rounds() -> None:
    found = [Measurement("msg.round_trip/call", value, "x") for value in (9.0, 1.5, 1.0)]
    found += [Measurement("net.pcn/virtio", 2.9, "x"), Measurement("net.pcn/lo", None, "x", status="void")]
    verdicts = {one.goal.metric: one.met for one in judge(found)}
    assert verdicts == {"msg.round_trip/call": True, "net.pcn/virtio": False, "net.pcn/lo": False}


def test_every_goal_is_of_something_that_is_measured() -> None:
    stream = {"delivered": 1, "ns": 1}
    found = msgbench.latency_measurements("", _ping(1.0, 1), {"round_trip": _series(1.0)})
    for size in msgbench.SIZES:
        found += msgbench.throughput_measurements(size, stream, 0, stream if size else None)
    found += _round({"pcn": 1.0, "lo": 1.0, "virtio": 1.0})
    assert all(samples(found, goal.metric) for goal in GOALS)


def _round(gbit_per_s: dict[str, float]) -> list[Measurement]:
    return netbench.with_ratios([Measurement(f"net.{path}", value, "Gbit/s") for path, value in gbit_per_s.items()])


def _all_measurements() -> list[Measurement]:
    stream = {"delivered": 1000, "ns": 1_000_000}
    found: list[Measurement] = []
    for _ in range(2):
        for kind in ("", "_idle"):
            found += msgbench.latency_measurements(kind, _ping(30_000.0, 9), {"round_trip": _series(2_000.0)})
        for size in msgbench.SIZES:
            found += msgbench.throughput_measurements(size, stream, 0, stream if size else None)
        found += [Measurement("msg.fanout", 5.0, "/s"), Measurement("msg.all_to_all", None, "/s", status="void")]
        found += _round({"pcn": 6.0, "lo": 4.0, "virtio": 1.0})
    return found


def test_the_report_has_goals_and_plots() -> None:
    page = render(manifest(), _all_measurements(), "a run")
    for text in ("Round trips by stage", "Throughput by size", "TCP"):
        assert f"<h2>{text}</h2>" in page
    assert '<td class="figure">1.50 (1.00-2.00)</td>' in render(
        manifest(), [Measurement("msg.call", value, "µs") for value in (1.0, 2.0)], "a run"
    )
    assert page.count('<span class="bad">no</span>') == 1
    assert "by turns" not in render(manifest(), [], "a run")


def test_what_was_measured_several_times_is_one_line_of_the_report() -> None:
    found = [Measurement("m", 1.0, "s"), Measurement("m", 3.0, "s"), Measurement("m", None, "s", status="void")]
    assert [(one.value, one.status, one.times) for one in summed_up([*found, Measurement("m", 9.0, "s", 1)])] == [
        ("2.00 (1.00-3.00)", "ok", 2),
        ("", "void", 1),
    ]


def _failing() -> list[Measurement]:
    raise GuestError("kernel 2 went away")


def test_a_part_that_fails_leaves_its_metrics_without_value_and_a_reason(tmp_path: Path) -> None:
    assert attempt(lambda: [Measurement("m", 1.0, "s")], {"m": "s"}, tmp_path) == [Measurement("m", 1.0, "s")]
    assert not (tmp_path / FAILURES_FILE).exists()
    failed = attempt(_failing, {"m": "s", "n": "x"}, tmp_path)
    assert [(one.metric, one.status, one.raw) for one in failed] == [
        ("m", "failed", FAILURES_FILE),
        ("n", "failed", FAILURES_FILE),
    ]
    assert (tmp_path / FAILURES_FILE).read_text() == "m, n: kernel 2 went away\n"


def test_a_machine_that_is_gone_is_not_measured_any_further(tmp_path: Path) -> None:
    def lost() -> list[Measurement]:
        raise MachineLostError("it is gone")

    with pytest.raises(MachineLostError):
        attempt(lost, {"m": "s"}, tmp_path)


def test_a_ratio_to_a_path_that_failed_is_void() -> None:
    failed = Measurement("net.lo", None, "Gbit/s", status="failed")
    found = netbench.with_ratios([Measurement("net.pcn", 6.0, "Gbit/s"), failed, Measurement("net.virtio", 2.0, "x")])
    assert [(one.metric, one.value, one.status) for one in found[3:]] == [
        ("net.pcn/lo", None, "void"),
        ("net.pcn/virtio", 3.0, "ok"),
    ]


def test_tables_have_a_row_for_each_size_and_path_with_a_dash_where_nothing_was_found() -> None:
    latency, throughput, many, network, goals = bench_tables(_all_measurements())
    assert latency.rows[0] == ("round trip", "30.0", "30.0")
    assert [row[0] for row in throughput.rows] == ["0 bytes", "32 bytes", "256 bytes", "4 KiB", "64 KiB"]
    assert throughput.rows[0][1:] == ("1000", "-", "-", "-", "0")
    assert many.rows[1] == ("all to all others at once", "-")
    assert network.rows[1] == ("inside one kernel, lo", "4.00", "1.50")
    assert goals.rows[0][1:] == ("15.0", "≤ 1.5", "NO")


def test_a_missed_goal_is_told_and_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = [one for one in _all_measurements() if one.status == "ok"]
    tell(found, tmp_path / "report.html", as_json=False)
    assert "1 of 7 goals missed" in capsys.readouterr().out
    tell(found, tmp_path / "report.html", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [one["metric"] for one in told["goals"] if not one["met"]] == ["msg.round_trip/call"]
    assert len(told["measurements"]) == len(found)


def test_measurements_that_failed_are_told_after_all_others_and_change_the_exit_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = _all_measurements()
    with pytest.raises(CheckFailed, match=f"2 of {len(found)} measurements have no value: msg.all_to_all$"):
        tell(found, tmp_path / "report.html", as_json=False)
    assert "report: " in capsys.readouterr().out
