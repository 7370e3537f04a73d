# SPDX-License-Identifier: Apache-2.0
"""Mixed traffic between all kernels for minutes, watched by lockdep, KASAN and their like."""

from __future__ import annotations

import os

import pytest
from debugging import needs_debug, reports
from messages import answers, assert_both_sides_agree, counters, gained, inbox

from popcorn.machine.machine import Machine
from popcorn.testing import Everywhere, Kernel, KernelById

pytestmark = [needs_debug, pytest.mark.machine("small", policy="per-core", flavour="debug", scratch=True)]

_SOAK_S = int(os.environ.get("POPCORN_SOAK_S", "180"))
_GRACE_S = 240.0
_FILE_BYTES = 300_000

# Until the time is over: messages of all lengths to all, calls, a group, frames of all lengths, and TCP.
_TRAFFIC = """
busybox httpd -p 80 -h /tmp/www
end=$(($(busybox cut -d. -f1 /proc/uptime) + {seconds})); rounds=0
while [ $(busybox cut -d. -f1 /proc/uptime) -lt $end ]; do
    rounds=$((rounds + 1)); length=$(((rounds * 7919 + {id} * 104729) % 60000))
    for peer in $(echo {peers} | busybox tr " " "\\n" | busybox shuf); do
        popcorn-msg stream $peer -n 20 -l $length >/dev/null || exit 1
        popcorn-msg ping $peer -n 10 -l $((length % 3000)) >/dev/null || exit 1
        popcorn-msg ping $peer -n 5 -H >/dev/null || exit 1
        address=10.80.0.$((peer + 1))
        busybox ping -q -c 2 -i 0.1 -W 60 -s $((length % 1400)) $address >/dev/null || exit 1
        sum=$(busybox wget -q -O - http://$address/file | busybox sha256sum)
        [ "$sum" = "{sum}" ] || {{ echo "from kernel $peer: $sum" >&2; exit 1; }}
    done
    popcorn-msg fanout {group} -n 10 -l 500 >/dev/null || exit 1
done
echo $rounds
"""


def test_mixed_traffic_leaves_no_report_and_counters_that_agree(
    machine: Machine, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    group = answers(kernel(kernels[0]).shell("popcorn-msg group open"))[0]["group"]
    everywhere(f"popcorn-msg group join {group}")
    made = f"mkdir -p /tmp/www; busybox yes popcorn | busybox head -c {_FILE_BYTES} >/tmp/www/file"
    (sum,) = set(everywhere(f"{made}; busybox sha256sum </tmp/www/file").values())

    # What an earlier test overwrote is none of this one's.
    before, corrupt = counters(everywhere), _corrupt(everywhere)
    rounds = _soak(machine, [kernel(id) for id in kernels], group, sum.strip())

    assert all(done > 0 for done in rounds.values()), rounds
    assert_both_sides_agree(gained(before, counters(everywhere)))
    assert _corrupt(everywhere) == corrupt
    assert reports(machine, kernels) == {}


def _corrupt(everywhere: Everywhere) -> dict[int, int]:
    """Messages that were found damaged, by kernel."""
    return {id: inbox(text)["corrupt"] for id, text in everywhere("cat /proc/popcorn/inbox").items()}


def _soak(machine: Machine, kernels: list[Kernel], group: int, sum: str) -> dict[int, int]:
    """Rounds that each kernel did."""
    scripts = {
        one.id: _TRAFFIC.format(
            seconds=_SOAK_S,
            id=one.id,
            peers=" ".join(str(other.id) for other in kernels if other is not one),
            group=group,
            sum=sum,
        )
        for one in kernels
    }
    for one in kernels:
        done = one.run(["sh", "-c", "cat >/tmp/soak <<'END'\n" + scripts[one.id] + "END"])
        assert done.status == 0, done.stderr_text
    answers_of = machine.exec_all(["sh", "/tmp/soak"], timeout_s=_SOAK_S + _GRACE_S)
    for id, done in answers_of.items():
        assert done.status == 0, f"kernel {id}: {done.stdout_text}{done.stderr_text}"
    return {id: int(done.stdout_text) for id, done in answers_of.items()}
