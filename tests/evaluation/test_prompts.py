"""What is asked is what was learnt: every task, from its rows to its door.

Rows are built by SeqIO tasks and packed, a run says what they say, and the
doors are asked with the same corpus. What reaches the decoder has to be, id by
id, what stands in a row in front of the first id that is learnt.
"""

import collections
import types

import numpy as np
import pytest
import seqio

from data_pipelines.rows import build
from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from data_pipelines.tasks import text_models
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.doors import speak
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import decode
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.training import run_bindings
from step_audio_jax.training.feeds import feed
from tests.data_pipelines import tiny

EOT, BOT, CALLS, CALLED = 3, 4, 5, 6
CLOCK = {'type': 'function', 'function': {'name': 'the cat'}}
CALL = {'name': 'the cat', 'arguments': {'a': 'big dog'}}
CHATS = {
  'one': [
    {'role': 'user', 'speech': 'u1'},
    {'role': 'assistant', 'text': 'a cat'},
  ],
  'followed': [
    {'role': 'system', 'text': 'sees a dog'},
    {'role': 'user', 'speech': 'u3'},
    {'role': 'assistant', 'speech': 'u4'},
    {'role': 'user', 'speech': 'u6'},
    {'role': 'assistant', 'speech': 'u7'},
  ],
  'mixed': [
    {'role': 'user', 'content': [{'text': 'the dog'}, {'speech': 'u4'}]},
    {'role': 'assistant', 'content': [{'text': 'cat'}, {'speech': 'u9'}]},
  ],
  'called': [
    {'role': 'tool_json_schemas', 'tools': [CLOCK]},
    {'role': 'user', 'speech': 'u0'},
    {'role': 'assistant', 'calls': [CALL]},
    {'role': 'tool', 'text': 'a big cat'},
    {'role': 'assistant', 'text': 'the big cat'},
  ],
  'calls': [
    {'role': 'tool_json_schemas', 'tools': [CLOCK]},
    {'role': 'user', 'speech': 'u3'},
    {'role': 'assistant', 'text': 'a dog', 'calls': [CALL]},
  ],
  'written': [
    {'role': 'user', 'text': 'the cat'},
    {'role': 'assistant', 'text': 'a dog'},
  ],
}
HEARD = [name for name in CHATS if name != 'written']
# Task → what the door asks it as, and the chats that it has rows of.
VIEWS = {
  'tqta': ('written', list(CHATS)),
  'aqta': ('spoken', HEARD),
  'taqta': ('along', HEARD),
  'aqtqta': ('spoken', HEARD),
  'aqaa': ('spoken', ['followed', 'mixed']),
}


@pytest.fixture(scope='module', params=[False, True])
def world(request, tmp_path_factory):
  """Rows of every task, with and without `<s>` behind `<|BOT|>`."""
  root = tiny.make(tmp_path_factory.mktemp('prompts') / 'corpus', 14)
  lines = list(manifest.read(root / 'speech'))
  chats = [
    manifest.Utterance(id=name, kind='chat', turns=turns)
    for name, turns in CHATS.items()
  ]
  manifest.write(root / 'speech', [*lines, *chats])
  given = {'starts': request.param, 'sft': True}
  model = root / 'text.model'
  found = definitions.chat(
    'alike', root / 'speech', model, codes=root / 'codes', **given
  )
  found += definitions.speech(
    'alike', root / 'speech', root / 'codes', model, **given
  )
  found += definitions.text('alike', root / 'text', model)
  tasks = {one.name: one for one in found if one.view != definitions.EDIT}
  before = set(seqio.TaskRegistry.names())
  build.build(tasks, ['train'], root / 'rows', build.Settings(1024))
  for name in set(seqio.TaskRegistry.names()) - before:
    seqio.TaskRegistry.remove(name)
    corpora.DEFINITIONS.pop(name, None)
  return types.SimpleNamespace(
    root=root,
    starts=request.param,
    table=text_models.load(str(model)),
    codes=speech_codes.read_codes(root / 'codes'),
    train=[line for line in lines if line.split == 'train'],
  )


def learnt(world, task):
  """(ids, weights, where the last answer begins) of each document of a task.

  Out of its rows. All behind that place is learnt.
  """
  source = feed.Source(task, world.root / 'rows' / f'alike_{task}' / 'train')
  found = []
  for number in range(len(source)):
    row = source.row(number)
    for segment in range(1, row['segment_ids'].max() + 1):
      inside = row['segment_ids'] == segment
      ids, weights = row['tokens'][inside], row['loss_weights'][inside]
      first = 1 + int(np.flatnonzero(weights == 0)[-1])
      found.append((ids.tolist(), weights.tolist(), first))
  return found


def prompts_of(world, task):
  """What is given in the documents of a task; nothing of it is learnt.

  But for a call of a tool: it answers the last turn of the user, too.
  """
  found = []
  for ids, weights, first in learnt(world, task):
    before = [i for i, weight in zip(ids[:first], weights) if weight]
    assert not before or before[0] == CALLS and before[-2:] == [CALLED, EOT]
    found.append(tuple(ids[:first]))
  return found


def opened(prompts):
  """Whether `<s>` is behind every `<|BOT|>`, or, behind none, not."""
  behind = {
    one[k + 1] == 1 for one in prompts for k, i in enumerate(one) if i == BOT
  }
  (every,) = behind
  return every


@pytest.fixture
def asked(world, tmp_path, monkeypatch):
  """Tasks → a run of their rows; and what its doors give to the decoder."""
  seen = []

  def generate(model, variables, prompts, **_):
    seen.append([tuple(map(int, one)) for one in prompts])
    nothing = decode.Output(np.zeros(0, np.int32), np.zeros(0), True)
    return [nothing] * len(prompts)

  monkeypatch.setattr(decode, 'generate_outputs', generate)
  monkeypatch.setattr(
    restore, 'load_model', lambda *_: (None, None, world.table)
  )
  monkeypatch.setattr(restore, 'unroll_layers', lambda model: model)

  def run(*tasks):
    rows = feed.RowFeed(
      rows=str(world.root / 'rows'),
      ratios=dict.fromkeys(tasks, 1),
      batch_size=len(tasks),
      prefix='alike_',
    )
    told = {'vocabulary': world.table.describe()}
    told |= {'model': {}, 'feed': rows.describe()}
    told |= run_bindings.bindings_of_run(told, rows)
    files.write_json(tmp_path / 'run' / 'config.json', told)
    (tmp_path / 'run' / 'checkpoints' / '1').mkdir(parents=True, exist_ok=True)
    seen.clear()
    return str(tmp_path / 'run')

  return types.SimpleNamespace(run=run, seen=seen)


def answer(world, run, tmp_path, *more):
  status = cli.dispatch(
    'x',
    doors.DOORS,
    [
      *('-', 'answer', f'--run={run}', f'--corpus={world.root}/speech'),
      *(f'--codes={world.root}/codes', '--splits=train', '--along'),
      *(f'--output={tmp_path}/answers.json', *more),
    ],
  )
  return status, files.read_json(tmp_path / 'answers.json') if not status else 0


@pytest.mark.parametrize('task', VIEWS)
def test_questions_are_asked_as_their_rows_are(world, asked, tmp_path, task):
  way, names = VIEWS[task]
  run = asked.run('tqta', 'aqta', 'taqta', 'aqtqta', 'aqaa')
  status, told = answer(world, run, tmp_path)
  assert status == 0 and told['passed_over'] == {}
  spoken, written, along = asked.seen
  served = {'spoken': spoken, 'written': written, 'along': along}[way]
  by_name = dict(zip(CHATS, served, strict=True))
  want = collections.Counter(by_name[name] for name in names)
  assert collections.Counter(prompts_of(world, task)) == want
  assert opened(want) == world.starts


def test_whole_chats_are_asked_in_front_of_their_last_reply(
  world, asked, tmp_path
):
  """What was said before is heard, as the rows of such a run have it."""
  status, _ = answer(world, asked.run('chat'), tmp_path)
  assert status == 0
  rows = learnt(world, 'chat')
  assert len(rows) == len(CHATS)
  for name, prompt in zip(CHATS, asked.seen[0], strict=True):
    (found,) = [one for one in rows if tuple(one[0][: len(prompt)]) == prompt]
    ids, weights, _ = found
    assert set(weights[len(prompt) :]) == {1}
    turns = [t for t in ids[len(prompt) :] if t == BOT]
    assert not turns, name  # the last reply alone is behind it
    # In front of it earlier replies are learnt, and nothing else.
    said, text = [], [*world.table.encode_text('assistant\n')]
    opening = [BOT, *[1] * world.starts, *text]
    place = 1
    while place < len(prompt):
      mine = ids[place : place + len(opening)] == opening
      end = ids.index(EOT, place) if EOT in ids[place:] else len(ids)
      begin = place + len(opening) if mine else end + 1
      said += [0] * (begin - place) + [1] * (end + 1 - begin)
      place = end + 1
    assert weights[1 : len(prompt)] == said[: len(prompt) - 1]


def test_a_layout_that_was_not_learnt_is_refused(
  world, asked, tmp_path, capsys
):
  run = asked.run('tqta', 'aqta', 'taqta')
  wrong = '--nostarts' if world.starts else '--starts'
  right = '--starts' if world.starts else '--nostarts'
  for door in (
    ['answer', f'--corpus={world.root}/speech', f'--codes={world.root}/codes'],
    ['complete', '--chat', 'a cat'],
  ):
    argv = ['-', *door, f'--{"run" if "answer" in door else "model"}={run}']
    if 'answer' in door:
      argv += ['--splits=train', f'--output={tmp_path}/a.json']
    capsys.readouterr()
    assert cli.dispatch('x', doors.DOORS, [*argv, wrong, '--dry_run']) == 2
    err = capsys.readouterr().err
    assert f'error: {wrong}: {run}/config.json says that turns were le' in err
    assert cli.dispatch('x', doors.DOORS, [*argv, right, '--dry_run']) == 0
  status, _ = answer(world, run, tmp_path, '--streams=linguistic')
  assert status == 2
  assert 'that turns were learnt with both codes' in capsys.readouterr().err


def test_a_chat_in_writing_is_completed_as_its_rows_are(world, asked):
  run = asked.run('tqta', 'aqta')
  argv = ['-', 'complete', '--chat', 'the cat', f'--model={run}']
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  ((served,),) = asked.seen
  assert served in prompts_of(world, 'tqta')


def test_texts_are_continued_as_their_rows_begin(world, asked):
  run = asked.run('text')
  argv = ['-', 'complete', '--prompt=the', f'--model={run}']
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  ((served,),) = asked.seen
  for ids, weights, first in learnt(world, 'text'):
    assert tuple(ids[: len(served)]) == served and first == 1
    assert weights == [0] + [1] * (len(ids) - 1)


@pytest.mark.parametrize('task', ['sft_asr', 'sft_tts'])
def test_transcription_and_reading_ask_as_their_rows_are(world, asked, task):
  speaker = speech_lib.Speaker(None, None, world.table)
  if task == 'sft_asr':
    heard = [speaker.heard(*world.codes[line.id]) for line in world.train]
    speaker.read(heard)
  else:
    speaker.speak([line.text for line in world.train])
  (served,) = asked.seen
  want = prompts_of(world, task)
  assert len(want) == len(world.train) > 4
  assert collections.Counter(served) == collections.Counter(want)


def spoken(model, text, voice=None):
  """What the `speak` door does between its checks and the decoder."""
  fv = types.SimpleNamespace(
    system='', longest=20.0, seed=0, temperature=0.0, top_k=0, top_p=1.0
  )
  fv.repetition_window, fv.repetition_share = 0, 0.3
  counts = types.SimpleNamespace(code_counts=lambda: (1024, 4096))
  layout = text_to_codes.layout_of(model)
  starts = text_to_codes.starts_of(model)
  pieces = speak._pieces(text, None, model, False)
  return speak._written(fv, counts, model, layout, starts, pieces, voice)


def test_speech_is_asked_for_as_its_rows_are(world, asked):
  run = asked.run('sft_tts')
  for line in world.train:
    spoken(run, line.text)
  want = prompts_of(world, 'sft_tts')
  assert sorted(one for (one,) in asked.seen) == sorted(want)


def test_a_cloned_voice_is_asked_for_as_its_rows_are(world, asked):
  run = asked.run('tts_turns')
  before = {}
  for line in world.train:
    other = before.get(line.speaker)
    before[line.speaker] = line
    if other is not None:
      ids = voice_lib.IDS.interleave(*world.codes[other.id])
      voice = voice_lib.Voice(ids, np.zeros((0, 80)), np.zeros(4), other.text)
      spoken(run, line.text, voice)
  want = prompts_of(world, 'tts_turns')
  assert len(want) > 4
  assert sorted(one for (one,) in asked.seen) == sorted(want)
  assert opened(want) == world.starts
