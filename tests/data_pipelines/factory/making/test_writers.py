"""`make` with an endpoint that writes: killed or not, the same corpus."""

import collections
import json
import re

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance
from data_pipelines.factory.texts import writing
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.endpoints import server as server_lib

KEY = 'sk-very-secret-0123456789'
TEXTS = [
  ('train', 'The red cat sees a small ball.'),
  ('train', 'An old dog sleeps in front of the house.'),
  ('test', 'this is asked in a test and said by nobody'),
  ('train', 'Seven birds are in the tree behind the garden.'),
  ('train', 'What is the capital of France?'),
]
GIN = """
from __gin__ import dynamic_registration
from data_pipelines.factory.making import items
from data_pipelines.factory.texts import writing
from step_audio_jax.endpoints import client

items.Recipe.seed = 5
items.Recipe.writers = (@writing.Rewriter(), @writing.Author())
writing.Rewriter.model = @client.Endpoint()
writing.Rewriter.prompt = 'Say this in other words: {text}'
writing.Author.model = @client.Endpoint()
writing.Author.prompt = 'A sentence in {language}, about {topic}, please.'
writing.Author.count = 4
writing.Author.topics = ['rain', 'trains']
client.Endpoint.url = 'URL'
client.Endpoint.model = 'tiny'
client.Endpoint.key_variable = 'TINY_KEY'
client.Endpoint.tries = 2
client.Endpoint.first_pause = 0.001
client.Endpoint.together = 2
client.Endpoint.stop_after = 3
"""


def write(asked):
  """What the endpoint answers; wrong in some ways."""
  text = server_lib.said(asked)
  if 'other words' in text:
    given = text.partition(': ')[2]
    if 'dog' in given:
      return 200, b'<html>Bad gateway</html>', {}
    if 'birds' in given:
      return server_lib.completion('(fasst 2) Many birds sit in that tree.')
    return server_lib.completion(f'{given[:-1]}, as everyone here knows.')
  number = asked['seed'] % 1000
  topic = re.search('about (.*),', text)[1]
  return server_lib.completion(f'Nobody ever saw {topic} number {number}.')


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.fixture
def place(tmp_path, monkeypatch):
  """Texts, a test split, and a function that calls the door."""
  monkeypatch.setenv('TINY_KEY', KEY)
  for folder, lines in (
    ('texts', TEXTS),
    ('tests', [('test', 'what is the capital of France')]),
  ):
    manifest.write(
      tmp_path / folder,
      [
        manifest.Utterance(id=f't{n}', kind='text', split=split, text=text)
        for n, (split, text) in enumerate(lines)
      ],
    )
  return tmp_path


def make(place, capsys, url, output, *flags):
  """(status, result or sentence)."""
  (place / 'recipe.gin').write_text(GIN.replace('URL', url))
  argv = ['data_pipelines', 'make', f'--texts={place}/texts', '--processes=1',
          f'--output={place}/{output}', f'--held_out={place}/tests',
          f'--gin_file={place}/recipe.gin', '--json', *flags]  # fmt: skip
  status = cli.dispatch('data_pipelines', doors.DOORS, argv)
  out, err = capsys.readouterr()
  return status, json.loads(out.splitlines()[-1]) if not status else err


def test_what_is_made(place, capsys, monkeypatch):
  with server_lib.serving(write) as server:
    status, told = make(place, capsys, server.url, 'made', '--dry_run')
    assert told == {
      'dry_run': True,
      'texts': 4,
      'questions': {'rewriter': 4, 'author': 4},
    }
    assert not server.asked and not (place / 'made').exists()
    status, told = make(place, capsys, server.url, 'made')
    assert status == 0, told
    assert not any('capital' in server_lib.said(one) for one in server.asked)
    texts = {one.id: one.text for one in manifest.read(place / 'made')}
    assert texts['t0.rewriter0'] == (
      'The red cat sees a small ball, as everyone here knows.'
    )
    authors = [text for name, text in texts.items() if 'author' in name]
    assert len(set(authors)) == 4 and 'trains' in authors[1]
    quarantine = files.read_jsonl(place / 'made' / 'quarantine.jsonl')
    refused = {one['id']: one for one in quarantine}
    assert {
      name: (one['gate'], one['outcome']) for name, one in refused.items()
    } == {
      't1.rewriter0': ('writer', 'unmeasured'),
      't3.rewriter0': ('writer', 'failed'),
      't4': ('leak', 'failed'),
      't4.rewriter0': ('writer', 'failed'),
    }
    assert 'found HTML' in refused['t1.rewriter0']['reason']
    assert 'the nearest' in refused['t3.rewriter0']['reason']
    assert told['gates']['writer'] == {
      'passed': 5, 'failed': 2, 'unmeasured': 1, 'not_asked': 4,
    }  # fmt: skip
    # The same again in peace; and killed between answers, and between shards.
    asked = len(server.asked)
    make(place, capsys, server.url, 'again')
    assert len(server.asked) == 2 * asked
    real = writing.Written._judged
    for kill in (1, 3, 5):
      left = [kill]

      def judged(self, *args, left=left):
        left[0] -= 1
        if left[0] < 0:
          raise KeyboardInterrupt
        return real(self, *args)

      monkeypatch.setattr(writing.Written, '_judged', judged)
      assert make(place, capsys, server.url, 'killed')[0] == 130
    monkeypatch.setattr(writing.Written, '_judged', real)
    make(place, capsys, server.url, 'killed')
    # What was under way when it was killed may be asked again.
    assert len(server.asked) <= 3 * asked + 3 * 4
  assert tree(place / 'made') == tree(place / 'again') == tree(place / 'killed')
  # Nobody is asked any more: what was answered is there.
  other = place / 'other'
  (place / 'killed' / 'answers').rename(other)
  status, once = make(
    place, capsys, server.url, 'offline', f'--answers={other}'
  )
  assert status == 0 and once == told
  job, items = provenance.read(place / 'made')
  writer = job.writers['rewriter']
  assert writer['model']['model'] == 'tiny' and writer['model']['seed'] == 0
  assert writer['model']['temperature'] == 0.7
  assert writer['answered_by'] == ['tiny-2'] and len(writer['prompt_sha256'])
  for utterance, origin in items:
    written = '.rewriter' in utterance.id or 'author' in utterance.id
    assert (origin.writer is not None) == written
    if written:
      answer = place / 'made/answers' / origin.sources[-1][:2]
      assert (answer / f'{origin.sources[-1]}.json').is_file()
  assert not list(provenance.faults(place / 'made', collections.Counter()))
  for path, content in tree(place).items():
    assert KEY.encode() not in content, path


def test_an_endpoint_that_is_down_ends_the_job(place, capsys):
  with server_lib.serving(lambda _: (503, b'', {})) as server:
    status, told = make(place, capsys, server.url, 'made')
    assert status == 2 and told.count('\n') == 1
    assert '3 questions in a row had no answer' in told
    assert not (place / 'made' / 'manifest.jsonl').exists()
    server.answer = write
    status, told = make(place, capsys, server.url, 'made')
    assert status == 0


def test_a_corpus_of_other_writers_is_left_alone(place, capsys):
  with server_lib.serving(write) as server:
    make(place, capsys, server.url, 'made')
    asked, before = len(server.asked), tree(place / 'made')
    status, told = make(
      *(place, capsys, server.url, 'made'), '--gin.writing.Author.count=5'
    )
    assert status == 2 and 'made of other texts' in told
    assert len(server.asked) == asked and tree(place / 'made') == before


def test_nothing_to_say(place, capsys):
  argv = ['data_pipelines', 'make', f'--output={place}/made']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 2
  assert '--texts: found none' in capsys.readouterr().err
