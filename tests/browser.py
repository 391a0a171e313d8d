"""A real browser for tests: Chromium or Chrome without a window, spoken to through a pipe (its DevTools protocol).

Only what is installed is used: the file in the environment variable ENERGYSPLIT_BROWSER, a chromium or chrome on the
PATH, or one that playwright has put into its cache. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "ENERGYSPLIT_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
CACHES = (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright")
PATTERNS = (
    "chromium_headless_shell-*/*/headless_shell",
    "chromium_headless_shell-*/*/chrome-headless-shell",
    "chromium-*/*/chrome",
    "chromium-*/*/Chromium.app/Contents/MacOS/Chromium",
)
ANSWER_S = 60.0
"""Longest wait for an answer; a busy machine needs seconds to start a browser."""

# The protocol's pipes have fixed numbers, 3 and 4; they are first moved out of each other's way.
_START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Shown:
    """A page as it was shown. png: the whole page. width: of its content, in CSS pixels. requests: what it fetched."""

    png: bytes
    width: int
    height: int
    requests: tuple[str, ...]
    found: Any


def browser() -> str:
    """The path of a browser, "" if there is none.

    Raises:
        FileNotFoundError: the environment variable names a file that is not there.
    """
    if named := os.environ.get(VARIABLE):
        if shutil.which(named) is None:
            raise FileNotFoundError(f"{VARIABLE}={named}: no such program; unset it or name a Chromium or Chrome")
        return named
    for name in NAMES:
        if found := shutil.which(name):
            return found
    caches = [Path(own)] if (own := os.environ.get("PLAYWRIGHT_BROWSERS_PATH")) else CACHES
    every = sorted(path for cache in caches for pattern in PATTERNS for path in cache.glob(pattern))
    return str(every[-1]) if every else ""


@dataclass
class Window:
    """A page of a running browser."""

    writing: int
    reading: int
    session: str = ""
    number: int = 0
    rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer.get('error')}"
        return answer["result"]

    def wait_for(self, method: str) -> None:
        """Return once an event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + ANSWER_S
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the browser did not answer in {ANSWER_S:g} s"
            piece = os.read(self.reading, 1 << 16)
            assert piece, "the browser ended"
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def show(self, page: Path, width: int, *, dark: bool = False, script: str = "null") -> Shown:
        """Show a file at a width in CSS pixels, as a phone or a desk does, and photograph all of it.

        Args:
            page: the file.
            width: of the window.
            dark: whether the reader prefers dark pages.
            script: an expression whose value comes back as `found`.
        """
        self.events.clear()
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Network.enable")
        self.send("Page.enable")
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("Page.loadEventFired")
        self._value(_SETTLED)
        size = self._value("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        photo = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        found = self._value(script)
        sent = (event for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return Shown(base64.b64decode(photo["data"]), *size, tuple(e["params"]["request"]["url"] for e in sent), found)

    def _value(self, script: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@contextmanager
def opened(program: str, profile: Path) -> Iterator[Window]:
    """A window of a new browser without network, with its own profile; the browser has ended when the block ends."""
    to_read, writing = os.pipe()
    reading, to_write = os.pipe()
    words = [
        program, "--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
        "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking",
    ]  # fmt: skip
    if sys.platform.startswith("linux"):
        words += ["--no-sandbox", "--no-zygote"]  # as root and in containers it has no sandbox; the pages are our own
    with (profile.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(to_read), str(to_write), *words],
            pass_fds=(to_read, to_write),
            stdout=log,
            stderr=log,
        )
    os.close(to_read)
    os.close(to_write)
    try:
        window = Window(writing, reading)
        target = window.send("Target.createTarget", url="about:blank")["targetId"]
        window.session = window.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield window
    finally:
        os.close(writing)
        os.close(reading)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
