"""A headless Chromium, told what to do over a pipe (Chrome's DevTools protocol): for the checks of pages that people look at.

Nothing but the standard library is needed beside the browser (Debian's package `chromium`); the tests that use it are skipped
without one.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Becomes the browser, with two of its own open files as those that the protocol speaks through.
WIRE = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
SECONDS = 120.0  # for one answer: this is no measurement, the machine may be busy


def found() -> str | None:
    """The browser of this machine; `KVPLAN_CHROMIUM` names another."""
    named = os.environ.get("KVPLAN_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One page of the browser: what it said, what it asked for, and what is done with it."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number, self._rest = 0, b""
        self.session = ""
        self.said: list[str] = []  # errors and warnings of the console, exceptions, violations of the policy
        self.requests: list[str] = []

    def send(self, method: str, **params: Any) -> Any:
        """A command, and its result."""
        self._number += 1
        wanted = self._number
        message: dict[str, Any] = {"id": wanted, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self) -> Any:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            read = os.read(self._read, 2**20)
            if not read:
                raise RuntimeError("the browser ended")
            self._rest += read
        one, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(one)
        self._heard(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _heard(self, method: str, params: Any) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.said.append(" ".join(str(arg.get("value", arg.get("description", ""))) for arg in params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"].get("exception", {}).get("description", params["exceptionDetails"])))
        elif method == "Log.entryAdded":
            self.said.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, path: Path) -> None:
        """A file, until it is loaded and drawn."""
        self.send("Performance.enable", timeDomain="threadTicks")  # processor time, whoever else uses the machine
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=path.resolve().as_uri())
        while self.run("document.readyState") != "complete":
            time.sleep(0.05)
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        told = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"].get("exception", {}).get("description", str(told)))
        return told["result"].get("value")

    def key(self, name: str, code: int, text: str = "") -> None:
        """One key, pressed and let go."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **more)

    def look(self, target: Path, width: int, *, dark: bool = False, scale: float = 1.0, most: int = 16_000) -> None:
        """A picture of the whole page at a width."""
        self.resize(width, dark=dark)
        height = min(most, int(self.run("document.documentElement.scrollHeight")))
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.run("new Promise((done) => setTimeout(done, 150))")
        told = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        target.write_bytes(base64.b64decode(told["data"]))

    def resize(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """A window of another size, light or dark."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def pdf(self, target: Path) -> None:
        """What a printer gets."""
        self.send("Emulation.clearDeviceMetricsOverride")
        told = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True, paperWidth=8.27, paperHeight=11.69)
        target.write_bytes(base64.b64decode(told["data"]))

    def seconds(self) -> float:
        """Processor time that the page took, script, style and layout together."""
        found = {one["name"]: one["value"] for one in self.send("Performance.getMetrics")["metrics"]}
        return float(found["TaskDuration"])


@contextmanager
def tab() -> Iterator[Tab]:
    """A fresh browser with one empty page, ended when the block ends.

    Raises:
        FileNotFoundError: there is no browser.
    """
    browser = found()
    if browser is None:
        raise FileNotFoundError("no Chromium on this machine: apt-get install chromium")
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        command += ["--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "about:blank"]

        wired = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_browser, from_browser)]
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", WIRE, *map(str, wired), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=wired,
        )
        for end in (*wired, to_browser, from_browser):
            os.close(end)
        try:
            made = Tab(from_us, to_us)
            target = next(one for one in made.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
            made.session = made.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
            yield made
        finally:
            os.close(from_us)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_us)
