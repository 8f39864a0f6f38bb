"""Codes are edited once, and what came out again."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.decoder import editing
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags
from tests.evaluation import parrot

CONTROL = vocabulary_lib.CONTROL
FIRST = vocabulary_lib.CONTROL_SIZE
GROUP = vocabulary_lib.GROUP


class Letters:
  """Text tokenizer of single characters; those it does not have are PAD."""

  known = 'abcdefghijklmnopqrstuvwxyz ()快慢速停顿12\n'
  size = FIRST + len(known)

  def encode(self, text):
    places = map(self.known.find, text)
    return [FIRST + k if k >= 0 else vocabulary_lib.PAD for k in places]

  def decode(self, ids):
    return ''.join(self.known[i - FIRST] for i in ids if i >= FIRST)


VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=Letters.size,
  linguistic_size=30,
  semantic_size=30,
  text=Letters(),
)


def shortened(seen, place):
  """The recording again without its first groups, one a `1` that is told."""
  text_size = VOCABULARY.text_size
  before = jnp.arange(len(seen)) <= place
  bots = jnp.where(
    (seen == CONTROL['<|BOT|>']) & before, jnp.arange(len(seen)), -1
  )
  opened = bots.max()  # of the assistant
  heard = (seen >= text_size) & (jnp.arange(len(seen)) < opened)
  first, count = jnp.argmax(heard), heard.sum()
  one = FIRST + Letters.known.index('1')
  left_out = GROUP * ((seen == one) & before).sum()
  said = ((seen >= text_size) & before & (jnp.arange(len(seen)) > opened)).sum()
  at = left_out + said
  return jnp.where(
    at < count, seen[jnp.minimum(first + at, len(seen) - 1)], CONTROL['<|EOT|>']
  )


def model():
  """One that shortens what it hears."""
  return parrot.Remembers(shortened, VOCABULARY.table_size)


@pytest.fixture
def writer():
  manner = text_to_codes.SpeakOptions(
    layout='turns',
    linguistic_codes=30,
    semantic_codes=30,
    sampler=dataclasses.replace(
      text_to_codes.SpeakOptions().sampler, temperature=0.0
    ),
  )
  return text_to_codes.Writer(model(), {'sure': 50.0}, VOCABULARY, manner)


def ids(groups, seed=0):
  rng = np.random.default_rng(seed)
  return voice_lib.IDS.interleave(
    rng.integers(0, 30, 2 * groups), rng.integers(0, 30, 3 * groups)
  )


def test_each_time_is_done_to_what_came_out(writer):
  given = ids(7)
  spans = markup.parse('(fast 1)the cat')
  first, second, third = editing.apply(writer, spans, given, 3)
  for times, one in enumerate((first, second, third), 1):
    np.testing.assert_array_equal(one.ids, given[times * GROUP :])
    assert one.stopped and one.text == 'the cat'
  (twice,) = editing.apply(
    writer, markup.parse('(fast 1)the (pause 1)cat'), given
  )
  np.testing.assert_array_equal(twice.ids, given[2 * GROUP :])


def test_nothing_is_left_to_edit(writer, monkeypatch):
  nothing = text_to_codes.SpokenSentence('', np.zeros(0, np.int32), False)
  monkeypatch.setattr(writer, 'answer', lambda texts, prompts: [nothing])
  spans = markup.parse('(fast 1)the cat')
  with pytest.raises(
    errors.UserError, match='time 1 left no codes, expected s'
  ):
    editing.apply(writer, spans, ids(2), 2)


def test_a_character_that_a_run_does_not_have(writer):
  with pytest.raises(errors.UserError, match='has a character that is not in'):
    editing.apply(writer, markup.parse('(fast 1)Ö'), ids(2))


def run(folder, **config):
  files.write_json(folder / 'config.json', config)
  return folder


def test_what_a_run_has_learnt_is_asked_for(tmp_path):
  some = run(tmp_path / 'some', edits=['停顿1', '快速1'])
  known = [tags.Tag('快速', 1), tags.Tag('停顿', 1)]
  assert editing.learnt(some) == known
  style = tags.Style((tags.Tag('快速', 1),))
  spans = editing.asked('the (pause 1)cat', style, some)
  assert markup.write(spans) == '(快速1)the (停顿1)cat'
  for text, message in (
    ('the cat', 'has no tag, expected some'),
    ('(fast 2)the cat', r'--edit: found \(fast 2\), .* fast 1, pause 1\.'),
    ('(loud 1)the cat', r'found \(loud 1\)'),
    ('(fasst 1)the cat', r'one such as \(fast 1\)'),
  ):
    with pytest.raises(errors.UserError, match=message):
      editing.asked(text, tags.Style(), some)


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({}, 'edits: missing, expected a run whose rows were some of audio_edit'),
    ({'tags': ['快速1']}, 'edits: missing'),
    ({'edits': '快速1'}, "edits: found '快速1', expected a list of tags"),
    ({'edits': ['jolly 2']}, 'edits: found'),
    ({'edits': [7]}, 'edits: found'),
  ],
)
def test_what_a_run_says_is_not_trusted(tmp_path, config, message):
  with pytest.raises(errors.UserError, match=message):
    editing.learnt(run(tmp_path, **config))
