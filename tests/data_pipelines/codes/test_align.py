"""Word times of a corpus whose letters are tones."""

import json

import jax
import numpy as np
import optax
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.codes import align
from data_pipelines.codes import shares
from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.training import labels
from step_audio_jax.tokenizers.training import objectives
from tests.data_pipelines import frail

LETTER = 0.24  # seconds of a tone; words are parted by as much silence
HZ = dict(zip('abcd', (300, 700, 1400, 2600)))


def spoken(text, rng):
  """(wave, words): each letter a tone, each word behind a pause."""
  parts, words, at = [], [], 0.0
  for word in text.split():
    pause = LETTER * rng.uniform(0.5, 1.5)
    parts.append(np.zeros(round(pause * 16000)))
    begin = at + pause
    for letter in word.strip(',.').lower():
      time = np.arange(round(LETTER * 16000)) / 16000
      parts.append(0.4 * np.sin(2 * np.pi * HZ[letter] * time))
    at = begin + LETTER * len(word.strip(',.'))
    words.append((word, begin, at))
  wave = np.concatenate([*parts, np.zeros(2400)])
  return wave + rng.normal(size=len(wave)) * 1e-3, words


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tones')
  rng = np.random.default_rng(0)
  utterances, known = [], {}
  for number in range(12):
    sizes = rng.integers(1, 4, rng.integers(1, 4))
    text = ' '.join(''.join(rng.choice(list(HZ), size)) for size in sizes)
    text = text.capitalize() + '.'
    wave, words = spoken(text, rng)
    io.write_audio(folder / f'{number}.wav', wave)
    known[f'u{number}'] = words
    utterances.append(
      manifest.Utterance(
        id=f'u{number}',
        text=text,
        audio=f'{number}.wav',
        duration=len(wave) / 16000,
        sample_rate=16000,
      )
    )
  manifest.write(folder, utterances)
  return folder, known


@pytest.fixture(scope='module')
def aligner(corpus):
  folder, _ = corpus
  objective = objectives.LinguisticCTC(
    paraformer.ParaformerConfig(
      width=32, heads=2, mlp_width=64, layers=2, kernel=5
    ),
    labels.of_corpus(folder),
    noise=0.0,
    cmvn_steps=5,
  )
  utterances = manifest.read(folder)
  waves = [io.read_audio(u.audio_path(folder))[0] for u in utterances]
  batch = {
    'wave': np.zeros((12, max(map(len, waves))), np.float32),
    'samples': np.array(list(map(len, waves)), np.int32),
    'weights': np.ones(12, np.float32),
  }
  ids = [objective.labels.encode(u.text) for u in utterances]
  batch['label_counts'] = np.array(list(map(len, ids)), np.int32)
  batch['labels'] = np.zeros((12, max(map(len, ids))), np.int32)
  for row, (wave, label) in enumerate(zip(waves, ids)):
    batch['wave'][row, : len(wave)] = wave
    batch['labels'][row, : len(label)] = label
  variables = jax.jit(objective.init)(jax.random.key(0), batch)
  optimizer = optax.adam(4e-3)

  @jax.jit
  def step(variables, state, number):
    def loss(params):
      total, weight, _, new = objective.loss(
        {**variables, 'params': params},
        {**batch, 'step': number},
        jax.random.key(1),
      )
      return total / weight, new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(
      variables['params']
    )
    updates, state = optimizer.update(grads, state)
    params = optax.apply_updates(variables['params'], updates)
    return {**variables, **new, 'params': params}, state, value

  state = optimizer.init(variables['params'])
  for number in range(120):
    variables, state, value = step(variables, state, number)
  assert value < 0.5, value
  return align.Aligner(objective, variables)


@pytest.fixture
def own(corpus, tmp_path):
  """A copy whose manifest a test may change."""
  folder, _ = corpus
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  return tmp_path


def test_words_begin_where_they_were_spoken(own, corpus, aligner):
  told = align.align(own, aligner, batch_size=6)
  assert told == {'read': 12, 'aligned': 12, 'had_words': 0, 'left': 0}
  errors_ = []
  for utterance in manifest.read(own):
    truth = corpus[1][utterance.id]
    assert [word for word, _, _ in utterance.words] == [w for w, _, _ in truth]
    assert ' '.join(w for w, _, _ in utterance.words) == utterance.text
    errors_ += [a[1] - b[1] for a, b in zip(utterance.words, truth)]
  assert np.median(np.abs(errors_)) <= 0.12, errors_
  assert np.quantile(np.abs(errors_), 0.9) <= 0.24, errors_
  # Again there is nothing to do, and nothing changes.
  before = manifest.path_of(own).read_bytes()
  told = align.align(own, aligner)
  assert told == {'read': 12, 'aligned': 0, 'had_words': 12, 'left': 0}
  assert manifest.path_of(own).read_bytes() == before


def test_what_cannot_be_aligned_stays_without(own, aligner):
  utterances = manifest.read(own)
  changed = [
    {**utterances[0].to_json(), 'text': 'xyz'},
    {**utterances[1].to_json(), 'text': 'abcd' * 50},
    {**utterances[2].to_json(), 'audio': 'gone.wav'},
    {**utterances[3].to_json(), 'text': '…'},
    utterances[4].to_json(),
  ]
  files.write_jsonl(manifest.path_of(own), changed)
  told = align.align(own, aligner, batch_size=4, max_seconds=60)
  assert told == {'read': 5, 'aligned': 1, 'had_words': 0, 'left': 4}
  found = {
    line['id']: line['reason'] for line in files.read_jsonl(own / align.LEFT)
  }
  assert "no label for 'x'" in found['u0']
  assert 'for its 200 labels' in found['u1']
  assert 'gone.wav' in found['u2']
  assert 'nothing of it is spelt' in found['u3']
  with_words = [u.id for u in manifest.read(own) if u.words]
  assert with_words == ['u4']


def test_words_of_another_text_are_told(own, monkeypatch, capsys):
  lines = [u.to_json() for u in manifest.read(own)]
  for line in lines:
    line['words'] = [[w, n, n + 1] for n, w in enumerate(line['text'].split())]
  lines[0]['text'] = lines[0]['text'].upper() + '!'  # the same letters
  lines[1]['text'] = 'another'
  files.write_jsonl(manifest.path_of(own), lines)
  monkeypatch.setattr(align, 'load', lambda run: None)
  argv = ['data_pipelines', 'align', f'--corpus={own}', '--run=x']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  told = capsys.readouterr().err
  assert 'note: the words of 1 utterances are not those of their text' in told


def test_the_door(own, tmp_path, capsys):
  def call(*more):
    argv = ['data_pipelines', 'align', '--json', f'--corpus={own}', *more]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    return status, out.out, out.err

  before = manifest.path_of(own).read_bytes()
  status, out, _ = call('--run=anything', '--dry_run')
  assert (status, json.loads(out.splitlines()[-1])['utterances']) == (0, 12)
  run = tmp_path / 'run'
  run.mkdir()
  files.write_json(run / 'config.json', {'objective': {}})
  status, _, err = call(f'--run={run}')
  assert status == 2 and 'expected one of the linguistic tokenizer' in err
  assert manifest.path_of(own).read_bytes() == before


@pytest.mark.parametrize(
  'runner, options',
  [('DirectRunner', ()), ('DaskRunner', ['--dask_workers=2'])],
)
def test_workers_find_the_same_times(
  own, tmp_path_factory, monkeypatch, runner, options
):
  (own / '3.wav').write_bytes(b'no audio')
  lines = [u.to_json() for u in manifest.read(own)]
  lines[5]['text'] = 'x'
  files.write_jsonl(manifest.path_of(own), lines)
  run = tmp_path_factory.mktemp('workers') / 'run'
  monkeypatch.setattr(shares, 'BATCHES', 2)
  monkeypatch.setattr(align, '_identity', lambda run: (7, 'a'))

  def elsewhere():
    return align.align_elsewhere(
      own, run, runner=runner, beam_options=options, load=frail.Times,
      batch_size=2,
    )  # fmt: skip

  before = manifest.path_of(own).read_bytes()
  told = align.align(own, frail.Times(run, 7), batch_size=2)
  assert told == {'read': 12, 'aligned': 10, 'had_words': 0, 'left': 2}
  want = [(own / x).read_bytes() for x in ('manifest.jsonl', align.LEFT)]
  manifest.path_of(own).write_bytes(before)
  (run.parent / 'aligned').unlink()

  # Killed before the manifest was written: the times are kept.
  with monkeypatch.context() as patched:
    patched.setattr(align.manifest, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
      elsewhere()
  assert elsewhere() == told
  assert want == [
    (own / x).read_bytes() for x in ('manifest.jsonl', align.LEFT)
  ]
  assert not (own / shares.FOLDER).exists()
  calls = (run.parent / 'aligned').read_text().splitlines()
  assert sum(int(call.split()[1]) for call in calls) == 11
  assert {call.split(None, 2)[2] for call in calls} == {'2 7'}


def killed(*_):
  raise KeyboardInterrupt


def test_a_run_is_loaded_with_its_head(corpus, aligner, tmp_path, monkeypatch):
  objective = aligner._objective
  monkeypatch.setattr(
    align.checkpoints, 'run_config', lambda run: objective.describe()
  )
  monkeypatch.setattr(
    align.checkpoints,
    'load_variables',
    lambda run, step: (aligner._variables, 150),
  )
  again = align.load(tmp_path)
  wave, _ = spoken('ab, c', np.random.default_rng(3))
  assert again.words([wave], ['ab, c'], 2) == aligner.words(
    [wave], ['ab, c'], 2
  )
  with pytest.raises(errors.UserError):
    again.labels.encode('q')
