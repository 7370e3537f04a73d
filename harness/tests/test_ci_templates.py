# SPDX-License-Identifier: Apache-2.0
"""The CI templates: by the schemas of those who run them, and by the command line that they call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pygments.lexers.jvm import GroovyLexer
from pygments.token import Comment, Error, String, Token
from ruamel.yaml import YAML

from popcorn.cli.main import popcorn
from popcorn.dirs import source_root

_FOLDER = source_root() / "harness" / "examples" / "ci"
_GITHUB, _GITLAB, _JENKINS = (_FOLDER / name for name in ("github.yml", "gitlab-ci.yml", "Jenkinsfile"))
_SECTIONS = {"agent", "parameters", "triggers", "options", "environment", "stages", "post"}


def _linted(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "check_jsonschema", *words, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (_GITHUB, ("--builtin-schema", "vendor.github-workflows")),
        (_GITHUB, ("--builtin-schema", "custom.github-workflows-require-timeout")),
        (_GITLAB, ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")),
    ],
    ids=["github", "github has timeouts", "gitlab"],
)
def test_templates_follow_their_schema(path: Path, words: tuple[str, ...]) -> None:
    done = _linted(path, *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_would_tell(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(_GITHUB.read_text(encoding="utf-8").replace("runs-on:", "runs_on:"))
    assert _linted(wrong, "--builtin-schema", "vendor.github-workflows").returncode == 1


def test_the_pipeline_of_jenkins_is_whole() -> None:
    """Its own linter runs only in a Jenkins: the tokens, what is opened and closed, and the sections there are."""
    depth, sections = [], []
    for kind, text in GroovyLexer().get_tokens(_JENKINS.read_text(encoding="utf-8")):
        assert kind is not Error, text
        if kind in Comment or kind in String:
            continue
        for character in text:
            if character in "({[":
                depth.append(character)
            elif character in ")}]":
                assert depth, text
                assert depth.pop() + character in ("()", "{}", "[]")
        if len(depth) == 1 and depth == ["{"] and kind in Token.Name and text.strip():
            sections.append(text.strip())
    assert depth == []
    assert set(sections) == _SECTIONS


def _scripts() -> Iterator[tuple[str, str]]:
    """Each shell script in a template."""
    workflow = YAML(typ="safe").load(_GITHUB)
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                yield "github", step["run"]
    pipeline = YAML(typ="safe").load(_GITLAB)
    for job in pipeline.values():
        if isinstance(job, dict) and "script" in job:
            yield "gitlab", "\n".join(job["script"])
    text = _JENKINS.read_text(encoding="utf-8")
    for found in re.finditer(r"sh '([^'\n]*)'|script: '''(.*?)'''", text, re.DOTALL):
        yield "jenkins", found[1] or found[2]


_ALL = list(_scripts())


@pytest.mark.parametrize(("where", "script"), _ALL, ids=[where for where, _ in _ALL])
def test_scripts_are_shell_and_call_what_there_is(where: str, script: str) -> None:
    checked = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for line in re.findall(r"(?:\./popcorn|set --) (.*)", script):
        # Both of a line with `set --` are words of `popcorn ci`.
        words = line.replace('"$@"', "").replace("|| status=$?", "").split("; fi")[0].split()
        if words[:1] and words[0].startswith("--"):
            words = ["ci", *words]
        _assert_understood(words)


def _assert_understood(words: list[str]) -> None:
    if not words:
        return
    context = click.Context(popcorn)
    command = popcorn.get_command(context, words[0])
    assert command is not None, words
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word for word in words[1:] if word.startswith("-")}
    assert given <= known, words


@pytest.mark.parametrize("wanted", ["true", "false", ""])
@pytest.mark.parametrize("where", ["github", "gitlab", "jenkins"])
def test_a_baseline_is_compared_with_unless_a_new_one_is_wanted(where: str, wanted: str, tmp_path: Path) -> None:
    (script,) = (text for name, text in _ALL if name == where and "--baseline" in text)
    (tmp_path / "baseline" / "main").mkdir(parents=True)
    for folder in (tmp_path / "baseline", tmp_path / "baseline" / "main"):
        (folder / "ci.json").touch()
    program = tmp_path / "popcorn"
    program.write_text('#!/bin/sh\necho "$@" >>typed\n')
    program.chmod(0o755)
    script = script.replace("/baseline/main", "baseline/main")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, env={"PATH": os.defpath, "NEW_BASELINE": wanted}, check=True)
    (typed,) = (line for line in (tmp_path / "typed").read_text().splitlines() if line.startswith("ci "))
    assert ("--baseline" in typed) == (wanted != "true")


def test_what_a_kernel_prints_is_no_order_to_the_runner_of_github(tmp_path: Path) -> None:
    (script,) = (text for name, text in _ALL if name == "github" and "--baseline" in text)
    program = tmp_path / "popcorn"
    program.write_text('#!/bin/sh\nprintf "::error::from a kernel" >&2; exit 4\n')
    program.chmod(0o755)
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    stop, said, resume, told = done.stdout.splitlines()
    token = stop.removeprefix("::stop-commands::")
    assert (said, resume) == ("::error::from a kernel", f"::{token}::")
    assert len(token) > 30
    assert told.startswith("::warning::")


def test_what_runs_at_night_is_started_at_night() -> None:
    text = _JENKINS.read_text(encoding="utf-8")
    assert ("TimerTrigger" in text) == ("cron(" in text)


def test_every_template_uses_both_commands_of_the_readme() -> None:
    for name in ("github", "gitlab", "jenkins"):
        text = "\n".join(script for where, script in _ALL if where == name)
        for command in ("./popcorn test", "./popcorn demo", "./popcorn ci"):
            assert command in text, f"{name} lacks {command}"
