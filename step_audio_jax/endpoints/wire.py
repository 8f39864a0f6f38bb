"""One POST over HTTP: bytes to and fro, within a time and a size.

`Wire` reads an answer whole, `Streamed` line by line.

No redirect is followed, for the key would go along. An answer that comes byte
by byte, its head included, is cut off when its time is over.
"""

import contextlib
import functools
import http.client
import socket
import threading
from typing import Mapping, NamedTuple
import urllib.request

from step_audio_jax import retries

_PIECE = 2**16  # bytes that are read at once


class Answer(NamedTuple):
  """What came back.

  Attributes:
    status: Of HTTP.
    headers: Their case does not matter.
    body: Its bytes.
  """

  status: int
  headers: Mapping[str, str]
  body: bytes


class Wire:
  """Connections of one client; said to from several threads."""

  def __init__(self):
    """None yet."""
    self._lock = threading.Lock()
    self._open: set[socket.socket] = set()
    self._is_over = False

  def post(
    self,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connect: float,
    seconds: float,
    most_bytes: int,
  ) -> Answer:
    """Sends bytes, and reads what comes back.

    Args:
      url: Where to, http or https.
      body: What is sent.
      headers: Sent, too.
      connect: Seconds until a connection stands.
      seconds: Of all together.
      most_bytes: Of an answer.

    Raises:
      Transient: Nobody answered, not in time, not to the end, or without end.
    """
    mine: list[socket.socket] = []
    opener = _opener(functools.partial(self._held, mine, seconds))
    request = urllib.request.Request(url, body, dict(headers), method='POST')
    is_late = threading.Event()  # before anybody sees an end that it made

    def end():
      is_late.set()
      self._end(mine)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
      with opener.open(request, timeout=min(connect, seconds)) as response:
        parts, size = [], 0
        while part := response.read1(_PIECE):
          parts.append(part)
          size += len(part)
          if size > most_bytes:
            raise retries.Transient(f'more than {most_bytes} bytes')
        if response.length:  # of what was announced, this is left
          raise retries.Transient('cut')
        if is_late.is_set():
          raise retries.Transient('time-out')
        return Answer(response.status, response.headers, b''.join(parts))
    except TimeoutError as error:
      raise retries.Transient('time-out') from error
    except (OSError, http.client.HTTPException) as error:
      if is_late.is_set():
        raise retries.Transient('time-out') from error
      raise retries.Transient(_told(error)) from error
    finally:
      timer.cancel()
      with self._lock:
        self._open.difference_update(mine)

  def hang_up(self) -> None:
    """Ends what is under way, and all that is begun later."""
    with self._lock:
      self._is_over = True
      held = list(self._open)
    self._end(held)

  def _held(self, mine, seconds, connection) -> None:
    """A connection stands: whoever is in a hurry can end it."""
    connection.sock.settimeout(seconds)  # a model may think before it speaks
    with self._lock:
      mine.append(connection.sock)
      self._open.add(connection.sock)
      is_over = self._is_over
    if is_over:
      self._end(mine)

  def _end(self, sockets) -> None:
    for one in list(sockets):
      try:
        # Not that of TLS, which is no other thread's to end.
        socket.socket.shutdown(one, socket.SHUT_RDWR)
      except OSError:
        pass  # it has ended by itself


class Streamed:
  """An answer that comes line by line; ended from any thread.

  Attributes:
    status: Of HTTP.
    headers: Their case does not matter.
  """

  def __init__(
    self,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connect: float,
    silence: float,
  ):
    """Asks nobody yet.

    Args:
      url: Where to, http or https.
      body: What is sent.
      headers: Sent, too.
      connect: Seconds until a connection stands.
      silence: Seconds without a byte, at most.
    """
    self._wire, self._mine = Wire(), []
    self._request = urllib.request.Request(
      url, body, dict(headers), method='POST'
    )
    self._connect, self._silence = connect, silence
    self._response: http.client.HTTPResponse | None = None
    self.status, self.headers = 0, {}

  def begin(self) -> None:
    """Sends what is asked, and reads the head of the answer.

    Raises:
      Transient: Nobody answered, or not in time.
    """
    hold = functools.partial(self._wire._held, self._mine, self._silence)
    with _as_transient():
      response = _opener(hold).open(self._request, timeout=self._connect)
    self._response = response
    self.status, self.headers = response.status, response.headers

  def line(self, most_bytes: int) -> bytes:
    """The next line with its end; nothing behind the last one.

    Raises:
      Transient: It did not come, not in time, or has no end.
    """
    with _as_transient():
      found = self._response.readline(most_bytes + 1)
    if len(found) > most_bytes:
      raise retries.Transient(f'more than {most_bytes} bytes in a line')
    return found

  def rest(self, most_bytes: int) -> bytes:
    """The rest of the answer, or its beginning.

    Raises:
      Transient: As `line`.
    """
    with _as_transient():
      return self._response.read(most_bytes)

  def end(self) -> None:
    """Hangs up; who waits for a line does so no longer."""
    self._wire.hang_up()

  def close(self) -> None:
    """Lets go of it, in the thread that reads it."""
    if self._response is not None:
      self._response.close()


@contextlib.contextmanager
def _as_transient():
  try:
    yield
  except TimeoutError as error:
    raise retries.Transient('time-out') from error
  except (OSError, http.client.HTTPException) as error:
    raise retries.Transient(_told(error)) from error


class _Any(urllib.request.HTTPErrorProcessor):
  """Every status is an answer, a redirect, too."""

  def http_response(self, request, response):
    return response

  https_response = http_response


def _opener(hold) -> urllib.request.OpenerDirector:
  """Opens connections, each of which `hold` is shown."""

  def shown(kind):
    class Shown(kind):
      def connect(self):
        super().connect()
        hold(self)

    return Shown

  class Plain(urllib.request.HTTPHandler):
    def http_open(self, request):
      return self.do_open(shown(http.client.HTTPConnection), request)

  class Secure(urllib.request.HTTPSHandler):
    def https_open(self, request):
      kind = shown(http.client.HTTPSConnection)
      return self.do_open(kind, request, context=self._context)

  return urllib.request.build_opener(_Any, Plain, Secure)


def _told(error: Exception) -> str:
  """In a few words, as it is counted."""
  reason = getattr(error, 'reason', error)
  if isinstance(reason, TimeoutError):
    return 'time-out'
  if isinstance(error, http.client.IncompleteRead):
    return 'cut'
  return getattr(reason, 'strerror', None) or type(reason).__name__
