# SPDX-License-Identifier: Apache-2.0
"""What the recorder saw of each kernel from outside, and how the machine ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_ON_REQUEST = ("down", "the command that started it ended", "the supervisor got ")
_RESET = "the primary rebooted"
_POWER_OFF = "the primary powered the machine off"
UNTOLD_END = "its supervisor was killed, or the host went down"


@dataclass(frozen=True)
class Facts:
    """One life of a kernel, as its slot said last. Times are the host's clock (Unix time)."""

    id: int
    primary: bool = False
    state: str = "none"
    stage: str = "none"
    generation: int = 0
    reason: str = ""
    loaded_at_s: float = 0.0
    changed_at_s: float = 0.0
    health: str = ""
    """What the supervisor made of its heartbeat last; see `machine.progress`."""
    health_note: str = ""
    slow: tuple[tuple[float, float], ...] = field(default=())
    """When the host gave its CPUs too little time."""
    launch_failure: str = ""
    """What the primary says of an attempt to launch it."""


@dataclass(frozen=True)
class End:
    """How a machine ended."""

    reason: str
    at_s: float = 0.0

    @property
    def on_request(self) -> bool:
        return self.reason.startswith(_ON_REQUEST)

    @property
    def reset(self) -> bool:
        """Whether a kernel reset the machine; which one, nobody sees from outside."""
        return self.reason.startswith(_RESET)

    @property
    def powered_off(self) -> bool:
        return self.reason.startswith(_POWER_OFF)

    @property
    def infrastructure(self) -> bool:
        """Whether it is no kernel's doing."""
        return not (self.on_request or self.reset or self.powered_off or self.reason == "the primary panicked")


def facts_of(events: Iterable[Mapping[str, Any]], ids: Sequence[int], primary: int) -> dict[int, list[Facts]]:
    """What recorded events tell of each life of each kernel, the latest last; of kernels beyond ``ids`` too."""
    lives = {id: [Facts(id, primary=id == primary)] for id in ids}
    for event in events:
        id, at_s = event.get("kernel"), float(event.get("t", 0.0))
        if not isinstance(id, int):
            continue
        known = lives.setdefault(id, [Facts(id)])
        if event["event"] == "kernel":
            changed = {name: event[name] for name in ("state", "stage", "generation", "reason") if name in event}
            if "generation" in changed:
                changed["loaded_at_s"] = at_s
                if known[-1].generation:
                    known.append(Facts(id, primary=id == primary))
            known[-1] = replace(known[-1], changed_at_s=at_s, **changed)
        elif event["event"] == "health":
            known[-1] = _with_health(known[-1], event, at_s)
    return lives


def _with_health(seen: Facts, event: Mapping[str, Any], at_s: float) -> Facts:
    health = str(event.get("health", ""))
    slow = seen.slow
    if health == "slow":
        slow = (*slow, (at_s - float(event.get("still_s", 0.0)), at_s))
    elif seen.health == "slow" and slow:
        slow = (*slow[:-1], (slow[-1][0], at_s))
    return replace(seen, health=health, health_note=str(event.get("note", "")), slow=slow)


def end_of(events: Iterable[Mapping[str, Any]], *, live: bool) -> End | None:
    """How the machine ended; None while it is up."""
    for event in events:
        if event.get("event") == "ended":
            return End(str(event.get("reason", "")), float(event.get("t", 0.0)))
    return None if live else End(UNTOLD_END)
