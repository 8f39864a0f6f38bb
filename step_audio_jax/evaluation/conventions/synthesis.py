"""Conventions of speech synthesis, and jiwer as it comes.

* `seed-tts`: Chinese and ASCII punctuation is removed, but the apostrophe; no
  number is touched. Chinese hypotheses are made simplified, references are not;
  every character counts and case does. English is lower-cased. The mean of the
  utterances' rates; jiwer refuses empty references.
* `jiwer-cer`, `jiwer-wer`: jiwer's defaults on texts as they are.
"""

import string

from step_audio_jax.evaluation.conventions import audio_llm
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits
from step_audio_jax.evaluation.conventions import segmentation

# zhon.hanzi.punctuation of zhon 2.1.1.
_HANZI = (
  '＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】'
  '〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·．！？｡。'
)
_REMOVED = str.maketrans(
  dict.fromkeys((_HANZI + string.punctuation).replace("'", ''))
)


def _seed_tts(reference, hypothesis, language):
  if language == 'zh':
    hypothesis = audio_llm.simplified(hypothesis)
  texts = [
    text.translate(_REMOVED).replace('  ', ' ')
    for text in (reference, hypothesis)
  ]
  if language == 'zh':
    tokens = [segmentation.jiwer_words(' '.join(text)) for text in texts]
  else:
    texts = [text.lower() for text in texts]
    tokens = [segmentation.jiwer_words(text) for text in texts]
  return base.Pair(*texts, *tokens)


def _characters(reference, hypothesis, language):
  del language
  texts = reference.strip(), hypothesis.strip()
  return base.Pair(*texts, *(list(text) for text in texts))


def _words(reference, hypothesis, language):
  del language
  tokens = [segmentation.jiwer_words(text) for text in (reference, hypothesis)]
  return base.Pair(*(' '.join(one) for one in tokens), *tokens)


CONVENTIONS = (
  base.Convention(
    'seed-tts',
    1,
    'BytedanceSpeech/seed-tts-eval run_wer.py and average_wer.py at 752f429',
    base.MACRO,
    'zh: every character; en: word',
    _seed_tts,
    edits.jiwer,
    languages=frozenset(('zh', 'en')),
    scores_empty=False,
  ),
  base.Convention(
    'jiwer-cer',
    1,
    'jiwer.cer, its defaults',
    base.MICRO,
    'every character, spaces included',
    _characters,
    edits.jiwer,
    scores_empty=False,
  ),
  base.Convention(
    'jiwer-wer',
    1,
    'jiwer.wer, its defaults',
    base.MICRO,
    'what spaces part',
    _words,
    edits.jiwer,
    scores_empty=False,
  ),
)
