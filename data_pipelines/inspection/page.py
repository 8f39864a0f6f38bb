"""Rows as one HTML page: modalities in colour, loss mask, images, sound.

A row is a strip over its L places: the modality of every id, below it what is
learnt (the loss weight) and where documents begin. Behind it each document is
written out: text decoded, speech as codes group by group, images as
thumbnails, and the recording where the corpus still has it. The page needs no
other file and all text in it is escaped.
"""

import base64
import html
import os
import pathlib
from typing import Any, Iterator, Sequence

import numpy as np

from data_pipelines.inspection import rows as inspect_rows
from data_pipelines.inspection import sound as inspect_sound
from data_pipelines.rows import folders as rows_lib
from data_pipelines.synthesis import drawing
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.evaluation.pages import page as page_lib
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.storage import files

GROUPS_SHOWN = 4  # of each end of a stretch of speech
PLAYERS = 8  # of a document
_LEARNT = {True: 'learnt', False: 'given'}

STYLE = """
.segment { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .7rem .9rem; margin: .6rem 0; }
.segment audio { display: block; width: min(100%, 26rem); height: 34px;
  margin: .3rem 0; }
.segment img { width: 64px; height: 64px; image-rendering: pixelated;
  border-radius: 6px; margin: .2rem .4rem .2rem 0; }
.ids { line-height: 2; overflow-wrap: anywhere; }
.ids span { padding: .05rem .2rem; border-radius: 4px;
  white-space: pre-wrap; }
.ids .given { opacity: .55; }
.ids .learnt { border-bottom: 3px solid currentColor; }
""" + ''.join(
  f'.{kind} {{ color: var(--c{n + 1}); }}\n'
  for n, kind in enumerate(inspect_rows.KINDS)
)


def render(
  folder: rows_lib.Folder,
  table: vocabulary.Vocabulary,
  corpus: str | os.PathLike | None,
  *,
  first: int = 0,
  count: int = 4,
) -> tuple[str, dict[str, Any]]:
  """Rows `first` … `first + count` as a page.

  Args:
    folder: The rows.
    table: Their id space.
    corpus: Where recordings are, or None.
    first: The first row shown.
    count: How many, at most.

  Returns:
    The page, and counts of what is on it: rows, documents, players, images.

  Raises:
    UserError: There is no row `first`.
  """
  length = folder.stats['length']
  counts = {'rows': 0, 'documents': 0, 'players': 0, 'images': 0}
  rows = list(inspect_rows.read(folder, first, count))
  names = {segment.id for found in rows for segment in found}
  recordings = inspect_sound.Recordings(corpus, names)
  body = [f'<style>{STYLE}</style>', _head(folder, recordings)]
  for found in rows:
    number = first + counts['rows']
    body.append(f'<h2 id="row-{number}">Row {number}</h2>')
    body.append(_strip(found, table, length, number))
    for place, segment in enumerate(found, start=1):
      sound = recordings.utterances_of(segment.id)
      body.append(_segment(place, segment, table, recordings, sound))
      counts['players'] += len(sound[:PLAYERS])
      counts['images'] += len(segment.images)
    counts['rows'] += 1
    counts['documents'] += len(found)
  title = f'{folder.stats["task"]}, {folder.stats["split"]}'
  return page_lib.page(title, ''.join(body)), counts


def write(
  path: pathlib.Path,
  output: str | os.PathLike,
  *,
  first: int,
  count: int,
  text_model: str | None = None,
  corpus: str | None = None,
) -> dict[str, Any]:
  """Renders rows of the folder `path` into the file `output`.

  Raises:
    UserError: `path` holds no rows, or there is no row `first`.
  """
  if count < 1:
    raise errors.UserError(f'--rows: found {count}, expected at least 1.')
  folder = rows_lib.open_folder(path)
  table = inspect_rows.table_of(folder.stats, text_model)
  corpus = corpus or folder.stats.get('corpus')
  text, counts = render(folder, table, corpus, first=first, count=count)
  with files.atomic(output, 'w') as handle:
    handle.write(text)
  return counts


def _head(folder: rows_lib.Folder, recordings: inspect_sound.Recordings) -> str:
  stats = folder.stats
  seen = stats.get('tokens_by_kind', {})
  tiles = [
    (f'{stats["rows"]:,}', f'rows of {stats["length"]:,}'),
    (f'{100 * stats["padding"]:.2f} %', 'padding'),
    (f'{stats["loss_tokens"]:,}', f'learnt of {stats["tokens"]:,} tokens'),
    (f'{stats.get("dropped", 0):,}', 'documents left out'),
    *((f'{count:,}', what) for what, count in inspect_rows.pairs_told(stats)),
    *((f'{seen.get(kind, 0):,}', f'{kind} ids') for kind in sorted(seen)),
  ]
  keys = ''.join(
    f'<span class="key"><i style="background:var(--c{n + 1})"></i>{kind}</span>'
    for n, kind in enumerate(inspect_rows.KINDS)
  )
  note = f'<p class="quiet">{html.escape(recordings.note)}</p>'
  return (
    f'<h1>{html.escape(str(stats["task"]))} '
    f'<small>{html.escape(str(stats["split"]))}</small></h1>'
    f'<p class="quiet">{html.escape(str(folder.path))}</p>'
    f'<div class="tiles">{"".join(page_lib.tile(*one) for one in tiles)}</div>'
    f'<div class="legend">{keys}</div><p class="quiet">Underlined ids are '
    'learnt, pale ones are only given.</p>' + (note if recordings.note else '')
  )


def _strip(
  found: Sequence[inspect_rows.Segment],
  table: vocabulary.Vocabulary,
  length: int,
  number: int,
) -> str:
  """The row at a glance."""
  ids, learnt, documents = [], [], []
  for place, segment in enumerate(found, start=1):
    kinds = inspect_rows.kinds_of(segment.tokens, table)
    # Codes change kind every 2 or 3 ids; a stripe of each shows them.
    spoken = np.isin(kinds, (1, 2))
    whole = np.where(spoken, 1, kinds)
    for start, stop in inspect_rows.runs(whole):
      at = segment.start + start, segment.start + stop
      if spoken[start]:
        share = vocabulary.LINGUISTIC_PER_GROUP / vocabulary.GROUP
        ids.append(svg.Stretch(*at, 1, 'speech', 0.0, share))
        ids.append(svg.Stretch(*at, 2, 'speech', share, 1.0))
      else:
        kind = int(whole[start])
        ids.append(svg.Stretch(*at, kind, inspect_rows.KINDS[kind]))
    for start, stop in inspect_rows.runs(segment.weights):
      weight = float(segment.weights[start])
      if weight > 0:
        at = segment.start + start, segment.start + stop
        learnt.append(svg.Stretch(*at, 5, f'loss weight {weight:g}'))
    stop = segment.start + len(segment.tokens)
    name = f'{place}: {segment.id}'
    documents.append(svg.Stretch(segment.start, stop, place % 2 * 5, name))
  tracks = [('ids', ids), ('learnt', learnt), ('documents', documents)]
  return svg.strips(tracks, length, title=f'Row {number}')


def _segment(place, segment, table, recordings, sound) -> str:
  seconds = _seconds(segment.tokens, table)
  facts = [
    f'{len(segment.tokens)} ids from {segment.start} on',
    f'{int((segment.weights > 0).sum())} learnt',
    *([segment.answer] if segment.answer else []),
  ]
  if seconds:
    facts.append(f'{seconds:.2f} s of speech')
  if sound and seconds:
    recorded = sum(one.duration for one in sound)
    facts.append(f'recorded {recorded:.2f} s')
  players = ''.join(map(recordings.player, sound[:PLAYERS]))
  if len(sound) > PLAYERS:
    players += f'<p class="quiet">… and {len(sound) - PLAYERS} more.</p>'
  if seconds and not sound and not recordings.note:
    players = (
      '<p class="quiet">No player: the corpus has no recording of this id.</p>'
    )
  return (
    f'<div class="segment"><b>{place}: {html.escape(segment.id)}</b> '
    f'<small>{html.escape(", ".join(facts))}</small>{players}'
    f'{"".join(map(_image, segment.images))}'
    f'<div class="ids">{"".join(_ids(segment, table))}</div></div>'
  )


def _seconds(tokens: np.ndarray, table: vocabulary.Vocabulary) -> float:
  spoken = table.is_linguistic(tokens) | table.is_semantic(tokens)
  return int(spoken.sum()) / vocabulary.GROUP * vocabulary.GROUP_SECONDS


def _image(pixels: np.ndarray) -> str:
  raw = base64.b64encode(drawing.png(pixels)).decode()
  return f'<img alt="" src="data:image/png;base64,{raw}">'


def _ids(segment, table) -> Iterator[str]:
  """The ids of a document as coloured spans."""
  kinds = inspect_rows.kinds_of(segment.tokens, table)
  spoken = np.isin(kinds, (1, 2))
  learnt = segment.weights > 0
  for start, stop in inspect_rows.runs(np.where(spoken, 1, kinds), learnt):
    tokens, weight = segment.tokens[start:stop], segment.weights[start]
    mask = _LEARNT[bool(learnt[start])]
    if spoken[start]:
      yield from _speech(tokens, kinds[start:stop], mask, weight, table)
      continue
    kind = inspect_rows.KINDS[kinds[start]]
    if kind == 'text':
      text = table.decode(tokens) if table.text else f'{len(tokens)} text ids'
      yield _span(kind, mask, text, weight)
    else:
      for token, more in _repeated(tokens):
        name = inspect_rows.piece_name(token)
        yield _span(kind, mask, name + (f'×{more}' if more > 1 else ''), weight)


def _repeated(tokens: np.ndarray) -> Iterator[tuple[int, int]]:
  for start, stop in inspect_rows.runs(tokens):
    yield int(tokens[start]), stop - start


def _speech(tokens, kinds, mask, weight, table) -> Iterator[str]:
  """Codes of a stretch of speech, both ends of a long one."""
  most = GROUPS_SHOWN * vocabulary.GROUP
  parts = [slice(0, len(tokens))]
  if len(tokens) > 2 * most + vocabulary.GROUP:
    parts = [slice(0, most), slice(len(tokens) - most, len(tokens))]
  for number, part in enumerate(parts):
    if number:
      groups = (len(tokens) - 2 * most) / vocabulary.GROUP
      yield f'<small> … {groups:g} groups … </small>'
    for start, stop in inspect_rows.runs(kinds[part]):
      kind = inspect_rows.KINDS[kinds[part][start]]
      offset = table.text_size
      if kind == 'semantic':
        offset = table.semantic_offset
      codes = ' '.join(map(str, (tokens[part][start:stop] - offset).tolist()))
      yield _span(kind, mask, codes, weight)


def _span(kind: str, mask: str, text: str, weight: float) -> str:
  return (
    f'<span class="{kind} {mask}" title="{kind}, loss weight {weight:g}">'
    f'{html.escape(text)}</span>'
  )
