"""Plain text: JSON lines, and text files.

    text_jsonl  {"text": …[, "id", "language", "split"]} a line; .jsonl,
                .jsonl.gz, .json.gz
    text_txt    a document a line; .txt, .txt.gz

`--reader_option=document=paragraph` makes a document of the lines of a text
file up to the next blank line, as in CC-100. Its line breaks are kept, and a
paragraph with a line that cannot be read is left out as a whole.

SOURCE is a file, or a folder of them.
"""

import pathlib
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from step_audio_jax import errors

JSONL = ('.jsonl', '.jsonl.gz', '.json.gz')
TXT = ('.txt', '.txt.gz')
FIELDS = ('id', 'text', 'language', 'split')
DOCUMENTS = ('line', 'paragraph')


def read_jsonl(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a text corpus of JSON lines."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  for found in columns_lib.json_rows(source, options, JSONL):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem, number, row = found
    where = f'{path}:{number}'
    yield base.reject_on_error(
      where,
      item_of,
      columns,
      where,
      f'{stem}-{number}',
      row,
      number,
      id=columns.value('id', row),
      line=number,
    )


def item_of(columns, where, name, row, number) -> base.Item:
  """A row with a text → its item, called `name` unless it says another id."""
  fields = columns.fields(row, kind='text')
  fields['id'] = fields['id'] or name
  return base.Item(where, fields, line=number)


def read_txt(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads text files.

  Raises:
    UserError: The option `document` is neither `line` nor `paragraph`.
  """
  base.check_options(options.extra, ('document',))
  document = options.extra.get('document', 'line')
  if document not in DOCUMENTS:
    raise errors.UserError(
      f'--reader_option=document: found {document!r}, expected '
      f'{" or ".join(DOCUMENTS)}.'
    )
  for found in columns_lib.files_of(source, options, TXT):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    lines = base.text_lines(path)
    for one in lines if document == 'line' else paragraphs(path, lines):
      if isinstance(one, base.Rejected):
        yield one
        continue
      number, text = one
      fields = {'kind': 'text', 'id': f'{stem}-{number}', 'text': text.strip()}
      yield base.Item(f'{path}:{number}', fields, line=number)


def paragraphs(
  path: pathlib.Path, lines: Iterator[tuple[int, str] | base.Rejected]
) -> Iterator[tuple[int, str] | base.Rejected]:
  """Joins the lines between blank lines, which `base.text_lines` leaves out.

  Yields:
    (number of the first line, text); one `Rejected` for a paragraph that has
    a bad line or more than `base.LINE_BYTES` characters.
  """
  begin = previous = None
  text, size, bad = [], 0, None
  for one in lines:
    number = one.line if isinstance(one, base.Rejected) else one[0]
    if previous is not None and number > previous + 1:
      yield bad or (begin, '\n'.join(text))
      text, size, bad, begin = [], 0, None, None
    begin, previous = begin or number, number
    if isinstance(one, base.Rejected):
      bad = bad or one
    elif size <= base.LINE_BYTES:
      text.append(one[1])
      size += len(one[1]) + 1
      if size > base.LINE_BYTES:
        text = []
        bad = bad or base.Rejected(
          f'{path}:{begin}',
          f'a paragraph of more than {base.LINE_BYTES} characters; are there '
          'blank lines between documents?',
          line=begin,
        )
  if previous is not None:
    yield bad or (begin, '\n'.join(text))
