"""Servers of buckets do what the real ones do, as far as this code asks."""

import concurrent.futures
import http.client
import json
import os
import random
import subprocess
import sys
import time
import urllib.parse

import pytest

from benchmarks.buckets import servers

NAMES = (
  'plain',
  'a space',
  'a+b%20c&d=e#f?g',
  'Грüße/日本',
  'up/../down',
  'two//slashes',
  'folder/',
  '~._-*()\'"',
)


@pytest.fixture(scope='module')
def gcs():
  with servers.gcs(['bkt', 'other']) as server:
    yield server


@pytest.fixture(scope='module')
def s3():
  with servers.s3(['bkt']) as server:
    yield server


def quoted(name):
  return urllib.parse.quote(name, safe='')


def ask(server, method, path, body=None, headers=None):
  """Status, headers and body of an answer."""
  connection = http.client.HTTPConnection(servers.HOST, server.port, timeout=9)
  connection.request(method, path, body, headers or {})
  answer = connection.getresponse()
  out = answer.status, dict(answer.headers), answer.read()
  connection.close()
  return out


def put(server, name, content=b'x', bucket='bkt', **query):
  query = {'uploadType': 'media', 'name': name, **query}
  path = f'/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}'
  status, _, body = ask(server, 'POST', path, content)
  return status, json.loads(body)


def media(server, name, headers=None, query=''):
  path = f'/storage/v1/b/bkt/o/{quoted(name)}?alt=media{query}'
  return ask(server, 'GET', path, headers=headers)


def listed(server, **query):
  path = f'/storage/v1/b/bkt/o?{urllib.parse.urlencode(query)}'
  status, _, body = ask(server, 'GET', path)
  assert status == 200
  return json.loads(body)


def test_names_are_only_names(gcs):
  for name in NAMES:
    assert put(gcs, name, name.encode())[0] == 200
  for name in NAMES:
    assert media(gcs, name)[2] == name.encode()
  names = [each['name'] for each in listed(gcs)['items']]
  assert set(NAMES) <= set(names) and names == sorted(names)
  for name in ('..', '.', 'a\nb', 'x' * 1025):
    assert put(gcs, name)[0] == 400


def test_empty_objects_and_generations(gcs):
  first = put(gcs, 'empty', b'')[1]
  second = put(gcs, 'empty', b'')[1]
  assert first['size'] == '0' and first['metageneration'] == '1'
  assert int(second['generation']) > int(first['generation'])
  assert first['crc32c'] == 'AAAAAA==' and first['md5Hash']
  status, headers, body = media(gcs, 'empty')
  assert (status, body) == (200, b'')
  assert headers['X-Goog-Generation'] == second['generation']
  old = f'&generation={first["generation"]}'
  assert media(gcs, 'empty', query=old)[0] == 404


@pytest.mark.parametrize(
  'asked, status, content, told',
  [
    ('bytes=0-2', 206, b'012', 'bytes 0-2/10'),
    ('bytes=7-99', 206, b'789', 'bytes 7-9/10'),
    ('bytes=4-', 206, b'456789', 'bytes 4-9/10'),
    ('bytes=-3', 206, b'789', 'bytes 7-9/10'),
    ('bytes=-30', 206, b'0123456789', 'bytes 0-9/10'),
    ('bytes=10-12', 416, None, 'bytes */10'),
    ('lines=1-2', 200, b'0123456789', None),
  ],
)
def test_ranges(gcs, asked, status, content, told):
  put(gcs, 'digits', b'0123456789')
  found = media(gcs, 'digits', {'Range': asked})
  assert found[0] == status and found[1].get('Content-Range') == told
  assert content in (None, found[2])


def test_preconditions_hold(gcs):
  status, meta = put(gcs, 'once', b'1', ifGenerationMatch=0)
  assert status == 200
  status, error = put(gcs, 'once', b'2', ifGenerationMatch=0)
  assert status == 412
  assert error['error']['errors'][0]['reason'] == 'conditionNotMet'
  now = meta['generation']
  assert put(gcs, 'once', b'3', ifGenerationMatch=int(now) + 1)[0] == 412
  assert put(gcs, 'once', b'3', ifGenerationNotMatch=now)[0] == 412
  assert media(gcs, 'once', query=f'&ifGenerationNotMatch={now}')[0] == 304
  assert media(gcs, 'once', query='&ifGenerationMatch=7')[0] == 412
  assert media(gcs, 'once')[2] == b'1'
  path = '/storage/v1/b/bkt/o/once'
  copy = f'{path}/rewriteTo/b/bkt/o/twice'
  assert ask(gcs, 'DELETE', f'{path}?ifGenerationMatch=7')[0] == 412
  assert ask(gcs, 'POST', f'{copy}?ifSourceGenerationMatch=7')[0] == 412
  assert ask(gcs, 'POST', f'{copy}?ifGenerationMatch=0')[0] == 200
  assert ask(gcs, 'POST', f'{copy}?ifGenerationMatch=0')[0] == 412
  assert ask(gcs, 'DELETE', f'{path}?ifGenerationMatch={now}')[0] == 204
  assert ask(gcs, 'DELETE', path)[0] == 404
  assert put(gcs, 'once', b'4', ifGenerationMatch=now)[0] == 412
  assert media(gcs, 'twice')[2] == b'1'


def test_one_of_many_wins(gcs):
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    found = pool.map(
      lambda k: put(gcs, 'race', b'%d' % k, ifGenerationMatch=0)[0], range(16)
    )
    assert sorted(found) == [200] + [412] * 15


def test_pages_and_folders(gcs):
  names = [f'pages/{k // 3}/{k}' for k in range(9)] + ['pages/z']
  for name in names:
    put(gcs, name)
  found, token = [], {}
  while token is not None:
    page = listed(gcs, prefix='pages/', maxResults=4, **token)
    found += [each['name'] for each in page['items']]
    token = page.get('nextPageToken')
    token = token and {'pageToken': token}
  assert found == names
  page = listed(gcs, prefix='pages/', delimiter='/')
  assert page['prefixes'] == ['pages/0/', 'pages/1/', 'pages/2/']
  assert [each['name'] for each in page['items']] == ['pages/z']
  assert 'items' not in listed(gcs, prefix='none')


@pytest.mark.parametrize('end', ['\r\n', '\n'])
def test_parts_are_bytes(gcs, end):
  content = random.Random(0).randbytes(5000) + b'\r\n\n--no\r\n'
  head = f'--==0=={end}Content-Type: application/json{end}{end}'
  head += json.dumps({'name': f'parts {len(end)}'}) + f'{end}--==0=={end}'
  head += f'Content-Type: application/octet-stream{end}{end}'
  body = head.encode() + content + f'{end}--==0==--{end}'.encode()
  kind = {'Content-Type': 'multipart/related; boundary="==0=="'}
  path = '/upload/storage/v1/b/bkt/o?uploadType=multipart&ifGenerationMatch=0'
  status, _, found = ask(gcs, 'POST', path, body, kind)
  assert status == 200 and json.loads(found)['size'] == str(len(content))
  assert media(gcs, f'parts {len(end)}')[2] == content
  assert ask(gcs, 'POST', path, body, kind)[0] == 412


def test_resumable_uploads_resume(gcs):
  start = '/upload/storage/v1/b/bkt/o?uploadType=resumable&ifGenerationMatch=0'
  kind = {'Content-Type': 'application/json'}
  named = json.dumps({'name': 'large one'})
  uploads = []
  for _ in range(2):
    status, headers, _ = ask(gcs, 'POST', start, named, kind)
    assert status == 200
    link = urllib.parse.urlsplit(headers['Location'])
    assert link.netloc == f'{servers.HOST}:{gcs.port}'
    uploads.append(f'{link.path}?{link.query}')

  def send(upload, content, spans):
    headers = {'Content-Range': f'bytes {spans}'}
    return ask(gcs, 'PUT', upload, content, headers)

  upload = uploads[0]
  status, headers, _ = send(upload, b'', '*/6')
  assert status == 308 and 'Range' not in headers
  status, headers, _ = send(upload, b'abcd', '0-3/6')
  assert status == 308 and headers['Range'] == 'bytes=0-3'
  assert media(gcs, 'large one')[0] == 404
  status, _, body = send(upload, b'cdef', '2-5/6')
  assert status == 200 and json.loads(body)['size'] == '6'
  # Who did not hear the answer may ask again; who comes second has lost.
  assert send(upload, b'', '*/6')[2] == body
  assert send(uploads[1], b'second', '0-5/6')[0] == 412
  assert media(gcs, 'large one')[2] == b'abcdef'


def test_what_is_not_there_is_named(gcs):
  for path, words in (
    ('/storage/v1/b/bkt/o/none?alt=media', 'No such object: bkt/none'),
    ('/storage/v1/b/bkt/o/none', 'No such object: bkt/none'),
    ('/storage/v1/b/gone/o/none', 'The specified bucket does not exist.'),
    ('/storage/v1/b/gone/o', 'The specified bucket does not exist.'),
  ):
    status, _, body = ask(gcs, 'GET', path)
    assert status == 404 and words in body.decode(), path
  assert put(gcs, 'x', bucket='gone')[0] == 404
  assert ask(gcs, 'GET', '/storage/v1/b/gone')[0] == 404


def test_batches(gcs):
  put(gcs, 'batch/a b')
  names = [quoted('batch/a b'), 'none']
  body = ''.join(
    f'--==1==\r\nContent-Type: application/http\r\nContent-ID: <x+{k}>\r\n\r\n'
    f'DELETE /storage/v1/b/bkt/o/{name} HTTP/1.1\r\n\r\n\r\n'
    for k, name in enumerate(names)
  )
  kind = {'Content-Type': 'multipart/mixed; boundary="==1=="'}
  path = '/batch/storage/v1'
  status, _, found = ask(gcs, 'POST', path, f'{body}--==1==--', kind)
  found = found.decode()
  assert status == 200 and found.index('204') < found.index('404 Not Found')
  assert '<response-x+1>' in found
  assert media(gcs, 'batch/a b')[0] == 404


def test_a_killed_server_finds_its_folder(tmp_path):
  with servers.gcs(['bkt'], folder=tmp_path) as server:
    for k in range(3):
      put(server, f'object {k}', b'old')
    before = put(server, 'object 0', b'new')[1]
    ask(server, 'DELETE', '/storage/v1/b/bkt/o/object%202')
    server.kill()
    with pytest.raises(ConnectionRefusedError):
      media(server, 'object 0')
    with open(tmp_path / 'journal', 'ab') as file:  # as a kill leaves it
      file.write(
        b'{"call": "put", "arguments": ["bkt", "half", {}], "size": 9}'
      )
    server.start()
    assert media(server, 'object 0')[2] == b'new'
    assert media(server, 'object 1')[2] == b'old'
    assert media(server, 'object 2')[0] == media(server, 'half')[0] == 404
    after = put(server, 'object 0', b'newer')[1]
    assert int(after['generation']) > int(before['generation'])
    server.kill()
    server.start()
    assert media(server, 'object 0')[2] == b'newer'


def test_a_server_ends_with_its_starter():
  script = (
    'from benchmarks.buckets import servers\n'
    'server = servers.Server()\n'
    'server.start()\n'
    'print(server.port, flush=True)\n'
    'input()\n'
  )
  child = subprocess.Popen(
    [sys.executable, '-c', script],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  port = int(child.stdout.readline())
  assert servers.ask(port, 'GET', '/')[0] == 200
  child.kill()
  child.wait()
  child.stdin.close()
  child.stdout.close()
  for _ in range(100):
    try:
      servers.ask(port, 'GET', '/')
    except ConnectionError:
      return
    time.sleep(0.05)
  pytest.fail('The server is still there.')


def test_s3_keeps_to_preconditions_and_ranges(s3, monkeypatch):
  import boto3
  from botocore import exceptions

  for name, value in s3.environment.items():
    monkeypatch.setenv(name, value)
  client = boto3.client('s3')
  for name in NAMES:
    client.put_object(Bucket='bkt', Key=name, Body=name.encode())
  for name in NAMES:
    found = client.get_object(Bucket='bkt', Key=name)
    assert found['Body'].read() == name.encode()
  content = os.urandom(100_000)
  client.put_object(Bucket='bkt', Key='once', Body=content, IfNoneMatch='*')
  for guard in ({'IfNoneMatch': '*'}, {'IfMatch': '"other"'}):
    with pytest.raises(exceptions.ClientError) as error:
      client.put_object(Bucket='bkt', Key='once', Body=b'', **guard)
    assert error.value.response['Error']['Code'] == 'PreconditionFailed'
  for asked, expected in (
    ('bytes=5-9', content[5:10]),
    ('bytes=-7', content[-7:]),
    ('bytes=99990-', content[-10:]),
  ):
    found = client.get_object(Bucket='bkt', Key='once', Range=asked)
    assert found['Body'].read() == expected
  with pytest.raises(exceptions.ClientError, match='InvalidRange'):
    client.get_object(Bucket='bkt', Key='once', Range='bytes=100000-')
