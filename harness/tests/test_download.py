# SPDX-License-Identifier: Apache-2.0
"""Getting the base of a series from a server: a loopback one, or none."""

from __future__ import annotations

import bz2
import functools
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from popcorn.build import kernelorg
from popcorn.build import series as series_module
from popcorn.build.download import UnreachableError, download
from popcorn.build.git import git, linux_repository
from popcorn.build.series import load_series
from popcorn.build.source import at_hand, find_base
from popcorn.dirs import cache_dir
from popcorn.errors import HostError, PopcornError, UserError

MAKEFILE = "VERSION = 3\nPATCHLEVEL = 2\nSUBLEVEL = {}\n"
PATCH = """\
diff --git a/Makefile b/Makefile
--- a/Makefile
+++ b/Makefile
@@ -1,3 +1,3 @@
 VERSION = 3
 PATCHLEVEL = 2
-SUBLEVEL = 0
+SUBLEVEL = 14
"""


class Server:
    """Serves what `files` holds, in folder v3.x."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken_after: int | None = None
        """Send so many bytes of a file and then no more."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        content = self.files.get(request.path.removeprefix("/v3.x/"))
        if content is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: self.broken_after])


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: object) -> None:
        self.ours = server
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.ours.answer(self)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    ours = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, ours)) as listening:
        monkeypatch.setattr(kernelorg, "MIRROR", f"http://127.0.0.1:{listening.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield ours
        listening.shutdown()
        thread.join()


def tree(path: Path, sublevel: int) -> Path:
    path.mkdir()
    (path / "Makefile").write_text(MAKEFILE.format(sublevel))
    (path / "Kconfig").write_text("")
    return path


@pytest.fixture
def release(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with the series 3.2, whose release the server has."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        archive.add(tree(tmp_path / "linux-3.2", 0), "linux-3.2")
    server.files = {"linux-3.2.tar.xz": packed.getvalue(), "patch-3.2.14.bz2": bz2.compress(PATCH.encode())}
    folder = tmp_path / "project" / "kernel-patches" / "3.2"
    folder.mkdir(parents=True)
    listed = ", ".join(
        f'{{ name = "{name}", sha256 = "{hashlib.sha256(content).hexdigest()}" }}'
        for name, content in server.files.items()
    )
    (folder / "base.toml").write_text(
        f'version = "3.2"\ntested = "3.2.14"\n[kernel_org]\nversion = "3.2.14"\nfiles = [{listed}]\n'
    )
    (folder / "series").write_text("")
    monkeypatch.setattr(series_module, "source_root", lambda: tmp_path / "project")


def leftovers() -> list[str]:
    return [path.name for path in (cache_dir() / "source").glob("download-*")]


@pytest.mark.usefixtures("release")
def test_the_release_is_fetched_once_checked_and_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    series = load_series("3.2")
    assert not at_hand(series)
    base = find_base(series)
    assert base.version == "3.2.14"
    assert "SUBLEVEL = 14" in git("show", f"{base.commit}:Makefile", cwd=linux_repository()).stdout
    assert server.asked == ["/v3.x/linux-3.2.tar.xz", "/v3.x/patch-3.2.14.bz2"]
    assert leftovers() == []
    assert at_hand(series)
    capsys.readouterr()
    assert find_base(series) == base
    assert len(server.asked) == 2
    assert "base of the series 3.2: Linux 3.2.14 from kernel.org" in capsys.readouterr().err


@pytest.mark.usefixtures("release")
def test_what_the_user_named_is_taken_until_the_release_is_asked_for(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = load_series("3.2")
    mine = tree(tmp_path / "mine", 7)
    base = find_base(series, mine)
    assert find_base(series) == base
    assert f"base of the series 3.2: Linux 3.2.7 from {mine}, kept in the cache" in capsys.readouterr().err
    assert server.asked == []
    assert find_base(series, update=True).version == "3.2.14"
    assert find_base(series).version == "3.2.14"


@pytest.mark.usefixtures("release")
def test_a_base_that_the_cache_lost_is_not_recalled(server: Server, tmp_path: Path) -> None:
    series = load_series("3.2")
    base = find_base(series, tree(tmp_path / "mine", 7))
    for line in git("for-each-ref", "--format=%(refname)", cwd=linux_repository()).stdout.split():
        git("update-ref", "-d", line, cwd=linux_repository())
    git("prune", "--expire=now", cwd=linux_repository())
    assert not at_hand(series)
    assert find_base(series) != base


@pytest.mark.usefixtures("release")
def test_a_file_with_another_hash_is_refused_and_nothing_is_kept(server: Server) -> None:
    server.files["patch-3.2.14.bz2"] += b"\n"
    with pytest.raises(HostError, match=r"patch-3\.2\.14\.bz2 is not what it should be: expected sha256 \w{64}, found"):
        find_base(load_series("3.2"))
    assert leftovers() == []
    assert not at_hand(load_series("3.2"))


@pytest.mark.usefixtures("release")
def test_a_download_that_breaks_off_leaves_nothing_half_made(server: Server) -> None:
    server.broken_after = 10
    with pytest.raises(HostError, match="broke off"):
        find_base(load_series("3.2"))
    assert leftovers() == []
    assert not at_hand(load_series("3.2"))


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("missing", ["linux-3.2.tar.xz", "patch-3.2.14.bz2"])
def test_where_the_source_cannot_be_had_one_sentence_says_what_to_do(server: Server, missing: str) -> None:
    del server.files[missing]
    with pytest.raises(PopcornError, match=r"Linux 3\.2\.14 is neither in the cache nor to be had") as caught:
        find_base(load_series("3.2"))
    assert caught.value.exit_status == 3
    assert "--source" in caught.value.hint
    assert "404" in str(caught.value)


@pytest.mark.usefixtures("release")
def test_what_a_killed_command_had_downloaded_is_cleared_away() -> None:
    (cache_dir() / "source" / "download-999999999").mkdir(parents=True)
    find_base(load_series("3.2"))
    assert leftovers() == []


def test_nobody_listening_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9/x cannot be had: .*refused"):
        download("http://127.0.0.1:9/x", tmp_path / "x", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("release")
def test_a_named_source_of_another_version_is_refused_and_not_kept(tmp_path: Path) -> None:
    other = tree(tmp_path / "other", 0)
    (other / "Makefile").write_text("VERSION = 3\nPATCHLEVEL = 4\nSUBLEVEL = 0\n")
    with pytest.raises(UserError, match=r"is Linux 3\.4\.0; the series 3\.2 needs 3\.2\.y"):
        find_base(load_series("3.2"), other)
    assert not at_hand(load_series("3.2"))
