# SPDX-License-Identifier: Apache-2.0
"""What fragments ask for, and whether it was obtained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from popcorn.build import kconfig
from popcorn.build.git import git
from popcorn.build.kbuild import Kbuild
from popcorn.build.kconfig import (
    Request,
    configure,
    final_requests,
    fragments,
    known_to,
    parse_fragment,
    requests_of,
    unmet_requests,
)
from popcorn.build.series import load_series
from popcorn.errors import UserError


def test_all_kinds_of_values_are_read() -> None:
    text = '# about\nCONFIG_A=y\nCONFIG_B=12\nCONFIG_C="a b"\n# CONFIG_D is not set\nCONFIG_E=0x1f\nCONFIG_F=n\n\n'
    assert [(r.symbol, r.value) for r in parse_fragment(text, "x")] == [
        ("A", "y"),
        ("B", "12"),
        ("C", '"a b"'),
        ("D", "n"),
        ("E", "0x1f"),
        ("F", "n"),
    ]


def test_comment_that_mentions_a_symbol_is_no_request() -> None:
    assert parse_fragment("# CONFIG_A=y would be slow\n#CONFIG_B=y\n", "x") == []


@pytest.mark.parametrize("line", ["CONFIG_A", "CONFIG_A = y", "A=y", "CONFIG_A=yes", "config A"])
def test_line_that_is_no_request_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(UserError, match=r"base\.config:2: .* is no configuration line"):
        parse_fragment(f"# first\n{line}\n", "base.config")


def test_later_request_replaces_an_earlier_one() -> None:
    parsed = parse_fragment("CONFIG_A=y\n", "a") + parse_fragment("# CONFIG_A is not set\n", "b")
    assert [(r.value, r.where) for r in final_requests(parsed)] == [("n", "b:1")]


def test_missing_symbol_is_unmet_and_says_where_it_was_asked_for() -> None:
    requests = parse_fragment("CONFIG_A=y\nCONFIG_B=y\n", "a.config")
    unmet = unmet_requests(requests, "CONFIG_A=y\n# CONFIG_B is not set\n")
    assert [(u.request.symbol, u.got, u.request.where) for u in unmet] == [("B", "n", "a.config:2")]


def test_other_value_is_unmet() -> None:
    requests = parse_fragment("CONFIG_A=64\n# CONFIG_B is not set\n", "a.config")
    unmet = unmet_requests(requests, "CONFIG_A=8\nCONFIG_B=y\n")
    assert [(u.request.symbol, u.got) for u in unmet] == [("A", "8"), ("B", "y")]


def test_absent_symbol_fulfils_a_request_for_not_set() -> None:
    assert unmet_requests(parse_fragment("# CONFIG_A is not set\n", "a"), "") == []


def test_symbol_that_begins_like_another_is_not_confused_with_it() -> None:
    assert len(unmet_requests(parse_fragment("CONFIG_A=y\n", "a"), "CONFIG_A_LONG=y\n")) == 1


@pytest.mark.parametrize(("series", "flavour"), [("6.12", "default"), ("6.12", "debug"), ("3.2", "default")])
def test_every_fragment_of_the_project_can_be_read(series: str, flavour: str) -> None:
    assert requests_of(fragments(load_series(series), flavour))


def test_kernel_without_the_series_asks_for_none_of_its_symbols() -> None:
    requests = requests_of(fragments(load_series("6.12"), "debug", popcorn=False), popcorn=False)
    assert not [r for r in requests if r.symbol.startswith("POPCORN")]


def test_unknown_flavour_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match="no flavour 'fast'") as caught:
        fragments(load_series("6.12"), "fast")
    assert "default, debug" in caught.value.hint


def test_flavour_that_a_series_does_not_offer_names_those_it_has() -> None:
    with pytest.raises(UserError, match=r"the series 3\.2 has no flavour 'debug'") as caught:
        fragments(load_series("3.2"), "debug")
    assert caught.value.hint.startswith("flavours: default;")
    assert caught.value.exit_status == 2


# What each target does to the file that the kernel's own would write.
_MAKEFILE = """\
tinyconfig:
	echo CONFIG_TINY=y >$(KCONFIG_CONFIG)
olddefconfig:
	sed -i /NONE/d $(KCONFIG_CONFIG)
allnoconfig:
	sed /NONE/d $(or $(KCONFIG_ALLCONFIG),/dev/null) >$(KCONFIG_CONFIG)
"""
_MERGE = '#!/bin/sh\n# -m -O objects trial merged\ncat "$5" >>"$4"\n'


@pytest.fixture(params=["with merge_config.sh and tinyconfig", "with neither"])
def kbuild(request: pytest.FixtureRequest, tmp_path: Path) -> Kbuild:
    """A kernel tree that can be configured, by today's means or those of old."""
    tree = tmp_path / "linux"
    (tree / "obj").mkdir(parents=True)
    (tree / "Makefile").write_text(_MAKEFILE)
    if request.param != "with neither":
        for name, text in (("scripts/kconfig/merge_config.sh", _MERGE), ("kernel/configs/tiny.config", "")):
            (tree / name).parent.mkdir(parents=True)
            (tree / name).write_text(text)
            (tree / name).chmod(0o755)
    return Kbuild(tree / "obj", tmp_path / "log")


def test_every_kind_of_tree_is_configured_as_the_fragments_ask(kbuild: Kbuild) -> None:
    configure(kbuild, [Request("A", "y", "f:1"), Request("B", "n", "f:2"), Request("C", "7", "f:3")])
    config = (kbuild.objects / ".config").read_text()
    assert "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=7\n" in config


def test_in_every_kind_of_tree_what_is_not_obtained_is_an_error(kbuild: Kbuild) -> None:
    with pytest.raises(UserError, match=r"CONFIG_NONE: wanted y, got n \(f:2; this kernel has no such symbol\)"):
        configure(kbuild, [Request("A", "y", "f:1"), Request("NONE", "y", "f:2")])
    assert not (kbuild.objects / ".config").exists()


def test_a_configuration_that_did_not_change_is_left_alone(kbuild: Kbuild) -> None:
    configure(kbuild, [Request("A", "y", "f:1")])
    before = (kbuild.objects / ".config").stat().st_mtime_ns
    configure(kbuild, [Request("A", "y", "f:1")])
    assert (kbuild.objects / ".config").stat().st_mtime_ns == before


def test_a_symbol_of_popcorn_is_known_once_its_file_is_sourced(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        git("add", name, cwd=tmp_path)

    def known() -> list[str]:
        requests = [Request(name, "y", "f:1") for name in ("OTHER", "POPCORN", "POPCORN_USED", "POPCORN_LATER")]
        return [request.symbol for request in known_to(tmp_path, requests)]

    git("init", "--quiet", cwd=tmp_path)
    write("Kconfig", 'source "arch/$(SRCARCH)/Kconfig"\n')
    write("arch/x86/Kconfig", "config X86\nconfig POPCORN_USED\n")
    write("kernel/popcorn/Kconfig", "menuconfig POPCORN\n")
    assert known() == ["OTHER", "POPCORN_USED"]
    write("arch/x86/Kconfig", 'config POPCORN_USED\nsource "kernel/popcorn/Kconfig"\n')
    assert known() == ["OTHER", "POPCORN", "POPCORN_USED"]


def test_a_configuration_is_remembered_while_nothing_that_decides_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "kernel/configs").mkdir(parents=True)
    (tree / "scripts/kconfig").mkdir(parents=True)
    for name in ("Kconfig", "a.c", "kernel/configs/tiny.config", "scripts/kconfig/merge_config.sh"):
        (tree / name).write_text("")
    (tree / ".gitignore").write_text("/obj-*/\n")
    git("init", "--quiet", cwd=tree)
    objects = tree / "obj-default"
    objects.mkdir()
    merged: list[str] = []

    def merge(kbuild: Kbuild, requests: Sequence[Request], trial: Path, requested: Path) -> None:
        merged.append(kbuild.tree.joinpath("Kconfig").read_text())
        trial.write_text("CONFIG_A=y\n")

    monkeypatch.setattr(kconfig, "_merge", merge)
    kbuild = Kbuild(objects, tmp_path / "log")

    def configured(symbol: str = "A") -> int:
        git("add", "--all", cwd=tree)
        git("commit", "--quiet", "--allow-empty", "--message=x", cwd=tree)
        (objects / ".config").unlink(missing_ok=True)
        configure(kbuild, [Request(symbol, "y" if symbol == "A" else "n", "x:1")])
        assert (objects / ".config").read_text() == "CONFIG_A=y\n"
        return len(merged)

    assert configured() == 1
    (tree / "a.c").write_text("changed\n")
    assert configured() == 1
    (tree / "Kconfig").write_text("config B\n")
    assert configured() == 2
    assert configured("B") == 3
    (objects / ".popcorn-building").write_text("")
    assert configured("B") == 4
    (objects / ".popcorn-building").unlink()
    (tree / "Kconfig").write_text("not committed\n")
    configure(kbuild, [Request("A", "y", "x:1")])
    assert merged[-1] == "not committed\n"
