"""What answers are worth, against figures that were counted by hand."""

import json
import math

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import choices
from step_audio_jax.evaluation.benchmarks import means as means_lib
from step_audio_jax.evaluation.benchmarks import synthesis
from step_audio_jax.evaluation.benchmarks import transcription

Answer = benchmark.Answer
Means = benchmark.Means


class Written(transcription.Transcription):
  def read(self):
    raise NotImplementedError


class Spoken(synthesis.Synthesis):
  def read(self):
    raise NotImplementedError


class Again(synthesis.Resynthesis):
  def read(self):
    raise NotImplementedError


class Chosen(choices.Choices):
  def read(self):
    raise NotImplementedError


def heard(name, reference, language='en'):
  speech = chats_lib.Speech(path=f'{name}.wav', text=reference)
  return benchmark.heard(name, speech, reference, language=language)


ENGLISH = (
  (heard('a', 'The cat sat, down.'), Answer('the cat sat down')),
  (heard('b', 'big dogs run home'), Answer('big cats run')),
  (heard('c', 'red blue'), Answer(None, fault='c.wav: not finite')),
  (heard('d', 'yes'), Answer(None)),
)


def scored(cls, pairs, means=Means(), **fields):
  items, answers = zip(*pairs, strict=True)
  found = cls('made', 'nowhere', **fields).score(items, answers, means)
  assert [row['id'] for row in found.rows] == [item.id for item in items]
  json.dumps(found.rows)  # each is kept as a line of JSON
  return found


def test_one_set_of_answers_under_several_conventions():
  means = Means(conventions=('qwen2audio', 'plain-words'))
  found = scored(Written, ENGLISH, means)
  # qwen2audio reads away signs and case. 0 + (1 S, 1 D) + 2 D + 1 D of 11.
  first = found.figures['wer/qwen2audio']
  assert list(found.figures) == ['wer/qwen2audio', 'wer/plain-words']
  assert first.value == pytest.approx(5 / 11)
  assert first.of == 4 and first.better == 'lower' and 'micro' in first.by
  assert 0 <= first.low <= first.value <= first.high
  # `sat,` and `down.` are other words than `sat` and `down`.
  assert found.figures['wer/plain-words'].value == pytest.approx(7 / 11)
  row = found.rows[1]['scores']['qwen2audio']
  assert (row['length'], row['substitutions'], row['deletions']) == (4, 1, 1)
  assert row['insertions'] == 0 and row['hypothesis'] == 'big cats run'
  assert found.cut == {'without an answer': 1, 'without a text': 1}
  assert found.rows[2]['scores']['qwen2audio']['deletions'] == 2


def test_mandarin_counts_characters_and_empty_references_are_told():
  pairs = (
    (heard('x', '这款GPU很快', 'zh'), Answer('这款gpu很快')),
    (heard('y', '你好吗', 'zh'), Answer('你好')),
    (heard('z', '。', 'zh'), Answer('嗯')),
  )
  means = Means(conventions=('qwen2audio', 'seed-tts'))
  found = scored(Written, pairs, means)
  # What is inserted where nothing is said still counts, but for seed-tts,
  # which minds case and takes the mean of the rows: 3/7 and 1/3.
  assert found.figures['cer/qwen2audio'].value == pytest.approx(2 / 10)
  assert found.figures['cer/seed-tts'].value == pytest.approx(
    (3 / 7 + 1 / 3) / 2
  )
  assert found.figures['cer/seed-tts'].of == 2
  assert found.cut == {
    'with an empty reference in cer/qwen2audio': 1,
    'not in cer/seed-tts: the reference is empty': 1,
  }
  assert 'rate' not in found.rows[2]['scores']['seed-tts']


def test_both_kinds_of_languages_are_a_mixed_rate():
  pairs = (
    (heard('e', 'hi'), Answer('hi')),
    (heard('m', '好', 'zh'), Answer('好')),
  )
  found = scored(Written, pairs, Means(conventions=('kimi', 'plain')))
  assert list(found.figures) == ['mer/kimi', 'cer/plain']


def test_a_set_that_a_convention_does_not_cover_is_not_computed():
  pairs = ((heard('m', '好', 'zh'), Answer('好')),)
  found = scored(Written, pairs, Means(conventions=('open-asr', 'wenet')))
  assert list(found.figures) == ['cer/wenet']
  assert found.not_computed == {'cer/open-asr': 'no utterance has a reference'}
  assert found.cut == {'not in cer/open-asr: language zh is not covered': 1}


def test_an_item_of_several_references_is_no_transcript():
  item = benchmark.heard('a', chats_lib.Speech(path='a'), 'one', 'two')
  with pytest.raises(errors.UserError, match='a: references: found 2'):
    scored(Written, ((item, Answer('one')),))
  with pytest.raises(errors.UserError, match='convention'):
    scored(Written, ENGLISH, Means(conventions=('mine',)))


def spoken(name, text, language='en'):
  voice = chats_lib.Speech(path=f'{name}-prompt.wav', text='another text')
  turns = (
    chats_lib.Turn(chats_lib.USER, (voice,)),
    chats_lib.Turn(chats_lib.USER, (text,)),
  )
  chat = chats_lib.Conversation(turns)
  return benchmark.Item(name, chat, (text,), language)


class Ear:
  name = 'ear of a test'

  def __init__(self, **texts):
    self.texts = texts

  def __call__(self, wav, language):
    if wav not in self.texts:
      raise errors.UserError(f'{wav}: cannot be heard.')
    return f'{self.texts[wav]}'


SPOKEN = (
  (spoken('a', 'Good day.'), Answer(None, wav='a')),
  (spoken('b', 'one two'), Answer(None, wav='b')),
  (spoken('c', 'said'), Answer(None, fault='too long')),
  (spoken('d', 'mute'), Answer(None)),
)
ABSENT = Means(absent={'ear': 'faster-whisper is not installed'})


def test_speech_without_means_is_not_computed_and_says_why():
  found = scored(Spoken, SPOKEN, ABSENT)
  assert not found.figures
  assert found.not_computed == {
    'wer/seed-tts': 'faster-whisper is not installed',
    'cer/plain': 'faster-whisper is not installed',
    'similarity': 'no similarity is named',
    'quality': 'no quality is named',
  }
  assert found.cut == {'without an answer': 1, 'without a sound': 1}


def test_speech_is_heard_compared_and_measured():
  likeness = {'a': 0.75, 'b': 0.25}

  def similarity(wav, speech):
    assert speech.path == f'{wav}-prompt.wav'
    return likeness[wav]

  def quality(wav):
    figures = {'dnsmos': 3.0 if wav == 'a' else 4.0, 'mcd': 5.0, 'f0_hz': 99.0}
    return {'figures': figures, 'not_computed': {'stoi': 'no reference'}}

  means = Means(
    conventions=('jiwer-cer',),
    ear=Ear(a='good day', b='one three'),
    similarity=similarity,
    quality=quality,
  )
  found = scored(Spoken, SPOKEN, means)
  # 0, 1/2, and all of what was never said.
  headline = next(iter(found.figures))
  assert headline == 'wer/seed-tts'
  assert found.figures[headline].value == pytest.approx((0 + 0.5 + 1 + 1) / 4)
  assert found.figures[headline].by.endswith('heard by ear of a test')
  assert found.figures['similarity'].value == pytest.approx(0.5)
  assert (
    found.figures['similarity'].by == 'speaker embedding, against the prompt'
  )
  assert found.figures['dnsmos'].value == pytest.approx(3.5)
  assert found.figures['dnsmos'].of == 2
  assert found.rows[0]['heard'] == 'good day'
  mcd = found.figures['mcd']
  assert (mcd.value, mcd.unit, mcd.better) == (5.0, 'dB', 'lower')
  assert found.not_computed == {'stoi': 'no reference'}
  # What describes a sound and does not rate it stays in the rows.
  assert found.rows[0]['quality'] == {'dnsmos': 3.0, 'mcd': 5.0, 'f0_hz': 99.0}
  assert 'f0_hz' not in found.figures


def test_a_measure_may_be_a_plain_one_of_numbers():
  found = scored(Spoken, SPOKEN, Means(quality=lambda wav: {'mos': math.nan}))
  assert found.not_computed['mos'] == 'not finite'
  assert found.not_computed['quality'] == 'no sound could be measured'


def test_the_measure_of_the_library_is_one(tmp_path):
  time_S = np.arange(16000) / 16000
  audio_io.write_audio(tmp_path / 'a', 0.1 * np.sin(1400 * time_S))
  config = means_lib.MeansConfig(quality=True)
  found = scored(Spoken, SPOKEN[:1], config.build(tmp_path, None))
  assert found.rows[0]['quality']['peak_db'] == pytest.approx(-20, abs=0.1)
  assert found.not_computed['stoi'] == 'no reference'


def test_a_sound_that_cannot_be_heard_is_counted():
  found = scored(Spoken, SPOKEN, Means(ear=Ear(a='good day')))
  assert found.cut['with a sound that cannot be heard'] == 1
  assert found.rows[1]['unheard'] == 'b: cannot be heard.'
  assert found.figures['wer/seed-tts'].value == pytest.approx(3 / 4)


def test_what_is_made_again_is_compared_with_itself():
  pairs = ((heard('a', 'good day'), Answer(None, wav='a')),)

  def similarity(wav, speech):
    assert (wav, speech.path) == ('a', 'a.wav')
    return 0.5

  similarity.name = 'ERes2Net'
  means = Means(similarity=similarity)
  assert Again.asks == benchmark.RESYNTHESIZE in benchmark.WAYS
  found = scored(Again, pairs, means)
  assert found.figures['similarity'].by == 'ERes2Net, against the recording'
  texts = ((benchmark.written('t', 'hm', 'hm'), Answer(None, wav='a')),)
  absent = scored(Spoken, texts, means).not_computed
  assert absent['similarity'] == 'no item has a recording to compare with'


def chosen(name, right, *texts):
  about = {'continuations': list(texts), 'right': right}
  return benchmark.written(name, 'context', texts[right], **about)


def likely(*nats):
  return Answer(None, likelihoods=[(one, 3, 9) for one in nats])


CHOSEN = (
  # The right one is long: it loses by its sum, and wins by character.
  (chosen('a', 1, ' abc', ' abcdefghij'), likely(-3.0, -5.0)),
  (chosen('b', 0, ' yes', ' no', ' hm'), likely(-1.0, -2.0, -4.0)),
  (chosen('c', 1, ' one', ' two'), likely(-1.0, -1.0)),
  (chosen('d', 0, ' one', ' two'), Answer(None, fault='no ids')),
  (chosen('e', 0, ' one', ' two'), likely(-1.0)),
  (chosen('f', 0, ' one', ' two'), likely(math.nan, -1.0)),
)


def test_continuations_are_chosen_by_sum_and_by_character():
  found = scored(Chosen, CHOSEN)
  assert list(found.figures) == ['acc_norm', 'acc', 'chance']
  assert found.figures['acc'].value == pytest.approx(1 / 6)
  assert found.figures['acc_norm'].value == pytest.approx(2 / 6)
  assert found.figures['chance'].value == pytest.approx((5 / 2 + 1 / 3) / 6)
  row = found.rows[0]
  assert (row['chosen_acc'], row['chosen_acc_norm'], row['acc']) == (0, 1, 0)
  assert row['nats'] == [-3.0, -5.0]
  assert found.rows[2]['chosen_acc'] == 0  # of equal ones the first
  assert found.cut == {
    'without an answer': 1,
    'without a likelihood for each continuation': 1,
    'with a likelihood that is not finite': 1,
  }
  by_sum = scored(Chosen, CHOSEN, known_by='acc')
  assert next(iter(by_sum.figures)) == 'acc'
  with pytest.raises(errors.UserError, match="known_by: found 'f1'"):
    Chosen('made', 'nowhere', known_by='f1')
