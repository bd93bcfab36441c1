"""Chromium without a window, driven over its DevTools pipe by Python's own library alone.

    with Browser() as browser:
        page = browser.open("memory.html")
        page.key("+")
        page.screenshot("memory.png")
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    # A page must come up without a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# Machines that test are shared: a page has this many seconds for what takes it one.
PATIENCE = 120


class BrowserError(Exception):
    """The browser is missing, went away, or refused a command."""


def executable():
    named = os.environ.get("CHROMIUM")
    found = [path for path in [named, *NAMES] if path and shutil.which(path)]
    if not found:
        raise BrowserError(f"no Chromium: none of {', '.join(NAMES)} is there; install one, or name it in CHROMIUM")
    return found[0]


class Browser:
    """A browser of its own, with a profile that is thrown away."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()
        # The browser reads commands at 3 and answers at 4.
        redirect = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = ["bash", "-c", redirect, "bash", executable(), *FLAGS, f"--user-data-dir={self.profile.name}"]
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, pass_fds=[to_browser, from_browser], stdout=self.errors, stderr=self.errors)
        os.close(to_browser)
        os.close(from_browser)
        self.sent = 0
        self.pending = b""
        self.pages = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (BrowserError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        self.profile.cleanup()

    def call(self, method, session=None, **params):
        """Gives a command and waits for its answer; what pages tell meanwhile goes to them."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            told = self._receive(method, deadline)
            if told.get("id") == self.sent:
                break
            if page := self.pages.get(told.get("sessionId")):
                page.hear(told)
        if "error" in told:
            raise BrowserError(f"{method}: {told['error']['message']}")
        return told["result"]

    def _write(self, rest):
        try:
            while rest:
                rest = rest[os.write(self.commands, rest) :]
        except BrokenPipeError:
            self._gone()

    def _receive(self, method, deadline):
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.answers], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError(f"{method}: no answer within {PATIENCE} seconds")
            part = os.read(self.answers, 1 << 16)
            if not part:
                self._gone()
            self.pending += part
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def _gone(self):
        self.errors.seek(0)
        raise BrowserError(f"the browser went away: {self.errors.read().decode(errors='replace')[-2000:]}")

    def open(self, target, width=1280, height=800, dark=False):
        """Opens a file or an address in a page of that size, light or dark, and waits until it has loaded."""
        is_address = "://" in str(target)
        address = str(target) if is_address else pathlib.Path(target).resolve(strict=True).as_uri()
        created = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", targetId=created["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], created["targetId"])
        self.pages[page.session] = page
        page.call("Runtime.enable")
        page.call("Page.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[theme])
        failed = page.call("Page.navigate", url=address).get("errorText")
        if failed:
            raise BrowserError(f"{address}: {failed}")
        page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page


KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "PageUp": 33, "PageDown": 34,
    "End": 35, "Home": 36, "Enter": 13, "Escape": 27, "Tab": 9,
}


class Page:
    """One page. Its mouse and keyboard are the browser's own: handlers cannot tell them from a person's."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target
        self.errors = []

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def hear(self, told):
        if told["method"] == "Runtime.exceptionThrown":
            details = told["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))

    def evaluate(self, expression):
        """The value of a JavaScript expression, or of what it promises."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            details = told["exceptionDetails"]
            raise BrowserError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return told["result"].get("value")

    def until(self, expression):
        """Waits until the expression holds."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise BrowserError(f"{expression}: does not hold within {PATIENCE} seconds")
            time.sleep(0.02)

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def settle(self):
        """Waits until what was done last is on the screen."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def mouse(self, what, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, **more)

    def hover(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.settle()

    def click(self, x, y):
        self.drag([(x, y)])

    def drag(self, places):
        """Presses at the first place, goes through the others, and lets go at the last."""
        pressed = {"button": "left", "clickCount": 1}
        self.mouse("mouseMoved", *places[0])
        self.mouse("mousePressed", *places[0], **pressed)
        for place in places[1:]:
            self.mouse("mouseMoved", *place, button="left", buttons=1)
        self.mouse("mouseReleased", *places[-1], **pressed)
        self.settle()

    def wheel(self, x, y, by, shift=False):
        # With shift, browsers turn some wheels' turns sideways; the page takes either.
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=by, modifiers=8 if shift else 0)
        self.settle()

    def key(self, key):
        code = KEYS.get(key) or (ord(key.upper()) if key.isalnum() else 0)
        about = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({} if key in KEYS else {"text": key}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)
        self.settle()

    def type(self, text):
        for letter in text:
            self.key(letter)

    def screenshot(self, path=None):
        """What is to be seen, as a PNG."""
        self.settle()
        png = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(path).write_bytes(png)
        return png

    def close(self):
        self.browser.pages.pop(self.session, None)
        self.browser.call("Target.closeTarget", targetId=self.target)
