"""Checks of how an answer is built: lengths, lists, sections, titles, JSON.

As `content`: an answer that is not empty, and the arguments of an instruction.
"""

import re

from step_audio_jax.decoder import sentences
from step_audio_jax.evaluation.judges.instructions import content
from step_audio_jax.storage import files

Arguments = content.Arguments

_POSTSCRIPTS = {
  'P.P.S': re.compile(r'p\.\s?p\.\s?s'),
  'P.S.': re.compile(r'p\.\s?s\.'),
}


def _words(text: str, given: Arguments) -> bool:
  count = len(re.findall(r'\w+', text))
  return content.compare(count, given['relation'], given['num_words'])


def _sentences(text: str, given: Arguments) -> bool:
  count = len(sentences.split(text))
  return content.compare(count, given['relation'], given['num_sentences'])


def _paragraphs(text: str, given: Arguments) -> bool:
  """Between dividers of three asterisks; a first or last one may be empty."""
  parts = [one.strip() for one in text.split('***')]
  return all(parts[1:-1]) and sum(map(bool, parts)) == given['num_paragraphs']


def _first_word(text: str, given: Arguments) -> bool:
  """Of the nth of several paragraphs between empty lines."""
  parts = text.split('\n\n')
  count = sum(bool(one.strip()) for one in parts)
  place = given['nth_paragraph']
  if not 1 <= place <= count or count != given['num_paragraphs']:
    return False
  first, *_ = [*parts[place - 1].split(), '']
  # What is behind the word, and a quotation mark in front of it, is no part.
  said = re.match(r'[^.,?!\'"]*', first.lstrip('\'"'))[0]
  return said.lower() == given['first_word'].lower()


def _placeholders(text: str, given: Arguments) -> bool:
  return len(re.findall(r'\[[^\[\]\n]*\]', text)) >= given['num_placeholders']


def _postscript(text: str, given: Arguments) -> bool:
  marker = given['postscript_marker'].strip()
  pattern = _POSTSCRIPTS.get(marker) or re.compile(re.escape(marker.lower()))
  return bool(pattern.search(text.lower()))


def _bullets(text: str, given: Arguments) -> bool:
  """Lines that begin with one asterisk or a hyphen, exactly so many."""
  stars = re.findall(r'^[^\S\n]*\*[^*].*$', text, re.MULTILINE)
  hyphens = re.findall(r'^[^\S\n]*-.*$', text, re.MULTILINE)
  return len(stars) + len(hyphens) == given['num_bullets']


def _highlights(text: str, given: Arguments) -> bool:
  """`*so*` and `**so**`."""
  one = [s.strip('*').strip() for s in re.findall(r'\*[^\n*]*\*', text)]
  two = [s[2:-2].strip() for s in re.findall(r'\*\*[^\n*]*\*\*', text)]
  return sum(map(bool, one + two)) >= given['num_highlights']


def _sections(text: str, given: Arguments) -> bool:
  splitter = re.escape(given['section_spliter'].strip())
  found = re.findall(rf'{splitter}\s?\d+', text)
  return len(found) >= given['num_sections']


def _title(text: str, _: Arguments) -> bool:
  for line in text.split('\n'):
    begin, end = line.find('<<'), line.rfind('>>')
    if 0 <= begin < end and line[begin:end].strip('<>').strip():
      return True
  return False


def _json(text: str, _: Arguments) -> bool:
  said = re.sub(r'\A```(?:json)?|```\Z', '', text.strip(), flags=re.IGNORECASE)
  try:
    files.parsed(said.strip())
  except ValueError:
    return False
  return True


CHECKS: dict[str, content.Check] = {
  'detectable_content:number_placeholders': _placeholders,
  'detectable_content:postscript': _postscript,
  'detectable_format:json_format': _json,
  'detectable_format:multiple_sections': _sections,
  'detectable_format:number_bullet_lists': _bullets,
  'detectable_format:number_highlighted_sections': _highlights,
  'detectable_format:title': _title,
  'length_constraints:nth_paragraph_first_word': _first_word,
  'length_constraints:number_paragraphs': _paragraphs,
  'length_constraints:number_sentences': _sentences,
  'length_constraints:number_words': _words,
}
