"""Interleaved documents: every word once, whole groups, any builder."""

import dataclasses
import hashlib
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import words as words_lib
from data_pipelines.interleaving import builders
from data_pipelines.interleaving import source as source_lib
from data_pipelines.interleaving import spans as interleaving
from data_pipelines.rows import packing
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary
from tests.data_pipelines import tiny
from tests.data_pipelines.letters import TABLE
from tests.data_pipelines.letters import codes

BOS, EOT, AUDIO, TEXT = 1, 3, 31, 33
ALL = [builders.Segments(), builders.Words(), builders.Poisson(join=12)]


def spans_of(document):
  """Takes an interleaved document apart: [(marker, ids)]."""
  tokens = document.tokens.tolist()
  assert tokens[0] == BOS and tokens[-1] == EOT
  spans = []
  for token in tokens[1:-1]:
    if token in (AUDIO, TEXT):
      spans.append((token, []))
    else:
      spans[-1][1].append(token)
  return spans


def recording(name, words, groups, speaker='s'):
  """A source of words (text, start); none of them ends."""
  told = [(word, start, start) for word, start in words]
  ids = TABLE.interleave(*codes(groups))
  text = ' '.join(word for word, _ in words)
  about = {'speaker': speaker, 'file': None}
  return source_lib.from_words(name, text, told, ids, **about)


def check_nothing_is_lost(document, source):
  """Walks through a document beside its source.

  What is written must stand next in the text, what is spoken next in the
  recording; the words of the spans tell where the other side is by then.
  """
  table = np.cumsum([0, *source.counts])
  unit, spans = 0, spans_of(document)
  assert len(spans) == len(document.spans)
  for (marker, ids), (spoken, words) in zip(spans, document.spans.tolist()):
    (last,) = np.flatnonzero(table == table[unit] + words)
    assert ids and words and marker == (AUDIO if spoken else TEXT)
    if spoken:
      want = source.groups[source.borders[unit] : source.borders[last]]
      assert ids == want.reshape(-1).tolist()
      TABLE.deinterleave(ids)  # 2:3, or it raises
    else:
      text = source.text[source.places[unit][0] : source.places[last - 1][1]]
      assert ids == TABLE.text.encode(text)
    unit = int(last)
  assert unit == len(source.counts)
  kinds = [marker for marker, _ in spans]
  assert all(a != b for a, b in zip(kinds, kinds[1:]))
  weights = [0.0, 0.0, *[1.0] * (len(document) - 2)]
  assert document.loss_weights.tolist() == weights


times = st.floats(0, 4, allow_nan=False)
# Times that jump, stand still, overlap, or lie behind the end of the audio.
utterances = st.lists(
  st.tuples(
    st.lists(
      st.tuples(st.sampled_from(['ab', 'c', 'def,', '«g»', '?']), times),
      min_size=1, max_size=9,
    ),
    st.integers(1, 25),
  ),
  min_size=1, max_size=6,
)  # fmt: skip


@pytest.mark.parametrize('builder', ALL, ids=lambda b: type(b).__name__)
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(utterances, st.integers(0, 2**64 - 1))
def test_every_word_is_said_once_and_in_order(builder, lines, seed):
  sources = []
  for k, (words, groups) in enumerate(lines):
    source = recording(f'u{k}', words, groups)
    if builder.whole:
      source = source_lib.from_segment(
        f'u{k}', source.text, source.groups.reshape(-1), speaker='s', file=None
      )
    sources.append(source)
  seen = []
  for gathered in interleaving.gather(builder, sources):
    seen += gathered
    document = interleaving.document(TABLE, builder, gathered, lambda _: seed)
    check_nothing_is_lost(document, source_lib.join(gathered))
  assert seen == sources


@hypothesis.given(st.lists(st.text('ab ,.«»(“小猫。-\n', max_size=12)))
def test_units_share_out_all_characters_and_groups(texts):
  sources = []
  for k, text in enumerate(texts):
    places = words_lib.spans(text)
    assert words_lib.count(text) == len(places)
    if places:
      about = {'speaker': 's', 'file': None}
      sources.append(source_lib.from_text(f't{k}', text, **about))
    else:
      assert not text.strip()
  if not sources:
    return
  whole = source_lib.join(sources)
  said = ''.join(whole.text[a:b] for a, b in whole.places)
  assert ''.join(said.split()) == ''.join(''.join(texts).split())
  assert all(a < b for a, b in whole.places)
  edges = [edge for place in whole.places for edge in place]
  assert edges == sorted(edges)
  for (_, end), (start, _) in zip(whole.places, whole.places[1:]):
    assert not whole.text[end:start].strip()


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('he said "no", twice.', ['he', 'said', '"no",', 'twice.']),
    ('我喜欢“书”。Yes!', ['我', '喜', '欢', '“书”。', 'Yes!']),
    ('a - b (c)', ['a', '- b', '(c)']),
    ('  ...  ', ['...']),
    (' ', []),
  ],
)
def test_words_and_their_punctuation(text, words):
  assert [text[a:b] for a, b in words_lib.spans(text)] == words


def test_punctuation_stays_with_manifest_words():
  text = 'Ah! The cat, (a big one) sat.'
  words = [(w, 0.3 * k, 0.3 * k) for k, w in enumerate(
    ['Ah', 'The', 'cat', 'a', 'big', 'one', 'sat']
  )]  # fmt: skip
  ids = TABLE.interleave(*codes(20))
  source = source_lib.from_words('x', text, words, ids, speaker='', file=None)
  assert [text[a:b] for a, b in source.places] == [
    'Ah!', 'The', 'cat,', '(a', 'big', 'one)', 'sat.'
  ]  # fmt: skip


def test_pauses_are_no_words_and_absent_words_are_refused():
  ids = TABLE.interleave(*codes(9))
  words = [('', 0, 0.2), ('the', 0.2, 0.4), ('', 0.4, 0.6), ('dog', 0.6, 1)]
  about = {'speaker': '', 'file': None}
  source = source_lib.from_words('x', 'the dog', words, ids, **about)
  assert source.counts == (1, 1) and source.borders.tolist() == [0, 5, 9]
  with pytest.raises(errors.UserError, match="'cat' does not occur"):
    source_lib.from_words('x', 'the dog', [('cat', 0, 1)], ids, **about)
  with pytest.raises(errors.UserError, match='there are none.* align'):
    source_lib.from_words('x', 'the dog', words[:1], ids, **about)


def test_borders_share_out_every_group():
  borders = source_lib.group_borders([0.07, 0.3, 0.31, 2.0], 10)
  assert borders.tolist() == [0, 2, 3, 10, 10]
  borders = source_lib.group_borders([0.5, 0.2, 0.9], 6)  # it goes back once
  assert borders.tolist() == [0, 2, 6, 6] or borders.tolist() == [0, 2, 6]


def test_spans_of_words_are_one_to_three_of_both_kinds():
  source = recording('x', [('w', 0.48 * k) for k in range(30)], 120)
  lengths, kinds = [], []
  for seed in range(200):
    spans = builders.Words().draw(source, np.random.default_rng(seed))
    assert spans[0].first == 0 and spans[-1].last == 30
    assert all(a.last == b.first for a, b in zip(spans, spans[1:]))
    lengths += [span.last - span.first for span in spans[:-1]]
    kinds.append(spans[0].spoken)
  assert set(lengths) == {1, 2, 3}
  assert 60 < sum(kinds) < 140


def test_mandarin_is_joined_as_the_text_has_it():
  words = [('小猫', 0.0, 0.5), ('喜欢', 0.5, 1.0), ('书', 1.0, 1.2)]
  ids = TABLE.interleave(*codes(10))
  source = source_lib.from_words(
    'x', '小猫喜欢书', words, ids, speaker='', file=None
  )
  found = set()
  for seed in range(40):
    document = interleaving.document(
      TABLE, builders.Words(), [source], lambda _, seed=seed: seed
    )
    found |= {len(ids) for kind, ids in spans_of(document) if kind == TEXT}
  assert found <= {1, 2, 3, 4, 5} and {1, 2, 4, 5} <= found
  two = source_lib.join([source, source])
  assert two.text == '小猫喜欢书小猫喜欢书'


def test_segments_alternate_and_speakers_part():
  sources = [
    source_lib.from_segment(
      f'u{k}', 'ab'[k % 2] * 2, TABLE.interleave(*codes(k + 1)),
      speaker='one' if k < 6 else 'two', file=None,
    )
    for k in range(8)
  ]  # fmt: skip
  builder, first = builders.Segments(), set()
  runs = list(interleaving.gather(builder, sources))
  assert [len(run) for run in runs] == [4, 2, 2]
  for seed in range(10):
    document = interleaving.document(
      TABLE, builder, runs[0], lambda _, seed=seed: seed
    )
    assert document.id == 'u0+u1+u2+u3'
    spans = spans_of(document)
    first.add(spans[0][0])
    for (marker, ids), source in zip(spans, runs[0], strict=True):
      want = TABLE.text.encode(source.text)
      if marker == AUDIO:
        want = source.groups.reshape(-1).tolist()
      assert ids == want
  assert first == {AUDIO, TEXT}


def test_what_has_no_sound_is_written():
  # All words begin at once: whatever is spoken, only the last has groups.
  source = recording('x', [('w', 0.0)] * 40, 30)
  for seed in range(20):
    document = interleaving.document(
      TABLE, builders.Poisson(), [source], lambda _, seed=seed: seed
    )
    check_nothing_is_lost(document, source)
    assert document.spans[:, 0].sum() <= 1


def test_the_default_is_what_it_always_was(tmp_path):
  """Ids of the two default builders, as a digest made before there were three.

  Rows that were built and models that were trained depend on them.
  """
  root = tiny.make(tmp_path / 'corpus', 40)
  told = {}
  for speakers in (1, 2):
    (task,) = (
      task
      for task in definitions.speech(
        't', root / 'speech', root / 'codes', root / 'text.model', seed=speakers
      )
      if task.kind == 'interleaved'
    )
    examples = [
      {**e, 'words': e['words'] if speakers == 1 else ()}
      for e in task.examples('train')
    ]
    made = list(task.documents(examples, lambda *_: 1 / 0))
    raw = json.dumps(
      [[d.id, d.tokens.tolist(), d.loss_weights.tolist()] for d in made]
    )
    told[speakers] = len(made), hashlib.sha256(raw.encode()).hexdigest()[:16]
  assert told == {
    1: (27, 'ebc88aa9a86f2697'), 2: (10, 'cb8c41f0d8d2e3d0')
  }  # fmt: skip


def test_documents_without_recording_need_a_voice():
  source = source_lib.from_text('t', 'a b c d', speaker='', file=None)
  with pytest.raises(errors.UserError, match='no voice'):
    interleaving.document(TABLE, builders.Poisson(), [source], lambda _: 0)


@pytest.mark.parametrize('builder', [builders.Poisson(), builders.Words()])
@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(10, 300), st.integers(16, 90), st.integers(0, 99))
def test_a_cut_keeps_groups_whole_and_learns_every_id_once(
  builder, words, room, seed
):
  source = recording('x', [('w', 0.3 * k) for k in range(words)], words * 3)
  document = interleaving.document(TABLE, builder, [source], lambda _: seed)
  whole = document.tokens[1:].tolist()
  pieces = [document]
  while len(pieces[-1]) > room:
    pieces[-1:] = pieces[-1].split(room)
  content = []
  for piece in pieces:
    assert len(piece) <= room
    tokens = piece.tokens.tolist()
    assert tokens[0] == BOS and tokens[1] in (AUDIO, TEXT)
    assert piece.loss_weights[:2].tolist() == [0, 0]
    assert piece.loss_weights[2:].all()
    kinds = np.asarray(tokens) >= TABLE.linguistic_offset
    edges = np.flatnonzero(np.diff(kinds, prepend=False, append=False))
    for start, stop in zip(edges[::2], edges[1::2]):
      assert tokens[start - 1] == AUDIO
      TABLE.deinterleave(tokens[start:stop])
    content.append(tokens[1:])
  # A piece repeats the marker of the span that was cut, and nothing else.
  joined = content[0]
  for more in content[1:]:
    rest = whole[len(joined) :]
    joined = joined + (more if rest[: len(more)] == more else more[1:])
  assert joined == whole
  assert vocabulary.GROUP == 5 and document.cut == builder.cut


@pytest.mark.parametrize('builder', [builders.Words(), builders.Segments()])
def test_only_what_is_longer_than_a_row_is_cut(builder):
  """Rows of documents that fit are those of documents that cannot be cut."""
  rng = np.random.default_rng(0)
  made = []
  for k, words in enumerate(rng.integers(1, 12, 40).tolist()):
    source = recording(
      f'u{k}', [('w', 0.3 * j) for j in range(words)], 3 * words
    )
    made.append(
      interleaving.document(TABLE, builders.Words(), [source], lambda _: 1)
    )
  made = [dataclasses.replace(d, cut=builder.cut) for d in made]
  longest = max(map(len, made))
  whole = [dataclasses.replace(d, cut=0) for d in made]
  ids = [row.ids for row in packing.pack(made, longest)]
  assert ids == [row.ids for row in packing.pack(whole, longest)]
  assert not any(d.fills for d in made) and documents.SPANS != builder.cut
  # In rows of half the length they are cut, and none is left out.
  assert all(packing.fits(d, longest // 2) for d in made)
  short = list(packing.pack(made, longest // 2))
  names = [name for row in short for name in row.ids]
  assert set(names) == {d.id for d in made} and len(names) > len(made)

  def learnt(some):  # a marker that begins a piece is not
    return sum(
      int(((x.loss_weights > 0) & ~np.isin(x.tokens, (AUDIO, TEXT))).sum())
      for x in some
    )

  assert learnt(short) == learnt(made)
