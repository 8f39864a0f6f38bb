"""`image_jsonl`: captions in JSON lines, images as files beside them.

    {"image": "img/1.jpg", "caption": "a red circle"[, "id", "language",
     "split"]}

The path may also be called `file_name` (as in Hugging Face's `imagefolder`)
or `image_path`. It is relative to the file of the line, and does not lead out
of the source or `--audio_root`.
"""

import pathlib
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib

ENDINGS = ('.jsonl', '.jsonl.gz')
FIELDS = ('id', 'image', 'caption', 'language', 'split')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads an image-text corpus."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  for found in columns_lib.json_rows(source, options, ENDINGS):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem, number, row = found
    root, below = options.root(source), pathlib.PurePosixPath(stem).parent
    yield base.reject_on_error(
      f'{path}:{number}',
      _item,
      columns,
      (root, below),
      f'{path}:{number}',
      f'{stem}-{number}',
      row,
      number,
      id=columns.value('id', row),
      line=number,
      file=columns.value('image', row),
    )


def _item(columns, place, where, name, row, number) -> base.Item:
  root, below = place
  fields = columns.fields(row, kind='image_text', text='caption')
  fields['id'] = fields['id'] or name
  image = columns.value('image', row)
  if isinstance(image, str) and image:
    image = str(below / image)
  image, name = base.locate(root, image, 'image')
  return base.Item(where, fields, image=image, image_name=name, line=number)
