"""Conventions of audio language models: qwen2audio, kimi, ultraeval.

All three lean on Whisper's normalisers and on TextNorm; they differ in what a
token is and in which normaliser meets which language:

* `qwen2audio` cuts `<|…|>` tags, and in Mandarin all white space; English goes
  through Whisper's English normaliser and then, as everything that is not
  Mandarin, through its basic one; Mandarin through TextNorm; Cantonese is made
  simplified first. Each character of Chinese counts, a Latin letter too.
* `kimi` does the same, then cuts with sacreBLEU's `zh`: an English word is one
  token. Hypotheses that are the word `null` are dropped.
* `ultraeval` puts all languages through the English normaliser, Chinese then
  through TextNorm, and keeps punctuation that survived.
"""

import dataclasses
import functools
import re

from step_audio_jax import languages
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits
from step_audio_jax.evaluation.conventions import libraries
from step_audio_jax.evaluation.conventions import mandarin
from step_audio_jax.evaluation.conventions import segmentation
from step_audio_jax.evaluation.conventions import whisper

_CHINESE = frozenset(('zh', 'yue'))
_TAGS = re.compile(r'<\|.*?\|>')
_SPACES = re.compile(r'\s+')
_BEFORE_PUNCTUATION = re.compile(r' ?([!,.?;:])')
# UltraEval's addition to the English normaliser: Latin words in parentheses.
_WIDE_PARENTHESES = re.compile(r'（([a-z A-Z]+?)）')


def simplified(text: str) -> str:
  """Traditional characters as simplified ones, in mainland words."""
  return libraries.load('zhconv').convert(text, 'zh-cn')


def _qwen2audio_text(text: str, language: str) -> str:
  text = _SPACES.sub(' ', _TAGS.sub(' ', text))
  text = _BEFORE_PUNCTUATION.sub(r'\1', text).lstrip(' ')
  if language == 'zh':
    return mandarin.normalise(_SPACES.sub('', text))
  if language == 'yue':
    text = simplified(text)
  elif language == 'en':
    text = whisper.whisper_english(text)
  return whisper.basic(text)


def _segmented(language: str) -> None:
  """Refuses what the tools would take for one word a line."""
  if language not in _CHINESE and languages.is_spaceless(language):
    raise base.Dropped(f'language {language} is not covered')


def _lower(tokens: list[str]) -> list[str]:
  return ' '.join(tokens).lower().split()


def _qwen2audio_tokens(text: str, language: str) -> list[str]:
  words = _lower(segmentation.without_punctuation(text.split()))
  return list(''.join(words)) if language in _CHINESE else words


def _qwen2audio(reference, hypothesis, language):
  _segmented(language)
  texts = [_qwen2audio_text(text, language) for text in (reference, hypothesis)]
  tokens = [_qwen2audio_tokens(text, language) for text in texts]
  return base.Pair(*texts, *tokens)


def _kimi_tokens(text: str) -> list[str]:
  cut = segmentation.sacrebleu_zh(text)
  return _lower(segmentation.without_punctuation(cut))


def _kimi(reference, hypothesis, language):
  _segmented(language)
  if hypothesis == 'null':
    raise base.Dropped('the hypothesis is null')
  texts = [_qwen2audio_text(text, language) for text in (reference, hypothesis)]
  return base.Pair(*texts, *(_kimi_tokens(text) for text in texts))


@functools.cache
def _ultraeval_rules() -> whisper.Rules:
  return dataclasses.replace(whisper.rules(), extra_brackets=_WIDE_PARENTHESES)


@functools.lru_cache(maxsize=2**15)
def _ultraeval_text(text: str, language: str) -> str:
  if '（' in text:
    text = whisper.english(text, _ultraeval_rules())
  else:
    text = whisper.whisper_english(text)
  if language == 'yue':
    text = simplified(text)
  return mandarin.normalise(text) if language in _CHINESE else text


def _ultraeval(reference, hypothesis, language):
  _segmented(language)
  texts = [_ultraeval_text(text, language) for text in (reference, hypothesis)]
  cut = (
    segmentation.sacrebleu_zh
    if language in _CHINESE
    else segmentation.sacrebleu_13a
  )
  return base.Pair(*texts, *(_lower(cut(text)) for text in texts))


CONVENTIONS = (
  base.Convention(
    'qwen2audio',
    1,
    'QwenLM/Qwen2-Audio eval_audio/evaluate_asr.py at 595360e',
    base.MICRO,
    'zh and yue: every character; else word',
    _qwen2audio,
    edits.jiwer,
  ),
  base.Convention(
    'kimi',
    1,
    'MoonshotAI/Kimi-Audio-Evalkit almeval/metrics/wer.py at 4080c49',
    base.MICRO,
    'Chinese character; Latin word',
    _kimi,
    edits.jiwer,
  ),
  base.Convention(
    'ultraeval',
    1,
    'OpenBMB/UltraEval-Audio audio_evals/lib/wer.py at 9b69da6',
    base.MICRO,
    'zh and yue: Chinese character, Latin word; else word',
    _ultraeval,
    edits.jiwer,
  ),
)
