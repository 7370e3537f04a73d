# SPDX-License-Identifier: Apache-2.0
"""Find or make the Python environment of this checkout, then run the command line in it.

The environment holds Popcorn's dependencies and not Popcorn itself, so that all
checkouts with the same dependencies share it. It is made in a temporary
directory and renamed into place. Only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HARNESS = Path(__file__).resolve().parent
PYPROJECT = HARNESS.parent / "pyproject.toml"

# Measured: 630 MiB, and what pip needs meanwhile.
_ENVIRONMENT_BYTES = 832 << 20


def main() -> None:
    """Become ``python -m popcorn`` in the environment."""
    sys.path.insert(0, str(HARNESS))
    from popcorn.errors import PopcornError, from_os_error

    try:
        environment = find_or_make(dependencies(PYPROJECT.read_text(encoding="utf-8")))
    except KeyboardInterrupt:
        print("popcorn: interrupted", file=sys.stderr)
        sys.exit(130)
    except (PopcornError, OSError) as error:
        told = from_os_error(error) if isinstance(error, OSError) else error
        print(f"popcorn: error: {told}", file=sys.stderr)
        if told.hint:
            print(f"  hint: {told.hint}", file=sys.stderr)
        sys.exit(told.exit_status)
    python = str(environment / "bin" / "python")
    paths = [str(HARNESS), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.execv(python, [python, "-P", "-m", "popcorn", *sys.argv[1:]])


def dependencies(pyproject: str) -> list[str]:
    """All that Popcorn needs, at work and for its tests."""
    project = tomllib.loads(pyproject)["project"]
    return sorted([*project["dependencies"], *project["optional-dependencies"]["dev"]])


def find_or_make(requirements: list[str]) -> Path:
    """The environment for these requirements and this Python.

    Raises:
        HostError: it cannot be made.
    """
    base = os.path.realpath(sys.executable)
    key = hashlib.sha256("\n".join([sys.version, base, *requirements]).encode()).hexdigest()[:16]
    place = _cache_dir() / "python" / key
    if _is_whole(place):
        # When it was used last, for `popcorn prune`; of somebody else's nothing is written down.
        with contextlib.suppress(OSError):
            os.utime(place)
        return place
    # As in popcorn.dirs: what lies there is run.
    _cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    place.parent.mkdir(exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("popcorn: waiting for another popcorn that makes the Python environment", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever held the lock may have made it.
        if not _is_whole(place):
            _make(place, requirements)
    return place


def _is_whole(place: Path) -> bool:
    return os.access(place / "bin" / "python", os.X_OK)


def _make(place: Path, requirements: list[str]) -> None:
    from popcorn import hostpackages
    from popcorn.build.disk import need_free_space
    from popcorn.errors import HostError

    need_free_space(place.parent, _ENVIRONMENT_BYTES, "making the Python environment")
    hostpackages.ensure("launch")
    # What a killed predecessor left; the lock says that nobody is at work on it.
    for stale in place.parent.glob("*.part"):
        shutil.rmtree(stale)
    shutil.rmtree(place, ignore_errors=True)
    part = place.with_suffix(".part")
    log = place.with_suffix(".log")
    print("popcorn: making the Python environment (once) …", file=sys.stderr)
    python = part / "bin" / "python"
    steps = [
        [sys.executable, "-I", "-m", "venv", str(part)],
        [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *requirements],
    ]
    try:
        with log.open("wb") as out:
            for argv in steps:
                # popcorn.process needs a dependency, and the dependencies are not there yet.
                if subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False).returncode:
                    raise HostError(
                        f"the Python environment could not be made: {_reason(log)} (log: {log})",
                        hint="pip needs to reach a package index, or PIP_FIND_LINKS must name a directory of wheels",
                    )
        _move_scripts(part, place)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move_scripts(part: Path, place: Path) -> None:
    """Let the programs in bin/ find their interpreter under the environment's final name."""
    for script in (part / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if str(part).encode() in content:
            script.write_bytes(content.replace(str(part).encode(), str(place).encode()))


def _reason(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[0].strip()


def _cache_dir() -> Path:
    # As in popcorn.dirs, which needs a dependency.
    if os.environ.get("POPCORN_CACHE"):
        return Path(os.environ["POPCORN_CACHE"]).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popcorn"


if __name__ == "__main__":
    main()
