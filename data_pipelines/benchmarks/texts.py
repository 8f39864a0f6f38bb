"""In writing: which of several continuations is the likeliest.

What speech training has cost a text model shows here (`drift`). Contexts and
continuations are those of lm-evaluation-harness without examples in front of
them; of WinoGrande whole sentences are compared.
"""

import abc
import csv
import dataclasses
import io
import re
from typing import Any, ClassVar, Iterator, Mapping, Sequence

from data_pipelines.benchmarks import entries
from data_pipelines.benchmarks import gathering
from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import choices
from step_audio_jax.storage import files

LETTERS = 'ABCDEFGHIJ'


def choice(
  name: str,
  context: str,
  continuations: Sequence[str],
  right: int,
  language: str = 'en',
  **about: Any,
) -> benchmark.Item:
  """An item of a context and what may come behind it.

  Raises:
    UserError: There are not two of them, or none is right.
  """
  if len(continuations) < 2:
    raise errors.UserError(
      f'continuations: found {len(continuations)}, expected two at least.'
    )
  if not 0 <= right < len(continuations):
    raise errors.UserError('label: found none of the continuations.')
  told = {
    choices.CONTINUATIONS: list(continuations),
    choices.RIGHT: right,
    **about,
  }
  return benchmark.written(
    name, context, continuations[right].strip(), language=language, **told
  )


def index_of(value: Any, first: int = 0) -> int:
  """A label that is written as a number, or as text of one; from 0.

  Raises:
    UserError: It is none, as in the hidden part of a benchmark.
  """
  found = str(value)
  if not found.isdecimal():
    raise errors.UserError('label: missing, expected the one that is right.')
  return int(found) - first


@dataclasses.dataclass(frozen=True)
class Rows(choices.Choices):
  """Base: rows of JSON lines or of parquet.

  Attributes:
    expected: How many the public set has; 0 where it is not known.
  """

  expected: int = 0

  # Globs of its files, and columns of parquet that are read.
  LAYOUT: ClassVar[tuple[str, ...]] = ()
  COLUMNS: ClassVar[tuple[str, ...]] = ()

  @abc.abstractmethod
  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """A row → its item; raises UserError where it is none."""

  def read(self) -> benchmark.Reading:
    """All rows; raises UserError where there are none."""
    return gathering.reading(self, self._items(), expected=self.expected)

  def paths(self) -> list[files.AnyPath]:
    """Its files; raises UserError where there are none."""
    return gathering.one_of(self.folder, self.LAYOUT)

  def rows(self) -> Iterator[tuple[str, Mapping[str, Any]] | gathering.Left]:
    """(name, fields) of each."""
    for one in gathering.rows(self.paths(), self.COLUMNS):
      yield one if len(one) == 2 else one[1:]

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    for name, row in self.rows():
      if isinstance(row, str):
        yield name, row
      else:
        yield gathering.made(name, self.item, name, row)


@dataclasses.dataclass(frozen=True)
class HellaSwag(Rows):
  """HellaSwag: how a described scene goes on."""

  LAYOUT = ('hellaswag_val.jsonl', 'data/validation-*.parquet', '*.parquet')
  COLUMNS = (
    'ind', 'activity_label', 'ctx_a', 'ctx_b', 'endings', 'label', 'source_id',
  )  # fmt: skip
  _TITLE, _BRACKETS = ' [title]', re.compile(r'\[.*?\]')

  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """See the base; captions of WikiHow lose their brackets."""
    begun = row.get('ctx_b') or ''
    scene = f'{gathering.text(row, "ctx_a")} {begun.capitalize()}'
    context = f'{gathering.text(row, "activity_label")}: {scene}'
    endings = gathering.field(row, 'endings')
    return choice(
      name,
      self._plain(context),
      [f' {self._plain(one)}' for one in endings],
      index_of(row.get('label')),
    )

  def _plain(self, text: str) -> str:
    text = text.strip().replace(self._TITLE, '. ')
    return self._BRACKETS.sub('', text).replace('  ', ' ')


@dataclasses.dataclass(frozen=True)
class Questions(Rows):
  """ARC and OpenBookQA: a question of the school and its answers.

  Attributes:
    tables: Globs below the folder, the first that finds one.
    context: What a question stands in; `{}` is the question.
  """

  tables: tuple[str, ...] = ()
  context: str = 'Question: {}\nAnswer:'

  COLUMNS = ('id', 'question', 'question_stem', 'choices', 'answerKey')

  def paths(self) -> list[files.AnyPath]:
    """See the base."""
    return gathering.one_of(self.folder, self.tables)

  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """See the base."""
    asked = gathering.field(row, 'question', 'question_stem')
    # JSON lines hold question and choices in one object, and each choice in
    # one; parquet has a column of each.
    nested = isinstance(asked, Mapping)
    found = gathering.field(asked if nested else row, 'choices')
    if isinstance(found, Mapping):
      texts, labels = found.get('text'), found.get('label')
    else:
      texts = [one.get('text') for one in found]
      labels = [one.get('label') for one in found]
    if nested:
      asked = gathering.text(asked, 'stem')
    key = row.get('answerKey')
    if key not in (labels or ()):
      raise errors.UserError('answerKey: found none of the labels.')
    return choice(
      row.get('id') or name,
      self.context.format(asked),
      [f' {text}' for text in texts],
      labels.index(key),
    )


@dataclasses.dataclass(frozen=True)
class Piqa(Rows):
  """PIQA: which of two ways leads to a goal."""

  LAYOUT = (
    'valid.jsonl', 'dev.jsonl', 'physicaliqa-train-dev/dev.jsonl',
    'plain_text/validation-*.parquet', 'data/validation-*.parquet',
    '*.parquet',
  )  # fmt: skip
  COLUMNS = ('goal', 'sol1', 'sol2', 'label')

  def rows(self) -> Iterator[tuple[str, Mapping[str, Any]] | gathering.Left]:
    """Labels of JSON lines lie in a file beside them."""
    path = self.paths()[0]
    if path.suffix == '.parquet':
      yield from super().rows()
      return
    table = path.with_name(f'{path.stem}-labels.lst')
    if not files.is_file(table):
      raise errors.UserError(f'{table}: no such file, expected the labels.')
    labels = files.read_text(table).split()
    for number, (name, row) in enumerate(super().rows()):
      if isinstance(row, str):
        yield name, row
      else:
        label = labels[number] if number < len(labels) else None
        yield name, {**row, 'label': label}

  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """See the base."""
    ways = [gathering.text(row, field) for field in ('sol1', 'sol2')]
    return choice(
      name,
      f'Question: {gathering.text(row, "goal")}\nAnswer:',
      [f' {way}' for way in ways],
      index_of(row.get('label')),
    )


@dataclasses.dataclass(frozen=True)
class WinoGrande(Rows):
  """WinoGrande: which of two names a sentence means.

  The sentence up to its gap is the context, each name with the rest of the
  sentence a continuation; the harness scores the rest behind either name.
  """

  known_by: str = 'acc'

  LAYOUT = (
    'dev.jsonl', 'winogrande_1.1/dev.jsonl',
    'winogrande_xl/validation-*.parquet', '*.parquet',
  )  # fmt: skip
  COLUMNS = ('qID', 'sentence', 'option1', 'option2', 'answer')

  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """See the base."""
    before, gap, rest = gathering.text(row, 'sentence').partition('_')
    if not gap:
      raise errors.UserError('sentence: found no gap (_), expected one.')
    names = [gathering.text(row, field) for field in ('option1', 'option2')]
    context = before.rstrip()
    space = before[len(context) :]
    return choice(
      row.get('qID') or name,
      context,
      [f'{space}{one}{rest}' for one in names],
      index_of(row.get('answer'), first=1),
    )


@dataclasses.dataclass(frozen=True)
class Lettered(Rows):
  """MMLU, C-Eval and CMMLU: a table a subject, answers by their letters.

  Attributes:
    tables: Globs below the folder, the first that finds one.
    language: Of all questions.
    answer: What stands behind a question, in front of the letter.
  """

  tables: tuple[str, ...] = ()
  language: str = 'en'
  answer: str = 'Answer:'
  known_by: str = 'acc'

  # Columns of a table without a line of names.
  _COLUMNS = ('question', 'a', 'b', 'c', 'd', 'answer')

  def paths(self) -> list[files.AnyPath]:
    """See the base."""
    return gathering.one_of(self.folder, self.tables)

  def rows(self) -> Iterator[tuple[str, Mapping[str, Any]] | gathering.Left]:
    """Cells may span lines, as they do in MMLU."""
    for path in self.paths():
      text = files.read_text(path)
      table = csv.reader(io.StringIO(text, newline=''))
      names = self._COLUMNS
      try:
        for number, cells in enumerate(table):
          told = [cell.strip().lower() for cell in cells]
          if not number and {'question', 'answer'} <= set(told):
            names = told
          elif cells:
            row = dict(zip(names, cells)) if len(cells) == len(names) else {}
            yield f'{path.stem}-{number:04d}', row
      except csv.Error as error:
        yield str(path), gathering.kind_of(f'not a CSV file: {error}.')

  def item(self, name: str, row: Mapping[str, Any]) -> benchmark.Item:
    """See the base."""
    if not row:
      raise errors.UserError('found too few or too many cells.')
    told = [gathering.text(row, letter.lower()) for letter in LETTERS[:4]]
    lines = [gathering.text(row, 'question').strip()]
    lines += [f'{letter}. {one}' for letter, one in zip(LETTERS, told)]
    context = '\n'.join([*lines, self.answer])
    right = LETTERS.find((row.get('answer') or '').strip() or '-')
    letters = [f' {letter}' for letter in LETTERS[:4]]
    return choice(
      name,
      context,
      letters,
      right,
      self.language,
      subject=name.rpartition('-')[0],
    )


def _likeliest(loader, summary, layout, source, expected=0, **arguments):
  return entries.Entry(
    f'texts:{loader.__name__}',
    summary,
    layout,
    loader.known_by,
    source,
    arguments,
    expected,
  )


_HUB = 'huggingface.co/datasets/'

ENTRIES = {
  'hellaswag': _likeliest(
    HellaSwag, 'how a scene goes on', 'hellaswag_val.jsonl, or parquet',
    f'{_HUB}Rowan/hellaswag', 10042,
  ),
  'arc_easy': _likeliest(
    Questions, 'questions of the school',
    'ARC-Easy/ARC-Easy-Test.jsonl, or parquet', f'{_HUB}allenai/ai2_arc', 2376,
    tables=('ARC-Easy-Test.jsonl', 'ARC-Easy/*Test.jsonl',
           'ARC-Easy/test-*.parquet'),
  ),
  'arc_challenge': _likeliest(
    Questions, 'the harder ones',
    'ARC-Challenge/ARC-Challenge-Test.jsonl, or parquet',
    f'{_HUB}allenai/ai2_arc', 1172,
    tables=('ARC-Challenge-Test.jsonl', 'ARC-Challenge/*Test.jsonl',
           'ARC-Challenge/test-*.parquet'),
  ),
  'openbookqa_text': _likeliest(
    Questions, 'elementary science, in writing',
    'Main/test.jsonl, or parquet', f'{_HUB}allenai/openbookqa', 500,
    tables=('Main/test.jsonl', 'Data/Main/test.jsonl', 'test.jsonl',
           'main/test-*.parquet'),
    context='{}',
  ),
  'piqa': _likeliest(
    Piqa, 'ways to a goal', 'valid.jsonl and valid-labels.lst, or parquet',
    f'{_HUB}ybisk/piqa', 1838,
  ),
  'winogrande': _likeliest(
    WinoGrande, 'whom a sentence means', 'dev.jsonl, or parquet',
    f'{_HUB}allenai/winogrande', 1267,
  ),
  'mmlu': _likeliest(
    Lettered, '57 subjects, without examples', 'test/SUBJECT_test.csv',
    f'{_HUB}cais/mmlu', 14042, tables=('test/*_test.csv', 'data/test/*.csv'),
  ),
  'ceval': _likeliest(
    Lettered, '52 subjects in Chinese, without examples',
    'val/SUBJECT_val.csv', f'{_HUB}ceval/ceval-exam', 1346,
    tables=('val/*_val.csv',), language='zh', answer='答案：',
  ),
  'cmmlu': _likeliest(
    Lettered, '67 subjects in Chinese, without examples',
    'test/SUBJECT.csv', f'{_HUB}haonan-li/cmmlu', tables=('test/*.csv',),
    language='zh', answer='答案：',
  ),
}  # fmt: skip
