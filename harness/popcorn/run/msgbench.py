# SPDX-License-Identifier: Apache-2.0
"""How fast messages are, against what they can be compared with; all in one boot of one machine, by turns.

Metrics (times in µs, throughput in MB/s; each several times, once a round):

    msg.round_trip, msg.call            medians: a message there and back, a function call on another CPU (and wait)
    msg.round_trip_idle, msg.call_idle  the same after a pause, in which the other side fell asleep
    msg.stage.NAME, msg.stage_idle.NAME medians of the stages of a round trip
    msg.rate.SIZE, msg.stream.SIZE      messages a second and their bytes, one sender, until all were handled
    msg.copy.SIZE                       the same bytes copied in and out at the same time, without protocol
    msg.ipis.SIZE                       IPIs a message meanwhile
    msg.ipis_idle                       IPIs a message that finds the other side asleep: one, however busy the host is
    msg.fanout                          deliveries a second, one sender, all other kernels members
    msg.all_to_all                      messages a second, all kernels to all others at once
    msg.A/B                             ratios within a round
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar, cast

from popcorn.machine.machine import Machine
from popcorn.run.attempt import attempt
from popcorn.run.msgtool import Answer, counters, popcorn_msg, popcorn_msg_everywhere
from popcorn.run.pinning import pin
from popcorn.run.results import Measurement

MACHINE = "small"
POLICY = "0;1;2;4-5"
"""Two kernels of one CPU that exchange messages, and one of two for the function calls."""
SENDER, RECEIVER, SMP = 1, 2, 4
# Those that wait for each other run at the same time.
_PLACES = {SENDER: 0, RECEIVER: 1, SMP: 0, SMP + 1: 1}
STAGES = ("send", "ipi", "handler", "answer", "wake_up")
# Payload bytes to messages a stream: each takes some tenths of a second.
SIZES = {0: 20_000, 32: 20_000, 256: 10_000, 4096: 5_000, 65536: 1_500}

_PINGS = 1_000
_IDLE_PINGS = 200
_PAUSE_US = 2_000
_FANOUT = 2_000
_ALL_TO_ALL = 1_000


A = TypeVar("A")
B = TypeVar("B")


def measure_messages(machine: Machine, repeat: int, *, only: str = "") -> Iterator[list[Measurement]]:
    """Measure all, as often as asked; each round gives its measurements.

    Args:
        only: leave out all parts but the one that tells this metric.

    Raises:
        MachineLostError: the machine is gone.
    """
    pin(machine, _PLACES)
    for number in range(repeat):
        # Who goes first changes, so that drift of the host hits both alike.
        swapped = bool(number % 2)
        parts = [(metrics, part) for metrics, part in _parts(machine, swapped) if not only or only in metrics]
        yield [one for metrics, part in parts for one in attempt(part, metrics, machine.run_dir)]


def metric_names() -> list[str]:
    """What `measure_messages` can be asked for."""
    # No part is run, so that none needs a machine.
    return [name for metrics, _ in _parts(cast(Machine, None), False) for name in metrics]


Part = Callable[[], list[Measurement]]


def _parts(machine: Machine, swapped: bool) -> Iterator[tuple[Mapping[str, str], Part]]:
    """What a round consists of: each part, and the metrics that there is no value of if it fails."""
    for kind, count, pause_us in (("", _PINGS, 0), ("_idle", _IDLE_PINGS, _PAUSE_US)):
        counted = {"msg.ipis_idle": "IPIs"} if pause_us else {}
        yield (
            {f"msg.round_trip{kind}": "µs", f"msg.round_trip{kind}/call{kind}": "x", **counted},
            partial(_latency, machine, kind, count, pause_us, swapped),
        )
    for size, count in SIZES.items():
        ratio = {f"msg.stream/copy.{size}": "x"} if size else {}
        yield (
            {f"msg.rate.{size}": "/s", f"msg.ipis.{size}": "IPIs", **ratio},
            partial(_throughput, machine, size, count, swapped),
        )
    yield {"msg.fanout": "/s"}, lambda: [_fan_out(machine)]
    yield {"msg.all_to_all": "/s"}, lambda: [_all_to_all(machine)]


def _by_turns(one: Callable[[], A], other: Callable[[], B], swapped: bool) -> tuple[A, B]:
    if swapped:
        second = other()
        return one(), second
    return one(), other()


def _latency(machine: Machine, kind: str, count: int, pause_us: int, swapped: bool) -> list[Measurement]:
    words = ("-n", count, "-i", pause_us)
    callee = 1
    (ping, ipis), call = _by_turns(
        lambda: _with_ipis(machine, "ping", RECEIVER, *words),
        lambda: popcorn_msg(machine, SMP, "call", callee, *words)[0],
        swapped,
    )
    # Between those that are awake it is a matter of batching.
    counted = [ipis_measurement(ipis, count)] if pause_us else []
    return [*latency_measurements(kind, ping, call), *counted]


def ipis_measurement(ipis: int, pings: int) -> Measurement:
    """What the IPIs tell that a kernel sent with so many pings of one that slept."""
    return Measurement("msg.ipis_idle", ipis / pings, "IPIs")


def latency_measurements(kind: str, ping: Answer, call: Answer) -> list[Measurement]:
    """What a ping and the calls beside it tell."""
    trip, called = (_median_us(one, "round_trip") for one in (ping, call))
    found = [
        Measurement(f"msg.round_trip{kind}", trip, "µs"),
        Measurement(f"msg.call{kind}", called, "µs"),
        Measurement(f"msg.round_trip{kind}/call{kind}", trip / called, "x"),
    ]
    for stage in STAGES:
        # Most round trips of a busy pair need no IPI: then it is no stage of theirs.
        usual = 2 * ping[stage]["count"] > ping["round_trip"]["count"]
        found.append(Measurement(f"msg.stage{kind}.{stage}", _median_us(ping, stage) if usual else 0.0, "µs"))
    return found


def _median_us(answer: Answer, name: str) -> float:
    return float(answer[name]["median"]) / 1e3


def _throughput(machine: Machine, size: int, count: int, swapped: bool) -> list[Measurement]:
    words = (RECEIVER, "-n", count, "-l", size)
    if not size:
        return throughput_measurements(size, *_with_ipis(machine, "stream", *words), None)
    streamed, copied = _by_turns(
        lambda: _with_ipis(machine, "stream", *words), lambda: popcorn_msg(machine, SENDER, "copy", *words)[0], swapped
    )
    return throughput_measurements(size, *streamed, copied)


def _with_ipis(machine: Machine, *words: str | int) -> tuple[Answer, int]:
    """What the sender tells of its messages to the receiver, and the IPIs that it sent it meanwhile."""
    before = counters(machine, SENDER, RECEIVER)
    answer = popcorn_msg(machine, SENDER, *words)[0]
    return answer, counters(machine, SENDER, RECEIVER)["ipis_sent"] - before["ipis_sent"]


def throughput_measurements(size: int, stream: Answer, ipis: int, copy: Answer | None) -> list[Measurement]:
    """What a stream, the IPIs it took and the copies beside it tell."""
    rate = _per_s(stream)
    found = [
        Measurement(f"msg.rate.{size}", rate, "/s"),
        Measurement(f"msg.ipis.{size}", ipis / stream["delivered"], "IPIs"),
    ]
    if copy is not None:
        bare = _per_s(copy)
        found += [
            Measurement(f"msg.stream.{size}", rate * size / 1e6, "MB/s"),
            Measurement(f"msg.copy.{size}", bare * size / 1e6, "MB/s"),
            Measurement(f"msg.stream/copy.{size}", rate / bare, "x"),
        ]
    return found


def _per_s(answer: Answer) -> float:
    return float(answer["delivered"] * 1e9 / answer["ns"])


def _fan_out(machine: Machine) -> Measurement:
    group = popcorn_msg(machine, SENDER, "group", "open")[0]["group"]
    try:
        popcorn_msg_everywhere(machine, "group", "join", group)
        answer = popcorn_msg(machine, SENDER, "fanout", group, "-n", _FANOUT)[0]
    finally:
        popcorn_msg(machine, SENDER, "group", "close", group)
    return Measurement("msg.fanout", _per_s(answer), "/s")


def _all_to_all(machine: Machine) -> Measurement:
    found = popcorn_msg_everywhere(machine, "stream", "all", "-n", _ALL_TO_ALL)
    return all_to_all_measurement(found, machine.tsc_khz())


def all_to_all_measurement(found: dict[int, list[Answer]], tsc_khz: int | None) -> Measurement:
    """All messages over the time from the first one's begin to the last one's end, by the clock that all share."""
    lines = [line for answers in found.values() for line in answers]
    cycles = max(line["end_tsc"] for line in lines) - min(line["begin_tsc"] for line in lines)
    if not tsc_khz:
        return Measurement("msg.all_to_all", None, "/s", status="void")
    total = sum(line["delivered"] for line in lines)
    return Measurement("msg.all_to_all", total * tsc_khz * 1e3 / cycles, "/s")
