"""An endpoint is asked in order, at a pace, and whatever it answers."""

import collections
import json
import re
import threading
import time

import pytest

from step_audio_jax import errors
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.endpoints import client
from tests.endpoints import server as server_lib

KEY = 'sk-very-secret-0123456789'
completion, said = server_lib.completion, server_lib.said


def endpoint(url, **settings):
  return client.Endpoint(
    url, 'tiny', **{'first_pause': 0.001, 'tries': 3, 'seconds': 5, **settings}
  )


def questions(*texts):
  return [chat.Question((('system', 'Echo.'), ('user', t))) for t in texts]


def ask(url, folder, *texts, counts=None, **settings):
  kept = answers_lib.Answers(folder)
  return list(
    endpoint(url, **settings).answers(questions(*texts), kept, counts)
  )


def echo(asked):
  return completion(f'echo {said(asked)}')


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_what_is_sent_and_what_comes_back(tmp_path, monkeypatch):
  monkeypatch.setenv('TINY_KEY', KEY)
  with server_lib.serving(echo) as server:
    first, second = ask(
      *(f'{server.url}/?api-version=3', tmp_path, 'a', 'b'),
      key_variable='TINY_KEY',
      parameters={'reasoning_effort': 'low'},
      top_p=0.9,
    )
  assert (first.text, second.text) == ('echo a', 'echo b')
  assert first.model == 'tiny-2' and not first.kind and not first.is_kept
  body = next(one for one in server.asked if said(one) == 'a')
  assert body == {
    'model': 'tiny',
    'messages': [
      {'role': 'system', 'content': 'Echo.'},
      {'role': 'user', 'content': 'a'},
    ],
    'temperature': 0.7,
    'top_p': 0.9,
    'max_tokens': 512,
    'reasoning_effort': 'low',
    'seed': body['seed'],
  }
  assert len({one['seed'] for one in server.asked}) == 2
  assert server.headers[0]['Authorization'] == f'Bearer {KEY}'
  for content in tree(tmp_path).values():
    told = json.loads(content)
    assert KEY not in content.decode() and 'api-version' not in content.decode()
    assert told['asked']['url'] == server.url


def test_in_order_and_a_few_at_once(tmp_path):
  def slow(asked):
    time.sleep(0.05 if int(said(asked)) % 3 == 0 else 0.001)
    return echo(asked)

  counts = collections.Counter()
  texts = [str(n) for n in range(20)]
  with server_lib.serving(slow) as server:
    replies = ask(server.url, tmp_path, *texts, counts=counts, together=3)
  assert [reply.text for reply in replies] == [f'echo {t}' for t in texts]
  assert 1 < server.most <= 3
  assert counts == {'requests': 20, 'replies/new': 20}


def test_nothing_is_asked_twice(tmp_path):
  with server_lib.serving(echo) as server:
    first = ask(server.url, tmp_path, 'a', 'b')
    before = tree(tmp_path)
    again = ask(server.url, tmp_path, 'b', 'a', 'c')
    assert len(server.asked) == 3 and [r.is_kept for r in again] == [1, 1, 0]
    assert again[1]._replace(is_kept=False) == first[0]
    assert before.items() <= tree(tmp_path).items()
    # Whatever decides an answer is part of what it is kept by.
    for settings in ({'temperature': 0.0}, {'seed': 1}, {'max_tokens': 9}):
      assert not ask(server.url, tmp_path, 'a', **settings)[0].is_kept
    # What decides nothing is not.
    assert ask(server.url, tmp_path, 'a', tries=9, per_minute=9e9)[0].is_kept
  # The endpoint is gone, the answers are not.
  assert ask(server.url, tmp_path, 'a', 'b', 'c') == [
    again[1],
    again[0],
    again[2]._replace(is_kept=True),
  ]


def test_what_is_kept_is_read_without_asking(tmp_path, monkeypatch):
  monkeypatch.setenv('TINY_KEY', KEY)
  kept = answers_lib.Answers(tmp_path)
  some = {'a': completion('A'), 'b': RUBBISH['400'][0], 'c': completion('')}
  with server_lib.serving(lambda asked: some[said(asked)]) as server:
    first = ask(server.url, tmp_path, *'abc', key_variable='TINY_KEY')
  monkeypatch.delenv('TINY_KEY')
  mine = endpoint(server.url, key_variable='TINY_KEY')
  *found, lacking = mine.kept_answers(questions(*'abcd'), kept)
  assert found == [one._replace(is_kept=True) for one in first]
  assert lacking.kind == client.NOT_KEPT and lacking.text is None
  assert lacking.fault.endswith(f'no answer is kept in {tmp_path}.')
  assert not kept.get(mine.asked(questions('d')[0]))


def test_samples_of_one_question_differ(tmp_path):
  asked = [chat.Question((('user', 'a'),), sample=n) for n in range(3)]
  with server_lib.serving(echo) as server:
    kept = answers_lib.Answers(tmp_path)
    replies = list(endpoint(server.url).answers(asked, kept))
  assert len({one['seed'] for one in server.asked}) == 3
  assert len({reply.key for reply in replies}) == 3


@pytest.mark.parametrize(
  'harm',
  [
    lambda text: text[:-9],
    lambda text: text.replace('echo a', 'echo b'),
    lambda text: text.replace('"text"', '"txet"'),
    lambda _: '[]',
    lambda _: '',
  ],
)
def test_an_answer_that_was_changed_does_not_count(harm, tmp_path):
  with server_lib.serving(echo) as server:
    ask(server.url, tmp_path, 'a')
    (path,) = tmp_path.rglob('*.json')
    before = path.read_text()
    path.write_text(harm(before))
    kept = answers_lib.Answers(tmp_path)
    (reply,) = endpoint(server.url).answers(questions('a'), kept)
  assert reply.text == 'echo a' and not reply.is_kept and kept.broken == 1
  assert path.read_text() == before


HTML = b'<!doctype html><html><body>502 Bad Gateway</body></html>'
RUBBISH = {
  'html': ((200, HTML, {}), 'html', 'found HTML'),
  'html by its type': ((200, b'oops', {'Content-Type': 'text/html'}), 'html',
                       "found HTML 'oops'"),
  'prose': ((200, b'Sure! Here you are.', {}), 'not_json', "found 'Sure! Here"),
  'nothing': ((200, b'', {}), 'not_json', 'found nothing, expected JSON'),
  'latin': ((200, b'{"a": "\xe9"}', {}), 'not_json', 'expected JSON in UTF-8'),
  'digits': ((200, b'9' * 5000, {}), 'not_json', 'expected JSON'),
  'deep': ((200, b'[' * 10**5, {}), 'not_json', 'expected JSON'),
  'a list': ([], 'shape', r"found '\[\]', expected choices"),
  'no choices': ({'choices': []}, 'shape', 'expected choices'),
  'a number': (completion(3), 'shape', 'content, finish_reason: found int'),
  'null': (completion(None), 'shape', 'found NoneType'),
  'an error': ({'error': {'message': 'out of\nmemory'}}, 'error',
               'found an error: out of memory'),
  'half a pair': (completion('a\ud800'), 'control', 'half of a surrogate pair'),
  'refusal': (
    {'choices': [{'message': {'content': None, 'refusal': 'I will not.'}}]},
    'refusal', 'the model refused: I will not',
  ),
  'filtered': (completion('x', 'content_filter'), 'refusal', 'filtered'),
  'empty': (completion(' \n'), 'empty', 'found an empty answer'),
  'truncated': (completion('and then the', 'length'), 'truncated',
                'reached max_tokens: …and then the'),
  '429': ((429, {'error': {'message': 'slow down'}}, {'Retry-After': '0.01'}),
          'status_429', 'status 429: slow down'),
  '500': ((500, b'oh\x00no', {}), 'status_500', r'status 500: oh\?no'),
  '400': ((400, {'error': 'no such model'}, {}), 'status_400',
          'status 400: no such model'),
  'redirect': ((302, b'', {'Location': 'http://127.0.0.1:9/'}), 'status_302',
               'a redirect; expected the address itself'),
  'cut': (server_lib.cut, 'no_answer', r'3 tries in 0 s \(the last: cut'),
  'silent': (server_lib.silent, 'no_answer', 'the last: RemoteDisconnected'),
  'slow head': (server_lib.dripping, 'no_answer', 'the last: time-out'),
  'slow': (lambda _: time.sleep(0.6), 'no_answer', 'the last: time-out'),
  'endless': (server_lib.endless, 'no_answer', 'more than 1048576 bytes'),
}  # fmt: skip
ONCE = ('400', 'redirect', 'refusal', 'filtered', 'empty', 'truncated')


@pytest.mark.parametrize('name', RUBBISH)
def test_rubbish_costs_its_question(name, tmp_path):
  answer, kind, fault = RUBBISH[name]
  counts = collections.Counter()
  settings = {'seconds': 0.25} if 'slow' in name else {}

  def some(asked):
    return answer if said(asked) == 'bad' else echo(asked)

  with server_lib.serving(some) as server:
    replies = ask(
      server.url, tmp_path, 'a', 'bad', 'b', counts=counts, **settings
    )
    tries = sum(said(one) == 'bad' for one in server.asked)
    before = tree(tmp_path)
    # Killed and begun again, all is as it was.
    kept = ask(server.url, tmp_path, 'a', 'bad', 'b', **settings)
    assert sum(said(one) == 'bad' for one in server.asked) == tries
  assert [one.text for one in (replies[0], replies[2])] == ['echo a', 'echo b']
  assert replies[1].kind == kind
  assert re.search(fault, replies[1].fault)
  assert replies[1].fault.startswith(f'{server.url} (tiny): ')
  assert replies[1].fault.isprintable() and len(replies[1].fault) < 300
  assert tries == (1 if name in ONCE else 3)
  assert counts[f'replies/{kind}'] == 1 and counts['replies/new'] == 2
  assert kept[1] == replies[1]._replace(is_kept=True)
  assert tree(tmp_path) == before


def test_what_passes_is_asked_again(tmp_path):
  left = ['html', '429', 'cut']

  def some(asked):
    return RUBBISH[left.pop(0)][0] if left else echo(asked)

  counts = collections.Counter()
  with server_lib.serving(some) as server:
    (reply,) = ask(server.url, tmp_path, 'a', counts=counts, tries=4)
  assert reply.text == 'echo a'
  assert counts == {
    'requests': 4,
    'retries': 3,
    'retries/html': 1,
    'retries/status_429': 1,
    'retries/cut': 1,
    'replies/new': 1,
  }


def test_one_that_always_fails_ends_all(tmp_path):
  texts = [f'{n}' for n in range(50)]
  with server_lib.serving(lambda _: RUBBISH['500'][0]) as server:
    with pytest.raises(
      errors.UserError,
      match=r'\(tiny\): 4 questions in a row had no answer; the last: .*status '
      r'500: oh\?no\); what was answered is kept in ',
    ):
      ask(server.url, tmp_path, *texts, stop_after=4, tries=2, together=2)
    assert len(server.asked) <= 14
    # It is well again: the questions are asked, whatever failed before.
    server.answer = echo
    replies = ask(server.url, tmp_path, *texts, stop_after=4)
  assert [reply.text for reply in replies] == [f'echo {t}' for t in texts]


def test_empty_answers_in_a_row_end_all(tmp_path):
  with server_lib.serving(lambda _: completion('')) as server:
    with pytest.raises(errors.UserError, match='3 questions in a row .*empty'):
      ask(server.url, tmp_path, *'abcdefghij', stop_after=3, together=1)
    assert 3 <= len(server.asked) <= 5


def test_nobody_listens(tmp_path):
  with server_lib.serving(echo) as server:
    pass
  with pytest.raises(errors.UserError, match='2 questions .*refused'):
    ask(server.url, tmp_path, 'a', 'b', 'c', stop_after=2)


def test_limits_of_all(tmp_path):
  with server_lib.serving(echo) as server:
    with pytest.raises(errors.UserError, match='most_requests: 3 were made'):
      ask(server.url, tmp_path, *'abcdefgh', most_requests=3)
    # What was under way then is ended, and may not have come so far.
    assert len(server.asked) <= 3
    with pytest.raises(errors.UserError, match='most_seconds: 1e-09 are over'):
      ask(server.url, tmp_path, *'ijk', most_seconds=1e-9)
    assert len(server.asked) <= 3


def test_the_pace_is_kept(tmp_path):
  times = []

  def clock(asked):
    times.append(time.monotonic())
    return echo(asked)

  with server_lib.serving(clock) as server:
    ask(server.url, tmp_path, *'abcdef', per_minute=1200)  # one in 50 ms
  assert min(b - a for a, b in zip(times, times[2:])) > 0.06
  assert times[-1] - times[0] > 0.2


def test_who_stops_listening_ends_what_is_under_way(tmp_path):
  hold = threading.Event()

  def some(asked):
    if said(asked) != 'a':
      hold.wait(20)
    return echo(asked)

  with server_lib.serving(some) as server:
    kept = answers_lib.Answers(tmp_path)
    replies = endpoint(server.url, seconds=30).answers(questions(*'abcd'), kept)
    assert next(replies).text == 'echo a'
    began = time.monotonic()
    replies.close()
    assert time.monotonic() - began < 5
    hold.set()


def test_a_key_stays_where_it_is(tmp_path, monkeypatch):
  monkeypatch.setenv('TINY_KEY', KEY)
  spelt = ''.join(f'\\u{ord(c):04x}' for c in KEY)
  told = {
    'a': completion(f'my key is {KEY}'),
    'b': (400, f'wrong key: {KEY}'.encode(), {}),
    'c': (200, json.dumps(completion('K')).replace('K', spelt).encode(), {}),
  }
  with server_lib.serving(lambda asked: told[said(asked)]) as server:
    replies = ask(server.url, tmp_path, *'abc', key_variable='TINY_KEY')
  assert replies[0].text == 'my key is ***' and replies[2].text == '***'
  assert replies[1].fault.endswith('status 400: wrong key: ***.')
  assert KEY not in str(replies)
  assert not any(KEY.encode() in content for content in tree(tmp_path).values())
  monkeypatch.delenv('TINY_KEY')
  with pytest.raises(errors.UserError, match=r'\$TINY_KEY: found nothing'):
    ask(server.url, tmp_path, 'a', key_variable='TINY_KEY')


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'url': 'ftp://a/v1'}, "url: found 'ftp://a/v1', expected https"),
    ({'url': 'file:///etc/passwd'}, 'url: found'),
    ({'url': 'http://u:pw@a/v1'}, 'url: found a name or password'),
    ({'url': 'http://a b/v1'}, 'url: found'),
    ({'url': 'http://a:x/v1'}, 'url: found no address'),
    ({'key_variable': KEY}, 'key_variable: found 25 characters'),
    ({'model': ' '}, 'model: found no name'),
    ({'temperature': -1}, 'temperature: found -1'),
    ({'top_p': 0.0}, 'top_p: found 0.0'),
    ({'max_tokens': 0}, 'max_tokens is 0'),
    ({'tries': 0}, 'tries is 0'),
    ({'per_minute': 0}, 'per_minute: found 0'),
    ({'parameters': {'model': 'x'}}, "parameters: found 'model'"),
    ({'parameters': {'x': {1}}}, 'parameters: found what is no JSON'),
  ],
)
def test_bad_settings(settings, message):
  given = {'url': 'http://127.0.0.1:1/v1', 'model': 'tiny', **settings}
  with pytest.raises(errors.UserError, match=message) as caught:
    client.Endpoint(**given)
  assert 'pw' not in str(caught.value) and KEY not in str(caught.value)
