# SPDX-License-Identifier: Apache-2.0
"""Configurations: fragments merged by what the kernel's tree has for it, then compared with what came out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.kbuild import Kbuild, toolchain
from popcorn.build.series import Series
from popcorn.build.workspace import interrupted
from popcorn.dirs import cache_dir
from popcorn.errors import SeriesError, UserError
from popcorn.files import sha256_bytes, write_atomic
from popcorn.process import run

FLAVOURS: dict[str, tuple[str, ...]] = {
    "default": ("base.config", "popcorn.config"),
    "debug": ("base.config", "popcorn.config", "debug.config"),
}
POPCORN_FRAGMENT = "popcorn.config"
_MERGE = "scripts/kconfig/merge_config.sh"
_TINY = "kernel/configs/tiny.config"
_RECIPE = 1
"""Raise when the way of configuring changes what comes out."""
_DECIDES = re.compile(r"(^|/)Kconfig|^scripts/|/configs/|^Makefile$|^arch/x86/Makefile")


@dataclass(frozen=True)
class Request:
    """One symbol that a fragment asks for."""

    symbol: str
    value: str
    """As in a .config: y, n, a number or a quoted string; "n" stands for "is not set" too."""
    where: str
    """file:line of the request."""


@dataclass(frozen=True)
class Unmet:
    """A request that the configuration does not fulfil."""

    request: Request
    got: str


def fragments(series: Series, flavour: str, *, popcorn: bool = True) -> list[Path]:
    """The fragments of a flavour, in the order they are merged; without `popcorn`, as for a kernel without the series.

    Raises UserError for a flavour that the series does not offer.
    """
    if flavour not in flavours(series):
        raise UserError(
            f"the series {series.name} has no flavour {flavour!r}",
            hint=f"flavours: {', '.join(flavours(series)) or 'none'}; their fragments are in {series.dir / 'config'}",
        )
    return [series.dir / "config" / name for name in FLAVOURS[flavour] if popcorn or name != POPCORN_FRAGMENT]


def flavours(series: Series) -> list[str]:
    """The flavours that a series offers: those whose fragments it has."""
    return [name for name, files in FLAVOURS.items() if all((series.dir / "config" / file).is_file() for file in files)]


def parse_fragment(text: str, name: str) -> list[Request]:
    """The requests of one fragment. Raises SeriesError naming the line that is none."""
    requests = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        if found := re.fullmatch(r"CONFIG_(\w+)=(y|m|n|-?\d+|0x[0-9a-fA-F]+|\".*\")\s*", line):
            requests.append(Request(found.group(1), found.group(2), where))
        elif found := re.fullmatch(r"# CONFIG_(\w+) is not set\s*", line):
            requests.append(Request(found.group(1), "n", where))
        elif line.strip() and not line.startswith("#"):
            raise SeriesError(
                f"{where}: {line.strip()!r} is no configuration line",
                hint='expected CONFIG_NAME=y, =m, =n, a number or a "string", or # CONFIG_NAME is not set',
            )
    return requests


def final_requests(parsed: Iterable[Request]) -> list[Request]:
    """What is asked for in the end: a later request for a symbol replaces an earlier one."""
    last = {request.symbol: request for request in parsed}
    return list(last.values())


def unmet_requests(requests: Sequence[Request], config: str) -> list[Unmet]:
    """The requests that a finished .config does not fulfil."""
    got = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", config, re.MULTILINE))
    return [Unmet(r, got.get(r.symbol, "n")) for r in requests if got.get(r.symbol, "n") != r.value]


def requests_of(paths: Sequence[Path], *, popcorn: bool = True) -> list[Request]:
    """All final requests of some fragments; without `popcorn`, those about Popcorn's own symbols left out."""
    parsed = [request for path in paths for request in parse_fragment(path.read_text(), path.name)]
    return [r for r in final_requests(parsed) if popcorn or not r.symbol.startswith("POPCORN")]


def known_to(tree: Path, requests: Sequence[Request]) -> list[Request]:
    """Requests without those for Popcorn's symbols that a later patch of the series brings.

    A file that no other one sources counts as not there: shared files are in the tree before what makes use of them.
    """
    pattern = r"^[[:space:]]*(source[[:space:]]|(menu)?config POPCORN)"
    found = run(["git", "grep", "-E", pattern, "--", "*Kconfig*"], cwd=tree, check=False).stdout
    lines = [line.partition(":")[::2] for line in found.splitlines()]
    sources = re.findall(r'source\s+"?([^"\n]+)', found)
    sourced = {re.sub(r"\$\(?SRCARCH\)?", "x86", path.strip()) for path in sources}
    known = {line.split()[1] for file, line in lines if "config POPCORN" in line and file in sourced}
    return [r for r in requests if not r.symbol.startswith("POPCORN") or r.symbol in known]


def configure(kbuild: Kbuild, requests: Sequence[Request], *, optional: Collection[str] = ()) -> None:
    """Write `.config`: the smallest configuration that fulfils the requests.

    The file is left alone when it would not change, so that make sees nothing to do.
    Raises SeriesError naming each symbol that was not obtained and is not among the `optional` ones.
    """
    objects = kbuild.objects
    remembered = _remembered(kbuild, requests, optional)
    # What an interrupted make left is removed by the next one, going by the times of files.
    if remembered is not None and remembered.is_file() and not interrupted(objects):
        _install(objects, remembered.read_text())
        return
    trial = objects / ".config.popcorn"
    merged = objects / ".requests.popcorn"
    trial.unlink(missing_ok=True)
    if (kbuild.tree / _MERGE).is_file() and (kbuild.tree / _TINY).is_file():
        _merge(kbuild, requests, trial, merged)
    else:
        _all_no(kbuild, requests, trial, merged)
    obtained = trial.read_text()
    if unmet := unmet_requests([one for one in requests if one.symbol not in optional], obtained):
        raise _not_obtained(unmet, kbuild.tree)
    _install(objects, obtained)
    if remembered is not None:
        write_atomic(remembered, obtained)


def _install(objects: Path, config: str) -> None:
    final = objects / ".config"
    if not final.is_file() or final.read_text() != config:
        final.write_text(config)


def _remembered(kbuild: Kbuild, requests: Sequence[Request], optional: Collection[str]) -> Path | None:
    """Where the configuration is kept that the same requests lead to; None for a tree that is not as git has it.

    It depends on the requests, the tree's symbols, its scripts that look at the toolchain, and on that.
    """
    if not (kbuild.tree / ".git").exists() or run(["git", "status", "--porcelain"], cwd=kbuild.tree).stdout:
        return None
    listed = run(["git", "ls-tree", "-r", "HEAD"], cwd=kbuild.tree)
    decides = [line for line in listed.stdout.splitlines() if _DECIDES.search(line.partition("\t")[2])]
    wanted = [[one.symbol, one.value] for one in requests]
    inputs = [_RECIPE, decides, wanted, sorted(optional), toolchain()]
    return cache_dir() / "config" / sha256_bytes(json.dumps(inputs).encode())[:32]


def _merge(kbuild: Kbuild, requests: Sequence[Request], trial: Path, merged: Path) -> None:
    """Tinyconfig with the requests merged in by merge_config.sh, completed by olddefconfig."""
    # The first make removes what an interrupted one left, going by the times of files: nothing is written before it.
    kbuild.make(f"KCONFIG_CONFIG={trial}", "tinyconfig")
    merged.write_text("".join(_line(request) for request in requests))
    kbuild.script(kbuild.tree / _MERGE, "-m", "-O", kbuild.objects, trial, merged, config=trial)
    kbuild.make(f"KCONFIG_CONFIG={trial}", "olddefconfig")


def _all_no(kbuild: Kbuild, requests: Sequence[Request], trial: Path, merged: Path) -> None:
    """Where the tree has neither: every symbol off that may be, but for the requests."""
    # As above; and the first make also writes the object directory's Makefile.
    kbuild.make(f"KCONFIG_CONFIG={trial}", "allnoconfig")
    merged.write_text("".join(_line(request) for request in requests))
    kbuild.make(f"KCONFIG_CONFIG={trial}", f"KCONFIG_ALLCONFIG={merged}", "allnoconfig")


def _line(request: Request) -> str:
    if request.value == "n":
        return f"# CONFIG_{request.symbol} is not set\n"
    return f"CONFIG_{request.symbol}={request.value}\n"


def _not_obtained(unmet: Sequence[Unmet], tree: Path) -> SeriesError:
    known = _known_symbols(tree)
    lines = []
    for item in unmet:
        wanted = item.request
        why = "" if wanted.symbol in known else "; this kernel has no such symbol"
        lines.append(f"  CONFIG_{wanted.symbol}: wanted {wanted.value}, got {item.got} ({wanted.where}{why})")
    return SeriesError(
        "the kernel's configuration is not what the fragments ask for:\n" + "\n".join(lines),
        hint="a symbol stays off when something it depends on is off: see `depends on` in its Kconfig entry",
    )


def _known_symbols(tree: Path) -> set[str]:
    symbols: set[str] = set()
    for path in tree.rglob("Kconfig*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            symbols.update(re.findall(r"^\s*(?:menu)?config\s+(\w+)", text, re.MULTILINE))
    return symbols
