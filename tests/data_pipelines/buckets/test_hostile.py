"""Stores that refuse, fail and end, and buckets in disorder: one sentence."""

import time

import pytest

from benchmarks.buckets import faults
from benchmarks.buckets import rules
from data_pipelines.codes import tokenize
from step_audio_jax.storage import files
from step_audio_jax.storage.clients import stores as clients
from tests import stores
from tests.data_pipelines import stand_in
from tests.data_pipelines.readers import trees

COUNT = 6


@pytest.fixture(scope='module')
def front(bucket_servers):
  """A proxy in front of a server, which does to requests what it is told."""
  with faults.front(bucket_servers.of('gs')) as proxy:
    yield proxy


@pytest.fixture
def source(front, bucket_servers, request, monkeypatch):
  """A corpus as it came, in a bucket behind the proxy."""
  front.set(rules=[])
  name = f'hostile/{request.node.name}'
  with stores.folder('gs', bucket_servers, name, monkeypatch) as root:
    for variable, value in front.environment.items():
      monkeypatch.setenv(variable, value)
    names = [f'wav/{k}.wav' for k in range(COUNT)]
    for k, one in enumerate(names):
      files.write_bytes(root / 'in' / one, trees.tone(0.25 + k / 8))
    files.write_jsonl(
      root / 'in/metadata.jsonl', [{'file': n, 'text': 'x'} for n in names]
    )
    yield root / 'in'
    front.set(rules=[])


def ingest(call, source, output=None, *flags):
  output = output or source.parent / 'out'
  return call('ingest', f'--source={source}', f'--output={output}', *flags)


def test_a_bucket_that_is_not_there(call, source):
  away = 'gs://nobody-has-this'
  speech = source.parent / 'out'
  assert ingest(call, source, speech)[0] == 0
  for door, *flags in (
    ('synthesize', '--train=2', f'--output={away}/x'),
    ('quiz', f'--output={away}/x'),
    ('ingest', f'--source={source}', f'--output={away}/x'),
    ('ingest', f'--source={away}/x', f'--output={speech}'),
    ('vocabulary', f'--corpus={speech}', f'--output={away}/text.model'),
    ('vocabulary', f'--corpus={away}/x', f'--output={speech}/text.model'),
    ('align', f'--corpus={away}/x', f'--run={away}/run'),
    ('tokenize', f'--corpus={away}/x', '--tokenizer=t', '--output=o'),
    ('tokenize', f'--corpus={speech}', f'--tokenizer={away}/t', '--output=o'),
    ('build', f'--text={away}/x', '--text_model=t.model', '--output=o'),
    ('build', '--text=x', '--text_model=t.model', f'--output={away}/o'),
    ('inspect', f'--path={away}/x'),
    ('inspect', '--sweep', f'--path={away}/x'),
  ):
    status, said = call(door, *flags)
    assert status == 2 and f'{away}: no such bucket' in said, (door, said)


def test_what_the_store_refuses_is_named(call, source, front):
  refused = rules.Rule('answer', op='get', name='2.wav', status=403, times=-1)
  front.set(rules=[refused])
  status, told = ingest(call, source)
  assert status == 0 and (told['kept'], told['quarantined']) == (COUNT - 1, 1)
  (line,) = files.read_jsonl(source.parent / 'out/quarantine.jsonl')
  assert f'{source}/wav/2.wav: no permission for it (403' in line['reason']
  for name, op in (('metadata', 'get'), ('new/.ingest', 'put|start')):
    front.set(
      rules=[rules.Rule('answer', op=op, name=name, status=403, times=-1)]
    )
    status, said = ingest(call, source, source.parent / 'new')
    assert status == 2 and 'no permission for it (403' in said, said
    front.set(rules=[])
    assert not list(files.list_files(source.parent / 'new'))


@pytest.mark.parametrize('op', ['get', 'put|start', 'copy', 'list', 'head'])
def test_a_store_that_ends_in_the_middle(call, source, front, op):
  """Nothing is left out, and what was there before stays or is gone."""
  output = source.parent / 'out'
  front.set(rules=[rules.Rule('refuse', op=op, skip=3, times=-1)])
  begin = time.monotonic()
  status, said = ingest(call, source)
  assert time.monotonic() - begin < 30
  if status == 0:  # so much of that was never asked for
    assert said['kept'] == COUNT
  else:
    assert 'no answer after' in said, said
    front.set(rules=[])
    assert not files.exists(output / 'manifest.jsonl')
    assert not files.exists(output / 'stats.json')
    for path in files.list_files(output):  # the sweep knows all of it
      assert (
        '.ingest' in path.parts
        or 'audio' in path.parts
        or (path.name.endswith('.tmp'))
      )
  front.set(rules=[])
  status, said = ingest(call, source)
  assert status == 0 and said['kept'] == COUNT and said['quarantined'] == 0
  assert not files.exists(output / '.ingest')


def test_faults_that_pass_change_nothing(call, source, front, tmp_path):
  assert ingest(call, source, tmp_path / 'calm')[0] == 0
  front.set(rules=rules.storm(0.15, times=2, seconds=0.05))
  assert ingest(call, source)[0] == 0
  front.set(rules=[])
  assert stores.contents(source.parent / 'out') == stores.contents(
    tmp_path / 'calm'
  )


def test_tokenize_goes_on_where_a_store_came_back(
  call, source, front, monkeypatch
):
  monkeypatch.setattr(tokenize, '_load_dual', stand_in.StandIn)
  corpus = source.parent / 'out'
  assert ingest(call, source)[0] == 0
  tokenizer = source.parent / 'tokenizer'
  files.write_json(tokenizer / 'dual.json', {'linguistic': 64, 'semantic': 512})
  flags = [f'--corpus={corpus}', f'--tokenizer={tokenizer}', '--batch_size=2',
           f'--output={source.parent}/codes']  # fmt: skip
  front.set(rules=[rules.Rule('refuse', name='/5.wav', op='get', times=-1)])
  status, said = call('tokenize', *flags)
  assert status == 2 and 'wav: no answer after' in said
  front.set(rules=[])
  calls = stand_in.StandIn.calls
  status, told = call('tokenize', *flags)
  assert status == 0 and told['kept'] == COUNT and told['quarantined'] == 0
  assert stand_in.StandIn.calls - calls < COUNT / 2  # batches were kept
  # A recording that is gone is left out, and said.
  files.remove(corpus / 'audio/wav/3.wav')
  status, told = call('tokenize', *flags)
  assert status == 0 and told['quarantined'] == 1
  (line,) = files.read_jsonl(source.parent / 'codes/quarantine.jsonl')
  assert (
    line['id'] == '3' and 'audio/wav/3.wav: no such object' in line['reason']
  )
  status, said = call('inspect', '--verify', f'--path={corpus}')
  assert status == 2 and "audio 'audio/wav/3.wav' is not there" in said


def test_names_that_no_path_can_have_are_passed_over(call, source, capsys):
  bucket = clients.bucket_of(source)
  for name in ('a//b.txt', '../c.txt', './d.txt', 'e/..', 'x/', 'ü 你/f g.txt'):
    bucket.put(f'{source.key}/texts/{name}', b'a text\n')
  output = source.parent / 'out'
  argv = [f'--source={source}/texts', f'--output={output}', '--format=text_txt']
  from data_pipelines import __main__ as doors
  from step_audio_jax.commands import cli

  status = cli.dispatch(
    'data_pipelines', doors.DOORS, ['data_pipelines', 'ingest', *argv]
  )
  said = capsys.readouterr().err
  assert status == 0 and 'whose names no path can have' in said
  (line,) = files.read_jsonl(output / 'manifest.jsonl')
  assert line['id'] == 'ü 你/f g-1' and line['text'] == 'a text'


def test_a_copy_that_is_made_is_named(source, capsys, tmp_path, monkeypatch):
  from data_pipelines.ingestion import ingest as ingest_lib

  monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', str(tmp_path / 'copies'))
  (tmp_path / 'in').mkdir()
  trees.TREES['tfds'](tmp_path / 'in')
  far = stores.upload(tmp_path / 'in', source / 'tfds')
  ingest_lib.ingest(far, tmp_path / 'out', format='tfds')
  said = capsys.readouterr().err
  assert f'{far}/toy/1.0.0 is read from a copy of this machine' in said
  assert str(tmp_path / 'copies') in said
