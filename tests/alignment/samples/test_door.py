"""The door that draws: seeds, rules, and going on after a kill."""

import dataclasses
import functools
import json

from flax import linen as nn
import jax
import jax.numpy as jnp
import pytest

from data_pipelines.factory.ranking import door as ranking
from data_pipelines.factory.ranking import pairs
from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.alignment.samples import door
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.generation import complete
from step_audio_jax.generation import restore
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints
from tests.data_pipelines import letters


class Text(letters.Letters):
  """Any text id is a letter."""

  def decode(self, ids):
    return ''.join(chr(97 + i % 26) for i in ids)


TABLE = vocabulary.Vocabulary.over(Text())


@functools.cache
def model():
  it = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=TABLE.table_size,
        width=16,
        layers=1,
        heads=2,
        kv_heads=1,
        mlp_width=16,
      )
    )
  )
  variables = jax.jit(it.init)(jax.random.key(0), jnp.ones((1, 4), jnp.int32))
  return it, nn.meta.unbox(variables)


@pytest.fixture
def argv(tmp_path, monkeypatch):
  """A corpus of written questions, and a run that is there in memory."""
  manifest.write(
    tmp_path / 'talk',
    [
      manifest.Utterance(
        id=f'q{n}',
        kind='chat',
        language='en',
        turns=(
          {'role': 'user', 'text': text},
          {'role': 'assistant', 'text': 'yes'},
        ),
      )
      for n, text in enumerate(('the cat', 'a dog sees', 'red'))
    ],
  )
  monkeypatch.setattr(complete, 'describe', lambda run, step=None: {})
  monkeypatch.setattr(checkpoints, 'steps_of', lambda run: [7])
  monkeypatch.setattr(
    restore, 'load_model', lambda run, step=None: (*model(), TABLE)
  )
  return [
    '-',
    'sample',
    '--run=one',
    f'--corpus={tmp_path}/talk',
    '--view=tqta',
    '--count=3',
    '--max_tokens=6',
    '--json',
  ]


def draw(argv, output, *more, status=0):
  found = cli.dispatch('x', doors.DOORS, [*argv, f'--output={output}', *more])
  assert found == status
  return list(map(json.loads, files.read_text(output).splitlines()))


def test_answers_are_drawn_by_prompt_and_number(argv, tmp_path):
  lines = draw(argv, tmp_path / 'a.jsonl')
  assert [(one['prompt'], one['number']) for one in lines] == [
    (f'q{n}', k) for n in range(3) for k in range(3)
  ]
  assert {one['step'] for one in lines} == {7}
  assert all(set(one['scores']) == {*door._DEFAULT_RULES} for one in lines)
  assert len({one['text'] for one in lines}) > 1
  # What one is drawn beside changes nothing.
  few = draw(argv, tmp_path / 'b.jsonl', '--limit=1')
  assert [one['text'] for one in few] == [one['text'] for one in lines[:3]]
  other = draw(argv, tmp_path / 'c.jsonl', '--seed=1')
  assert [one['text'] for one in other] != [one['text'] for one in lines]


def test_preferences_are_made_of_them(argv, tmp_path):
  path, corpus = tmp_path / 'a.jsonl', tmp_path / 'talk'
  lines = draw(argv, path)
  ratings = [{k: one[k] for k in ('prompt', 'number')} for one in lines]
  for one in ratings:
    one['rating'] = one['number'] + 2
  files.write_jsonl(tmp_path / 'ratings.jsonl', ratings)
  rank = functools.partial(
    ranking.add,
    corpus,
    [path],
    pairs.Config(unfinished=True, pairs='best_worst'),
    judgements=tmp_path / 'ratings.jsonl',
    kind='rating',
  )
  told = rank()
  assert (told['answers'], told['left_out']) == (9, {})
  texts = {(one['prompt'], one['number']): one['text'] for one in lines}
  (one, *_) = manifest.read(corpus, kind='preference')
  name = one.id.removesuffix('-ranked-0')
  assert one.chosen['text'] == texts[name, 2]
  # Whose question was edited since is an answer to none.
  found = manifest.read(corpus)
  turns = ({'role': 'user', 'text': 'other'}, *found[0].turns[1:])
  manifest.write(corpus, [dataclasses.replace(found[0], turns=turns)])
  with pytest.raises(errors.UserError, match='none of the 9 .* digest: found'):
    rank()


def test_it_goes_on_behind_the_last_whole_line(argv, tmp_path):
  path = tmp_path / 'a.jsonl'
  whole = draw(argv, path)
  text = path.read_text()
  cut = text.split('\n')
  path.write_text('\n'.join(cut[:4]) + '\n' + cut[4][:20])
  state = path.read_bytes()
  dry = [*argv, f'--output={path}', '--dry_run']
  assert cli.dispatch('x', doors.DOORS, dry) == 0
  assert path.read_bytes() == state
  assert draw(argv, path) == whole
  assert path.read_text() == text


@pytest.mark.parametrize('rest', ['{"prompt": "中', '{"pro', ''])
def test_a_kill_may_come_within_a_character(rest):
  raw = b'{"prompt": "q", "run": "a", "step": 1, "number": 0, "text": ""}\n'
  half = rest.encode()[:-1]
  (one,), end = door.read(raw + half, 'a.jsonl')
  assert (one['prompt'], end) == ('q', len(raw))


def test_the_file_of_somebody_else_stays(argv, tmp_path, capsys):
  path = tmp_path / 'token.txt'
  for content in (b'secret', b'{"prompter": 1}', b'\xff\xfe\n'):
    path.write_bytes(content)
    assert cli.dispatch('x', doors.DOORS, [*argv, f'--output={path}']) == 2
    assert 'line 1 is no sample' in capsys.readouterr().err
    assert path.read_bytes() == content


def test_a_question_that_was_edited_is_asked_again(argv, tmp_path):
  path, corpus = tmp_path / 'a.jsonl', tmp_path / 'talk'
  before = draw(argv, path)
  first, *rest = manifest.read(corpus)
  turns = ({'role': 'user', 'text': 'the dog'}, *first.turns[1:])
  manifest.write(corpus, [dataclasses.replace(first, turns=turns), *rest])
  lines = draw(argv, path)
  assert lines[:9] == before
  assert [(one['prompt'], one['question']) for one in lines[9:]] == [
    ('q0', 'the dog')
  ] * 3


def test_a_run_that_fails_leaves_no_empty_file(argv, tmp_path, capsys):
  path = tmp_path / 'new' / 'a.jsonl'
  argv = [*argv, f'--output={path}']
  assert cli.dispatch('x', doors.DOORS, [*argv, '--splits=none']) == 2
  assert not path.exists() and 'no chat of the split' in capsys.readouterr().err


def test_several_runs_have_lines_of_their_own(argv, tmp_path):
  lines = draw(argv, tmp_path / 'a.jsonl', '--run=two@5')
  assert [(one['run'], one['step']) for one in lines[::9]] == [
    ('one', 7),
    ('two', 5),
  ]
  assert len(lines) == 18
  # One that is named twice, in whatever way, answers once.
  more = ('--run=two@5', '--run=two', '--run=one')
  again = draw(argv, tmp_path / 'b.jsonl', *more)
  assert [(one['run'], one['step']) for one in again[::9]] == [
    ('one', 7), ('two', 5), ('two', 7),
  ]  # fmt: skip
  assert len(again) == 27
  assert len(draw(argv, tmp_path / 'b.jsonl', '--run=one@7')) == 27


def test_what_was_drawn_otherwise_is_not_mixed(argv, tmp_path, capsys):
  path = tmp_path / 'a.jsonl'
  before = draw(argv, path)
  assert draw(argv, path, '--temperature=0.5', status=2) == before
  said = capsys.readouterr().err
  assert 'drawn otherwise (temperature is 1.0, expected 0.5); give' in said


def test_a_broken_line_in_the_middle_is_told(argv, tmp_path, capsys):
  path = tmp_path / 'a.jsonl'
  draw(argv, path)
  lines = path.read_text().split('\n')
  path.write_text('\n'.join([lines[0], '{}', *lines[2:]]))
  argv = [*argv, f'--output={path}']
  assert cli.dispatch('x', doors.DOORS, argv) == 2
  assert 'line 2 is no sample (no prompt)' in capsys.readouterr().err


@pytest.mark.parametrize(
  'flag, said',
  [
    ('--rules=nice', "--rules: no rule 'nice', expected some of right, brief"),
    ('--temperature=0', 'temperature is 0, expected more'),
    ('--rules=brief:3,brief', "--rules: found 'brief' twice, expected it once"),
    ('--splits=', '--splits: found none, expected some'),
    ('--silenced', '--tokenizer: missing, --silenced needs the one'),
  ],
)
def test_flags(argv, tmp_path, capsys, flag, said):
  argv = [*argv, f'--output={tmp_path}/a.jsonl', flag]
  assert cli.dispatch('x', doors.DOORS, argv) == 2
  assert said in capsys.readouterr().err


def test_a_dry_run_draws_nothing(argv, tmp_path):
  argv = [*argv, f'--output={tmp_path}/a.jsonl', '--dry_run']
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  assert not (tmp_path / 'a.jsonl').exists()
