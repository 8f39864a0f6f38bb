"""`seed_tts`: the lists of seed-tts-eval.

    meta.lst          utt|prompt_text|prompt_wav|text[|wav]
    prompt-wavs/…     the prompts, relative to the list
    wavs/UTT.wav      what `text` sounds like, if it was recorded

A line becomes an utterance `utt` of the split `test`: its text, and its
recording if there is one (the fifth field, or `wavs/UTT.wav`). Its prompt
becomes an utterance of the split `prompt`, once for each recording; both have
the prompt's name as `speaker`, by which they find each other. The language is
that of the list's folder, as in `zh/meta.lst`.

The text is what is to be spoken; an utterance without a recording has
`audio: null`.
"""

import pathlib
from typing import Iterator, NamedTuple

from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files

NAME = 'meta.lst'
LANGUAGES = ('en', 'zh')
PROMPT = 'prompt'
CELLS = (4, 5)  # of a line


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a list: a file, or the folder of `meta.lst`."""
  base.check_options(options.extra, ())
  path = base.file_of(source, options, NAME) if files.is_dir(source) else source
  root, folder = options.root(path), files.resolve(path).parent.name
  language = folder if folder in LANGUAGES else None
  prompts = {}  # recording → its transcript
  for line in base.table_lines(path, _is_record):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, text = line
    where, cells = f'{path}:{number}', [c.strip() for c in text.split('|')]
    if len(cells) not in CELLS:
      yield base.Rejected(
        where,
        f'found {len(cells)} fields, expected utt|prompt_text|prompt_wav|text '
        'and maybe |wav.',
        line=number,
      )
      continue
    row = _Row(where, number, root, language, *cells[:4])
    fresh = row.prompt not in prompts
    about = {'id': row.utt, 'line': number}
    first = base.reject_on_error(
      where, row.prompt_item, prompts, **about, file=row.prompt
    )
    if fresh or isinstance(first, base.Rejected):
      yield first
    if isinstance(first, base.Rejected):
      continue  # without its prompt the line cannot be used
    recorded = cells[4] if len(cells) == 5 else f'wavs/{row.utt}.wav'
    if len(cells) == 4 and not _is_file(root, recorded):
      recorded = None
    yield base.reject_on_error(
      where, row.item, row.utt, 'test', row.text, recorded, **about,
      file=recorded,
    )  # fmt: skip


class _Row(NamedTuple):
  """A line of the list."""

  where: str
  number: int
  root: pathlib.Path
  language: str | None
  utt: str
  said: str
  prompt: str
  text: str

  @property
  def prompt_name(self) -> str:
    """The prompt's path without its ending; '' for what is no file."""
    path = pathlib.PurePosixPath(self.prompt)
    return str(path.with_suffix('')) if path.name else ''

  def item(self, name, split, text, audio) -> base.Item:
    fields = {
      'id': name,
      'split': split,
      'text': text,
      'language': self.language,
      'speaker': self.prompt_name,
    }
    path, below = base.locate(self.root, audio) if audio else (None, None)
    return base.Item(
      self.where, fields, path, below, line=self.number, may_lack=('audio',)
    )

  def prompt_item(self, prompts: dict[str, str]) -> base.Item:
    """The prompt; `prompts` remembers what each recording says."""
    if not self.prompt_name or not self.utt:
      raise errors.UserError(
        f'utt, prompt_wav: found {self.utt!r}, {self.prompt!r}, expected two '
        'names.'
      )
    before = prompts.setdefault(self.prompt, self.said)
    if before != self.said:
      raise errors.UserError(
        f'prompt_text: {self.prompt} says {before!r} in an earlier line.'
      )
    name = f'{PROMPT}-{self.prompt_name}'
    return self.item(name, PROMPT, self.said, self.prompt)


def _is_record(text: str | None) -> bool:
  return text is not None and text.count('|') + 1 in CELLS


def _is_file(root, name) -> bool:
  try:
    return files.is_file(base.resolve_inside(root, name))
  except errors.UserError:
    return False
