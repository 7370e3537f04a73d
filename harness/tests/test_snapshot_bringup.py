# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from popcorn.errors import DiskFullError, HostError, HostMemoryError, PopcornError
from popcorn.snapshot import bringup, shelf
from popcorn.snapshot.inputs import Inputs

INPUTS = Inputs(1, "7.2.0", "cpu", "tcg", ("-m", "1G"), "keys", "plan", {"0": "kernel"}, {})


@pytest.fixture
def snapshot() -> Path:
    """An automatic one, which nobody reads here."""
    with shelf.writing(INPUTS.key, "automatic") as out:
        assert out is not None
        out.write(b"popcorn")
    return shelf.path_of(INPUTS.key, "automatic")


def _failing(error: PopcornError) -> Callable[..., None]:
    def restore(*_: object, **__: object) -> None:
        raise error

    return restore


def _restored() -> object:
    return bringup._restored(INPUTS, name="x", tied=True, run_dir=None, keep_memory=False, stall_s=1.0)


@pytest.mark.parametrize("error", [HostMemoryError("no memory"), DiskFullError("no room")])
def test_a_host_that_has_no_room_for_a_machine_does_not_cost_it_its_snapshot(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, error: PopcornError
) -> None:
    monkeypatch.setattr(bringup, "restore", _failing(error))
    with pytest.raises(type(error)):
        _restored()
    assert snapshot.exists()


def test_a_snapshot_from_which_no_machine_goes_on_is_removed(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "restore", _failing(HostError("QEMU refused")))
    assert _restored() is None
    assert not snapshot.exists()
