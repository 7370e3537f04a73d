# SPDX-License-Identifier: Apache-2.0
"""Multicast: who has joined a group gets what is sent to it, each message once; who has not gets nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from messages import OWN_ID, answers, assert_both_sides_agree, counters, refusal, send_when_bound

from popcorn.testing import EVERY_SERIES, Everywhere, KernelById

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)


@pytest.fixture
def group(kernels: list[int], kernel: KernelById) -> Iterator[int]:
    """An open group without members."""
    opener = kernel(kernels[0])
    number = int(answers(opener.shell("popcorn-msg group open"))[0]["group"])
    yield number
    # A test may have closed it; then this is refused.
    opener.run(["popcorn-msg", "group", "close", str(number)])


def _join(kernel: KernelById, group: int, members: list[int]) -> None:
    for id in members:
        kernel(id).shell(f"popcorn-msg group join {group}")


def _fan_out(
    everywhere: Everywhere, kernel: KernelById, sender: int, group: int, count: int
) -> tuple[int, dict[int, int]]:
    """Send to a group; how many deliveries the sender was told of, and how many each other kernel counted."""
    before = counters(everywhere)
    delivered = int(answers(kernel(sender).shell(f"popcorn-msg fanout {group} -n {count} -l 20"))[0]["delivered"])
    after = counters(everywhere)
    assert_both_sides_agree(after)
    got = {id: after[id][sender]["rx_bytes"] - before[id][sender]["rx_bytes"] for id in after if id != sender}
    return delivered, {id: number // 20 for id, number in got.items()}


def test_each_member_gets_each_message_once_and_nobody_else_any(
    group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    sender, *members = kernels[1:5]
    _join(kernel, group, members)
    delivered, got = _fan_out(everywhere, kernel, sender, group, 500)
    assert delivered == 500 * len(members)
    assert got == {id: 500 if id in members else 0 for id in kernels if id != sender}


def test_a_member_does_not_get_what_it_sends_itself(
    group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    sender, other = kernels[1], kernels[2]
    _join(kernel, group, [sender, other])
    delivered, got = _fan_out(everywhere, kernel, sender, group, 100)
    assert (delivered, got[other]) == (100, 100)


def test_who_left_gets_no_more(group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere) -> None:
    sender, stays, leaves = kernels[1:4]
    _join(kernel, group, [stays, leaves])
    kernel(leaves).shell(f"popcorn-msg group leave {group}")
    delivered, got = _fan_out(everywhere, kernel, sender, group, 100)
    assert delivered == 100
    assert (got[stays], got[leaves]) == (100, 0)


def test_nobody_gets_what_is_sent_to_another_group(
    group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    sender, one, other = kernels[1:4]
    second = int(answers(kernel(sender).shell("popcorn-msg group open"))[0]["group"])
    try:
        assert second != group
        _join(kernel, group, [one])
        _join(kernel, second, [other])
        assert _fan_out(everywhere, kernel, sender, second, 50)[1][one] == 0
    finally:
        kernel(sender).shell(f"popcorn-msg group close {second}")


def test_processes_of_all_members_get_the_messages_of_each_sender_in_order(
    group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    senders, listeners, count = kernels[1:3], kernels[3:6], 100
    _join(kernel, group, [*senders, *listeners])
    # A member where nobody is bound yet would be passed over: each sender says 0 to each of them first.
    greet = f"for to in {' '.join(map(str, listeners))}; do {send_when_bound('echo 0', '$to 51')}; done >/dev/null"
    told = everywhere(
        f"{OWN_ID}; case $id in "
        f"{'|'.join(map(str, listeners))}) popcorn-msg receive 51 -n {(count + 1) * len(senders)} -t 60;; "
        f"{'|'.join(map(str, senders))}) {greet}; seq 1 {count} | popcorn-msg send {group} 51 -e -g;; esac"
    )
    for id in listeners:
        heard: dict[int, list[int]] = {sender: [] for sender in senders}
        for line in answers(told[id]):
            heard[line["kernel"]].append(int(line["data"]))
        assert heard == {sender: list(range(count + 1)) for sender in senders}, f"kernel {id}"


def test_joining_twice_and_leaving_twice_are_refused(group: int, kernels: list[int], kernel: KernelById) -> None:
    member = kernel(kernels[2])
    _join(kernel, group, [member.id])
    assert "member already" in refusal(member, f"popcorn-msg group join {group}")
    member.shell(f"popcorn-msg group leave {group}")
    assert "no member" in refusal(member, f"popcorn-msg group leave {group}")


@pytest.mark.parametrize(
    "script",
    [
        "popcorn-msg group join {}",
        "popcorn-msg group close {}",
        "popcorn-msg fanout {} -n 1",
        "echo | popcorn-msg send {} 1 -g",
    ],
)
def test_a_closed_group_refuses(script: str, group: int, kernels: list[int], kernel: KernelById) -> None:
    member, other = kernel(kernels[1]), kernel(kernels[2])
    _join(kernel, group, [member.id])
    # Whoever opened it: any kernel closes it.
    other.shell(f"popcorn-msg group close {group}")
    assert "group is not open" in refusal(member, script.format(group))
    assert "group is not open" in refusal(other, script.format(group))


def test_members_of_a_closed_group_are_not_members_when_it_is_opened_again(
    group: int, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    sender, former, member = kernels[1:4]
    _join(kernel, group, [former])
    kernel(sender).shell(f"popcorn-msg group close {group}")
    # The lowest that is free: the same again.
    assert answers(kernel(sender).shell("popcorn-msg group open"))[0]["group"] == group
    _join(kernel, group, [member])
    delivered, got = _fan_out(everywhere, kernel, sender, group, 50)
    assert (delivered, got[former], got[member]) == (50, 0, 50)
