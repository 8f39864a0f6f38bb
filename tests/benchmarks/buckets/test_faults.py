"""Every fault, as a plain client sees it, and what the proxy saw of it."""

import concurrent.futures
import contextlib
import http.client
import json
import time

import pytest

from benchmarks.buckets import faults
from benchmarks.buckets import rules
from benchmarks.buckets import servers

CONTENT = bytes(range(256)) * 4000  # more than one piece


@pytest.fixture(scope='module')
def pair():
  with servers.gcs(['bkt']) as server, faults.front(server) as front:
    yield server, front


@pytest.fixture
def front(pair):
  server, front = pair
  front.set(delay=0.0, rules=[])
  put(server, 'there', CONTENT)
  front.set(forget=True)
  return front


def put(server, name, content=b'x', more=''):
  path = f'/upload/storage/v1/b/bkt/o?uploadType=media&name={name}{more}'
  return servers.ask(server.port, 'POST', path, content)


def get(server, name='there', first=None, last=None):
  asked = {'Range': f'bytes={first}-{last}'} if last else {}
  path = f'/storage/v1/b/bkt/o/{name}?alt=media'
  return servers.ask(server.port, 'GET', path, headers=asked)


def test_what_is_asked_is_seen(pair, front):
  assert get(front)[1] == CONTENT
  assert get(front, 'there', 5, 9)[1] == CONTENT[5:10]
  assert put(front, 'new%20one', CONTENT)[0] == 200
  named = json.dumps({'name': 'in/the body'})
  body = (
    f'--b\r\nContent-Type: application/json\r\n\r\n{named}\r\n--b\r\n'
    'Content-Type: text/plain\r\n\r\nwords\r\n--b--'
  )
  path = '/upload/storage/v1/b/bkt/o?uploadType='
  kind = {'Content-Type': 'multipart/related; boundary=b'}
  assert (
    servers.ask(front.port, 'POST', f'{path}multipart', body, kind)[0] == 200
  )
  kind = {'Content-Type': 'application/json'}
  connection = http.client.HTTPConnection(servers.HOST, front.port)
  with contextlib.closing(connection):
    connection.request('POST', f'{path}resumable', named, kind)
    answer = connection.getresponse()
    answer.read()
    # What the server tells a client to go on with leads past the proxy again.
    link = answer.headers['Location'].removeprefix(front.url)
    connection.request('PUT', link, b'other words')
    assert connection.getresponse().read()
  base = '/storage/v1/b/bkt/o'
  copy = f'{base}/there/rewriteTo/b/bkt/o/copy'
  assert servers.ask(front.port, 'POST', copy)[0] == 200
  assert servers.ask(front.port, 'GET', f'{base}?prefix=t')[0] == 200
  assert servers.ask(front.port, 'GET', f'{base}/in%2Fthe%20body')[0] == 200
  assert servers.ask(front.port, 'DELETE', f'{base}/copy')[0] == 204
  assert servers.ask(front.port, 'GET', f'{base}/copy')[0] == 404
  seen = [(each.op, each.name, each.status) for each in front.asked]
  assert seen == [
    ('get', 'bkt/there', 200),
    ('get', 'bkt/there', 206),
    ('put', 'bkt/new one', 200),
    ('put', 'bkt/in/the body', 200),
    ('start', 'bkt/in/the body', 200),
    ('put', 'bkt/in/the body', 200),
    ('copy', 'bkt/copy', 200),
    ('list', 'bkt/', 200),
    ('head', 'bkt/in/the body', 200),
    ('delete', 'bkt/copy', 204),
    ('head', 'bkt/copy', 404),
  ]
  whole, part, sent, *_ = front.asked
  assert (whole.got, part.got, part.range) == (len(CONTENT), 5, 'bytes=5-9')
  assert sent.sent == len(CONTENT)
  assert front.count('get') == 2 and front.count(name='the body') == 4


def test_errors_are_answered_as_often_as_asked(front):
  front.set(
    rules=[
      rules.Rule('answer', 'get', 'there', status=429, retry_after='3'),
      rules.Rule('answer', 'get', 'there', skip=1, times=2),
      rules.Rule('answer', 'put', 'shut/', status=403, times=-1),
      rules.Rule('answer', skip=7, times=-1, status=401),
    ]
  )
  path = '/storage/v1/b/bkt/o/there?alt=media'
  connection = http.client.HTTPConnection(servers.HOST, front.port)
  with contextlib.closing(connection):
    connection.request('GET', path)
    answer = connection.getresponse()
    assert (answer.status, answer.headers['Retry-After']) == (429, '3')
    answer.read()
    found = []
    for _ in range(3):  # on the same connection
      connection.request('GET', path)
      answer = connection.getresponse()
      found.append(answer.status)
      answer.read()
  assert found == [503, 503, 200]
  status, body = put(front, 'shut/it')
  assert status == 403 and json.loads(body)['error']['code'] == 403
  assert [put(front, 'open')[0] for _ in range(5)] == [200, 200, 401, 401, 401]
  assert [each.fault for each in front.asked].count('answer') == 7


def test_cuts_before_the_server_is_asked(pair, front):
  server, _ = pair
  for fault in ('refuse', 'drop'):
    front.set(rules=[rules.Rule(fault, 'put')])
    with pytest.raises(ConnectionError):
      put(front, fault, CONTENT)
    assert get(server, fault)[0] == 404
    assert put(front, fault, CONTENT)[0] == 200
    assert get(server, fault)[1] == CONTENT
  refused, _, dropped, _ = front.asked
  assert (refused.sent, dropped.sent) == (0, len(CONTENT))
  assert refused.status == dropped.status == 0


def test_a_lost_answer_leaves_the_object(front):
  front.set(rules=[rules.Rule('lose', 'put')])
  once = '&ifGenerationMatch=0'
  with pytest.raises(ConnectionError):
    put(front, 'lost', CONTENT, once)
  assert put(front, 'lost', CONTENT, once)[0] == 412
  assert get(front, 'lost')[1] == CONTENT


def test_half_a_body_is_told_to_be_whole(front):
  front.set(rules=[rules.Rule('half', 'get', times=2)])
  for first, last in ((None, None), (100, 199)):
    with pytest.raises(http.client.IncompleteRead) as error:
      get(front, 'there', first, last)
    whole = CONTENT[first : last and last + 1]
    assert error.value.partial == whole[: len(whole) // 2]
  assert get(front)[1] == CONTENT


def test_slow_answers(front):
  for rule in (
    rules.Rule('stall', 'get', seconds=0.3),
    rules.Rule('late', 'get', seconds=0.3),
  ):
    front.set(rules=[rule])
    start = time.monotonic()
    assert get(front)[1] == CONTENT
    assert time.monotonic() - start >= 0.3
    front.set(rules=[rule])
    with pytest.raises(TimeoutError):
      path = '/storage/v1/b/bkt/o/there?alt=media'
      servers.ask(front.port, 'GET', path, timeout=0.1)


def test_requests_are_delayed_side_by_side(front):
  front.set(delay=0.2)
  start = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    assert all(pool.map(lambda _: get(front, 'there', 0, 9)[1], range(32)))
  assert 0.4 <= time.monotonic() - start < 2
  assert 16 <= front.most_under_way < 20  # those given up on still wait


def test_a_server_that_dies_cuts(pair, front):
  server, _ = pair
  server.kill()
  with pytest.raises(ConnectionError):
    get(front)
  server.start()
  server.make_bucket('bkt')
  assert get(front)[0] == 404


def test_a_storm_is_the_same_by_its_seed():
  asked = rules.Asked('get', 'GET', 'bkt/x')

  def struck(seed):
    plan = rules.Plan(rules.storm(0.2), seed)
    found = [plan.strike(asked) for _ in range(5000)]
    return [rule and (rule.fault, rule.status) for rule in found]

  found = struck(1)
  assert found == struck(1) != struck(2)
  assert 900 < sum(map(bool, found)) < 1100
  shares = {each: found.count(each) for each in set(found) if each}
  assert min(shares.values()) > 60 and len(shares) == 9


def test_s3_is_met_with_its_own_errors(monkeypatch):
  import boto3
  from botocore import config
  from botocore import exceptions

  with servers.s3(['bkt']) as server, faults.front(server) as front:
    for name, value in front.environment.items():
      monkeypatch.setenv(name, value)
    once = config.Config(retries={'total_max_attempts': 1})
    client = boto3.client('s3', config=once)
    client.put_object(Bucket='bkt', Key='a b', Body=CONTENT)
    front.set(
      rules=[
        rules.Rule('answer', 'get'),
        rules.Rule('answer', 'get', status=403, skip=1),
        rules.Rule('half', 'get', skip=2),
        rules.Rule('lose', 'put'),
      ]
    )
    for code in ('SlowDown', 'AccessDenied'):
      with pytest.raises(exceptions.ClientError) as error:
        client.get_object(Bucket='bkt', Key='a b')
      assert error.value.response['Error']['Code'] == code
    found = client.get_object(Bucket='bkt', Key='a b')
    with pytest.raises(exceptions.ResponseStreamingError):
      found['Body'].read()
    with pytest.raises(exceptions.HTTPClientError):
      client.put_object(Bucket='bkt', Key='new', Body=b'1', IfNoneMatch='*')
    with pytest.raises(exceptions.ClientError, match='PreconditionFailed'):
      client.put_object(Bucket='bkt', Key='new', Body=b'1', IfNoneMatch='*')
    client.copy_object(Bucket='bkt', Key='c', CopySource='bkt/new')
    client.delete_object(Bucket='bkt', Key='new')
    assert client.list_objects_v2(Bucket='bkt')['KeyCount'] == 2
    seen = [(each.op, each.name) for each in front.asked]
    assert seen == [
      *[('put', 'bkt/a b')],
      *[('get', 'bkt/a b')] * 3,
      *[('put', 'bkt/new')] * 2,
      ('copy', 'bkt/c'),
      ('delete', 'bkt/new'),
      ('list', 'bkt/'),
    ]
