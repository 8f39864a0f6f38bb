"""A run of ours writes what `complete` writes, each answer by itself."""

import json

import pytest

from data_pipelines.factory.texts import own
from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf

WORDS = ['the cat', 'a dog sees the red ball and', 'x']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A converted run."""
  folder, source = tmp_path_factory.mktemp('own'), tiny_gguf.bpe()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tiny, 'V', source.get_vocab_size())
    tiny_gguf.make(folder / 'm.gguf', model=source)
    argv = ['-', 'convert', f'--from={folder}/m.gguf', f'--to={folder}/run']
    assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 0
  return str(folder / 'run')


def questions(*texts, sample=0):
  messages = [(('system', 'be kind'), ('user', text)) for text in texts]
  return [chat.Question(one, sample) for one in messages]


def answered(folder, key):
  kept = answers_lib.Answers(folder)
  return json.loads(kept.path_of(key).read_text())['answer']


def test_it_writes_what_complete_writes(run, tmp_path, capsys):
  model = own.Run(run, temperature=0.0, max_tokens=6, together=2)
  kept = answers_lib.Answers(tmp_path)
  replies = list(model.answers(questions(*WORDS), kept))
  for words, reply in zip(WORDS, replies, strict=True):
    argv = ['-', 'complete', '--chat', f'--prompt={words}', '--system=be kind',
            f'--model={run}', '--max_tokens=6', '--json']  # fmt: skip
    capsys.readouterr()
    assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert reply.text == told['text']
    assert (reply.kind == 'truncated') == (not told['stopped'])
    assert answered(tmp_path, reply.key)['tokens'] == len(told['ids'])


def test_an_answer_does_not_depend_on_its_company(run, tmp_path):
  settings = {'temperature': 2.0, 'max_tokens': 6, 'together': 2}
  model = own.Run(run, **settings)

  def told(folder, asked):
    kept = answers_lib.Answers(tmp_path / folder)
    return [one.text for one in model.answers(asked, kept)]

  first = told('a', questions(*WORDS))
  assert told('b', questions(*reversed(WORDS)))[::-1] == first
  assert told('c', questions(*WORDS, sample=1)) != first
  # Killed behind the first lot, it goes on to the same.
  kept = answers_lib.Answers(tmp_path / 'd')
  replies = model.answers(questions(*WORDS), kept)
  next(replies), replies.close()
  again = list(model.answers(questions(*WORDS), kept))
  assert [one.text for one in again] == first
  assert [one.is_kept for one in again] == [True, True, False]


def test_who_it_is(run, tmp_path):
  told = own.Run(run, temperature=0.5).identity
  assert len(told['model']) == 64 and told['temperature'] == 0.5
  assert 'run' not in told and json.dumps(told)
  assert told == own.Run(run, temperature=0.5, together=3).identity
  with pytest.raises(errors.UserError, match='max_tokens is 0'):
    own.Run(run, max_tokens=0)
  with pytest.raises(errors.UserError):
    list(own.Run(str(tmp_path)).answers(questions('a'), None))
