# SPDX-License-Identifier: Apache-2.0
"""One command at a time changes who owns what on a machine."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from popcorn.errors import MachineLostError, UserError
from popcorn.machine.changing import changing
from popcorn.machine.machine import Machine


@dataclass
class _Machine:
    folder: Path
    lives: bool = True
    refreshed: list[str] = field(default_factory=list)
    name: str = "made"

    @property
    def record(self) -> SimpleNamespace:
        return SimpleNamespace(directory=self.folder)

    def refresh(self) -> None:
        self.refreshed.append("")

    def alive(self) -> bool:
        return self.lives

    def lost(self) -> MachineLostError:
        return MachineLostError("it is gone")


def _machine(folder: Path, *, lives: bool = True) -> Machine:
    return cast("Machine", _Machine(folder, lives))


def test_the_second_waits_until_the_first_has_done_and_reads_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    waiting, second = threading.Event(), _machine(tmp_path)
    second.alive = lambda: waiting.set() or True  # type: ignore[method-assign,func-returns-value]

    def then() -> None:
        with changing(second, "stop 5"):
            done.append("second")

    with changing(_machine(tmp_path), "repartition --policy per-core"):
        thread = threading.Thread(target=then)
        thread.start()
        assert waiting.wait(10)
        assert cast("_Machine", second).refreshed == []
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]
    assert cast("_Machine", second).refreshed == [""]
    assert "waiting for `popcorn repartition --policy per-core` (process " in capsys.readouterr().err


def test_one_that_does_not_end_is_named(tmp_path: Path) -> None:
    with (
        changing(_machine(tmp_path), "stop 5"),
        pytest.raises(
            UserError, match=r"`popcorn stop 5` \(process \d+\) has been changing the machine 'made' for 0 s"
        ),
        changing(_machine(tmp_path), "start 5", patience_s=0),
    ):
        raise AssertionError("both at once")


def test_nobody_waits_for_a_machine_that_is_gone(tmp_path: Path) -> None:
    with (
        changing(_machine(tmp_path), "stop 5"),
        pytest.raises(MachineLostError),
        changing(_machine(tmp_path, lives=False), "start 5"),
    ):
        raise AssertionError("both at once")


def test_who_fails_is_waited_for_no_longer(tmp_path: Path) -> None:
    with pytest.raises(UserError), changing(_machine(tmp_path), "stop 5"):
        raise UserError("no such kernel")
    with changing(_machine(tmp_path), "start 5", patience_s=0):
        pass
