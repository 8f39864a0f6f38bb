"""A server of chat completions on loopback, with all that can be wrong."""

import contextlib
import http.server
import json
import threading
import time


def completion(text, finish='stop', model='tiny-2', **more):
  """The body of an answer."""
  message = {'role': 'assistant', 'content': text}
  choice = {'index': 0, 'message': message, 'finish_reason': finish}
  usage = {'prompt_tokens': 3, 'completion_tokens': 5}
  return {'choices': [choice], 'model': model, 'usage': usage, **more}


class Server:
  """What it answers is said by `answer`, a function of what it was asked.

  Attributes:
    url: Of its API.
    asked: Bodies of all requests, in the order in which they came.
    headers: Theirs.
    most: Requests that were under way at once.
  """

  def __init__(self, answer):
    """Answers with status 200 and JSON, a (status, body, headers), or by
    itself: a function of the handler.
    """
    self.asked, self.headers, self.most, self._now = [], [], 0, 0
    self._lock, self.answer = threading.Lock(), answer
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = 'HTTP/1.1'

      def do_POST(self):
        outer.serve(self)

      def log_message(self, *_):
        pass

    self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    self._server.daemon_threads = True
    self.url = f'http://127.0.0.1:{self._server.server_port}/v1'
    threading.Thread(
      target=self._server.serve_forever, args=(0.01,), daemon=True
    ).start()

  def serve(self, handler):
    """One request."""
    size = int(handler.headers['content-length'])
    asked = json.loads(handler.rfile.read(size))
    with self._lock:
      self.asked.append(asked)
      self.headers.append(dict(handler.headers))
      self._now += 1
      self.most = max(self.most, self._now)
    try:
      assert handler.path.startswith('/v1/chat/completions')
      found = self.answer(asked)
      if callable(found):
        return found(handler)
      status, body, headers = 200, found, {}
      if isinstance(found, tuple):
        status, body, headers = found
      if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers = {'Content-Type': 'application/json', **headers}
      handler.send_response(status)
      for name, value in headers.items():
        handler.send_header(name, value)
      handler.send_header('Content-Length', str(len(body)))
      handler.end_headers()
      handler.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
      pass
    finally:
      with self._lock:
        self._now -= 1

  def close(self):
    """Nobody listens any more."""
    self._server.shutdown()
    self._server.server_close()


@contextlib.contextmanager
def serving(answer):
  """A server for the length of a block."""
  server = Server(answer)
  try:
    yield server
  finally:
    server.close()


def said(asked):
  """The last message of a request."""
  return asked['messages'][-1]['content']


def dripping(handler):
  """Byte by byte, in its head."""
  for byte in b'HTTP/1.1 200 OK\r\nX-Slow: ' + b'y' * 2000:
    handler.wfile.write(bytes([byte]))
    time.sleep(0.02)


def cut(handler):
  """Announces more than it sends."""
  handler.send_response(200)
  handler.send_header('Content-Length', '500')
  handler.end_headers()
  handler.wfile.write(b'{"choices": [')
  handler.close_connection = True


def silent(handler):
  """Hangs up."""
  handler.close_connection = True


def endless(handler):
  """Never stops."""
  handler.send_response(200)
  handler.end_headers()
  while True:
    handler.wfile.write(b' ' * 65536)
