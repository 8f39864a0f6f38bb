"""Sweeps from `evaluate` to what readers see of them."""

import dataclasses
import json
import math
import shutil
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from step_audio_jax import errors
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation import score as score_lib
from step_audio_jax.evaluation.benchmarks import asking
from step_audio_jax.evaluation.benchmarks import family as benchmarks
from step_audio_jax.evaluation.benchmarks import means
from step_audio_jax.evaluation.families import comparing
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.families import scores
from step_audio_jax.evaluation.metrics import speech
from step_audio_jax.evaluation.sweeps import choosing
from step_audio_jax.evaluation.sweeps import events
from step_audio_jax.evaluation.sweeps import intervals
from step_audio_jax.evaluation.sweeps import published
from step_audio_jax.evaluation.sweeps import tables
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from tests.evaluation import corpus
from tests.evaluation import parrot
from tests.evaluation import rows as evaluation_rows
from tests.evaluation.benchmarks import made

score = corpus.score
TOLD = ('summary.json', 'table.md', 'table.tex', 'index.html')


@pytest.fixture
def run(tmp_path, monkeypatch):
  run = corpus.make(tmp_path, monkeypatch, steps=(10, 20, 30))
  corpus.write_codes(run.root, {'dev1': 'rex'})
  run.folder = run.root / 'run' / 'evaluation'
  return run


def told(run):
  return {name: (run.folder / name).read_bytes() for name in TOLD}


def summary(run):
  return json.loads((run.folder / 'summary.json').read_text())


def lines(run, name):
  text = (run.folder / 'rows' / name).read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_the_same_bytes_whatever_the_order_and_the_kills(run, monkeypatch):
  score(run, steps='all')
  expected = told(run)
  before = {path: path.stat().st_mtime_ns for path in run.folder.glob('*')}
  score(run, steps='all')  # nothing is written again
  assert before == {path: path.stat().st_mtime_ns for path in before}
  for path in [*run.folder.rglob('*')]:
    if path.is_file():
      path.unlink()
  score(run, steps='30,10')
  calls, tts = [], speech.tts

  def killed(*args):
    calls.append(1)
    if len(calls) == 1:
      raise KeyboardInterrupt
    return tts(*args)

  monkeypatch.setattr(speech, 'tts', killed)
  with pytest.raises(KeyboardInterrupt):
    score(run, steps='all')
  score(run, steps='all')
  assert told(run) == expected


def test_every_item_by_itself(run):
  (run.root / 'corpus' / 'x.wav').write_bytes(b'RIFF')
  score(run, {'temperature': 0.5, 'seed': 7}, steps='all')
  first, second = lines(run, '20/asr-dev.jsonl')
  assert first['recording'] == str(run.root / 'corpus' / 'x.wav')
  assert first['id'] == 'dev0' and first['errors'] == 0
  assert second['reference'] == 'red' and second['hypothesis'] == 'rex'
  assert second['normalised'] == {'reference': 'red', 'hypothesis': 'rex'}
  edits = [second[n] for n in ('substitutions', 'deletions', 'insertions')]
  assert edits == [1, 0, 0] and second['units'] == 3
  assert second['latency'] >= 0 and second['seed'] is None
  assert {row['seed'] for row in lines(run, '20/tts-dev.jsonl')} == {7}
  # Other settings under the same name are other rows.
  corpus.write_codes(run.root, {'dev1': 'rod'})
  score(run, steps='20')
  assert lines(run, '20/asr-dev.jsonl')[1]['hypothesis'] == 'rod'
  (run.folder / 'rows/20/asr-dev.jsonl').unlink()
  score(run, steps='20')
  assert len(lines(run, '20/asr-dev.jsonl')) == 2


def test_the_summary_says_what_a_figure_is(run):
  score(run, steps='20,10')
  found = summary(run)
  assert list(found['steps']) == ['10', '20'] and found['unreadable'] == {}
  figure = found['steps']['20']['figures']['asr_cer/dev']
  assert figure['value'] == pytest.approx(1 / 8)
  assert figure['low'] == 0 and figure['high'] == pytest.approx(1 / 3)
  assert figure['by'] == 'plain' and figure['of'] == 2
  assert figure['unit'] == '%' and figure['better'] == 'lower'
  assert found['steps']['20']['counts']['asr_cer/dev']['scored'] == 2
  assert 'stranger_tts' in found['steps']['20']['not_computed']
  change = found['changes']['asr_cer/dev']
  assert (change['from'], change['to'], change['rows']) == (10, 20, 2)
  assert change['before'] == change['after'] and change['p_sign_flip'] == 1
  text = (run.folder / 'table.md').read_text()
  line = next(x for x in text.splitlines() if x.startswith('| asr_cer/dev ↓'))
  assert '| plain | 2 of 2 utterances | 12.50 [0.00, 33.33] |' in line
  assert 'not computed: no judge is named' in text
  assert r'asr\_cer/dev $\downarrow$' in (run.folder / 'table.tex').read_text()


def test_scalars_for_tensorboard(run):
  score(run, steps='10,30')
  score(run, steps='10,30')
  (path,) = (run.folder / events.FOLDER).iterdir()
  found, raw = {}, path.read_bytes()
  while raw:
    size = int.from_bytes(raw[:8], 'little')
    event = event_pb2.Event.FromString(raw[12 : 12 + size])
    raw = raw[16 + size :]
    for value in event.summary.value:
      found[event.step, value.tag] = value.simple_value
  assert found[30, 'evaluation/asr_cer/dev'] == pytest.approx(1 / 8)
  assert len(found) == 4


def test_a_checkpoint_that_cannot_be_read_costs_itself(run, monkeypatch):
  load = restore.load_model

  def broken(folder, step):
    if step == 20:
      raise errors.UserError(f'{folder}: step {step}: cut off.')
    return load(folder, step)

  monkeypatch.setattr(restore, 'load_model', broken)
  found = score(run, steps='all')
  assert set(found['results']) == {10, 30} and 20 not in found['scored']
  reason = f'{run.root / "run"}: step 20: cut off'
  assert found['unreadable'] == {20: reason}
  assert any('step 20 was passed over' in note for note in found['notes'])
  assert summary(run)['unreadable'] == {'20': reason}
  assert reason in (run.folder / 'table.md').read_text()
  assert 'Step 20 was passed over' in (run.folder / 'index.html').read_text()
  with pytest.raises(errors.UserError, match='cut off'):
    score(run, steps='20')


def test_a_checkpoint_of_another_vocabulary_is_told(run, monkeypatch):
  model, variables, vocabulary = evaluation_rows.tiny(parrot.VOCABULARY)
  table = variables['params']['transformer']['embedding']
  variables['params']['transformer']['embedding'] = np.asarray(table)[:-7]
  monkeypatch.setattr(
    restore, 'load_model', lambda *_: (model, variables, vocabulary)
  )
  with pytest.raises(errors.UserError) as caught:
    score(run, steps='10')
  assert 'step 10: its parameters are those of another vocabulary' in str(
    caught.value
  )
  assert 'found a table of 123 ids, expected 130' in str(caught.value)


def test_a_checkpoint_of_another_model_is_told(run, monkeypatch):
  model, variables, vocabulary = evaluation_rows.tiny(parrot.VOCABULARY)
  del variables['params']['transformer']['head']
  monkeypatch.setattr(
    restore, 'load_model', lambda *_: (model, variables, vocabulary)
  )
  with pytest.raises(errors.UserError) as caught:
    score(run, steps='10')
  assert 'step 10: its parameters are those of another model' in str(
    caught.value
  )
  assert 'could not find parameter named "head"' in str(caught.value)


def test_a_watch_scores_what_comes_and_an_interrupt_ends_it(run, monkeypatch):
  looks = []

  def rounds(folder, steps, pause):
    assert steps == 'all' and pause == 3.0
    looks.append(sorted(path.name for path in run.folder.glob('*0.json')))
    yield [10]
    looks.append(sorted(path.name for path in run.folder.glob('*0.json')))
    # A run keeps its newest checkpoints; what was scored of others stays.
    shutil.rmtree(run.root / 'run/checkpoints/10')
    yield [20, 30]
    raise KeyboardInterrupt

  monkeypatch.setattr(choosing, 'watch', rounds)
  found = score(run, steps='all', watch=True, pause=3.0)
  assert set(found['results']) == {10, 20, 30} == set(run.loaded)
  assert looks == [[], ['10.json']]
  assert list(summary(run)['steps']) == ['10', '20', '30']
  for pause in (0, math.nan, math.inf):
    with pytest.raises(errors.UserError, match=f'pause is {pause}, expected'):
      score(run, pause=pause)


def test_a_checkpoint_is_loaded_only_where_a_family_needs_it(run):
  score(run, steps='all')
  loaded = list(run.loaded)
  found = score(run, steps='all', asr_splits=('dev', 'test'))
  assert run.loaded == [*loaded, 10, 20, 30]
  assert found['scored'][10] == ['asr/test']


class Lengths(family_lib.Family):
  """How long a run's name is; nobody else knows of it."""

  tasks = ('length',)

  def parts(self):
    return [family_lib.Part('length', 'name', 'data', {'unit': 'letters'})]

  def score(self, checkpoint, parts, held, keep):
    for part in parts:
      rows = [{'id': 'x', 'points': 1.0}, {'id': 'y', 'points': 0.0}]
      keep(part, 0.0, {'length': len(checkpoint.run.name), 'rows': rows})

  def show(self, kept):
    figures = {
      f'length/{one["name"]}': family_lib.Figure(
        one['result']['length'], unit='letters'
      )
      for one in kept
    }
    return family_lib.Shown({}, figures, {})

  def rows(self, kept):
    return kept['result']['rows']

  def main_figure(self, kept):
    return f'length/{kept["name"]}'


def test_a_new_family_is_one_class(run, monkeypatch):
  init = score_lib.Plan.__init__

  def wider(self, *args, **kwargs):
    init(self, *args, **kwargs)
    self.families.append(Lengths())
    self._of_task['length'] = self.families[-1]

  monkeypatch.setattr(score_lib.Plan, '__init__', wider)
  found = score(run, steps=10, asr_splits=(), tts_splits=())
  assert found['results'] == {10: {'length/name': 3}} and run.loaded == []
  figure = summary(run)['steps']['10']['figures']['length/name']
  assert (figure['low'], figure['high']) == (0.0, 1.0)
  assert len(lines(run, '10/length-name.jsonl')) == 2
  assert '| length/name ↑ | letters |' in (run.folder / 'table.md').read_text()
  assert score(run, steps=10, asr_splits=(), tts_splits=())['kept'][10] == [
    'length/name'
  ]
  about = {'run': 'x', 'step': 1, 'settings': {}}
  assert scores.to_json(about, [Lengths()], [])['metrics'] == {}


def test_ours_beside_what_is_published():
  benchmark = types.SimpleNamespace(
    published={'Step-Audio': {'wer': 8.75}, 'other': {'wer': 9, 'sim': 0.8}},
    unpublished='normalisation unpublished',
  )
  found = published.of(benchmark)
  assert found['wer'].values == {'Step-Audio': 8.75, 'other': 9}
  figure = family_lib.Figure(0.125, 0.1, 0.15)
  assert tables.beside(figure, found['wer']) == (
    '12.50 (Step-Audio 8.75†; other 9†)'
  )
  assert tables.value(figure) == '12.50 [10.00, 15.00]'
  assert tables.beside(None, found['sim']) == '– (other 0.8†)'
  notes = tables.footnotes(found, {}, {7: 'cut off'})
  assert notes == [
    '† normalisation unpublished.', 'step 7: not scored: cut off.'
  ]  # fmt: skip


def test_published_rates_stand_beside_the_headline():
  known = {
    'asr/wer': published.Published({'x': 1.0}),
    'qa/right': published.Published({'x': 2.0}),
    'none/right': published.Published({'x': 3.0}),
  }
  names = ['asr/wer/whisper', 'asr/wer/kimi', 'qa/right', 'qa/right/group']
  found = published.beside(names, known)
  assert {name: one.values['x'] for name, one in found.items()} == {
    'asr/wer/whisper': 1.0, 'qa/right': 2.0
  }  # fmt: skip


def test_rows_of_benchmarks_are_compared():
  counts = {
    'length': 4, 'substitutions': 1, 'deletions': 0, 'insertions': 2,
    'rate': 0.75, 'counted': True,
  }  # fmt: skip
  row = {'id': 'a', 'scores': {'kimi': counts}}
  found = comparing.comparable(row, 'wer/kimi', {'by': 'kimi 1, micro'})
  assert (found['errors'], found['units'], found['insertions']) == (3, 4, 2)
  macro = {'by': 'kimi 1, macro, heard by x'}
  assert comparing.comparable(row, 'wer/kimi', macro) == {'points': 0.75}
  assert comparing.comparable(row, 'wer/whisper', macro) == {}
  for told, points in (
    ({'right': True}, 1.0),
    ({'judge': {'value': 4.0}}, 4.0),
    ({'judge': {'value': None, 'parts': {'help': 3.0}}}, 3.0),
  ):
    assert comparing.comparable(told, 'right', {}) == {'points': points}
  assert comparing.comparable({'judge': {'value': None}}, 'right', {}) == {}
  assert comparing.comparable({'errors': 1, 'units': 2}, 'right', {}) == {}


def test_two_steps_on_the_rows_that_both_have():
  first = [{'id': n, 'errors': 2, 'units': 4} for n in 'abcd']
  second = [{'id': n, 'errors': 1, 'units': 4} for n in 'bcde']
  second[0]['errors'] = 3
  found = intervals.compare(first, second)
  assert found['rows'] == 3 and found['before'] == 0.5
  assert found['after'] == pytest.approx(5 / 12)
  assert (found['less'], found['more']) == (2, 1)
  assert found['p_sign_flip'] == 1.0  # of eight swaps
  assert intervals.compare(first, [{'id': 'a'}]) is None
  assert intervals.compare([], second) is None
  assert intervals.columns([*first, {'id': 'x'}]) is None
  assert intervals.columns([]) is None
  assert intervals.interval(np.zeros(2), np.zeros(2)) is None


def test_a_benchmark_in_a_sweep(tmp_path, monkeypatch):
  run = made.run(tmp_path, monkeypatch)
  monkeypatch.setattr(benchmarks.Benchmarks, '_recordings', made.Recordings())
  run.folder = run.root / 'run' / 'evaluation'
  spelling = made.Spelling(
    'spelling',
    '',
    published={'Step-Audio': {'cer': 1.5}},
    unpublished='normalisation unpublished',
  )
  found = evaluate.evaluate(
    checkpoints=str(run.root / 'run'),
    benchmarks=(spelling,),
    asking=asking.Asking(batch_size=4, chunk=1),
  )
  assert found['units'] == {'spelling/cer': '%'}
  figure = summary(run)['steps']['20']['figures']['spelling/cer']
  assert (figure['low'], figure['high']) == (0.0, 0.0)
  table = (run.folder / 'table.md').read_text()
  assert '| 0.00 (Step-Audio 1.5†) |' in table
  assert '† normalisation unpublished.' in table
  first, *_ = lines(run, '20/benchmark-spelling.jsonl')
  assert first['raw'] == 'a cat' and first['references'] == ['a cat']
  assert first['units'] == 5 and {'latency', 'seed'} <= set(first)
  page = (run.folder / 'index.html').read_text()
  assert '"label":"benchmark/spelling","steps":[20],"lower":true' in page
  # What others publish decides about nothing.
  assert spelling.settings == made.Spelling('spelling', '').settings


def test_the_headline_of_a_benchmark_stays_the_first(tmp_path):
  result = {
    'figures': {
      name: {**dataclasses.asdict(family_lib.Figure(value)), 'by': 'x 1, micro'}
      for name, value in (('wer/b', 0.5), ('wer/a', 0.25))
    },
    'order': ['wer/b', 'wer/a'],
    'counted': {},
    'not_computed': {},
    'rows': [
      {'id': 'x', 'scores': {n: {'length': 4, 'substitutions': k} for n, k in
                             (('a', 1), ('b', 2))}}
    ],
  }  # fmt: skip
  # As it comes back from where it was kept.
  files.write_json(tmp_path / 'kept.json', result)
  kept = {
    'name': 'asr', 'left_out': '', 'result': files.read_json(
      tmp_path / 'kept.json')
  }  # fmt: skip
  one = benchmarks.Benchmarks(
    (), asking.Asking(), means.MeansConfig(), tmp_path, None
  )
  assert one.main_figure(kept) == 'asr/wer/b'
  assert list(one.show([kept]).figures) == ['asr/wer/b', 'asr/wer/a']
  (row,) = one.rows(kept)
  assert (row['errors'], row['units']) == (2, 4)
