"""NIST SPHERE (TIMIT, WSJ, Switchboard): a header in text, then samples.

    NIST_1A
       1024                      bytes of the header
    sample_count -i 8000         of a channel; some count those of all
    sample_n_bytes -i 2
    channel_count -i 1
    sample_coding -s3 pcm        ulaw, alaw; `pcm,embedded-shorten-v2.00`
    end_head

libsndfile reads to the end of the file, whatever the header says.
"""

import re

from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans

MAGIC = b'NIST_1A'
_HEAD = 2**14  # bytes within which headers end
_FIELD = re.compile(rb'^(\w+) +-(?:i|s\d+) +(\S+)', re.MULTILINE)


def survey(source: spans.Source) -> links.Survey | None:
  """Counts the samples of a file by its bytes.

  Args:
    source: The file.

  Returns:
    None if its header cannot be read.
  """
  raw = source.read(0, _HEAD)
  head, end, _ = raw.partition(b'end_head')
  begin = re.match(rb'NIST_1A\s+(\d{1,9})\s', raw)
  said = dict(_FIELD.findall(head))
  coding = said.get(b'sample_coding', b'pcm').decode('ascii', 'replace')
  if b'embedded' in said.get(b'sample_coding', b''):
    return links.Survey((), (), f'its samples are compressed ({coding})')
  width = _number(said.get(b'sample_n_bytes'))
  channels = _number(said.get(b'channel_count', b'1'))
  if not (end and begin and width and channels):
    return None
  begin, width = int(begin[1]), width * channels
  count, rest = divmod(max(0, source.size - begin), width)
  notes, fault = [], None
  announced = _number(said.get(b'sample_count'))
  if announced is None:
    notes.append(f'its header states no length: {count} samples are read')
  elif count not in (announced, announced / channels):
    told = f'the header announces {announced} samples, found {count}'
    if count < announced:
      fault = f'cut short: {told}'
    else:
      notes.append(f'{told}: all are read')
  if rest:
    notes.append(f'{rest} bytes of a sample end it')
  parts = ((0, begin + count * width),) if rest else None
  link = links.Link('NIST', 0, channels, count, parts)
  return links.Survey((link,), tuple(notes), fault)


def _number(text: bytes | None) -> int | None:
  return int(text) if text and re.fullmatch(rb'\d{1,12}', text) else None
