# SPDX-License-Identifier: Apache-2.0
"""The launcher's environment: whole or not there; pip is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from popcorn.errors import HostError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import launch

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace venv and pip; the list says what pip does: ok, fail or interrupt."""
    behaviour = ["ok"]
    real = subprocess.run

    def run(argv: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        if "venv" in argv:
            place = Path(argv[-1])
            (place / "bin").mkdir(parents=True)
            (place / "bin" / "python").symlink_to(sys.executable)
            (place / "bin" / "tool").write_text(f"#!{place}/bin/python\n")
        elif "pip" in argv:
            if behaviour[0] == "interrupt":
                raise KeyboardInterrupt
            out = options["stdout"]
            if behaviour[0] == "fail":
                out.write(b"Collecting x\nERROR: No matching distribution found for x\n")  # type: ignore[attr-defined]
                out.flush()  # type: ignore[attr-defined]
                return subprocess.CompletedProcess(argv, 1)
        else:
            return real(argv, **options)  # type: ignore[call-overload, no-any-return]
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(launch.subprocess, "run", run)
    return behaviour


def _left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def test_an_environment_is_made_once_and_shared(fake_steps: list[str]) -> None:
    place = launch.find_or_make(["x"])
    fake_steps[0] = "fail"
    assert launch.find_or_make(["x"]) == place
    assert (place / "bin" / "tool").read_text() == f"#!{place}/bin/python\n"


def test_other_dependencies_get_another_environment(fake_steps: list[str]) -> None:
    assert launch.find_or_make(["x"]) != launch.find_or_make(["y"])


def test_a_failing_pip_is_told_with_its_reason_and_leaves_nothing(fake_steps: list[str]) -> None:
    fake_steps[0] = "fail"
    with pytest.raises(HostError, match="No matching distribution found for x") as caught:
        launch.find_or_make(["x"])
    assert "package index" in caught.value.hint
    assert _left(launch._cache_dir() / "python") == []


def test_an_interruption_leaves_nothing_half_made(fake_steps: list[str]) -> None:
    fake_steps[0] = "interrupt"
    with pytest.raises(KeyboardInterrupt):
        launch.find_or_make(["x"])
    assert _left(launch._cache_dir() / "python") == []


def test_what_a_killed_launcher_left_is_cleared_away(fake_steps: list[str]) -> None:
    stale = launch._cache_dir() / "python" / "0123.part"
    (stale / "bin").mkdir(parents=True)
    place = launch.find_or_make(["x"])
    assert _left(place.parent) == [place.name]


def test_an_environment_whose_python_is_gone_is_made_again(fake_steps: list[str]) -> None:
    place = launch.find_or_make(["x"])
    (place / "bin" / "python").unlink()
    assert os.access(launch.find_or_make(["x"]) / "bin" / "python", os.X_OK)


def test_the_dependencies_are_those_of_the_project() -> None:
    wanted = launch.dependencies((CHECKOUT / "pyproject.toml").read_text())
    assert any(name.startswith("pydantic") for name in wanted)
    assert any(name.startswith("tox") for name in wanted)


def test_the_launcher_is_understood_by_a_posix_shell() -> None:
    assert subprocess.run(["sh", "-n", str(CHECKOUT / "popcorn")], check=False).returncode == 0


def test_without_python_the_launcher_names_the_packages(tmp_path: Path) -> None:
    for name in ("dirname", "readlink", "id"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", str(CHECKOUT / "popcorn"), "plan"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "apt-get install -y --no-install-recommends python3 python3-venv" in done.stderr
