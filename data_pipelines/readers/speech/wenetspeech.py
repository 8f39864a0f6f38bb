"""`wenetspeech` and `gigaspeech`: one JSON file for thousands of hours.

    {"audios": [{"aid", "path", "duration", "segments": [
        {"sid", "begin_time", "end_time", "text", "subsets"}, …]}, …]}

SOURCE is the folder of `WenetSpeech.json` or `GigaSpeech.json`, or the file.
Both are read as a stream. `--subset` takes the segments of one subset (L, M,
S, W, DEV, TEST_NET, TEST_MEETING; XS … XL, DEV, TEST). GigaSpeech's text is
`text_tn`: its punctuation tags become signs, and segments with a garbage tag
(music, noise, silence) are no speech. WenetSpeech: arXiv 2110.03370;
GigaSpeech: arXiv 2106.06909.
"""

import pathlib
import re
from typing import Any, Iterator, Mapping

from data_pipelines.readers.common import base
from data_pipelines.readers.common import json_stream
from data_pipelines.readers.common import tables
from step_audio_jax import errors
from step_audio_jax.storage import files

_SIGNS = {
  'COMMA': ',',
  'PERIOD': '.',
  'QUESTIONMARK': '?',
  'EXCLAMATIONPOINT': '!',
}
_SIGN = re.compile(rf'\s*<({"|".join(_SIGNS)})>')
_GARBAGE = re.compile('<(SIL|MUSIC|NOISE|OTHER)>')


def read_wenetspeech(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads WenetSpeech; raises `UserError` where the JSON has no audios."""
  yield from _read(source, options, 'WenetSpeech.json', 'text', 'zh')


def read_gigaspeech(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads GigaSpeech; raises `UserError` where the JSON has no audios."""
  yield from _read(source, options, 'GigaSpeech.json', 'text_tn', 'en')


def _read(source, options, name, text, language):
  base.check_options(options.extra, ())
  root = options.root(source)
  path = base.file_of(source, options, name) if files.is_dir(source) else source
  for element in json_stream.elements(path, 'audios'):
    if isinstance(element, base.Rejected):
      yield element
      continue
    where, audio = element
    recording = base.reject_on_error(
      where,
      base.locate,
      root,
      audio.get('path'),
      'path',
      id=audio.get('aid'),
      file=audio.get('path'),
    )
    segments = audio.get('segments')
    if not isinstance(segments, list):
      recording = base.Rejected(
        where, 'segments: missing, expected a list.', id=audio.get('aid')
      )
    if isinstance(recording, base.Rejected):
      yield recording
      continue
    for number, segment in enumerate(segments):
      place = f'{where}.segments[{number}]'
      if not isinstance(segment, dict):
        yield base.Rejected(place, f'found {segment!r}, expected an object.')
        continue
      subsets = _subsets(segment)
      if options.subset is not None and options.subset not in subsets:
        continue

      said = base.reject_on_error(
        place,
        _fields,
        audio,
        segment,
        subsets,
        text,
        id=segment.get('sid'),
        file=audio.get('path'),
      )
      if isinstance(said, base.Rejected):
        yield said
      else:
        yield base.Item(place, {**said, 'language': language}, *recording)


def _subsets(segment: Mapping[str, Any]) -> list[str]:
  """Names of subsets; GigaSpeech writes them in braces."""
  found = segment.get('subsets')
  return (
    [str(one).strip('{}') for one in found or ()]
    if (isinstance(found, list))
    else []
  )


def _fields(audio, segment, subsets, text):
  offset, duration = tables.offset_and_duration(
    segment.get('begin_time'), segment.get('end_time')
  )
  said = segment.get(text)
  if text == 'text_tn' and isinstance(said, str):
    garbage = _GARBAGE.search(said)
    if garbage:
      raise errors.UserError(f'text: found {garbage[0]}, expected speech.')
    said = _SIGN.sub(lambda tag: _SIGNS[tag[1]], said)
  speaker = segment.get('speaker', audio.get('speaker'))
  rate = audio.get('sample_rate')
  return {
    'id': segment.get('sid'),
    'text': said,
    'offset': offset,
    'duration': duration,
    'speaker': None if speaker in ('N/A', '') else speaker,
    'sample_rate': rate if type(rate) is int else None,
    'split': next(filter(None, map(tables.split_named, subsets)), 'train'),
  }
