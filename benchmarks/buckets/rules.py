"""What a request of a bucket asks for, and which fault it is met with."""

import dataclasses
import json
import random
import re
from typing import Iterable, Sequence
import urllib.parse

# Before the server is asked:
#   refuse  the connection is reset before the body of the request was read;
#   drop    ... once it was read;
#   answer  an error is answered.
# Once the server has done what was asked:
#   lose    the connection is reset instead of an answer;
#   half    it ends half-way through the body of the answer;
#   stall   the second half comes late;
#   late    the answer comes late.
FAULTS = ('refuse', 'drop', 'answer', 'lose', 'half', 'stall', 'late')

_GOOGLE = re.compile(
  r'(/download|/upload|/batch)?(?:/storage/v1)?'
  r'(?:/b/(?P<bucket>[^/]+)(?:/(?P<objects>o)(?:/(?P<name>[^/]+))?)?)?'
  r'(?:/(?P<action>copyTo|rewriteTo)/b/(?P<into>[^/]+)/o/(?P<copy>[^/]+)|/.*)?'
)
_NAME = re.compile(rb'"name":\s*("(?:[^"\\]|\\.)*")')


@dataclasses.dataclass
class Asked:
  """One request.

  Attributes:
    op: 'get', 'head', 'list', 'put', 'start' (an upload of several requests),
      'copy', 'delete', 'batch' or 'other'.
    method: Of HTTP.
    name: 'bucket/object', of a copy the one that is made; 'bucket/' of what
      asks for no object.
    range: The header, or ''.
    status: Of the answer; 0 where there was none.
    sent: Bytes of the request's body.
    got: Bytes of the answer's body, as far as they were given on.
    fault: Which it was met with, or ''.
  """

  op: str
  method: str
  name: str
  range: str = ''
  status: int = 0
  sent: int = 0
  got: int = 0
  fault: str = ''


@dataclasses.dataclass
class Rule:
  """A fault, and whom it strikes.

  Attributes:
    fault: One of `FAULTS`.
    op: Of which requests; a pattern that has to match the whole of it.
    name: Of which objects; a pattern that is searched in 'bucket/object'.
    skip: How many of them go free first, those counted that another rule
      strikes.
    times: How many are struck then; -1 for all that follow.
    chance: How probable it is for each of them.
    status: Of an `answer`.
    retry_after: Seconds an `answer` asks to wait, or '' for no such header.
    seconds: How long a `stall` or a `late` takes.
  """

  fault: str
  op: str = '.*'
  name: str = ''
  skip: int = 0
  times: int = 1
  chance: float = 1.0
  status: int = 503
  retry_after: str = ''
  seconds: float = 1.0

  def __post_init__(self):
    if self.fault not in FAULTS:
      raise ValueError(f'{self.fault!r}: expected one of {FAULTS}.')


def storm(chance: float, times: int = -1, seconds: float = 0.2) -> list[Rule]:
  """Every fault that may be retried, each with its part of a chance.

  Args:
    chance: How probable it is that a request is met with a fault.
    times: How often each of the faults comes; -1 for no limit.
    seconds: How long those take that are slow.

  Returns:
    Rules.
  """
  kinds = [
    *({'fault': fault} for fault in FAULTS if fault != 'answer'),
    {'fault': 'answer', 'status': 429},
    {'fault': 'answer', 'status': 503},
    {'fault': 'answer', 'status': 503, 'retry_after': '0'},
    {'fault': 'answer', 'status': 500},
  ]
  # The first to strike wins, so those behind it get less of what is left.
  return [
    Rule(
      **kind,
      chance=chance / len(kinds) / (1 - chance * k / len(kinds)),
      times=times,
      seconds=seconds,
    )
    for k, kind in enumerate(kinds)
  ]


class Plan:
  """Rules in their order, of which the first that strikes wins."""

  def __init__(self, rules: Iterable[Rule] = (), seed: int = 0):
    self._rules = [(rule, re.compile(rule.name)) for rule in rules]
    self._met = [0] * len(self._rules)
    self._left = [rule.times for rule, _ in self._rules]
    self._random = random.Random(seed)

  def strike(self, asked: Asked) -> Rule | None:
    """The rule that strikes a request, if any."""
    struck = None
    for k, (rule, name) in enumerate(self._rules):
      if not re.fullmatch(rule.op, asked.op) or not name.search(asked.name):
        continue
      self._met[k] += 1
      if struck or self._met[k] <= rule.skip or not self._left[k]:
        continue
      if self._random.random() < rule.chance:
        self._left[k] -= 1
        struck = rule
    return struck


def read(
  kind: str, method: str, target: str, headers: dict[str, str], body: bytes
) -> Asked:
  """What a request asks for.

  Args:
    kind: 'gcs' or 's3'.
    method: Of HTTP.
    target: Path and query.
    headers: By names in lower case.
    body: The first piece, or none.

  Returns:
    What it asks for, without what came of it.
  """
  path, _, query = target.partition('?')
  query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
  of = _google if kind == 'gcs' else _amazon
  op, bucket, name = of(method, path, query, headers, body)
  name = f'{urllib.parse.unquote(bucket)}/{urllib.parse.unquote(name)}'
  return Asked(op, method, name, headers.get('range', ''))


def _google(method, path, query, headers, body) -> Sequence[str]:
  del headers
  found = _GOOGLE.fullmatch(path)
  if not found or found[1] == '/batch':
    return 'batch' if found else 'other', '', ''
  bucket, name = found['bucket'] or '', found['name'] or ''
  if found[1] == '/upload':
    name = query.get('name', '')
    if not name and 'upload_id' in query:
      # The emulator's own: bucket, name and a time, with colons between.
      name = query['upload_id'].partition(':')[2].rsplit(':', 3)[0]
    elif not name and (given := _NAME.search(body)):
      name = json.loads(given[1])
    begins = query.get('uploadType') == 'resumable'
    op = 'start' if begins and 'upload_id' not in query else 'put'
    return op, bucket, urllib.parse.quote(name)
  if found['action']:
    return 'copy', found['into'], found['copy']
  if not found['objects']:
    return 'other', bucket, ''
  media = query.get('alt') == 'media' or found[1] == '/download'
  get = ('get' if media else 'head') if name else 'list'
  op = {'GET': get, 'DELETE': 'delete'}.get(method, 'other')
  return op, bucket, name


def _amazon(method, path, query, headers, body) -> Sequence[str]:
  del body
  bucket, _, name = path[1:].partition('/')
  if not name:
    if method == 'POST' and 'delete' in query:
      return 'batch', bucket, ''
    return 'list' if method == 'GET' and bucket else 'other', bucket, ''
  if method == 'POST':
    return 'start' if 'uploads' in query else 'put', bucket, name
  if method == 'PUT' and 'x-amz-copy-source' in headers:
    return 'copy', bucket, name
  ops = {'GET': 'get', 'HEAD': 'head', 'PUT': 'put', 'DELETE': 'delete'}
  return ops.get(method, 'other'), bucket, name
