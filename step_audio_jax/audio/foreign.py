"""Formats of sound that nothing here decodes, told by their first bytes."""

_CODES = (
  (4, b'ftyp', 'MP4 (m4a: AAC or ALAC)'),
  (0, b'\x1aE\xdf\xa3', 'Matroska or WebM'),
  (0, b'#!AMR', 'AMR'),
  (0, b'0&\xb2u\x8ef\xcf\x11', 'Windows Media (ASF)'),
  (0, b'wvpk', 'WavPack'),
  (0, b'MAC ', "Monkey's Audio"),
  (0, b'TTA1', 'True Audio'),
  (0, b'DSD ', 'DSD'),
  (0, b'\x0bw', 'AC-3'),
  (0, b'FLV\x01', 'Flash video'),
)
# What such files are called.
ENDINGS = (
  '.m4a', '.mp4', '.aac', '.webm', '.mka', '.amr', '.wma', '.wv', '.ape',
  '.tta', '.dsf', '.ac3',
)  # fmt: skip
WAY_ON = '`ffmpeg -i IN OUT.flac` converts it'


def format_name(head: bytes) -> str | None:
  """The name of the format of a file that begins with `head`, if it is one.

  Args:
    head: A dozen bytes.
  """
  if head[:1] == b'\xff' and head[1:2] and head[1] & 0xF6 == 0xF0:
    return 'AAC (ADTS)'  # MPEG's sync word with layer 0
  return next(
    (name for at, code, name in _CODES if head[at:].startswith(code)), None
  )
