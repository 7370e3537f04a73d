# SPDX-License-Identifier: Apache-2.0
"""nginx in a kernel, and ApacheBench that asks it: brought there, run, and the answers read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from popcorn.guest.finished import Finished

NGINX, AB = "/usr/sbin/nginx", "/usr/bin/ab"
PAGE_BYTES = 612
"""As long as the page that Debian's nginx shows."""

_FOLDER = "/tmp/nginx"
_PERCENTILES = "/tmp/ab.csv"
# Files of the package are not there: all is said here.
_CONFIGURATION = f"""\
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {_FOLDER}/pid;
error_log {_FOLDER}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/html;
    client_body_temp_path {_FOLDER}/body;
    proxy_temp_path {_FOLDER}/proxy;
    fastcgi_temp_path {_FOLDER}/fastcgi;
    uwsgi_temp_path {_FOLDER}/uwsgi;
    scgi_temp_path {_FOLDER}/scgi;
    server {{
        listen 80 backlog=4096;
        root {_FOLDER}/www;
    }}
}}
"""
# A thousand clients may come at once, and a small kernel resets what it has no room for.
_SERVE = f"""
[ ! -s {_FOLDER}/pid ] || exit 0
mkdir -p {_FOLDER}/www /var/log/nginx
echo "$1" >{_FOLDER}/nginx.conf
head -c {PAGE_BYTES} /dev/zero | tr '\\0' x >{_FOLDER}/www/index.html
cd /proc/sys/net
echo 4096 >core/somaxconn
echo 4096 >ipv4/tcp_max_syn_backlog
echo 65536 >ipv4/tcp_max_orphans
echo 65536 >ipv4/tcp_max_tw_buckets
{NGINX} -c {_FOLDER}/nginx.conf -e {_FOLDER}/error.log
"""
_ASK = f"""
ulimit -n 8192
rm -f {_PERCENTILES}
{AB} -q -n "$1" -c "$2" -e {_PERCENTILES} "http://$3/" || exit
cat {_PERCENTILES}
"""


@dataclass(frozen=True)
class AbAnswer:
    """What ApacheBench found."""

    complete: int
    failed: int
    """Or answered with something else than the page."""
    seconds: float
    per_second: float
    times_ms: tuple[float, ...]
    """The time within which 0, 1, 2, … 99 percent of the requests were served."""


def web_files() -> dict[str, tuple[bytes, int]]:
    """Debian's nginx and ApacheBench with their libraries: path to content and permissions.

    Raises:
        HostError: a package cannot be fetched.
    """
    from popcorn.image.debian import debian_overlay

    return debian_overlay({"nginx": {NGINX: NGINX}, "apache2-utils": {AB: AB}})


def serve_words() -> list[str]:
    """The command that starts nginx, unless it runs."""
    return ["sh", "-c", _SERVE, "sh", _CONFIGURATION]


def ask_words(address: str, requests: int, concurrency: int) -> list[str]:
    """The command that asks for the page so many times, so many at a time."""
    return ["sh", "-c", _ASK, "sh", str(requests), str(concurrency), address]


def read_answer(done: Finished) -> AbAnswer:
    """What `ask_words` gave.

    Raises:
        ValueError: it is not what ApacheBench says when it came to its end.
    """
    text = done.stdout_text
    rows = re.findall(r"^(\d+),([\d.]+)$", text, re.MULTILINE)
    # Up to 99 or to 100, by its version.
    if [int(percent) for percent, _ in rows[:100]] != list(range(100)):
        raise ValueError(done.stderr_text.strip() or text.strip()[-200:] or "it said nothing")
    return AbAnswer(
        complete=int(_figure(text, "Complete requests")),
        failed=int(_figure(text, "Failed requests")) + int(_figure(text, "Non-2xx responses", "0")),
        seconds=_figure(text, "Time taken for tests"),
        per_second=_figure(text, "Requests per second"),
        times_ms=tuple(float(time) for _, time in rows[:100]),
    )


def _figure(text: str, name: str, default: str | None = None) -> float:
    found = re.search(rf"^{name}: +([\d.]+)", text, re.MULTILINE)
    if found is None and default is None:
        raise ValueError(f"ApacheBench does not tell {name!r}")
    return float(found[1] if found else default or 0)
