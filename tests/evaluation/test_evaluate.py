"""The `evaluate` door over a run whose model answers without fault."""

import base64
import io
import json
import types

from array_record.python import array_record_module
import jax
import numpy as np
import PIL.Image
import pytest
from safetensors import numpy as safetensors_numpy
import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import door
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.metrics import captions as captions_lib
from step_audio_jax.evaluation.metrics import speech
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import objectives
from tests.evaluation import parrot
from tests.evaluation import rows as evaluation_rows

GIN = 'gin/eval/speech_text.gin'


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run directory with three steps and a corpus with codes beside it."""
  utterances = []
  for split, texts in (
    ('test', ['a cat', 'big dogs']),
    ('test_unseen_voice', ['red']),
  ):
    utterances += [
      manifest.Utterance(
        id=f'{split}{n}',
        text=text,
        split=split,
        audio='x.wav',
        duration=1.0,
        sample_rate=16000,
      )
      for n, text in enumerate(texts)
    ]
  manifest.write(tmp_path / 'corpus', utterances)
  (tmp_path / 'codes').mkdir()
  writer = array_record_module.ArrayRecordWriter(
    str(tmp_path / 'codes' / 'codes-00000-of-00001.array_record'),
    'group_size:1',
  )
  for u in utterances:
    # The voice that was never heard is misheard by one letter.
    text = 'rex' if u.id == 'test_unseen_voice0' else u.text
    linguistic, semantic = parrot.codes(text)
    record = {'linguistic': linguistic, 'semantic': semantic}
    writer.write(safetensors_numpy.save(record, metadata={'id': u.id}))
  writer.close()
  for step in (10, 20, 30):
    (tmp_path / 'run' / 'checkpoints' / str(step)).mkdir(parents=True)
  loaded = []

  def load_model(run_dir, step):
    loaded.append(step)
    return parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY

  monkeypatch.setattr(restore, 'load_model', load_model)
  return types.SimpleNamespace(root=tmp_path, loaded=loaded)


def score(run, **changes):
  return evaluate.evaluate(
    **{
      'checkpoints': str(run.root / 'run'),
      'manifest': str(run.root / 'corpus'),
      'codes': str(run.root / 'codes'),
      'asr_splits': ('test', 'test_unseen_voice'),
      'tts_splits': ('test',),
      'speech': speech.SpeechConfig(batch_size=4),
      **changes,
    }
  )


def test_a_sweep_scores_every_step_once(run):
  result = score(run, steps='all')
  assert run.loaded == [10, 20, 30]
  expected = {
    'asr_cer/test': 0.0,
    'asr_cer/test_unseen_voice': pytest.approx(1 / 3),
    'tts_cer/test': 0.0,
  }
  assert result['results'] == {10: expected, 20: expected, 30: expected}
  saved = json.loads((run.root / 'run/evaluation/20.json').read_text())
  assert saved['step'] == 20 and saved['convention'] == 'plain'
  assert saved['asr']['test']['hypotheses'][1]['hypothesis'] == 'big dogs'
  assert saved['settings']['asr_splits'] == ['test', 'test_unseen_voice']
  page = (run.root / 'run/evaluation/index.html').read_text()
  assert 'Checkpoints scored: 3' in page and '<svg' in page
  # Again: what is there is kept, and nothing is loaded.
  again = score(run, steps='all')
  assert run.loaded == [10, 20, 30]
  assert again['results'] == result['results']
  score(run, steps=20, overwrite=True)
  assert run.loaded == [10, 20, 30, 20]


def test_a_sweep_goes_on_where_it_was_stopped(run):
  score(run, steps=[20])
  score(run, steps='all')
  assert run.loaded == [20, 10, 30]


def test_a_failure_leaves_no_file(run, monkeypatch):
  def fail(*_, **__):
    raise errors.UserError('no text model.')

  monkeypatch.setattr(restore, 'load_model', fail)
  with pytest.raises(errors.UserError):
    score(run)
  assert not list((run.root / 'run').glob('evaluation/*'))


@pytest.mark.parametrize(
  'steps, expected',
  [
    ('last', [30]),
    ('all', [10, 20, 30]),
    ('30,10', [10, 30]),
    (20, [20]),
    ([10, 10], [10]),
  ],
)
def test_steps_are_chosen(run, steps, expected):
  assert evaluate.choose_steps(run.root / 'run', steps) == expected


@pytest.mark.parametrize(
  'steps, message',
  [
    ('first', "expected 'all', 'last' or numbers"),
    ('10,15', 'no checkpoint of step 15; it has 10, 20, 30'),
    ([], r"steps is \[\], expected 'all', 'last'"),
  ],
)
def test_steps_that_are_not_there(run, steps, message):
  with pytest.raises(errors.UserError, match=message):
    evaluate.choose_steps(run.root / 'run', steps)


def test_limits_and_missing_input(run):
  result = score(run, max_utterances=1)
  saved = json.loads((run.root / 'run/evaluation/30.json').read_text())
  assert saved['asr']['test']['utterances'] == 1
  assert result['results'][30]['asr_cer/test'] == 0.0
  with pytest.raises(errors.UserError, match='codes is not'):
    score(run, codes=None)
  with pytest.raises(errors.UserError, match="no split 'dev'"):
    score(run, steps=10, asr_splits=('dev',))


def arguments(run, *more):
  return [
    f'--gin_file={GIN}',
    f'--checkpoints={run.root / "run"}',
    f'--gin.MANIFEST="{run.root / "corpus"}"',
    f'--gin.CODES="{run.root / "codes"}"',
    '--gin.ROWS=None',
    '--gin.ASR_SPLITS=("test",)',
    '--gin.TTS_SPLITS=()',
    *more,
  ]


def test_the_door_prints_a_table_and_json(run, capsys):
  assert cli.run('evaluate', door.DOOR, arguments(run, '--json')) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == ['step', '30']
  assert lines[1].split() == ['asr_cer/test', '0.0', '%']
  assert json.loads(lines[-1])['results'] == {'30': {'asr_cer/test': 0.0}}


def test_a_dry_run_changes_nothing(run, capsys):
  flags = arguments(run, '--dry_run', '--steps=10,20')
  score(run, steps=10)
  assert cli.run('evaluate', door.DOOR, flags) == 0
  out = capsys.readouterr().out
  assert 'would keep the scores of step 10' in out
  assert 'would score step 20' in out
  assert not (run.root / 'run/evaluation/20.json').exists()


def test_bad_input_is_one_sentence_and_status_2(run, capsys):
  assert cli.run('evaluate', door.DOOR, arguments(run, '--steps=7')) == 2
  assert 'no checkpoint of step 7' in capsys.readouterr().err
  flags = [f'--gin_file={GIN}', f'--checkpoints={run.root / "run"}']
  assert cli.run('evaluate', door.DOOR, flags) == 2
  assert 'is required and has no value' in capsys.readouterr().err


def test_the_table_leaves_out_single_sources():
  text = door.table(
    {
      5: {'asr_cer/dev': 0.5, 'perplexity/all/text': 3.0},
      10: {'asr_cer/dev': 0.07125, 'perplexity/asr/text': 9.0},
    }
  )
  assert text.splitlines() == [
    '                     step 5  step 10',
    'asr_cer/dev          50.0 %    7.1 %',
    'perplexity/all/text    3.00',
  ]


@pytest.fixture
def rows(tmp_path):
  """Rows of text, of speech and of two captioned images."""
  return evaluation_rows.write_all(tmp_path)


def test_rows_and_captions_of_a_model_with_eyes(run, rows, monkeypatch):
  loaded = evaluation_rows.tiny(parrot.VOCABULARY, eyes=True)
  monkeypatch.setattr(restore, 'load_model', lambda *_: loaded)
  result = score(run, manifest=None, rows=str(rows), captions=9)
  figures = result['results'][30]
  assert {k.split('/')[1] for k in figures if k.startswith('perplexity')} == {
    'text',
    'asr',
    'image_text',
    'all',
  }
  saved = json.loads((run.root / 'run/evaluation/30.json').read_text())
  captions = saved['captions']
  assert captions['images'] == 2
  assert [e['reference'] for e in captions['examples']] == ['ab', 'ab']
  png = base64.b64decode(captions['examples'][1]['png'])
  pixels = np.asarray(PIL.Image.open(io.BytesIO(png)))
  np.testing.assert_array_equal(pixels, np.full((8, 8, 3), 9))


def test_a_backbone_is_scored_on_what_it_can_read(run, rows, monkeypatch):
  text_only = vocabulary_lib.Vocabulary(
    text_size=95,
    linguistic_size=0,
    semantic_size=0,
    text=parrot.Alphabet(),
  )
  loaded = evaluation_rows.tiny(text_only, eyes=False)
  monkeypatch.setattr(restore, 'load_model', lambda *_: loaded)
  figures = score(run, rows=str(rows), captions=9)['results'][30]
  assert set(figures) == {
    f'perplexity/{source}/{stream}'
    for source in ('text', 'all')
    for stream in ('text', 'control', 'all')
  }


def test_captioned_documents_of_a_packed_row(rows):
  source = feed.Source('image_text', rows / 'image_text' / 'dev')
  found = list(captions_lib.documents(source.row(0)))
  assert [slot for _, _, _, slot in found] == [2, 2]
  assert [image[0, 0, 0] for _, _, image, _ in found] == [3, 9]
  for prompt, caption, _, _ in found:
    assert prompt[-1] == vocabulary_lib.CONTROL['<text_start>']
    assert caption == [68, 69, 3]
  speechless = evaluation_rows.row(
    [1, 70, vocabulary_lib.CONTROL['<text_start>'], 71]
  )
  assert list(captions_lib.documents(speechless)) == []


def test_shallow_models_are_unrolled_and_stay_the_same():
  model, variables, _ = evaluation_rows.tiny(parrot.VOCABULARY, eyes=False)
  unrolled = restore.unroll_layers(model)
  assert unrolled.config.transformer.scan_unroll == 2
  tokens = np.asarray([[1, 70, 80]], np.int32)
  np.testing.assert_allclose(
    jax.jit(unrolled.apply)(variables, tokens),
    jax.jit(model.apply)(variables, tokens),
    atol=1e-6,
  )
  assert restore.unroll_layers('no transformer') == 'no transformer'


def test_a_saved_run_is_loaded_and_scored(run, rows, monkeypatch):
  """Nothing replaced: checkpoint, config and text tokenizer from disk."""
  monkeypatch.undo()
  pieces = {'<unk>': 0, **{c: 68 + n for n, c in enumerate(parrot.LETTERS)}}
  pieces |= {f'<spare{n}>': n for n in range(1, 68)}
  hugging_face = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(pieces, unk_token='<unk>')
  )
  hugging_face.pre_tokenizer = tokenizers.pre_tokenizers.Split('', 'isolated')
  path = run.root / 'tokenizer.json'
  hugging_face.save(str(path))
  vocabulary = vocabularies.load(text_model=str(path))
  model, variables, _ = evaluation_rows.tiny(vocabulary, eyes=False)
  folder = run.root / 'real'
  store = checkpoints.Checkpoints(folder)
  store.save(7, variables, {'count': np.zeros(())}, {'row': 0})
  store.close()
  objective = objectives.NextToken(model, vocabulary)
  files.write_json(folder / 'config.json', objective.describe())
  figures = score(run, checkpoints=str(folder), rows=str(rows), steps='7')
  assert set(figures['results']) == {7}
  values = figures['results'][7]
  assert all(np.isfinite(value) for value in values.values())
  assert values['asr_cer/test'] > 0  # it has learnt nothing
  saved = files.read_json(folder / 'evaluation' / '7.json')
  # The parrot's rows hold codes below those of this larger vocabulary.
  assert saved['perplexity']['text']['all']['tokens'] == 12
  for item in saved['tts']['test']['hypotheses']:
    vocabulary.deinterleave(item['tokens'])
