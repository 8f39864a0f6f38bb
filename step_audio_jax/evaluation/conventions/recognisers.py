"""Conventions of recognition toolkits: whisper, wenet, kaldi.

* `whisper`: Whisper's English normaliser for English, its basic one for other
  languages, where Chinese, Japanese, Thai, Lao and Burmese are cut into
  characters; jiwer counts, and refuses empty references.
* `wenet`: compute-wer with `--char=1`. No numbers, no simplification.
* `kaldi`: text as it was released, white space parts words; languages without
  spaces are scored by character. compute-wer counts.
"""

import re

from step_audio_jax import languages
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits
from step_audio_jax.evaluation.conventions import segmentation
from step_audio_jax.evaluation.conventions import whisper

_KALDI_SPACES = re.compile(r'[ \t\n\r\f\v]+')


def _whisper(reference, hypothesis, language):
  def normalised(text):
    if language == 'en':
      return whisper.whisper_english(text)
    return whisper.basic(text, language in whisper.SPLIT)

  texts = normalised(reference), normalised(hypothesis)
  return base.Pair(*texts, *(segmentation.jiwer_words(text) for text in texts))


def _wenet(reference, hypothesis, language):
  del language  # the letters decide
  tokens = segmentation.wenet(reference), segmentation.wenet(hypothesis)
  return base.Pair(*(' '.join(one) for one in tokens), *tokens)


def _kaldi(reference, hypothesis, language):
  texts = reference, hypothesis
  if languages.is_spaceless(language, reference):
    tokens = [segmentation.kaldi_characters(text) for text in texts]
  else:
    tokens = [
      [word for word in _KALDI_SPACES.split(text) if word] for text in texts
    ]
  return base.Pair(*(' '.join(one) for one in tokens), *tokens)


CONVENTIONS = (
  base.Convention(
    'whisper',
    1,
    'openai-whisper 20250625 whisper/normalizers, arXiv 2212.04356 appendix C',
    base.MICRO,
    'zh, yue, ja, th, lo and my: character; else word',
    _whisper,
    edits.jiwer,
    scores_empty=False,
  ),
  base.Convention(
    'wenet',
    1,
    'wenet-e2e/wenet tools/compute-wer.py --char=1 at 0154699',
    base.MICRO,
    'letter without case, as Chinese has; run of ASCII',
    _wenet,
    edits.wenet,
  ),
  base.Convention(
    'kaldi',
    1,
    'kaldi-asr/kaldi egs/wsj/s5/steps/scoring/score_kaldi_wer.sh and _cer.sh',
    base.MICRO,
    'word; in languages without spaces character',
    _kaldi,
    edits.kaldi,
  ),
)
