"""ASR and TTS figures of a model whose every answer is known."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import speech
from tests.evaluation import parrot

VOCABULARY = parrot.VOCABULARY
TEXTS = ['a cat', 'the dog sees a bird', 'x', 'green eggs and ham', 'no']


def speaker(**settings):
  return speech.Speaker(
    parrot.Parrot(),
    parrot.VARIABLES,
    VOCABULARY,
    speech.SpeechConfig(**{'batch_size': 3, **settings}),
  )


def corpus(texts, **fields):
  return [
    manifest.Utterance(id=f'u{n}', text=text, **fields)
    for n, text in enumerate(texts)
  ]


def test_a_faultless_model_scores_zero_both_ways():
  sets = {'seen': corpus(TEXTS[:3]), 'unseen': corpus(TEXTS[3:])}
  codes = {}
  for some in sets.values():
    # Ids are unique within a corpus, so here within both sets.
    for n, u in enumerate(some):
      object.__setattr__(u, 'id', f'{id(some)}-{n}')
      codes[u.id] = parrot.codes(u.text)
  parrot_speaker = speaker()
  heard = speech.asr(parrot_speaker, VOCABULARY, sets, codes)
  spoken = speech.tts(parrot_speaker, VOCABULARY, sets)
  for found in (heard, spoken):
    assert list(found) == ['seen', 'unseen']
    for name, scores in found.items():
      assert scores['cer'] == 0.0
      assert [h['hypothesis'] for h in scores['hypotheses']] == [
        u.text for u in sets[name]
      ]
  assert spoken['seen']['unfinished'] == 0
  tokens = spoken['unseen']['hypotheses'][0]['tokens']
  linguistic, semantic = VOCABULARY.deinterleave(tokens)
  expected = parrot.codes(TEXTS[3])
  np.testing.assert_array_equal(linguistic, expected[0])
  np.testing.assert_array_equal(semantic, expected[1])
  seconds = spoken['unseen']['hypotheses'][0]['seconds']
  assert seconds == pytest.approx(0.12 * len(TEXTS[3]), abs=0.005)


def test_a_model_hears_the_codes_that_it_learnt():
  codes = parrot.codes('ab')
  both, one = speaker(), speaker(streams='linguistic')
  assert both.heard(*codes).tolist() == VOCABULARY.interleave(*codes).tolist()
  offset = VOCABULARY.linguistic_offset
  assert one.heard(*codes).tolist() == [offset + k for k in (0, 0, 1, 1)]
  assert not len(one.heard(codes[0][:1], codes[1]))
  with pytest.raises(errors.UserError, match="streams is 'odd'"):
    speech.SpeechConfig(streams='odd')


def test_who_shows_progress(monkeypatch, capfd):
  monkeypatch.setenv('PROGRESS', '1')
  spoken = [VOCABULARY.interleave(*parrot.codes('ab'))]
  for shows in (False, True):
    one = speech.Speaker(
      parrot.Parrot(), parrot.VARIABLES, VOCABULARY, shows_progress=shows
    )
    assert one.transcribe(spoken) == ['ab']
    assert ('transcribing' in capfd.readouterr().err) == shows


def test_errors_are_counted_over_the_set():
  utterances = corpus(['abcd', 'aaaaaa'])
  # What is heard: one letter other, one letter more.
  codes = {'u0': parrot.codes('abxd'), 'u1': parrot.codes('aaaaaaz')}
  found = speech.asr(speaker(), VOCABULARY, {'dev': utterances}, codes)['dev']
  assert found['errors'] == {
    'reference': 10,
    'substitutions': 1,
    'deletions': 0,
    'insertions': 1,
  }
  assert found['cer'] == pytest.approx(0.2)
  assert [h['cer'] for h in found['hypotheses']] == [
    pytest.approx(0.25),
    pytest.approx(1 / 6),
  ]


def test_languages_are_told_apart_and_follow_their_convention():
  utterances = [
    *corpus(['ab cd']),
    manifest.Utterance(id='zh', text='ab cd', language='zh'),
  ]
  # The space is not heard: an error in English, none in Chinese.
  codes = {u.id: parrot.codes('abcd') for u in utterances}
  found = speech.asr(speaker(), VOCABULARY, {'dev': utterances}, codes)['dev']
  assert found['by_language'] == {'en': pytest.approx(0.2), 'zh': 0.0}


def test_limits_cut_and_are_reported():
  found = speech.tts(
    speaker(max_speech_groups=3), VOCABULARY, {'dev': corpus(['abcdef', 'ab'])}
  )['dev']
  assert [h['hypothesis'] for h in found['hypotheses']] == ['abc', 'ab']
  assert found['unfinished'] == 1
  assert found['errors']['deletions'] == 3
  heard = speech.asr(
    speaker(max_text_tokens=2),
    VOCABULARY,
    {'dev': corpus(['abcdef'])},
    {'u0': parrot.codes('abcdef')},
  )['dev']
  assert heard['hypotheses'][0]['hypothesis'] == 'ab'


def test_codes_that_do_not_exist_are_not_spoken():
  # Only letters a and b exist; the parrot wants c and must take another.
  found = speech.tts(
    speaker(linguistic_codes=2), VOCABULARY, {'dev': corpus(['abc'])}
  )['dev']
  linguistic, _ = VOCABULARY.deinterleave(found['hypotheses'][0]['tokens'])
  assert linguistic[:4].tolist() == [0, 0, 1, 1]
  assert linguistic.max() < 2


def test_utterances_without_codes_or_text_are_skipped_and_counted():
  utterances = corpus(['ab', 'cd', None, '  '])
  found = speech.asr(
    speaker(), VOCABULARY, {'dev': utterances}, {'u1': parrot.codes('cd')}
  )['dev']
  assert found['utterances'] == 1 and found['skipped'] == 3
  with pytest.raises(errors.UserError, match='dev: none of its 4 utterances'):
    speech.asr(speaker(), VOCABULARY, {'dev': utterances}, {})


def test_bad_limits_are_named():
  with pytest.raises(errors.UserError, match='max_speech_groups is 0'):
    speech.SpeechConfig(max_speech_groups=0)
