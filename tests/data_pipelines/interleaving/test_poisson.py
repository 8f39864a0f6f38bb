"""Poisson spans: share, lengths, placement, the report, any order."""

import collections
from concurrent import futures
import dataclasses
import itertools
import math
import random

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.interleaving import builders
from data_pipelines.interleaving import report as interleaving_report
from data_pipelines.interleaving import source as source_lib
from data_pipelines.interleaving import spans as interleaving
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import verify
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from tests.data_pipelines import tiny
from tests.data_pipelines.letters import TABLE
from tests.data_pipelines.letters import codes

WORDS = ('the', 'cat', 'sees', 'a', 'big', 'dog')


def recording(name, count, seed=0, speaker='s'):
  """An aligned recording of `count` words of ragged lengths."""
  rng = np.random.default_rng([seed, count])
  said = [WORDS[i] for i in rng.integers(0, len(WORDS), count)]
  ends = np.cumsum(rng.gamma(3.0, 0.12, count))
  starts = [0.0, *ends[:-1]]
  return source_lib.from_words(
    name, ' '.join(said), list(zip(said, starts, ends)),
    TABLE.interleave(*codes(math.ceil(ends[-1] / 0.12))),
    speaker=speaker, file=None,
  )  # fmt: skip


def made(source, seed=0, builder=builders.Poisson()):
  return interleaving.document(TABLE, builder, [source], lambda _: seed)


def share(document):
  spoken, words = document.spans.T
  return words[spoken > 0].sum() / words.sum()


def drawn(seed, longest=2500):
  """A recording of at least 300 words, of a length drawn by the seed."""
  count = int(np.random.default_rng(seed).integers(300, longest))
  return recording(f'x{seed}', count, seed)


@pytest.mark.parametrize('words', [300, 317, 333, 1000])
def test_share_and_spans_of_long_documents(words):
  """Each of them, and together, where all are of one length."""
  report, source = interleaving_report.Report(), recording('x', words)
  for seed in range(100):
    document = made(source, seed)
    spoken, lengths = document.spans.T
    assert abs(share(document) - 0.3) <= 0.02
    assert abs(lengths[spoken > 0].mean() - 10) <= 0.5 + 1e-9
    report.add(document)
  told = report.to_json()
  assert abs(told['eta'] - 0.3) <= 0.005
  assert abs(told['mean_span'] - 10) <= 0.5
  assert told['long_documents']['documents'] == told['documents'] == 100


def test_share_and_spans_of_documents_of_any_length():
  report = interleaving_report.Report()
  for seed in range(250):
    document = made(drawn(seed, 900), seed)
    spoken, lengths = document.spans.T
    assert abs(share(document) - 0.3) <= 0.02, seed
    assert abs(lengths[spoken > 0].mean() - 10) <= 0.5 + 1e-9, seed
    report.add(document)
  told = report.to_json()['long_documents']
  assert told['documents'] == 250
  assert abs(told['eta'] - 0.3) <= 0.002
  assert abs(told['mean_span'] - 10) <= 0.1  # no bias is left over


def test_spans_are_as_many_as_their_mean_wants():
  """Of all lengths from 300 words on: draws without ids, so many of them."""
  builder, total, spans = builders.Poisson(), 0, 0
  for words in range(300, 3000, 7):
    source = source_lib.from_text('t', 'a ' * words, speaker='', file=None)
    found = builder.draw(source, np.random.default_rng(words))
    lengths = [s.last - s.first for s in found if s.spoken]
    assert abs(sum(lengths) / words - 0.3) <= 0.02, words
    assert abs(np.mean(lengths) - 10) <= 0.5 + 1e-9, words
    total, spans = total + sum(lengths), spans + len(lengths)
  assert total / spans == pytest.approx(10, abs=0.05)


def test_spans_are_poisson():
  """Against the probabilities of Poisson(10), on many spans."""
  source, found = recording('x', 2000), collections.Counter()
  for seed in range(200):
    spans = builders.Poisson().draw(source, np.random.default_rng(seed))
    found.update(s.last - s.first for s in spans if s.spoken)
  total = found.total()
  mean = sum(k * n for k, n in found.items()) / total
  variance = sum((k - mean) ** 2 * n for k, n in found.items()) / total
  assert mean == pytest.approx(10, abs=0.1)
  assert variance == pytest.approx(10, abs=0.6)
  distance = sum(
    abs(found[k] / total - math.exp(k * math.log(10) - 10 - math.lgamma(k + 1)))
    for k in range(60)
  )
  assert distance / 2 < 0.03


def test_spans_are_put_anywhere():
  """Every placement that keeps spans apart, each as likely as another."""
  builder = builders.Poisson(span=1, share=0.4, most=0.4)
  source = recording('x', 5)
  found = collections.Counter()
  for seed in range(3000):
    spans = builder.draw(source, np.random.default_rng(seed))
    found[tuple(s.first for s in spans if s.spoken)] += 1
  apart = [(a, b) for a, b in itertools.combinations(range(5), 2) if b - a > 1]
  assert set(found) == set(apart)
  assert min(found.values()) > 3000 / len(apart) * 0.8


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
  st.integers(1, 120),
  st.floats(1, 20),
  st.floats(0.01, 0.9),
  st.floats(0, 0.09),
  st.integers(0, 2**64 - 1),
)
def test_no_document_overshoots(count, span, eta, room, seed):
  builder = builders.Poisson(span=span, share=eta, most=eta + room)
  spans = builder.draw(recording('x', count), np.random.default_rng(seed))
  covered = [unit for s in spans for unit in range(s.first, s.last)]
  assert covered == list(range(count))
  assert all(a.spoken != b.spoken for a, b in zip(spans, spans[1:]))
  assert all(s.first < s.last for s in spans)
  spoken = sum(s.last - s.first for s in spans if s.spoken)
  assert spoken <= (eta + room) * count
  assert abs(spoken - eta * count) <= 1  # rounded, never by a span


def test_short_documents_are_cut_and_never_overshoot():
  for count in range(1, 300):
    document = made(recording('x', count), count)
    assert share(document) <= 0.35
    if count < 3:  # one spoken word would be too much
      assert document.spans.tolist() == [[0, count]]
    elif count >= 10:  # one word alone may be too short to be heard
      assert share(document) > 0.19


def test_neighbours_of_a_speaker_are_joined():
  sizes = [40, 100, 170, 30, 299, 5, 10, 8]
  speakers = 'aaaabbbc'
  sources = [
    recording(f'u{k}', size, k, speaker)
    for k, (size, speaker) in enumerate(zip(sizes, speakers))
  ]
  builder = builders.Poisson()
  runs = list(interleaving.gather(builder, sources))
  assert [[s.ids[0] for s in run] for run in runs] == [
    ['u0', 'u1', 'u2'], ['u3'], ['u4', 'u5'], ['u6'], ['u7']
  ]  # fmt: skip
  document = interleaving.document(TABLE, builder, runs[0], lambda _: 1)
  assert document.spans[:, 1].sum() == 310
  assert abs(share(document) - 0.3) <= 0.02
  alone = builders.Poisson(join=0)
  assert [len(run) for run in interleaving.gather(alone, sources)] == [1] * 8
  name = source_lib.join([recording(f'v{k}', 1) for k in range(9)]).name
  assert name == 'v0+…+v8'


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  root = tiny.make(tmp_path_factory.mktemp('tiny') / 'corpus', 60)
  return next(
    t
    for t in definitions.speech(
      'p', root / 'speech', root / 'codes', root / 'text.model',
      interleaving='poisson', poisson=builders.Poisson(join=30), seed=5,
    )
    if t.kind == 'interleaved'
  )  # fmt: skip


def ids_of(documents_):
  return {
    d.id: (d.tokens.tolist(), d.loss_weights.tolist(), d.spans.tolist())
    for d in documents_
  }


@pytest.mark.parametrize('workers', [1, 2, 5])
def test_any_number_of_workers_in_any_order(task, workers):
  examples = list(task.examples('train'))
  want = ids_of(task.documents(examples, lambda *_: 1 / 0))
  by_speaker = [
    list(run) for _, run in itertools.groupby(examples, lambda e: e['speaker'])
  ]
  random.Random(workers).shuffle(by_speaker)
  with futures.ThreadPoolExecutor(workers) as pool:
    parts = pool.map(
      lambda run: ids_of(task.documents(run, lambda *_: 1 / 0)), by_speaker
    )
    found = {name: told for part in parts for name, told in part.items()}
  assert found == want and len(want) >= 10
  other = dataclasses.replace(task, seed=6)
  assert ids_of(other.documents(examples, lambda *_: 1 / 0)) != want


def test_a_task_says_all_words_of_its_corpus(task):
  found = ids_of(task.documents(task.examples('train'), lambda *_: 1 / 0))
  words = sum(n for *_, spans in found.values() for _, n in spans)
  examples = list(task.examples('train'))
  assert words == sum(len(e['words']) for e in examples)
  spoken = sum(n for *_, spans in found.values() for s, n in spans if s)
  assert 0.2 < spoken / words <= 0.35


def test_lines_without_times_are_left_out_of_their_document(task):
  examples = [dict(e) for e in task.examples('train')]
  examples[1]['words'] = ()
  left_out = []
  found = ids_of(task.documents(examples, lambda *told: left_out.append(told)))
  assert [(name, reason[:22]) for name, _, reason in left_out] == [
    (examples[1]['id'], 'words: there are none,')
  ]
  assert not any(examples[1]['id'] in name.split('+') for name in found)


def test_the_digest_follows_how_it_is_interleaved(task):
  seen = {task.digest('train')}
  for change in (
    {'interleaving': None},
    {'interleaving': 'words'},
    {'poisson': builders.Poisson(join=31)},
  ):
    seen.add(dataclasses.replace(task, **change).digest('train'))
  assert len(seen) == 4
  asr = dataclasses.replace(task, kind='asr')
  other = dataclasses.replace(asr, interleaving='words')
  assert asr.digest('train') == other.digest('train')


def test_wrong_settings_are_refused():
  with pytest.raises(errors.UserError, match="found 'both', expected one of"):
    definitions.Definition('a', 'interleaved', 'c', 'm', interleaving='both')
  for wrong, said in (
    ({'span': 0.5}, 'span is 0.5'),
    ({'share': 0.0}, 'share is 0.0'),
    ({'share': 0.4}, 'share is 0.4 and most is 0.35'),
    ({'join': -1}, 'join is -1'),
    ({'span': float('nan')}, 'span is nan'),
  ):
    with pytest.raises(errors.UserError, match=said):
      builders.Poisson(**wrong)


def test_the_report_counts_spans():
  report = interleaving_report.Report()
  assert report.to_json(1.0) is None
  for spans in ([[0, 3], [1, 2], [0, 5]], [[1, 200], [0, 200]], [[0, 7]], []):
    report.add(
      documents.Document(
        'x', np.zeros(50, np.int32), np.zeros(50, np.float32),
        spans=np.array(spans, np.int32).reshape(-1, 2),
      )
    )  # fmt: skip
  told = report.to_json(3.0)
  long = told.pop('long_documents')
  assert told == {
    'documents': 3, 'tokens': 150, 'words': 417, 'spoken_words': 202,
    'spoken_spans': 2, 'eta': round(202 / 417, 6), 'mean_span': 101.0,
    'largest_eta': 0.5, 'histogram': {'2': 1, '200': 1},
    'seconds': 3.0, 'tokens_per_second': 50,
  }  # fmt: skip
  assert (long['documents'], long['eta'], long['mean_span']) == (1, 0.5, 200.0)


@pytest.mark.parametrize('parts', [1, 2, 5])
def test_reports_of_parts_add_up(parts):
  """The same figures, whether counted at once or in parts."""
  sizes = np.random.default_rng(parts).integers(1, 700, 40).tolist()
  documents_ = [made(recording(f'x{n}', n), n) for n in sizes]
  whole = interleaving_report.Report()
  reports = [interleaving_report.Report() for _ in range(parts)]
  for k, document in enumerate(documents_):
    whole.add(document)
    reports[k % parts].add(document)
  told = [report.to_json(2.0) for report in reports]
  assert interleaving_report.merge([*told, None]) == whole.to_json(2.0 * parts)
  assert interleaving_report.merge([None]) is None


def test_a_build_says_what_was_achieved(tmp_path):
  """From a corpus of short and long recordings to `stats.json`."""
  root = tiny.make(tmp_path / 'corpus', 3)
  lines, all_codes = [], {}
  sizes = np.random.default_rng(7).integers(20, 700, 60).tolist()
  for k, words in enumerate(sizes):
    rng = np.random.default_rng([k, words])
    said = [WORDS[i] for i in rng.integers(0, len(WORDS), words)]
    ends = np.cumsum(rng.gamma(3.0, 0.12, words)).tolist()
    times = list(zip(said, [0.0, *ends[:-1]], ends))
    lines.append(
      manifest.Utterance(
        id=f'u{k}', text=' '.join(said), audio=f'{k}.wav', sample_rate=16000,
        duration=ends[-1], speaker=f's{k // 6}', words=times,
      )
    )  # fmt: skip
    all_codes[f'u{k}'] = codes(math.ceil(ends[-1] / 0.12))
  manifest.write(root / 'speech', lines)
  tiny.write_codes(root / 'codes', all_codes, shards=1)
  tasks = {
    t.name: t
    for t in definitions.speech(
      'said', root / 'speech', root / 'codes', root / 'text.model',
      interleaving='poisson',
    )
    if t.kind == 'interleaved'
  }  # fmt: skip
  output = tmp_path / 'rows'
  build.build(tasks, ['train'], output, build.Settings(1024, parts=3))
  folder = folders.open_folder(output / 'said_interleaved' / 'train')
  assert list(verify.faults(folder)) == []
  told = folder.stats['interleaving']
  assert told['words'] == sum(sizes)
  assert told['largest_eta'] <= 0.35
  assert told['tokens_per_second'] > 0
  long = told['long_documents']
  assert long['documents'] > 20
  assert abs(long['eta'] - 0.3) <= 0.02
  assert abs(long['mean_span'] - 10) <= 0.5
  spans = {int(k): n for k, n in told['histogram'].items()}
  assert sum(spans.values()) == told['spoken_spans']
  assert sum(k * n for k, n in spans.items()) == told['spoken_words']
