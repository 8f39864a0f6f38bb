"""Chats that are answered, heard or read, and continuations weighed."""

import dataclasses

import jax
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import habits
from step_audio_jax.commands import cli
from step_audio_jax.evaluation.benchmarks import asking
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import journal
from step_audio_jax.evaluation.benchmarks import likelihood
from step_audio_jax.evaluation.benchmarks import recordings
from step_audio_jax.generation import complete
from step_audio_jax.generation import decode
from step_audio_jax.generation import restore
from tests.generation import test_complete
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf

SPEECH = chats.Speech(path='said', text='the cat')


class Recordings:
  """Stands for `recordings.Recordings`: one recording."""

  tokenizer = 'none'

  def digest(self, speech):
    return speech.path

  def codes(self, wanted, *, silenced=False):
    codes = np.zeros if silenced else np.ones
    return {
      one.path: recordings.Heard(codes(4, np.uint16), codes(6, np.uint16), 3840)
      for one in wanted
    }


@pytest.fixture(scope='module')
def grown(tmp_path_factory):
  """A converted run with rows for speech."""
  folder = tmp_path_factory.mktemp('grown')
  source = tiny_gguf.bpe()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tiny, 'V', source.get_vocab_size())
    tiny_gguf.make(folder / 'm.gguf', model=source)
    for name, *more in (('plain',), ('grown', '--speech')):
      argv = [
        '-',
        'convert',
        f'--from={folder}/m.gguf',
        f'--to={folder}/{name}',
      ]
      assert cli.dispatch('x', doors.DOORS, [*argv, *more]) == 0
  return folder


def model(grown, run='grown', **settings):
  return asking.Model(
    grown / run,
    None,
    restore.load_model(grown / run),
    asking.Asking(**{'batch_size': 2, 'chunk': 1, **settings}),
    Recordings(),
    grown / 'sounds',
  )


def ask(asked, items, control=benchmark.PLAIN, way=benchmark.ANSWER, **more):
  """Answers, and the prompts that they were asked with."""
  prompts = {}
  generate = decode.generate_outputs

  def generating(model, variables, some, **settings):
    prompts.update(enumerate(some, len(prompts)))
    return generate(model, variables, some, **settings)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decode, 'generate_outputs', generating)
    patch.setattr(journal.files, 'write_json', lambda *_: None)
    patch.setattr(journal.files, 'make_folder', lambda *_: None)
    found = asked.ask(
      way,
      items,
      control,
      benchmark.Decoding(most=2),
      journal.Journal('nowhere', 'k', journal.Share()),
      **more,
    )
  return found, list(prompts.values())


def test_heard_and_silent_and_in_writing(grown):
  one, item = model(grown), benchmark.heard('q', SPEECH, 'dog')
  said = {}
  for control in benchmark.CONTROLS:
    found, (said[control],) = ask(
      one, [item], control, transcripts={'q': 'the dog'}
    )
    assert found[0].text is not None and not found[0].fault
  table = one.vocabulary
  ids = {
    name: table.interleave(*(make(4, np.uint16), make(6, np.uint16))).tolist()
    for name, make in (('plain', np.ones), ('silenced', np.zeros))
  }
  for name, wanted in ids.items():
    speech = [one for one in said[name] if one >= table.text_size]
    assert [x for x in speech if x in wanted] == wanted
  for name, words in (('written', 'the cat'), ('cascade', 'the dog')):
    assert max(said[name]) < table.text_size
    assert words in table.decode(said[name])


def test_what_was_said_before_is_read(grown):
  turns = (
    chats.Turn(chats.USER, (SPEECH,)),
    chats.Turn(chats.ASSISTANT, ('the dog',)),
    chats.Turn(chats.USER, (chats.Speech(path='again'),)),
  )
  item, one = benchmark.Item('q', chats.Conversation(turns)), model(grown)
  table = one.vocabulary
  for history, groups in ((habits.HEARD, 4), (habits.READ, 2)):
    one._habits = dataclasses.replace(one._habits, history=history)
    _, (prompt,) = ask(one, [item])
    codes = table.is_linguistic(np.asarray(prompt))
    assert codes.sum() == 2 * groups
    assert ('the cat' in table.decode(prompt)) == (history == habits.READ)
  found, prompts = ask(model(grown), [item], benchmark.WRITTEN)
  assert not prompts and 'has no transcript' in found[0].fault


def test_a_model_without_speech_hears_nothing_and_reads(grown):
  deaf = model(grown, 'plain')
  assert not deaf.hears
  item = benchmark.heard('q', SPEECH)
  found, prompts = ask(deaf, [item])
  assert not prompts and 'no speech in its vocabulary' in found[0].fault
  found, prompts = ask(deaf, [item], benchmark.WRITTEN)
  assert found[0].text is not None and len(prompts) == 1


CHOICES = benchmark.written(
  'c', 'the cat', **{likelihood.CHOICES: [' the dog', ' a cat sat', ' the']}
)


def test_likelihoods_are_those_of_the_whole_text(grown):
  one = model(grown, 'plain')
  items = [CHOICES, dataclasses.replace(CHOICES, id='d')]
  found, _ = ask(one, items, way=benchmark.CHOOSE)
  network, variables, table = restore.load_model(grown / 'plain')
  for (nats, count, length), text in zip(
    found[0].likelihoods, CHOICES.about[likelihood.CHOICES], strict=True
  ):
    ids = [*table.text.opening, *table.encode_text('the cat' + text)]
    logits = network.apply(variables, np.asarray([ids]))
    logits = logits[0] if isinstance(logits, tuple) else logits
    logp = np.asarray(jax.nn.log_softmax(logits[0].astype(np.float32)))
    start = len(ids) - count
    wanted = sum(logp[t - 1, ids[t]] for t in range(start, len(ids)))
    assert nats == pytest.approx(float(wanted), rel=1e-5, abs=1e-5)
    assert length == len(text)
  assert found[0].likelihoods == found[1].likelihoods


def test_continuations_that_are_none_are_refused(grown):
  for choices, why in (
    ((), 'found no continuations'),
    (('',), 'no ids of its'),
  ):
    item = benchmark.written('c', 'the cat', **{likelihood.CHOICES: choices})
    with pytest.raises(errors.UserError, match=why):
      ask(model(grown, 'plain'), [item], way=benchmark.CHOOSE)
  assert complete.describe(grown / 'plain') and test_complete.MOVED
