# SPDX-License-Identifier: Apache-2.0
"""What a base.toml may say, and what is said about one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.build.basefile import IgnoredFinding, load_base_file
from popcorn.build.series import load_series
from popcorn.errors import UserError

HEAD = 'version = "3.2"\ntested = "3.2.0"\n'
HASH = "0" * 64
FILES = f'[{{ name = "linux-3.2.tar.xz", sha256 = "{HASH}" }}, {{ name = "patch-3.2.14.bz2", sha256 = "{HASH}" }}]'
RELEASE = f'[kernel_org]\nversion = "3.2.14"\nfiles = {FILES}\n'


def ignored(**changed: str) -> str:
    keys = {"finding": "SPACING", "path": "a.h", "why": "so"} | changed
    table = ", ".join(f'{key} = "{value}"' for key, value in keys.items())
    return f"checkpatch_ignored = [{{ {table} }}]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "base.toml"
    path.write_text(text)
    return path


def test_a_release_is_a_tarball_and_the_patches_on_it(tmp_path: Path) -> None:
    base = load_base_file(written(tmp_path, HEAD + RELEASE))
    assert base.kernel_org is not None
    assert [file.name for file in base.kernel_org.files] == ["linux-3.2.tar.xz", "patch-3.2.14.bz2"]
    assert (base.debian, base.shared, base.builds_from) == (None, None, None)


def test_a_finding_is_ignored_for_a_reason_in_a_file(tmp_path: Path) -> None:
    base = load_base_file(written(tmp_path, HEAD + ignored() + RELEASE))
    assert base.checkpatch_ignored == (IgnoredFinding(finding="SPACING", path="a.h", why="so"),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('version = "3.2"\ndebian = "d"\n', "'tested' is missing"),
        (HEAD, r"expected either debian = .* found neither"),
        (HEAD + 'debian = "d"\n' + RELEASE, r"expected either debian = .* found both"),
        (HEAD + 'debain = "d"\n', "unknown key 'debain'"),
        (HEAD + "debian = 1\n", r"debian: Input should be a valid string, found 1"),
        (HEAD + "kernel_org = 1\n", r"kernel_org: Input should be .*, found 1"),
        (HEAD + "debian = \n", r"base\.toml:3:10: Invalid value"),
        (HEAD + RELEASE.replace("3.2.14", "3.3.1", 1), r"kernel_org\.version is 3\.3\.1; expected one of 3\.2\.y"),
        (HEAD + RELEASE.replace(HASH, "0x12", 1), r"base\.toml:\d: kernel_org\.files\[0\]\.sha256: .*, found '0x12'"),
        (
            HEAD + RELEASE.replace("linux-3.2.tar", "patch-3.2"),
            r"kernel_org\.files: expected a tarball .* found 'patch-3\.2\.xz'",
        ),
        (
            HEAD + RELEASE.replace("patch-3.2.14.bz2", "../evil"),
            r"kernel_org\.files: expected a patch .* found '\.\./evil'",
        ),
        (HEAD + RELEASE.replace(FILES, "[]"), r"kernel_org\.files: .* at least 1 item .*, found \[\]"),
        (
            HEAD + RELEASE + '[shared]\nseries = "6.12"\npaths = []\n',
            r"shared\.paths: .* at least 1 item .*, found \[\]",
        ),
        (HEAD + RELEASE + '[shared]\npaths = ["a"]\n', "'shared.series' is missing"),
        (HEAD + RELEASE + '[shared]\nseries = "6.12"\npaths = ["/a"]\n', "'/a' is no path"),
        (HEAD + RELEASE + '[shared]\nseries = "6.12"\npaths = ["a/../b"]\n', r"'a/\.\./b' is no path"),
        (HEAD + RELEASE + '[shared]\nseries = "6.12"\npaths = ["a", "a/b"]\n', "a/b is in a, which is listed too"),
        (HEAD + 'checkpatch_ignored = "X"\n' + RELEASE, r"checkpatch_ignored: .*, found 'X'"),
        (HEAD + ignored(why="") + RELEASE, r"checkpatch_ignored\[0\]\.why: .*, found ''"),
        (HEAD + ignored(finding="CHECK:X") + RELEASE, r"checkpatch_ignored\[0\]\.finding: .*, found 'CHECK:X'"),
        (HEAD + ignored(line="3") + RELEASE, r"unknown key 'checkpatch_ignored\[0\]\.line'"),
    ],
)
def test_a_faulty_file_is_refused_with_the_key_that_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        load_base_file(written(tmp_path, text))
    assert str(tmp_path / "base.toml") in str(caught.value)


def test_patches_that_make_the_base_build_are_found_by_name_whatever_their_number(tmp_path: Path) -> None:
    names = ["0001-kbuild-a.patch", "0002-x86-b.patch", "0003-popcorn-c.patch"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "series").write_text("\n".join(names))
    written(tmp_path, HEAD + 'builds_from = "x86-b"\n' + RELEASE)
    series = load_series("3.2", tmp_path)
    assert series.nr_base_patches == 2
    assert [patch.name for patch in series.without_popcorn().patches] == names[:2]
    written(tmp_path, HEAD + 'builds_from = "x86-z"\n' + RELEASE)
    with pytest.raises(UserError, match="builds_from names 'x86-z', which the series has not"):
        load_series("3.2", tmp_path)
