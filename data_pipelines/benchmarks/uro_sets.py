"""The 36 sets of URO-Bench, as its card lists them."""

from typing import Mapping, NamedTuple


class Set(NamedTuple):
  """One of the 36.

  Attributes:
    track: basic or pro.
    language: zh, en, or mul of several.
    size: Items.
    scored: By what its scripts score it.
  """

  track: str
  language: str
  size: int
  scored: str


SETS: Mapping[str, Set] = {
  'AlpacaEval': Set('basic', 'en', 199, 'open'),
  'CommonEval': Set('basic', 'en', 200, 'open'),
  'WildchatEval': Set('basic', 'en', 349, 'open'),
  'StoralEval': Set('basic', 'en', 201, 'semi-open'),
  'Summary': Set('basic', 'en', 118, 'semi-open'),
  'TruthfulEval': Set('basic', 'en', 470, 'semi-open'),
  'GaokaoEval': Set('basic', 'en', 303, 'qa'),
  'Gsm8kEval': Set('basic', 'en', 582, 'qa'),
  'MLC': Set('basic', 'en', 177, 'qa'),
  'Repeat': Set('basic', 'en', 252, 'wer'),
  'AlpacaEval-zh': Set('basic', 'zh', 200, 'open'),
  'Claude-zh': Set('basic', 'zh', 273, 'open'),
  'LCSTS-zh': Set('basic', 'zh', 229, 'semi-open'),
  'MLC-zh': Set('basic', 'zh', 136, 'qa'),
  'OpenbookQA-zh': Set('basic', 'zh', 257, 'qa'),
  'Repeat-zh': Set('basic', 'zh', 210, 'wer'),
  'CodeSwitching-en': Set('pro', 'en', 70, 'semi-open'),
  'CodeSwitching-zh': Set('pro', 'zh', 70, 'semi-open'),
  'GenEmotion-en': Set('pro', 'en', 54, 'ge'),
  'GenEmotion-zh': Set('pro', 'zh', 43, 'ge'),
  'GenStyle-en': Set('pro', 'en', 44, 'gs'),
  'GenStyle-zh': Set('pro', 'zh', 39, 'gs'),
  'MLCpro-en': Set('pro', 'en', 91, 'qa'),
  'MLCpro-zh': Set('pro', 'zh', 64, 'qa'),
  'Safety-en': Set('pro', 'en', 24, 'sf'),
  'Safety-zh': Set('pro', 'zh', 20, 'sf'),
  'SRT-en': Set('pro', 'en', 43, 'srt'),
  'SRT-zh': Set('pro', 'zh', 21, 'srt'),
  'UnderEmotion-en': Set('pro', 'en', 137, 'ue'),
  'UnderEmotion-zh': Set('pro', 'zh', 79, 'ue'),
  'Multilingual': Set('pro', 'mul', 1108, 'ml'),
  'ClothoEval-en': Set('pro', 'en', 265, 'qa'),
  'MuChoEval-en': Set('pro', 'en', 311, 'qa'),
  'MtBenchEval-en': Set('pro', 'en', 190, 'multi'),
  'SpeakerAware-en': Set('pro', 'en', 55, 'multi'),
  'SpeakerAware-zh': Set('pro', 'zh', 49, 'multi'),
}
