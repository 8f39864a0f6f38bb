"""Texts to be said, texts of tests, and some of these hidden among those."""

import pathlib
from typing import Iterator

from data_pipelines.synthesis import plan
from step_audio_jax.corpus import manifest

# Whoever is only heard in tests says nothing in training.
UNSEEN = 'espeak-ng-f2'
_TESTS = (
  ('en', 'The ferry to the northern islands leaves at twenty past seven.'),
  ('en', 'Nobody had told the gardener that the well was dry again.'),
  ('en', 'She folded the map twice and put it under the lamp.'),
  ('en', 'Three of the violins were made in the same winter.'),
  ('zh', '图书馆的门口有一棵很大的银杏树。'),
  ('zh', '明天早上七点的火车已经没有座位了。'),
)


def disguises(language: str, text: str) -> Iterator[str]:
  """A text of a test as it may turn up among others."""
  yield text
  yield text.upper()
  yield ''.join(chr(ord(c) + 0xFEE0) if '!' <= c <= '~' else c for c in text)
  yield f'« {text.rstrip(".。")} … »'
  if language == 'zh':
    yield ' '.join(text)
    yield f'老师说，{text}我也这么想。'
    yield text[1:]
    yield f'{text[:-2]}吗？'
  else:
    yield text.replace(' ', '  ').replace('e', 'e\u200b')
    yield f'They say that {text[0].lower()}{text[1:]} That is all I know.'
    yield text.partition(' ')[2]
    yield f'{text.rpartition(" ")[0]} too.'


def write(folder: pathlib.Path, count: int, chinese: bool = True) -> int:
  """Writes `texts` and `tests`; returns how many texts of tests are planted.

  Args:
    folder: Of both corpora.
    count: Texts in all, those of tests among them.
    chinese: Whether some are Chinese.
  """
  planted = [
    (language, text)
    for language, test in _TESTS
    if chinese or language == 'en'
    for text in disguises(language, test)
  ]
  config = plan.Config(text_lines=4 * count)
  drawn = [
    one
    for one in plan.plan_text(config)
    if one.split == 'train' and (chinese or one.language == 'en')
  ]
  between = max(1, count // len(planted))  # so they lie in all shards
  lines, hidden = [], iter(enumerate(planted))
  for number, one in enumerate(drawn[: count - len(planted)]):
    lines.append(one)
    if number % between == 0:
      lines += [_planted(*found) for found in [*_next(hidden)]]
  lines += [_planted(*found) for found in hidden]
  manifest.write(folder / 'texts', lines)
  tests = [
    manifest.Utterance(
      id=f'test-{number}', split='test', text=text, language=language,
      speaker=UNSEEN,
    )
    for number, (language, text) in enumerate(_TESTS)
  ]  # fmt: skip
  spoken = plan.plan_speech(plan.Config(train=0, dev=0, test=40, unseen=0))
  tests += [
    manifest.Utterance(
      id=one.id, split='test', text=one.text, language=one.language
    )
    for one in spoken
  ]
  manifest.write(folder / 'tests', tests)
  return len(planted)


def _next(hidden):
  for found in hidden:
    return [found]
  return []


def _planted(number, found) -> manifest.Utterance:
  language, text = found
  return manifest.Utterance(
    id=f'planted-{number:03d}', kind='text', language=language, text=text
  )
