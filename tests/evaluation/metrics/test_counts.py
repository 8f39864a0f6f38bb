"""How many of how many: wherever a figure is shown, and what it leaves out."""

import html
import json
import types

import numpy as np
import pytest

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.commands import cli
from step_audio_jax.evaluation import door
from step_audio_jax.evaluation.metrics import captions as captions_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.reports import report
from tests.evaluation import corpus
from tests.evaluation import parrot
from tests.evaluation import rows as evaluation_rows

score = corpus.score


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Of dev one utterance has no codes, of test one has no transcript."""
  run = corpus.make(tmp_path, monkeypatch, steps=(20,))
  texts = {**corpus.TEXTS, 'test': ['a cat', 'big dogs', ' ', 'no', 'so']}
  corpus.write_manifest(run.root, texts)
  corpus.write_codes(run.root, without=('dev1',))
  return run


def page(run, name='index.html'):
  return html.unescape((run.root / 'run/evaluation' / name).read_text())


def test_utterances(run):
  found = score(
    run, {'max_text_tokens': 6}, asr_splits=('dev', 'test'),
    tts_splits=('test',), max_utterances=4,
  )  # fmt: skip
  told = {k: counts.describe(c) for k, c in found['counts'][20].items()}
  assert told == {
    'asr_cer/dev': '1 of 2 utterances: 1 without codes',
    'asr_cer/test': '3 of 5 utterances: 1 beyond max_utterances=4, 1 without a '
    'transcript; 1 cut at max_text_tokens=6',
    'tts_cer/test': '3 of 5 utterances: 1 beyond max_utterances=4, 1 without a '
    'transcript; 1 cut at max_text_tokens=6',
  }
  for text in told.values():
    assert text in page(run)
  saved = json.loads((run.root / 'run/evaluation/20.json').read_text())
  assert saved['counts'] == found['counts'][20]
  for one in saved['counts'].values():
    assert one['scored'] + sum(one['left_out'].values()) == one['of']


def test_the_door_prints_them_below_the_table(run, capsys):
  flags = [
    '--gin_file=gin/eval/speech_text.gin',
    f'--checkpoints={run.root / "run"}',
    f'--gin.MANIFEST="{run.root / "corpus"}"',
    f'--gin.CODES="{run.root / "codes"}"',
    '--gin.ROWS=None',
    '--gin.TTS_SPLITS=()',
  ]
  assert cli.run('evaluate', door.DOOR, flags) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split() == ['asr_cer/dev', '0.0', '%']
  place = lines.index('scored, of how many:')
  expected = 'asr_cer/dev  1 of 2 utterances: 1 without codes'
  assert lines[place + 1] == expected
  # And where it is kept, and only said what would be done.
  assert cli.run('evaluate', door.DOOR, flags) == 0
  assert expected in capsys.readouterr().out.splitlines()
  more = ['--gin.ASR_SPLITS=("dev", "test")', '--dry_run']
  assert cli.run('evaluate', door.DOOR, [*flags, *more]) == 0
  out = capsys.readouterr().out
  assert 'would score step 20 of' in out
  assert ': asr/test; and keep asr/dev' in out


def test_the_report_shows_them(run, capsys):
  score(run, asr_splits=('dev', 'test'), tts_splits=('test',))
  found = report.report(
    runs=[str(run.root / 'run')], output=str(run.root / 'out'),
    unseen_split='dev', manifest=None,
  )  # fmt: skip
  assert found['notes'] == []
  assert counts.short_text(found['counts']['asr_cer']) == '4 of 5 utterances'
  saved = json.loads((run.root / 'out/report.json').read_text())
  assert saved['counts'] == found['counts']
  text = html.unescape((run.root / 'out/report.html').read_text())
  assert 'ASR character errors, seen voices, 4 of 5 utterances' in text
  assert '0.0 % over 1 of 2 utterances: 1 without codes' in text
  assert '<td>tts_cer/test</td><td>4 of 5 utterances: 1 without a' in text
  flags = [
    '--gin_file=gin/eval/report.gin',
    f'--gin.RUNS=["{run.root / "run"}"]',
    f'--gin.OUTPUT="{run.root / "out"}"',
  ]
  assert cli.run('report', report.DOOR, flags) == 0
  line = capsys.readouterr().out.splitlines()[0]
  assert line.endswith('0.0 %  over 4 of 5 utterances: 1 without a transcript')


def test_a_report_doubts_what_cannot_be_compared(run):
  for name, limit in (('stage1', 1), ('stage2', 0)):
    corpus.write_checkpoint(run.root, 20, name, run=name)
    where = str(run.root / name)
    score(run, checkpoints=where, tts_splits=(), max_utterances=limit)

  def notes():
    return report.report(
      runs=[str(run.root / name) for name in ('stage1', 'stage2')],
      output=str(run.root / 'out'),
      dry_run=True,
    )['notes']

  (note,) = notes()
  assert note.startswith('asr/dev: measured on different data or under')
  assert 'in stage1; stage2' in note
  corpus.write_checkpoint(run.root, 20, 'trained anew', run='stage2')
  assert 'stage2: the checkpoint has other parameters' in notes()[0]


class Levels:
  """A decoder whose sound is its codes, and the ears for it."""

  mel = vocoder = types.SimpleNamespace(name='levels', bands=4)

  def chosen(self, voice):
    return voice

  def decode(self, ids, voice, seed, steps):
    letters = np.asarray(ids).reshape(-1, 5)[:, 0]
    return np.repeat((letters + 1) / 64, 1920).astype(np.float32), 16000

  def encode_batch(self, waves):
    found = []
    for wave in waves:
      groups = wave[: len(wave) // 1920 * 1920].reshape(-1, 1920)
      letters = np.round(groups.mean(axis=1) * 64 - 1).astype(np.uint16)
      found.append((np.repeat(letters, 2), np.zeros(3 * len(letters), 'u2')))
    return found


@pytest.fixture
def sound(run, monkeypatch):
  for name in ('decoder', 'tokenizer'):
    (run.root / name).mkdir()
    (run.root / name / 'weights').write_text(name)
  monkeypatch.setattr(
    sound_lib.decoder_lib.SpeechDecoder, 'load', lambda folder: Levels()
  )
  monkeypatch.setattr(sound_lib.dual.DualTokenizer, 'load', lambda _: Levels())
  return {
    'asr_splits': (),
    'tts_splits': ('test',),
    'sound': sound_lib.SoundConfig(
      decoder=str(run.root / 'decoder'),
      tokenizer=str(run.root / 'tokenizer'),
      utterances=3,
    ),
  }


def test_sound(run, sound):
  found = score(run, **sound)
  assert counts.describe(found['counts'][20]['sound_cer/test']) == (
    '3 of 5 utterances: 1 without a transcript, 1 beyond sound.utterances=3'
  )

  def plan():
    return score(run, dry_run=True, **sound)['scored'][20]

  assert plan() == []
  # The folders are what they hold.
  (run.root / 'decoder' / 'weights').write_text('another')
  assert plan() == ['sound/test']
  (run.root / 'decoder' / 'weights').write_text('decoder')
  assert plan() == []
  # Waveforms that are gone are made again.
  next((run.root / 'run/evaluation/20_sound').rglob('*.wav')).unlink()
  assert plan() == ['sound/test']


def test_waveforms_of_several_decoders_lie_side_by_side(run, sound):
  score(run, **sound)
  (run.root / 'decoder' / 'weights').write_text('another')
  score(run, **sound)
  wavs = [p.name for p in (run.root / 'run/evaluation/20_sound').rglob('*.wav')]
  assert sorted(wavs) == sorted(2 * ['test0.wav', 'test1.wav', 'test3.wav'])


def test_speech_that_is_none_is_an_error_and_told(run, sound):
  speaker = types.SimpleNamespace(
    read=lambda prompts: [('a cat', True) for _ in prompts]
  )
  items = [
    {'id': '../a', 'language': 'en', 'reference': 'a cat', 'tokens': tokens}
    for tokens in (
      [],
      parrot.VOCABULARY.interleave(*parrot.codes('a cat')).tolist(),
    )
  ]
  found = sound_lib.score(
    speaker, parrot.VOCABULARY, {'dev': {'hypotheses': items}},
    sound['sound'], run.root / 'out',
  )['dev']  # fmt: skip
  assert found['silent'] == 1 and found['utterances'] == 2
  assert [h['cer'] for h in found['hypotheses']] == [1.0, 0.0]
  (wav,) = run.root.rglob('*.wav')  # an id leads nowhere
  assert wav.is_relative_to(run.root / 'out' / 'dev')


@pytest.fixture
def rows(tmp_path):
  return evaluation_rows.write_all(tmp_path / 'rows')


def test_rows_and_what_the_model_cannot_read(run, rows, monkeypatch):
  loaded = evaluation_rows.tiny(parrot.VOCABULARY)
  monkeypatch.setattr('step_audio_jax.generation.restore.load_model',
                      lambda *_: loaded)  # fmt: skip
  asked = {'manifest': None, 'rows': str(rows), 'captions': 9}
  found = score(run, max_rows=2, **asked)
  told = counts.describe_steps(found['counts'], found['left_out'])
  assert 'perplexity/text        2 of 3 rows: 1 beyond max_rows=2' in told
  assert 'perplexity/all         3 of 4 rows: 1 beyond max_rows=2' in told
  blind = 'left out, the model has no image encoder'
  assert f'perplexity/image_text  {blind}' in told
  assert f'captions/image_text    {blind}' in told
  assert blind in page(run)

  def plan(**changes):
    return score(run, dry_run=True, **{**asked, 'max_rows': 2, **changes})

  assert plan()['steps'] == {20: True}
  assert plan(max_rows=9)['scored'][20] == ['perplexity/text']
  evaluation_rows.write(rows, 'asr', [evaluation_rows.row([1, 70, 71, 3])])
  assert plan()['scored'][20] == ['perplexity/asr']
  assert plan(row_split='test')['notes'] == [
    f"perplexity: no folder of {rows} has rows of the split 'test'.",
    f'captions: {rows}/image_text/test has no rows with images.',
  ]


def test_captions(rows):
  loaded = evaluation_rows.tiny(parrot.VOCABULARY, eyes=True)
  for count, expected in ((9, (2, 2, 0)), (1, (1, 2, 0))):
    found = captions_lib.evaluate(
      *loaded, folder=rows / 'image_text' / 'dev', count=count,
      max_new_tokens=3,
    )  # fmt: skip
    assert (found['images'], found['of'], found['passed_over']) == expected
    assert found['unfinished'] <= found['images']
  row = evaluation_rows.captioned()
  start = vocabulary_lib.CONTROL['<text_start>']
  row['tokens'][row['tokens'] == start] = 70  # cut before their captions
  evaluation_rows.write(rows, 'image_text', [row], images_per_row=2)
  found = captions_lib.evaluate(
    *loaded, folder=rows / 'image_text' / 'dev', count=9, max_new_tokens=3
  )
  assert (found['images'], found['of'], found['passed_over']) == (0, 2, 2)


def test_equal_steps_are_told_once():
  one = counts.count(1, 2, 'rows', {'late': 1, 'never': 0})
  two = counts.count(2, 2, 'rows')
  assert counts.describe_steps({1: {'a': one}, 2: {'a': one}}, {}) == [
    'a  1 of 2 rows: 1 late'
  ]
  assert counts.describe_steps(
    {1: {'a': one}, 2: {'a': two}}, {2: {'b': 'blind'}}
  ) == [
    'a  step 1: 1 of 2 rows: 1 late',
    'a  step 2: 2 of 2 rows',
    'b  left out, blind',
  ]
  assert counts.describe_steps({}, {}) == []
  assert counts.describe(counts.sum_counts([one, two])) == '3 of 4 rows: 1 late'
