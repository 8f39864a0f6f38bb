r"""Whatever a client may send: requests made of the server's own description.

    pip install schemathesis
    python benchmarks/dialogue/fuzz_http.py --examples 200
    python benchmarks/dialogue/fuzz_http.py --url http://127.0.0.1:8000

schemathesis reads `/openapi.json` and sends what fits it and what does not. No
status from 500 on (but "not now"), no reply of another shape or type than was
described, nothing taken that should be refused. Beside it a conversation goes
on, which has to be answered whole throughout. Without --url the server has
scripted models, so that the surface alone is looked at. Prints one JSON line
last; its status is 1 where something was found.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--url', help='Of a server that runs.')
  parser.add_argument('--model', default='scripted', help='Its name there.')
  parser.add_argument('--examples', type=int, default=100)
  parser.add_argument('--seconds', type=int, default=300)
  parser.add_argument('--seed', type=int, default=1)
  flags = parser.parse_args()
  with _server(flags.url) as url:
    other = _Conversation(url, flags.model)
    with other:
      found = _fuzzed(url, flags)
    found |= {
      'answered': other.answered,
      'unanswered': other.failed,
      'longest_seconds': round(other.longest, 3),
    }
    with urllib.request.urlopen(f'{url}/health') as response:
      found['health'] = json.load(response)['status']
  is_well = not (found['failures'] or other.failed) and other.answered
  print(json.dumps({**found, 'is_well': bool(is_well)}))
  return 0 if is_well and found['health'] == 'ready' else 1


@contextlib.contextmanager
def _server(url):
  if url:
    yield url.rstrip('/')
    return
  from tests.serving import running

  with running.running(most_bytes=2**20) as place:
    yield place.url


def _fuzzed(url, flags):
  """What schemathesis says."""
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'schemathesis.cli', 'run'),
        *(f'{url}/openapi.json', '--no-color', '--workers', '2'),
        *('--max-examples', str(flags.examples), '--seed', str(flags.seed)),
        *('--max-time', str(flags.seconds), '--continue-on-failure'),
        # No schema says which voices there are, or what follows what in a chat.
        *('--exclude-checks', 'positive_data_acceptance'),
      ],
      capture_output=True,
      text=True,
      check=False,
      cwd=folder,
    )
  print(done.stdout, done.stderr, file=sys.stderr)
  counted = re.search(r'(\d+) generated', done.stdout)
  if counted is None:
    raise SystemExit('schemathesis did not run: pip install schemathesis.')
  failed = re.search(r'(\d+) (?:found|unique failures|failed)', done.stdout)
  failures = int(failed[1]) if failed else int(done.returncode != 0)
  return {'requests': int(counted[1]), 'failures': failures}


class _Conversation(threading.Thread):
  """Somebody else, who is answered all the while."""

  def __init__(self, url, model):
    super().__init__(daemon=True)
    self._url, self._over = f'{url}/v1/chat/completions', threading.Event()
    message = {'role': 'user', 'content': 'Hello.'}
    self._body = json.dumps({'model': model, 'messages': [message]}).encode()
    self.answered = self.failed = 0
    self.longest = 0.0

  def __enter__(self):
    self.start()
    return self

  def __exit__(self, *_):
    self._over.set()
    self.join()

  def run(self):
    headers = {'Content-Type': 'application/json'}
    while not self._over.wait(0.5):
      began = time.monotonic()
      request = urllib.request.Request(self._url, self._body, headers)
      try:
        with urllib.request.urlopen(request, timeout=30) as response:
          choice = json.load(response)['choices'][0]
        self.answered += bool(choice['message']['content'])
      except OSError:
        self.failed += 1
      self.longest = max(self.longest, time.monotonic() - began)


if __name__ == '__main__':
  sys.exit(main())
