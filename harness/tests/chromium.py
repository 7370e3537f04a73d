# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that opens pages without a network and tells what became of them, over the DevTools protocol.

It is spoken to through two pipes (``--remote-debugging-pipe``): there is no port that anybody else could reach.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popcorn.process import dying_with_parent

PROGRAM = shutil.which("chromium")
_ANSWER_S = 60.0
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    # Tests may run as root, where it refuses its sandbox; the pages are our own.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@dataclass
class Tab:
    """A page that is open."""

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)
    """What the console was told: errors, warnings and anything else."""
    requests: list[str] = field(default_factory=list)
    """URLs that it asked for, its own among them."""

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.browser.call(
            "Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True}, self
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.browser.call("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}, self)
        path.write_bytes(base64.b64decode(shot["data"]))

    def heard(self, message: dict[str, Any]) -> None:
        """Take note of an event."""
        told, params = message["method"], message["params"]
        if told == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif told == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif told == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif told == "Runtime.consoleAPICalled":
            self.complaints.append(str([one.get("value") for one in params["args"]]))


class Browser:
    """One that runs."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number = 0
        self._read = b""
        self._tabs: dict[str, Tab] = {}
        self._loaded: set[str] = set()

    def open(self, page: Path, *, width: int, height: int = 800, grey: bool = False) -> Tab:
        """Open a page, and wait until it is all there.

        Args:
            width: of what is seen of it, as `height`, in CSS pixels.
            grey: as who sees no colours does, or as it is printed in black and white.
        """
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"])
        self._tabs[tab.session] = tab
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", {}, tab)
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.call("Network.emulateNetworkConditions", offline, tab)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size, tab)
        if grey:
            self.call("Emulation.setEmulatedVisionDeficiency", {"type": "achromatopsia"}, tab)
        self.call("Page.navigate", {"url": page.resolve().as_uri()}, tab)
        deadline = time.monotonic() + _ANSWER_S
        while tab.session not in self._loaded:
            self._hear(deadline)
        return tab

    def call(self, method: str, params: dict[str, Any], tab: Tab | None = None) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **({"sessionId": tab.session} if tab else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_S
        while (answer := self._hear(deadline)).get("id") != number:
            pass
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            content = os.read(self._back, 1 << 20) if ready else b""
            if not content:
                raise AssertionError("Chromium said nothing for too long, or is gone")
            self._read += content
        one, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        if "method" in message and (tab := self._tabs.get(message.get("sessionId", ""))):
            tab.heard(message)
            if message["method"] == "Page.loadEventFired":
                self._loaded.add(tab.session)
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser for as long as the block.

    Args:
        profile: an empty folder for what it keeps.
    """
    assert PROGRAM is not None
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    with (profile.parent / "chromium.log").open("wb") as log:
        # It reads descriptor 3 and writes descriptor 4.
        script = f'exec "$@" 3</dev/fd/{to_read} 4>/dev/fd/{back_write}'
        process = subprocess.Popen(
            dying_with_parent(["sh", "-c", script, "sh", PROGRAM, *_FLAGS, f"--user-data-dir={profile}"]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(to_read, back_write),
            start_new_session=True,
        )
    os.close(to_read)
    os.close(back_write)
    try:
        yield Browser(to_write, back_read)
    finally:
        os.close(to_write)
        # Its children as well.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(back_read)
