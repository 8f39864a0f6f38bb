"""Language tags: what they mean, and which languages write no spaces.

Corpora say `zh_CN`, `cmn_hans_cn`, `zho`, `Chinese` or `中文`; here all of them
are `zh`, the language subtag of BCP 47 (RFC 5646). Region and script are left
out. A language that has a subtag of two letters gets that one, also where the
corpus names its most spoken variety (`cmn` is `zh`, `arb` is `ar`); Cantonese
(`yue`), Wu (`wuu`) and the like keep their own. Names and registry are those of
the library langcodes.

Scripts without spaces between words decide how text is compared
(`is_spaceless`). A tag of such a language decides; under any other tag, and
where the tag is unknown, the text does.
"""

import collections
import functools
import re
import unicodedata

# Written without spaces between words, whatever a line looks like. Min Nan,
# Hakka and Min Dong are absent: they are written in Latin letters as well, so
# that their text decides.
SPACELESS = frozenset(
  (
    # Chinese: Mandarin, Cantonese, Wu, Gan, Xiang, Jin, Hui, Min, Literary
    'zh', 'yue', 'wuu', 'gan', 'hsn', 'cjy', 'czh', 'cnp', 'csp', 'czo',
    'cpx', 'mnp', 'lzh', 'ltc', 'och',
    'ja', 'ojp', 'ryu',  # Japanese, Old Japanese, Okinawan
    'th', 'tts', 'nod', 'sou',  # Thai: Central, Northeastern, Northern, South
    'lo', 'khb', 'tdd', 'blt', 'shn',  # Lao, Tai Lü, Tai Nüa, Tai Dam, Shan
    'km', 'my', 'rki', 'mnw',  # Khmer, Burmese, Rakhine, Mon
    'bo', 'adx', 'khg', 'dz', 'lbj', 'sip', 'xct',  # Tibetan, Dzongkha, …
  )
)  # fmt: skip

# How the Unicode names of the letters of such scripts begin.
_SCRIPTS = (
  'BOPOMOFO', 'CJK ', 'HIRAGANA', 'IDEOGRAPHIC', 'KATAKANA', 'KHMER', 'LAO ',
  'MYANMAR', 'NEW TAI', 'TAI ', 'THAI', 'TIBETAN',
)  # fmt: skip
_AROUND = ' \t\r\n-_<|>[]'  # `<|zh|>`, and an empty region
_LONGEST = 80  # characters of a tag or a name


@functools.lru_cache(maxsize=4096)
def language_subtag(tag: str) -> str | None:
  """A tag or name of a language → its BCP 47 language subtag.

  Args:
    tag: BCP 47, ISO 639-1 to -3, a locale (`pt_BR.UTF-8`), or the language's
      name in English or in itself; upper and lower case are the same.

  Returns:
    The subtag, lower case; None where nobody knows such a language.
  """
  text = re.split('[.@]', tag, maxsplit=1)[0].strip(_AROUND)
  if not text.isprintable() or not 0 < len(text) <= _LONGEST:
    return None
  import langcodes

  if text.lower() == 'und':
    return 'und'
  try:
    told = langcodes.get(text.replace('_', '-')).language or ''
    if told.startswith('x-'):  # of private use
      return told
    if told and langcodes.get(told).is_valid():
      return _subtag(told)
  except ValueError:
    pass  # no tag; maybe a name
  try:
    return _subtag(langcodes.find(re.sub(r'[\s_-]+', ' ', text)).to_tag())
  except (LookupError, ValueError):  # ValueError: no text at all
    return None


def _subtag(tag: str) -> str:
  """The language of a tag, by its macrolanguage where it speaks for that."""
  import langcodes

  return langcodes.standardize_tag(tag, macro=True).split('-')[0]


def normalise(tag: str) -> str:
  """The `language_subtag` of a tag; one that nobody knows stays as it is."""
  return language_subtag(tag) or tag.strip()


@functools.lru_cache(maxsize=2**16)
def _kind(character: str) -> int:
  """1 of a script without spaces, -1 of another one, 0 no letter."""
  if unicodedata.category(character)[0] not in 'LM':
    return 0
  name = unicodedata.name(character, '').removeprefix('HALFWIDTH ')
  if name.startswith('COMBINING'):
    return 0  # an accent: of the letter before it
  return 1 if name.startswith(_SCRIPTS) else -1


def looks_spaceless(text: str) -> bool | None:
  """Whether most letters of `text` are of scripts without spaces.

  Returns:
    None where there is no letter, or as many of the one as of the other.
  """
  if text.isascii():  # every letter of it is -1, and most lines are
    return False if any(map(str.isalpha, text)) else None
  balance = sum(map(_kind, text))
  return balance > 0 if balance else None


def is_spaceless(tag: str, text: str = '') -> bool:
  """Whether text has no spaces between words.

  Args:
    tag: Of its language, in any form that `language_subtag` takes.
    text: The text itself. It decides under tags that are not `SPACELESS`: a
      tag may be unknown, or be the default of who said nothing.
  """
  return language_subtag(tag) in SPACELESS or bool(looks_spaceless(text))


# Of no script, or of several: nothing to wonder at.
_ANY_SCRIPT = frozenset(
  ('cdo', 'hak', 'jv', 'mis', 'mul', 'nan', 'pi', 'sa', 'su', 'und', 'zxx')
)


def contradicts(tag: str, text: str) -> bool:
  """Whether a known tag and the script of a text do not belong together."""
  subtag, looks = language_subtag(tag), looks_spaceless(text)
  if subtag is None or looks is None:
    return False
  if subtag in SPACELESS:
    return not looks
  return looks and subtag not in _ANY_SCRIPT


class Census:
  """Counts lines whose language tag cannot be believed."""

  def __init__(self):
    self.unknown = collections.Counter()
    self.contradicted = collections.Counter()
    self.translated = collections.Counter()

  def add(self, tag: str, text: str | None, heard: str | None = None) -> None:
    """Counts one line.

    Args:
      tag: Of the language of `text`.
      text: What the line says, if anything.
      heard: Tag of the language that is spoken, where the corpus tells it.
    """
    if (
      text
      and isinstance(heard, str)
      and language_subtag(heard) != language_subtag(tag)
    ):
      self.translated[f'{heard} > {tag}'] += 1
    if language_subtag(tag) is None:
      self.unknown[tag] += 1
    elif text and contradicts(tag, text):
      self.contradicted[tag] += 1

  def notes(self) -> list[str]:
    """One sentence for each kind of doubt; [] where there is none."""
    found = []
    if self.unknown:
      found.append(
        f'language: {_shown(self.unknown)} in no registry of languages; kept '
        'as it is, and compared as its own script is written.'
      )
    if self.contradicted:
      found.append(
        f'language: {_shown(self.contradicted)} not of the script of the '
        'text; check the tag (`ingest --language` names that of lines without '
        'one).'
      )
    if self.translated:
      found.append(
        f'language: {_shown(self.translated)} of translations, spoken in the '
        'one and written in the other; as transcripts they teach the wrong '
        'words.'
      )
    return found


def _shown(counts: collections.Counter, most: int = 5) -> str:
  """`the tags 'xx' (3 lines) and 'yy' (1 line) are`."""
  parts = [
    f'{tag[:_LONGEST]!r} ({count} line{"s" * (count != 1)})'
    for tag, count in counts.most_common(most)
  ]
  if len(counts) > most:
    parts.append(f'{len(counts) - most} more')
  if len(parts) == 1:
    return f'the tag {parts[0]} is'
  return f'the tags {", ".join(parts[:-1])} and {parts[-1]} are'
