"""Tables with a line of column names: comma, tab, bar or semicolon between.

A physical line is a record: what cannot be parsed costs itself alone, and no
cell takes text of another line. In `csv` quoting (RFC 4180, within the line)
a cell that begins with a quotation mark ends with one, and two stand for one;
in `literal` quoting they are text, as Common Voice and Kaldi write theirs.
"""

import csv
import pathlib
from typing import Callable, Iterator

from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files

# Ending → (what is between cells, quoting).
ENDINGS = {
  '.csv': (',', 'csv'),
  '.tsv': ('\t', 'literal'),
  '.psv': ('|', 'literal'),
}
NAMES = tuple(f'{one}{gz}' for one in ENDINGS for gz in ('', '.gz'))
QUOTING = ('csv', 'literal')
_DELIMITERS = (',', '\t', ';', '|')
_WAY_ON = 'write one line a recording, or metadata.jsonl'


class _Open(errors.UserError):
  """A quotation mark that its line does not close."""


def cells(text: str, delimiter: str, quotes: str) -> list[str]:
  """The cells of a line.

  Raises:
    UserError: Quotation marks are not as RFC 4180 has them.
  """
  if quotes == 'literal' or '"' not in text:
    return text.split(delimiter)
  csv.field_size_limit(base.LINE_BYTES)  # 128 KiB unless it is told
  try:
    (found,) = csv.reader([text], delimiter=delimiter, strict=True)
  except csv.Error as error:
    if 'unexpected end' in str(error):
      raise _Open(
        'a quotation mark opens a cell that its line does not close, and a '
        f'cell cannot span lines; {_WAY_ON}, or take quotation marks as text '
        'with --reader_option=quotes=literal.'
      ) from error
    raise errors.UserError(
      f'{error}; in a quoted cell write "" for a quotation mark, or take them '
      'as text with --reader_option=quotes=literal.'
    ) from error
  return found


class Table:
  """A table of named columns, read line by line.

  Attributes:
    path: Of the file; `.gz` at the end of its name may follow the ending.
    fields: Names that columns may have; the first one is needed.
    quotes: One of `QUOTING`.
  """

  def __init__(
    self,
    path: pathlib.Path,
    fields: tuple[str, ...],
    quotes: str | None = None,
    exists: Callable[[str], bool] = lambda name: True,
  ):
    """Nothing is read yet.

    Args:
      path: Its ending tells delimiter and quoting.
      fields: Names that columns may have; the first one is needed.
      quotes: One of `QUOTING`; None is that of the ending.
      exists: Whether there is the file that a cell of the first field names.
        Asked only where a line may be a part of another one.

    Raises:
      UserError: There is no such quoting.
    """
    ending = files.path(path.name.removesuffix('.gz')).suffix
    self._delimiter, usual = ENDINGS.get(ending, ENDINGS['.csv'])
    if quotes is not None and quotes not in QUOTING:
      raise errors.UserError(
        f'--reader_option=quotes: found {quotes!r}, expected '
        f'{" or ".join(QUOTING)}.'
      )
    self.path, self.fields, self.quotes = path, fields, quotes or usual
    self._exists = exists
    self._columns: list[str] | None = None

  def rows(self) -> Iterator[tuple[int, dict[str, str]] | base.Rejected]:
    """(line, field → cell); an empty cell is left out.

    Raises:
      UserError: The first line does not hold names of columns.
    """
    self._columns = None
    opened = None  # the line whose quotation mark is still open
    torn = False  # whether that line is no record without the mark either
    for line in base.table_lines(self.path, self._is_record):
      if self._columns is None:
        self._columns = self._header(line)
        continue
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, text = line
      where = f'{self.path}:{number}'
      odd = text.count('"') % 2
      try:
        row = self._row(text)
        if opened is not None and not self._names_a_file(row):
          raise errors.UserError(f'no such file {row.get(self.fields[0])!r}.')
        if torn and odd:
          raise errors.UserError(
            'a quotation mark that the line does not open.'
          )
      except errors.UserError as error:
        reason = str(error)
        if opened is not None:
          reason = (
            f'{reason.removesuffix(".")}; the line may belong to the quotation '
            f'mark that line {opened} does not close, and a cell cannot span '
            f'lines: {_WAY_ON}.'
          )
        yield base.Rejected(where, reason, line=number)
        if opened is None and isinstance(error, _Open):
          opened, odd = number, 0
          torn = not self._is_literal(text)
      else:
        yield number, row
      if opened is not None and odd:
        opened, torn = None, False
    if self._columns is None:
      self._columns = self._header((1, ''))

  def _header(self, line) -> list[str]:
    """The names of the columns; chooses what is between them."""
    if isinstance(line, base.Rejected):
      raise errors.UserError(f'{self.path}: not a CSV file: {line.reason}')
    first = fault = None
    for delimiter in (self._delimiter, *_DELIMITERS):
      try:
        names = cells(line[1], delimiter, self.quotes)
      except errors.UserError as error:
        fault = fault or error
        continue
      first = first or names
      if self.fields[0] in names and set(names) <= {*self.fields, ''}:
        self._delimiter = delimiter
        break
    else:
      if first is None:
        raise errors.UserError(f'{self.path}: not a CSV file: {fault}')
      raise errors.UserError(
        f'{self.path}: found the columns {", ".join(first).strip() or "none"}; '
        f'expected `{self.fields[0]}` and any of {", ".join(self.fields[1:])} '
        'in the first line.'
      )
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
      raise errors.UserError(
        f'{self.path}: found the column {twice[0]} twice, expected it once.'
      )
    return names

  def _row(self, text: str) -> dict[str, str]:
    row = cells(text, self._delimiter, self.quotes)
    if len(row) != len(self._columns):
      quote = self.quotes == 'csv' and '; quote texts that hold commas'
      raise errors.UserError(
        f'found {len(row)} cells, expected {len(self._columns)}{quote or ""}.'
      )
    fields = {name: cell for name, cell in zip(self._columns, row) if cell}
    if '' in fields:
      raise errors.UserError(
        f'found {fields[""]!r} in a column without a name, expected nothing.'
      )
    return fields

  def _is_record(self, text: str | None) -> bool:
    """Whether a line stands behind a carriage return."""
    if self._columns is None:
      return True  # in front of it are names of columns, and no text
    if text is None:
      return False
    try:
      return self._names_a_file(self._row(text))
    except errors.UserError:
      return False

  def _is_literal(self, text: str) -> bool:
    """Whether a line is a record if its quotation marks are text."""
    row = text.split(self._delimiter)
    named = dict(zip(self._columns, row))
    return len(row) == len(self._columns) and self._names_a_file(named)

  def _names_a_file(self, row: dict[str, str]) -> bool:
    name = row.get(self.fields[0])
    return name is not None and self._exists(name)
