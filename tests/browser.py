"""A real Chromium without a window, for tests of our pages.

It is driven by its own DevTools protocol over two pipes, which takes nothing
beyond the standard library:

    @browser.needed
    def test_page(tmp_path):
      with browser.start() as chromium:
        page = chromium.open(tmp_path / 'page.html')
        page.press('Tab', 'Enter', 'Shift+Tab', '3')
        assert page.value('document.title') == 'Listen'
        assert page.outside() == [] and page.faults == []

Each page has a profile of its own, so no test sees what another stored. Nothing
of a page reaches the network: no name resolves, this machine's alone where
`start(loopback=True)` says so, and `outside` tells what it asked for. A
recording is the microphone of all pages with `start(microphone=…)`.
"""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator

import pytest

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
WHY_NOT = (
  'no Chromium is installed: `apt-get install chromium`, or name one, '
  'CHROMIUM=/path/to/chrome'
)
_SECONDS = 30.0  # for any answer
_FLAGS = (
  '--headless=new',
  '--remote-debugging-pipe',
  '--no-sandbox',  # which containers and root do not have; the pages are ours
  '--no-first-run',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--mute-audio',
)
_ALONE = '--host-resolver-rules=MAP * ~NOTFOUND'
# Chromium reads commands from descriptor 3 and writes to 4.
_BECOME = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
os.dup2(ends[0], 3); os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
# Key → its code and its number on Windows, where they are not its letter's.
_KEYS = {
  'Enter': ('Enter', 13, '\r'),
  'Space': ('Space', 32, ' '),
  'Tab': ('Tab', 9, ''),
  'Escape': ('Escape', 27, ''),
  'Backspace': ('Backspace', 8, ''),
  'Home': ('Home', 36, ''),
  'End': ('End', 35, ''),
  'PageUp': ('PageUp', 33, ''),
  'PageDown': ('PageDown', 34, ''),
  'ArrowLeft': ('ArrowLeft', 37, ''),
  'ArrowUp': ('ArrowUp', 38, ''),
  'ArrowRight': ('ArrowRight', 39, ''),
  'ArrowDown': ('ArrowDown', 40, ''),
}
_MODIFIERS = {'Alt': 1, 'Control': 2, 'Meta': 4, 'Shift': 8}


def find() -> str | None:
  """Path of a Chromium: `$CHROMIUM`, or one of the usual names."""
  named = os.environ.get('CHROMIUM')
  return named or next(filter(None, map(shutil.which, _NAMES)), None)


needed = pytest.mark.skipif(not find(), reason=WHY_NOT)


def _stroke(key: str) -> tuple[dict[str, Any], str]:
  """A key as the protocol has it, and the text that it writes."""
  *held, name = key.split('+') if len(key) > 1 else [key]
  if name in _KEYS:
    code, number, text = _KEYS[name]
  else:
    kind = 'Digit' if name.isdigit() else 'Key'
    code, number, text = f'{kind}{name.upper()}', ord(name.upper()), name
  told = {
    'key': ' ' if name == 'Space' else name,
    'code': code,
    'windowsVirtualKeyCode': number,
    'modifiers': sum(_MODIFIERS[one] for one in held),
  }
  return told, '' if set(held) - {'Shift'} else text


class Browser:
  """A running Chromium; `start` makes one."""

  def __init__(self, commands: int, answers: int):
    self._commands, self._answers = commands, answers
    self._rest, self._last = b'', 0
    self._pages: dict[str, Page] = {}

  def open(
    self,
    source: str | os.PathLike,
    *,
    width: int = 1100,
    height: int = 800,
    dark: bool = False,
    downloads: str | os.PathLike | None = None,
  ) -> 'Page':
    """A new page, in a profile of its own, loaded.

    Args:
      source: A file, or an address.
      width: CSS pixels.
      height: CSS pixels.
      dark: What `prefers-color-scheme` says.
      downloads: Folder that gets what the page saves.
    """
    context = self.call('Target.createBrowserContext')['browserContextId']
    if downloads is not None:
      self.call(
        'Browser.setDownloadBehavior',
        behavior='allow',
        browserContextId=context,
        downloadPath=str(downloads),
      )
    target = self.call(
      'Target.createTarget', url='about:blank', browserContextId=context
    )['targetId']
    session = self.call('Target.attachToTarget', targetId=target, flatten=True)[
      'sessionId'
    ]
    page = self._pages[session] = Page(self, session)
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      page.call(f'{domain}.enable')
    page.resize(width, height)
    page.colours(dark)
    page.go(source)
    return page

  def call(self, method: str, session: str | None = None, **params) -> Any:
    """One command of the protocol; its result."""
    self._last += 1
    number = self._last
    told = {'id': number, 'method': method, 'params': params}
    if session:
      told['sessionId'] = session
    raw = json.dumps(told).encode() + b'\0'
    while raw:
      raw = raw[os.write(self._commands, raw) :]
    end = time.monotonic() + _SECONDS
    while True:
      answer = self._read(end)
      assert answer is not None, f'{method}: no answer in {_SECONDS} s'
      if answer.get('id') == number:
        assert 'error' not in answer, f'{method}: {answer["error"]}'
        return answer['result']

  def listen(self, seconds: float) -> None:
    """Takes in what happens for so long."""
    end = time.monotonic() + seconds
    while self._read(end) is not None:
      pass

  def _read(self, end: float) -> dict[str, Any] | None:
    """The next message; None where there is none until then."""
    while b'\0' not in self._rest:
      left = max(0.0, end - time.monotonic())
      if not select.select([self._answers], [], [], left)[0]:
        return None
      part = os.read(self._answers, 2**16)
      assert part, 'Chromium ended'
      self._rest += part
    raw, _, self._rest = self._rest.partition(b'\0')
    message = json.loads(raw)
    page = self._pages.get(message.get('sessionId', ''))
    if page and 'method' in message:
      page.hear(message['method'], message['params'])
    return message


class Page:
  """One page.

  Attributes:
    requests: Every address that it asked for, those of files and data too.
    faults: Errors of its scripts and what its console calls an error.
  """

  def __init__(self, browser: Browser, session: str):
    self._browser, self._session = browser, session
    self.requests: list[str] = []
    self.faults: list[str] = []
    self._loads = 0

  def call(self, method: str, **params) -> Any:
    """One command of the protocol, to this page."""
    return self._browser.call(method, self._session, **params)

  def hear(self, method: str, told: dict[str, Any]) -> None:
    """Takes in an event."""
    if method == 'Page.loadEventFired':
      self._loads += 1
    elif method == 'Network.webSocketCreated':
      self.requests.append(told['url'])
    elif method == 'Network.requestWillBeSent':
      self.requests.append(told['request']['url'])
    elif method == 'Runtime.exceptionThrown':
      details = told['exceptionDetails']
      self.faults.append(
        details.get('exception', {}).get('description', details['text'])
      )
    elif method == 'Log.entryAdded' and told['entry']['level'] == 'error':
      self.faults.append(told['entry']['text'])
    elif method == 'Runtime.consoleAPICalled' and told['type'] == 'error':
      self.faults.append(str([a.get('value') for a in told['args']]))

  def go(self, source: str | os.PathLike) -> None:
    """Loads a file or an address, to its end."""
    text = str(source)
    if '://' not in text:
      text = pathlib.Path(source).resolve().as_uri()
    before = self._loads
    found = self.call('Page.navigate', url=text)
    assert not found.get('errorText'), f'{text}: {found["errorText"]}'
    self._await_load(before)

  def reload(self) -> None:
    """Loads the page again; what it stored is still there."""
    # What a page stores reaches the next one through another process.
    self._browser.listen(0.2)
    before = self._loads
    self.call('Page.reload')
    self._await_load(before)

  def _await_load(self, before: int) -> None:
    end = time.monotonic() + _SECONDS
    while self._loads == before:
      assert time.monotonic() < end, 'the page does not load'
      self._browser.listen(0.02)

  def value(self, expression: str) -> Any:
    """What an expression of JavaScript is, promises awaited, as JSON."""
    found = self.call(
      'Runtime.evaluate',
      expression=expression,
      awaitPromise=True,
      returnByValue=True,
      userGesture=True,
    )
    told = found.get('exceptionDetails')
    assert not told, told and told.get('exception', {}).get('description')
    return found['result'].get('value')

  def wait(self, expression: str, seconds: float = 10.0) -> Any:
    """Waits until an expression is true; returns it."""
    end = time.monotonic() + seconds
    while not (found := self.value(expression)):
      assert time.monotonic() < end, f'not in {seconds} s: {expression}'
      self._browser.listen(0.02)
    return found

  def press(self, *keys: str) -> None:
    """Presses keys, one after the other: 'a', 'Enter', 'Shift+Tab'."""
    for key in keys:
      self.hold(key)
      self.let_go(key)

  def hold(self, key: str) -> None:
    """Presses a key, and keeps it down."""
    told, text = _stroke(key)
    if text:
      self.call('Input.dispatchKeyEvent', type='keyDown', text=text, **told)
    else:
      self.call('Input.dispatchKeyEvent', type='rawKeyDown', **told)

  def let_go(self, key: str) -> None:
    """Ends what `hold` began."""
    self.call('Input.dispatchKeyEvent', type='keyUp', **_stroke(key)[0])

  def write(self, text: str) -> None:
    """Types a text into what has the focus."""
    self.press(*['Space' if letter == ' ' else letter for letter in text])

  def click(self, selector: str) -> None:
    """Clicks into the middle of an element, scrolled into view."""
    x, y = self.value(
      f"""(() => {{
        const one = document.querySelector({json.dumps(selector)});
        one.scrollIntoView({{block: 'center'}});
        const box = one.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      }})()"""
    )
    for kind in ('mousePressed', 'mouseReleased'):
      self.call(
        'Input.dispatchMouseEvent',
        type=kind,
        x=x,
        y=y,
        button='left',
        clickCount=1,
      )

  def resize(self, width: int, height: int) -> None:
    """Sets the window, CSS pixels."""
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=False,
    )

  def colours(self, dark: bool) -> None:
    """Sets `prefers-color-scheme`."""
    value = 'dark' if dark else 'light'
    self.call(
      'Emulation.setEmulatedMedia',
      features=[{'name': 'prefers-color-scheme', 'value': value}],
    )

  def outside(self, *own: str) -> list[str]:
    """What it asked for that is neither a file nor in the page itself.

    Args:
      *own: What addresses of its own server begin with.
    """
    self._browser.listen(0.05)
    inside = ('file:', 'data:', 'blob:', 'about:', *own)
    return [url for url in self.requests if not url.startswith(inside)]

  def unnamed(self) -> list[str]:
    """Controls that a screen reader cannot name, by their role."""
    self.call('Accessibility.enable')
    roles = {
      *('button', 'checkbox', 'combobox', 'link', 'radio', 'slider'),
      *('spinbutton', 'switch', 'tab', 'textbox'),
    }
    found = []
    for node in self.call('Accessibility.getFullAXTree')['nodes']:
      role = node.get('role', {}).get('value')
      name = node.get('name', {}).get('value', '')
      if role in roles and not node['ignored'] and not name.strip():
        found.append(role)
    return found

  def screenshot(self, path: str | os.PathLike) -> None:
    """Writes what is seen as a PNG."""
    raw = base64.b64decode(self.call('Page.captureScreenshot')['data'])
    pathlib.Path(path).write_bytes(raw)


@contextlib.contextmanager
def start(
  *,
  loopback: bool = False,
  microphone: str | os.PathLike | None = None,
) -> Iterator[Browser]:
  """Starts a Chromium, and ends it.

  Args:
    loopback: Whether pages reach servers at 127.0.0.1.
    microphone: A wav that is what pages hear, from its start each time that
      they begin to listen; they are allowed to.
  """
  program = find()
  assert program, WHY_NOT
  flags = [*_FLAGS, _ALONE + (', EXCLUDE 127.0.0.1' if loopback else '')]
  if microphone is not None:
    flags += [
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      f'--use-file-for-fake-audio-capture={microphone}%noloop',
    ]
  their_in, commands = os.pipe()
  answers, their_out = os.pipe()
  # Chromium may still write into its profile when it has answered `close`.
  profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
  with profile as folder:
    words = [sys.executable, '-S', '-c', _BECOME, str(their_in), str(their_out)]
    with subprocess.Popen(
      [*words, program, *flags, f'--user-data-dir={folder}', 'about:blank'],
      pass_fds=(their_in, their_out),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    ) as process:
      os.close(their_in)
      os.close(their_out)
      try:
        yield (chromium := Browser(commands, answers))
        chromium.call('Browser.close')
        process.wait(_SECONDS)
      finally:
        process.kill()
        os.close(commands)
        os.close(answers)
