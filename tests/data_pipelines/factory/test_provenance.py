"""What a corpus says of how it was made, and when it is not believed."""

import collections
import dataclasses
import json

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance as lib
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.factory import takes

COUNTS = {
  'kept': 3,
  'rejected': 1,
  'gates': {'duration': {'passed': 3, 'failed': 1}},
}
JOB = lib.Job(
  seed=5,
  settings={'items': 4},
  voices={'joe': {'licence': 'MIT'}, 'ann': {'licence': 'CC0'}},
  writers={'grammar': {}, 'model': {'sha256': 'ab'}},
  counts=COUNTS,
)


@pytest.fixture(scope='module')
def changed():
  steps = (chain.Step(noise.Noise('pink', 10.0)),)
  return chain.Chain(steps).apply(takes.tone(0.2), takes.RATE, 'a1')


def made(changed, count=3):
  (report,) = line.Gates((sound.Duration(0.1),)).check(
    [takes.take(takes.tone(0.2))]
  )
  items = []
  for number in range(count):
    utterance = manifest.Utterance(
      id=f'a{number}',
      text='some words',
      audio=f'wav/a{number}.wav',
      duration=0.2,
      sample_rate=takes.RATE,
    )
    origin = lib.Origin(
      id=f'a{number}',
      seed=number,
      writer='grammar' if number else 'model',
      voice='joe' if number != 1 else 'ann',
      speech={'rate': 1.1},
      augmentation=changed.provenance if number == 1 else None,
      gates=report.to_json(),
      sources=('b1',) if number == 2 else (),
    )
    items.append((utterance, origin))
  return items


@pytest.fixture
def corpus(tmp_path, changed):
  for number in range(3):
    (tmp_path / 'wav').mkdir(exist_ok=True)
    audio_io.write_audio(tmp_path / 'wav' / f'a{number}.wav', takes.tone(0.2))
  assert lib.write(tmp_path, JOB, made(changed)) == 3
  files.write_jsonl(tmp_path / 'quarantine.jsonl', [{'id': 'a3'}])
  return tmp_path


def test_it_comes_back(corpus, changed):
  job, items = lib.read(corpus)
  assert job == JOB
  found = list(items)
  assert [u for u, _ in found] == manifest.read(corpus)
  again = [(u.id, o) for u, o in found]
  assert [o.id for _, o in again] == ['a0', 'a1', 'a2']
  assert found[1][1].augmentation == changed.provenance
  np.testing.assert_array_equal(
    chain.replay(takes.tone(0.2), takes.RATE, found[1][1].augmentation),
    changed.samples,
  )
  assert found[2][1].sources == ['b1']
  assert 'augmentation' not in list(files.read_jsonl(lib.path_of(corpus)))[1]
  assert sorted(path.name for path in corpus.iterdir()) == [
    'manifest.jsonl', 'provenance.jsonl', 'quarantine.jsonl', 'wav',
  ]  # fmt: skip


def test_inspect_shows_and_verifies_it(corpus, capsys):
  def call(*flags):
    argv = ['data_pipelines', 'inspect', f'--path={corpus}', '--json', *flags]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    return status, json.loads(out.out.splitlines()[-1]) if not status else out

  status, told = call()
  assert status == 0
  assert told['provenance'] == {
    'items': 3,
    'seed': 5,
    'voices': {'joe': 2, 'ann': 1},
    'writers': {'grammar': 2, 'model': 1},
    'augmentation': {'none': 2, 'noise': 1},
    **COUNTS,
  }
  status, told = call('--verify')
  assert told['checked']['provenance'] == 3
  files.write_jsonl(corpus / 'quarantine.jsonl', [{}, {}])
  status, told = call('--verify')
  assert status == 2 and '1 rejected, ' in told.err and 'has 2' in told.err


def faults(corpus):
  return list(lib.faults(corpus, collections.Counter()))


def test_no_file_is_no_fault(tmp_path):
  manifest.write(tmp_path, [])
  assert not faults(tmp_path)
  with pytest.raises(errors.UserError, match='no such file'):
    lib.read(tmp_path)


def test_another_manifest_is_told(corpus):
  lines = manifest.read(corpus)
  manifest.write(corpus, [dataclasses.replace(lines[0], text='x'), *lines[1:]])
  (told,) = faults(corpus)
  assert 'provenance.jsonl: made of another manifest.jsonl (' in told


def rewrite(corpus, change):
  lines = list(files.read_jsonl(lib.path_of(corpus)))
  files.write_jsonl(lib.path_of(corpus), change(lines))


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda x: [], 'provenance: found None, expected 1'),
    (lambda x: [[], *x[1:]], r':1: provenance: found \[\]'),
    (lambda x: [{**x[0], 'provenance': 2}, *x[1:]], 'found 2, expected 1'),
    (
      lambda x: [{k: v for k, v in x[0].items() if k != 'seed'}, *x[1:]],
      ':1: seed: missing',
    ),
    (lambda x: [{**x[0], 'seed': 'x'}, *x[1:]], "seed: found 'x', expected a"),
    (lambda x: [{**x[0], 'voices': {'joe': 3}}, *x[1:]], 'joe: found 3'),
    (
      lambda x: [{**x[0], 'counts': {'kept': -1}}, *x[1:]],
      'counts: found .* whole numbers',
    ),
    (lambda x: [{**x[0], 'counts': {'more': 1}}, *x[1:]], 'counts: found'),
    (lambda x: [{**x[0], 'items': 4}, *x[1:]], 'tells of 4 items, .* has 3'),
    (lambda x: x[:-1], "ends before 'a2'"),
    (lambda x: [*x, x[-1]], 'tells of more items'),
    (lambda x: [x[0], x[2], x[1], x[3]], ":2: id: found 'a1', expected 'a0'"),
    (lambda x: [x[0], 3, *x[2:]], ':2: found int, expected a JSON object'),
    (lambda x: [x[0], {'id': 'a0'}, *x[2:]], ':2: seed: missing'),
    (lambda x: [x[0], {**x[1], 'who': 1}, *x[2:]], ':2: who: unknown field'),
    (lambda x: [x[0], {**x[1], 'seed': True}, *x[2:]], 'seed: found True'),
    (lambda x: [x[0], {**x[1], 'voice': 'eve'}, *x[2:]], "voice: found 'eve'"),
    (lambda x: [x[0], {**x[1], 'writer': 'x'}, *x[2:]], "writer: found 'x'"),
    (lambda x: [x[0], {**x[1], 'sources': [1]}, *x[2:]], 'sources: found'),
    (
      lambda x: [
        x[0], {**x[1], 'gates': {'cer': {'outcome': 'passed'}}}, *x[2:]
      ],
      "gates: found 'cer', expected one of the counts: duration",
    ),
    (
      lambda x: [
        x[0], {**x[1], 'gates': {'duration': {'outcome': 'unmeasured'}}}, *x[2:]
      ],
      'duration: found .* the item is kept',
    ),
    (
      lambda x: [x[0], {**x[1], 'augmentation': {'input': 3}}, *x[2:]],
      ':2: provenance: a0: augmentation: provenance: sample_rate',
    ),
    (
      lambda x: [{**x[0], 'counts': {**COUNTS, 'kept': 9}}, *x[1:]],
      'counts: 9 kept, the manifest has 3',
    ),
  ],
)  # fmt: skip
def test_each_fault_is_one_sentence(corpus, change, message):
  rewrite(corpus, change)
  found = faults(corpus)
  assert len(found) == 1
  with pytest.raises(AssertionError, match=message):
    raise AssertionError(found[0])


def test_nothing_half_written(corpus, changed):
  before = {p.name: p.read_bytes() for p in corpus.iterdir() if p.is_file()}
  bad = made(changed)
  bad[2] = bad[2][0], dataclasses.replace(bad[2][1], voice='eve')
  with pytest.raises(errors.UserError, match="a2: voice: found 'eve'"):
    lib.write(corpus, JOB, bad)
  twice = [*made(changed), made(changed)[0]]
  with pytest.raises(errors.UserError, match="'a0' occurs twice"):
    lib.write(corpus, JOB, twice)
  with pytest.raises(errors.UserError, match="found 'a1', expected 'a0'"):
    lib.write(corpus, JOB, [(made(changed)[0][0], made(changed)[1][1])])
  after = {p.name: p.read_bytes() for p in corpus.iterdir() if p.is_file()}
  assert before == after


def test_a_kill_before_the_manifest_is_told(corpus, changed, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(files, 'move', killed)
  with pytest.raises(KeyboardInterrupt):
    lib.write(corpus, JOB, made(changed, 2))
  assert 'another manifest' in faults(corpus)[0]
  monkeypatch.undo()
  assert lib.write(corpus, JOB, made(changed)) == 3
  assert not faults(corpus)
