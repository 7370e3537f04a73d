# SPDX-License-Identifier: Apache-2.0
"""What is searched: patches, commits of somebody's tree, options, parameters, each as a history."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from test_series import LINES, PATCH, file_at, make_tree

from popcorn.bisect.actions import Terms
from popcorn.bisect.candidate import plan_words_of, require_same_patches, with_series
from popcorn.bisect.history import History
from popcorn.bisect.setup import label, new_task
from popcorn.bisect.spaces import entries_at, position, tree_repository, with_parameters
from popcorn.bisect.task import PlanWords, Task, Test
from popcorn.build import series as series_module
from popcorn.build.git import git, linux_repository, output
from popcorn.errors import UserError

TEST, TERMS = Test("command", "true"), Terms(0.005, 0.005)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the series 6.12 of three patches; returns its folder."""
    monkeypatch.setattr(series_module, "source_root", lambda: tmp_path / "project")
    path = tmp_path / "project" / "kernel-patches" / "6.12"
    (path / "config").mkdir(parents=True)
    for name in ("base.config", "popcorn.config"):
        (path / "config" / name).write_text(f"CONFIG_{name[:3].upper()}=y\n")
    (path / "base.toml").write_text('version = "6.12"\ntested = "6.12.1"\ndebian = "linux-source-6.12"\n')
    write_patches(path, 20, 30, 10)
    return path


def write_patches(folder: Path, *lines: int) -> None:
    """Patches that each change one line."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, line in enumerate(lines, 1):
        text = PATCH
        for old in range(16, 24):
            text = text.replace(f"line {old}", f"line {line - 20 + old}")
        text = text.replace("LINE 20", f"LINE {line}").replace(
            "@@ -17,7 +17,7 @@", f"@@ -{line - 3},7 +{line - 3},7 @@"
        )
        names.append(f"{number:04}-init-change-line-{line}.patch")
        (folder / names[-1]).write_text(text)
    (folder / "series").write_text("".join(f"{name}\n" for name in names))


def task(tmp_path: Path, **options: object) -> Task:
    words = {"good": None, "bad": None, "source": None, **options}
    return new_task(
        tmp_path / "search.git",
        test=TEST,
        terms=TERMS,
        series="6.12",
        flavour="default",
        plan=PlanWords(),
        **words,  # type: ignore[arg-type]
    )


def test_the_patches_of_a_series_are_searched_by_number_or_name(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "linux", LINES)
    found = task(tmp_path, source=source)
    history = History(tmp_path / "search.git", found.good, found.bad)
    assert [label(found, history.repository, commit) for commit in history.between()] == [
        "1: 0001-init-change-line-20.patch",
        "2: 0002-init-change-line-30.patch",
        "3: 0003-init-change-line-10.patch",
    ]
    assert label(found, history.repository, found.good) == "0: Linux 6.12.1"
    assert found.requests == (("BAS", "y"), ("POP", "y"))
    narrowed = task(tmp_path, source=source, good="1", bad="init-change-line-30")
    assert History(tmp_path / "search.git", narrowed.good, narrowed.bad).between() == history.between()[1:2]


def test_a_users_patches_are_searched_on_top_of_the_series(tmp_path: Path) -> None:
    write_patches(tmp_path / "mine", 35, 5)
    found = task(tmp_path, source=make_tree(tmp_path / "linux", LINES), patches=tmp_path / "mine")
    between = History(tmp_path / "search.git", found.good, found.bad).between()
    assert found.labels[found.good] == "0: the series 6.12"
    assert [found.labels[commit] for commit in between] == [
        "1: 0001-init-change-line-35.patch",
        "2: 0002-init-change-line-5.patch",
    ]
    assert "LINE 10\n" in file_at(between[0], "init/main.c")
    assert "line 5\n" in file_at(between[0], "init/main.c")


@pytest.mark.parametrize(("text", "found"), [(None, 3), ("2", 2), ("0", 0), ("0002-b.patch", 2), ("b", 2), ("c-d", 3)])
def test_an_end_is_a_number_or_a_name(text: str | None, found: int) -> None:
    assert position(text, ["0001-a.patch", "0002-b.patch", "0003-c-d.patch"], 3, "patch") == found


@pytest.mark.parametrize(
    ("text", "cause"), [("4", "names no patch"), ("x", "names no patch"), ("patch", "more than one")]
)
def test_an_end_that_names_nothing_or_much_is_refused(text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        position(text, ["0001-a.patch", "0002-b.patch"], 2, "patch")


@pytest.fixture
def users_tree(tmp_path: Path) -> Path:
    """Somebody's git tree: three versions, the last of which has line 20 changed, so that the series does not apply."""
    tree = make_tree(tmp_path / "theirs", LINES)
    git("init", "--quiet", "--initial-branch=main", cwd=tree)
    for tag, change in (("v1", {}), ("v2", {40: "newer\n"}), ("v3", {40: "newer\n", 20: "other\n"})):
        lines = [change.get(number, line) for number, line in enumerate(LINES, 1)]
        (tree / "init/main.c").write_text("".join(lines))
        git("add", "--all", cwd=tree)
        git("commit", "--quiet", "--message", tag, cwd=tree)
        git("tag", tag, cwd=tree)
    return tree


def test_commits_of_a_tree_are_searched_with_the_series_on_each(tmp_path: Path, users_tree: Path) -> None:
    refs = output("for-each-ref", cwd=users_tree)
    found = task(tmp_path, tree=users_tree, good="v1", bad="v3")
    history = History(tmp_path / "search.git", found.good, found.bad)
    assert [label(found, history.repository, one).split()[1] for one in history.between()] == ["v2", "v3"]
    trees = tree_repository(users_tree, linux_repository(), tmp_path)
    head = with_series(found, trees, history.between()[0])
    content = git("show", f"{head}:init/main.c", cwd=trees).stdout
    assert "LINE 20\n" in content
    assert content.endswith("newer\n")
    with pytest.raises(UserError, match=r"0001-init-change-line-20\.patch does not apply"):
        with_series(found, trees, history.between()[1])
    assert output("for-each-ref", cwd=users_tree) == refs, "a user's tree is only read"


def test_a_commit_that_has_the_series_is_taken_as_it_is(tmp_path: Path, users_tree: Path) -> None:
    (users_tree / "include/uapi/linux").mkdir(parents=True)
    (users_tree / "include/uapi/linux/popcorn.h").write_text("")
    git("add", "--all", cwd=users_tree)
    git("commit", "--quiet", "--message=has it", cwd=users_tree)
    found = task(tmp_path, tree=users_tree, good="v1", bad="main")
    trees = tree_repository(users_tree, linux_repository(), tmp_path)
    assert with_series(found, trees, found.bad) == found.bad


def test_a_series_that_changes_under_a_search_is_told(tmp_path: Path, users_tree: Path, folder: Path) -> None:
    found = task(tmp_path, tree=users_tree, good="v1", bad="v2")
    require_same_patches(found)
    (folder / "0002-init-change-line-30.patch").write_text(PATCH)
    with pytest.raises(UserError, match=r"0002-init-change-line-30\.patch has changed since the search began"):
        require_same_patches(found)


def test_options_of_a_fragment_become_a_line_of_commits(tmp_path: Path) -> None:
    fragment = tmp_path / "my.config"
    fragment.write_text("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=3\n")
    found = task(tmp_path, source=make_tree(tmp_path / "linux", LINES), fragment=fragment)
    history = History(tmp_path / "search.git", found.good, found.bad)
    held = [entries_at(history.repository, commit) for commit in (found.good, *history.between())]
    whole = ["CONFIG_A=y", "CONFIG_B=n", "CONFIG_C=3"]
    assert held == [whole[:number] for number in range(4)]
    assert found.labels[history.between()[1]] == "2: CONFIG_B=n"
    assert "LINE 10" in file_at(found.head, "init/main.c")


def test_parameters_change_the_plan_one_after_the_other(tmp_path: Path) -> None:
    words = ("append=nosmt", "policy=per-node", "append=quiet", "qemu=-s", "size=64M")
    found = task(tmp_path, parameters=words)
    history = History(tmp_path / "search.git", found.good, found.bad)
    plans = [plan_words_of(found, history.repository, commit) for commit in (found.good, *history.between())]
    assert plans[0] == PlanWords()
    assert plans[2] == PlanWords(policy="per-node", append="nosmt")
    assert plans[-1] == PlanWords(policy="per-node", append="nosmt quiet", qemu=("-s",), sizes=("64M",))
    assert with_parameters(asdict(PlanWords()), []) == asdict(PlanWords())


@pytest.mark.parametrize(("good", "bad"), [("v2", "v1"), ("v2", "v2")])
def test_ends_with_nothing_between_them_are_refused(good: str, bad: str, tmp_path: Path, users_tree: Path) -> None:
    with pytest.raises(UserError, match="nothing lies between"):
        task(tmp_path, tree=users_tree, good=good, bad=bad)


def test_a_tree_that_is_no_kernels_is_refused(tmp_path: Path, users_tree: Path) -> None:
    git("rm", "--quiet", "Kconfig", cwd=users_tree)
    git("commit", "--quiet", "--message", "no kernel", cwd=users_tree)
    with pytest.raises(UserError, match="holds no kernel: it has no Kconfig"):
        task(tmp_path, tree=users_tree, good="v1", bad="HEAD")
