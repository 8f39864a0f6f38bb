"""Every benchmark that is asked aloud: read, answered and scored."""

import json

import pytest

from data_pipelines.benchmarks import catalogue
from step_audio_jax.audio import io
from step_audio_jax.chats import checks
from step_audio_jax.evaluation.benchmarks import benchmark
from tests.data_pipelines.benchmarks.heard import layouts
from tests.evaluation.benchmarks.answers import made

OURS = [
  name
  for name, one in catalogue.all_entries().items()
  if one.loader.startswith('heard.')
]


def test_every_loader_has_a_sample():
  assert sorted(layouts.LAYOUTS) == sorted(OURS)


@pytest.mark.parametrize('name', OURS)
def test_it_is_read_and_scored(name, tmp_path):
  sample = layouts.LAYOUTS[name](tmp_path / name)
  (one,) = catalogue.benchmarks((name,), str(tmp_path))
  found = one.read()
  assert {item.id for item in found.items} == set(sample.items)
  for item in found.items:
    text, references, category = sample.items[item.id]
    assert text is None or item.text == text
    assert item.references == references
    assert item.about.get('category', '') == category
    checks.check(item.chat)
    roles = [turn.role for turn in item.chat.turns]
    assert roles == sample.turns.get(item.id, roles)
    for speech in item.recordings:
      source = speech.path if speech.data is None else speech.data
      assert len(io.read_audio(source)[0]) == 2400
  public, there = catalogue.entry(name).expected, len(found.items)
  assert found.of == (public or there)
  if public > there:
    ((why, _),) = found.left_out.items()
    assert why == f'not in the folder, which has {there} of {public:,}'
  judge = made.Judge(sample.replies, sample.other)
  means = benchmark.Means(conventions=('plain', 'wenet'), judge=judge)
  said = made.answers(found.items, sample.said)
  scored = one.score(found.items, said, means)
  values = made.values(scored)
  assert {figure: values[figure] for figure in sample.figures} == sample.figures
  assert [row['id'] for row in scored.rows] == [item.id for item in found.items]
  assert not scored.not_computed
  json.dumps([one.settings, *scored.rows])
  json.dumps([dict(item.about) for item in found.items])
