"""A model that speaks text corpora: a parrot whose every answer is known."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.interleaving import builders
from data_pipelines.interleaving import voice as interleaving_voice
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.training.checkpoints import checkpoints
from tests.data_pipelines import tiny
from tests.evaluation import parrot

WORDS = ('the', 'cat', 'sees', 'a', 'big', 'dog')


def voice(**settings):
  settings = {'batch_size': 4, 'groups_per_word': 12, **settings}
  return interleaving_voice.Voice(
    interleaving_voice.VoiceConfig('run', **settings),
    parrot.Parrot(),
    parrot.VARIABLES,
    parrot.VOCABULARY,
  )


def said(pair):
  """The text that codes of the parrot say."""
  letters = np.asarray(pair[0])[::2]
  return ''.join(parrot.LETTERS[k] for k in letters)


def test_texts_are_spoken_each_as_it_stands():
  texts = ['a', 'the dog sees a bird', 'no', 'green eggs and ham', 'x y']
  found = voice()(texts, 2**63 + 5)
  assert len(found) == len(texts)
  for text, (linguistic, semantic) in zip(texts, found):
    want = parrot.codes(text)
    np.testing.assert_array_equal(linguistic, want[0])
    np.testing.assert_array_equal(semantic, want[1])


def test_what_does_not_come_to_an_end_is_not_used():
  found = voice(groups_per_word=3)(['abcdef', 'ab', 'abc de'], 0)
  # The third would end one id behind its limit of two words.
  assert [len(linguistic) for linguistic, _ in found] == [0, 4, 0]
  assert len(found[0][1]) == 0 and said(found[1]) == 'ab'


@pytest.fixture
def task(tmp_path, monkeypatch):
  """Interleaving of a text corpus by the parrot."""
  root = tiny.make(tmp_path / 'corpus')
  rng = np.random.default_rng(0)
  lines = []
  for k, count in enumerate((3, 310, 41, 260, 5, 90, 333)):
    text = ' '.join(WORDS[i] for i in rng.integers(0, 6, count))
    lines.append(manifest.Utterance(id=f't{k}', kind='text', text=text))
  manifest.write(root / 'text', lines)
  asked = []

  class Told(interleaving_voice.Voice):
    def __call__(self, texts, seed):
      asked.append((tuple(texts), seed))
      return super().__call__(texts, seed)

  monkeypatch.setattr(
    interleaving_voice,
    'load',
    lambda config: Told(
      config, parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY
    ),
  )
  found = definitions.text(
    'spoken', root / 'text', root / 'text.model',
    voice=interleaving_voice.VoiceConfig(
      'run', batch_size=8, groups_per_word=12
    ),
    poisson=builders.Poisson(join=300),
  )  # fmt: skip
  plain, interleaved = found
  assert plain.kind == 'text' and plain.voice is None
  return interleaved, {line.id: line.text for line in lines}, asked


def test_a_text_corpus_is_spoken_in_part(task):
  definition, texts, asked = task
  made = list(definition.documents(definition.examples('train'), print))
  assert [d.id for d in made] == ['t0+t1', 't2+t3', 't4+t5+t6']
  table = definition.vocabulary()
  for document, (spans, _) in zip(made, asked, strict=True):
    spoken, words = document.spans.T
    share = words[spoken > 0].sum() / words.sum()
    assert abs(share - 0.3) <= 0.02
    # Text and what was heard, one after the other, are the whole text.
    whole = ' '.join(texts[name] for name in document.id.split('+'))
    tokens = document.tokens.tolist()
    marks = [k for k, t in enumerate(tokens) if t in (31, 33)]
    heard = []
    for start, stop in zip(marks, [*marks[1:], len(tokens) - 1]):
      ids = tokens[start + 1 : stop]
      if tokens[start] == 31:
        heard.append(said(table.deinterleave(ids)))
        assert heard[-1] in spans
      else:
        heard.append(table.text.decode(ids))
    assert ' '.join(heard) == whole


def test_a_document_is_spoken_alike_whoever_asks(task):
  definition, _, asked = task
  examples = list(definition.examples('train'))
  whole = {
    d.id: d.tokens.tolist() for d in definition.documents(examples, print)
  }
  (alone,) = definition.documents(examples[2:4], print)
  assert alone.tokens.tolist() == whole['t2+t3']
  assert asked[-1] == asked[1]
  assert len({seed for _, seed in asked}) == 3


def test_the_digest_follows_the_model(task, monkeypatch, tmp_path):
  definition, *_ = task
  run = {'step': 5, 'model': 'a'}
  monkeypatch.setattr(
    checkpoints,
    'step_folder',
    lambda folder, step, ema: (tmp_path, step or run['step']),
  )
  monkeypatch.setattr(checkpoints, 'run_config', lambda folder: dict(run))
  seen = {definition.digest('train')}
  assert definition.digest('train') in seen
  run['step'] = 6
  seen.add(definition.digest('train'))
  warm = dataclasses.replace(definition.voice, temperature=0.7)
  seen.add(dataclasses.replace(definition, voice=warm).digest('train'))
  assert len(seen) == 3


def test_the_digest_follows_the_parameters(tmp_path):
  run = tmp_path / 'run'
  array = run / 'checkpoints' / '5' / 'variables' / 'array'
  array.parent.mkdir(parents=True)
  (run / 'config.json').write_text('{"model": 1}')
  voice = interleaving_voice.VoiceConfig(str(run))
  array.write_text('trained')
  first = voice.digest()
  (run / 'checkpoints' / '5' / 'optimizer').mkdir()
  (run / 'checkpoints' / '5' / 'optimizer' / 'state').write_text('x')
  assert voice.digest() == first
  array.write_text('trained anew, to the same step')
  assert voice.digest() != first


def test_wrong_voices_are_refused(tmp_path):
  for name in ('groups_per_word', 'batch_size'):
    with pytest.raises(errors.UserError, match=f'{name} is 0'):
      interleaving_voice.VoiceConfig('run', **{name: 0})
  with pytest.raises(errors.UserError, match='poisson where a voice speaks'):
    definitions.Definition(
      'a', 'interleaved', 'c', 'm', interleaving='words',
      voice=interleaving_voice.VoiceConfig('run'),
    )  # fmt: skip
  (tmp_path / 'config.json').write_text('{}')
  interleaving_voice.load.cache_clear()
  with pytest.raises(errors.UserError, match='expected the run of a language'):
    interleaving_voice.load(interleaving_voice.VoiceConfig(str(tmp_path)))
