"""The `judge` door on a small world, and what it changes there."""

import json
import types

import jax
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.alignment.judging import audit
from step_audio_jax.alignment.judging import changes
from step_audio_jax.alignment.judging import examples
from step_audio_jax.alignment.judging import page
from step_audio_jax.alignment.judging import scorer as scorer_lib
from step_audio_jax.chats import habits
from step_audio_jax.commands import cli
from step_audio_jax.corpus import speech_codes
from step_audio_jax.generation import complete
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import exporting
from step_audio_jax.storage import files
from tests.alignment.judging import world as world_lib
from tests.tokenizers.speech import tiny_dual


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  root = tmp_path_factory.mktemp('world')
  corpus = world_lib.write_corpus(root)
  run, objective, variables = world_lib.write_run(root)
  tiny_dual.small().save(root / 'tokenizer')
  found = examples.read(str(corpus), ['test'])
  return types.SimpleNamespace(
    root=root,
    corpus=corpus,
    run=run,
    objective=objective,
    variables=variables,
    found=found,
    codes=speech_codes.read_codes(corpus / 'codes'),
    layout=examples.Layout(objective.vocabulary, habits.Habits(), found.speech),
  )


def test_examples_are_the_preferences_of_a_split(world):
  assert [one.id for one in world.found.examples] == list(world_lib.LIKED)
  assert [one.speech for one in world.found.examples] == [
    'a1',
    'a2',
    None,
    None,
  ]
  assert world.found.examples[2].category == ''
  with pytest.raises(
    errors.UserError, match="no preference of the split 'dev'"
  ):
    examples.read(str(world.corpus), ['dev'])


def letters(vocabulary, ids):
  """What ids say, without the spaces that letters are joined with."""
  return vocabulary.decode(ids).replace(' ', '')


def test_what_is_scored_ends_with_the_answer(world):
  heard, _, read, _ = world.found.examples
  words = world.objective.vocabulary
  one = world.layout.scored(heard, world.codes)
  assert letters(words, one.chosen[-one.ids[0] : -1]) == 'arose'
  assert letters(words, one.rejected[-one.ids[1] : -1]) == 'theseaatnight'
  speech = words.is_linguistic(one.chosen) | words.is_semantic(one.chosen)
  groups = len(world.codes['a1'][0]) // 2
  assert speech.sum() == 5 * groups > 0
  # The same question in writing has its words instead.
  layout = examples.Layout(
    words, habits.Habits(), world.found.speech, view='tqta'
  )
  written = layout.scored(heard, {})
  assert 'whatisred' in letters(words, written.chosen)
  assert written.ids == one.ids
  with pytest.raises(errors.UserError, match="p1: the recording 'a1' has no c"):
    world.layout.scored(heard, {})
  assert not (words.is_linguistic(world.layout.scored(read, {}).chosen)).any()


@pytest.fixture(scope='module')
def scorer(world):
  return scorer_lib.Scorer(str(world.run))


def test_scores_are_those_of_training(world, scorer):
  """In rows of another width, and all at once: the objective's own."""
  scored = [world.layout.scored(x, world.codes) for x in world.found.examples]
  got = scorer.pairs(scored)
  assert got.shape == (4, 2) and got.dtype == np.float64
  sides = [side for one in scored for side in one[:2]]
  length = 8 + max(map(len, sides))
  tokens = np.zeros((len(sides), length), np.int32)
  segments = np.zeros_like(tokens)
  for row, ids in enumerate(sides):
    tokens[row, 5 : 5 + len(ids)] = ids  # not at the beginning
    segments[row, 5 : 5 + len(ids)] = 1
  batch = {
    'tokens': tokens,
    'segment_ids': segments,
    'positions': np.maximum(np.arange(length)[None] - 5, 0) * segments,
    'pairs': np.tile(np.asarray([[[1, 0]]], np.int32), (len(sides), 1, 1)),
  }
  want = jax.jit(world.objective.scores)(world.variables, batch)
  np.testing.assert_allclose(got.ravel(), want[:, 0, 0], atol=1e-5)
  with pytest.raises(errors.UserError, match='below 5'):
    scorer.score([np.asarray([9, 10**6])])


def test_texts_become_longer_and_nothing_else(world):
  told = {x.name: x for x in changes.of_texts(world.found.examples, 'so it is')}
  assert len(told) == 4
  twice = told['answers said twice'].examples[0]
  assert twice.chosen.text == 'a rose a rose'
  assert twice.prompt == world.found.examples[0].prompt
  alone = told['rejected answer said twice']
  assert alone.sides == (False, True)
  assert alone.examples[1].chosen.text == 'nobody'
  assert alone.examples[1].rejected.text == 'we we'
  more = told['"so it is" behind answers'].examples[3]
  assert more.rejected.text == 'a table so it is'
  asked = told['question asked twice, in writing'].examples
  assert set(asked) == {2, 3}
  assert asked[2].question.text == 'is it late is it late'


def test_another_voice_says_the_same_words(world):
  (voice,) = changes.of_voices(world.found, world.found.examples, world.codes)
  assert {n: one.speech for n, one in voice.examples.items()} == {0: 'b1'}
  less = {k: v for k, v in world.codes.items() if k != 'b1'}
  assert not changes.of_voices(world.found, world.found.examples, less)


def test_sound_is_changed_and_tokenised_again(world):
  wave = tiny_dual.speechlike(8000)
  changed = {name: apply(wave) for name, apply in changes.SOUND.items()}
  as_it_is, louder, quieter, before, after, fast, slow, high, low, twice = (
    changed.values()
  )
  assert as_it_is is wave
  np.testing.assert_allclose(louder, wave * 10**0.3, rtol=1e-5)
  np.testing.assert_allclose(quieter, wave / 10**0.3, rtol=1e-5)
  assert len(before) == len(after) == 24000
  assert not before[:16000].any() and not after[8000:].any()
  np.testing.assert_array_equal(before[16000:], wave)
  assert len(fast) == round(8000 / 1.2) and len(slow) == 9600
  assert all(abs(len(moved) - 8000) <= 2 for moved in (high, low))
  assert len(twice) == 2 * 8000 + 4800
  told = changes.of_sound(
    world.found, world.found.examples, str(world.root / 'tokenizer')
  )
  assert [one.name for one in told] == list(changes.SOUND)
  for one in told:
    assert set(one.examples) == {0, 1} and set(one.codes) == {'a1', 'a2'}
  for name, codes in told[0].codes.items():
    for got, want in zip(codes, world.codes[name]):
      np.testing.assert_array_equal(got, want)
  assert len(told[3].codes['a1'][1]) > len(world.codes['a1'][1]) + 20


def test_silence_takes_the_place_of_questions_alone(world, scorer):
  some = world.found.examples
  silence = changes.of_silence(world.found, some, str(world.root / 'tokenizer'))
  assert set(silence.examples) == {0, 1} and set(silence.codes) == {'a1', 'a2'}
  assert silence.examples[0] == some[0]
  for name, codes in silence.codes.items():
    assert list(map(len, codes)) == list(map(len, world.codes[name]))
  before = scorer.pairs([world.layout.scored(x, world.codes) for x in some])
  told = audit.heard(scorer, world.layout, before, silence, world.codes)
  assert set(told) == {'colours', 'people'}
  silent = scorer.pairs([world.layout.scored(some[1], silence.codes)])
  want = before[1] - silent[0]
  got = [told['people'][side]['gap'] for side in ('chosen', 'rejected')]
  np.testing.assert_allclose(got, want, atol=1e-6)
  assert np.abs(want).min() > 1e-4
  read = changes.of_silence(world.found, some[2:], 'not opened')
  assert audit.heard(scorer, world.layout, before[2:], read, {}) == {}


class Counts:
  """A reward model that likes long answers: 0.1 an id."""

  run = 'counts'

  def pairs(self, scored):
    return np.asarray([[0.1 * len(s) for s in one[:2]] for one in scored])


def test_an_audit_finds_what_it_should(world):
  """Shifts of a reward model that counts ids are lengths."""
  some = world.found.examples
  scorer = Counts()
  before = scorer.pairs([world.layout.scored(x, world.codes) for x in some])
  rows = audit.audit(
    scorer,
    world.layout,
    before,
    changes.of_texts(some, 'x' * 9),
    world.codes,
  )
  by_name = {row['change']: row for row in rows}
  deviation = before.std()
  more = by_name[f'"{"x" * 9}" behind answers']
  assert more['shift'] == pytest.approx(0.1 * 10 / deviation)
  assert more['low'] == pytest.approx(more['high']) and not more['changed']
  twice = by_name['rejected answer said twice']
  # All letters of a rejected answer and a space; `no no` stays short.
  lengths = [len(one.rejected.text) + 1 for one in some]
  assert twice['shift'] == pytest.approx(0.1 * np.mean(lengths) / deviation)
  assert twice['pairs'] == 4
  scorer.pairs = lambda scored: np.ones((len(scored), 2))
  with pytest.raises(errors.UserError, match='all 8 answers have the score 1'):
    audit.audit(scorer, world.layout, np.ones((4, 2)), [], {})


def arguments(world, output, *more):
  return [
    '-', 'judge', f'--run={world.run}', f'--corpus={world.corpus}',
    f'--codes={world.corpus}/codes', f'--output={world.root / output}',
    *more,
  ]  # fmt: skip


def judge(argv):
  return cli.dispatch('step_audio_jax', doors.DOORS, argv)


def test_the_door(world, capsys):
  argv = arguments(world, 'judged', f'--tokenizer={world.root}/tokenizer')
  assert judge([*argv, '--dry_run']) == 0
  assert not (world.root / 'judged').exists()
  capsys.readouterr()
  assert judge([*argv, '--json']) == 0
  out = capsys.readouterr().out
  told = json.loads(out.splitlines()[-1])
  found = files.read_json(world.root / 'judged' / 'judge.json')
  assert told['rm_pair_accuracy'] == found['pairs']['accuracy']
  assert told['rm_ece'] == pytest.approx(found['calibration']['ece'], abs=1e-6)
  assert told['pairs'] == 4
  assert set(found['categories']) == {'', 'colours', 'people'}
  gaps = [one['chosen']['gap'] for one in found['heard'].values()]
  assert told['rm_heard_gap'] == pytest.approx(np.mean(gaps), abs=1e-6)
  by_name = {row['change']: row for row in found['audit']}
  assert len(by_name) == 4 + 1 + len(changes.SOUND)
  same = by_name['question as it is']
  assert same['pairs'] == 2 and same['shift'] == 0 == same['changed']
  assert by_name['question in another voice']['shift'] != 0
  markdown = (world.root / 'judged' / 'judge.md').read_text()
  assert out.startswith(markdown)
  assert '| colours | 2 |' in markdown and '| colours | 1 |' in markdown
  html = (world.root / 'judged' / 'index.html').read_text()
  assert 'Reliability' in html and 'question 6 dB louder' in html
  assert 'Whether questions are heard' in html
  again = page.document({**found, 'audit': [], 'categories': {}, 'heard': {}})
  assert 'What else moves scores' not in again and 'are heard' not in again


def test_the_door_reads_rows(world, capsys, scorer):
  scored = [world.layout.scored(x, world.codes) for x in world.found.examples]
  length = 2 * max(max(len(s) for s in one[:2]) for one in scored)
  rows = []
  for place, one in enumerate(scored):
    row = {
      'tokens': np.zeros(length, np.int32),
      'segment_ids': np.zeros(length, np.int32),
      'loss_weights': np.zeros(length, np.float32),
      'pairs': np.asarray([[1, 2], [0, 1]], np.int32),  # the second is none
      'margins': np.zeros(2, np.float32),
      'categories': np.asarray([place % 2 - 1, 0], np.int32),
    }
    start = 0
    for segment, (ids, count) in enumerate(zip(one[:2], one.ids), 1):
      end = start + len(ids)
      row['tokens'][start:end] = ids
      row['segment_ids'][start:end] = segment
      row['loss_weights'][end - count : end] = 1
      start = end
    rows.append(row)
  world_lib.write_rows(world.root / 'rows', rows, categories=['odd'])
  folder = f'{world.root}/rows/preference_aqta/test'
  found, categories = examples.of_rows(folder)
  assert categories == ['', 'odd', '', 'odd']
  assert [one.ids for one in found] == [one.ids for one in scored]
  np.testing.assert_allclose(scorer.pairs(found), scorer.pairs(scored))
  argv = ['-', 'judge', f'--run={world.run}', f'--rows={folder}']
  assert judge([*argv, f'--output={world.root}/of_rows', '--json']) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert told['pairs'] == 4
  argv += [f'--codes={world.corpus}/codes', f'--output={world.root}/other']
  assert judge(argv) == 2
  assert '--codes means nothing with --rows' in capsys.readouterr().err


@pytest.mark.parametrize(
  'more, told',
  [
    (['--rows=x'], 'found both of --corpus and --rows'),
    (['--splits=dev'], "no preference of the split 'dev'"),
    (['--view=tqta', '--tokenizer=t'], 'means nothing with --view=tqta'),
    (['--step=4'], '4'),
    (['--corpus=nowhere', '--dry_run'], 'nowhere/manifest.jsonl: no such file'),
  ],
)
def test_bad_input_is_told(world, capsys, more, told):
  assert judge(arguments(world, 'bad', *more)) == 2
  assert told in capsys.readouterr().err
  assert not (world.root / 'bad').exists()


def test_doors_of_language_models_and_of_scores_are_apart(
  world, tmp_path, monkeypatch
):
  run = str(world.run)
  refused = "found 'scores', a reward model, which scores answers"
  for call in (
    lambda: complete.describe(run),
    lambda: restore.load_model(run),
    lambda: exporting.export_run(world.run, tmp_path / 'out'),
  ):
    with pytest.raises(errors.UserError, match=refused):
      call()
  config = files.read_json(world.run / 'config.json')
  del config['scores']
  files.write_json(tmp_path / 'config.json', config)
  for call in (restore.load_scorer, restore.scorer_config):
    with pytest.raises(errors.UserError, match='found no "scores"'):
      call(tmp_path)


def test_a_reward_model_comes_back_as_it_was(world):
  model, variables, vocabulary = restore.load_scorer(world.run)
  assert model == world.objective.model
  assert vocabulary.table_size == world.objective.vocabulary.table_size
  jax.tree.map(np.testing.assert_array_equal, variables, world.variables)
