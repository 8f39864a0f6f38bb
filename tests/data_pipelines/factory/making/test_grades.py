"""One text at several levels, and the edits between them."""

import collections
import dataclasses
import json

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.making import grades as grades_lib
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import job
from data_pipelines.factory.making import shards as shards_lib
from data_pipelines.synthesis.voices import espeak
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.meters import measure
from step_audio_jax.chats import own
from step_audio_jax.chats import views
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.styles import markup

TEXTS = {
  'a': ('en', 'the red cat sees a small ball near (fast 2) the house'),
  'b': ('zh', '红猫看见一个小球。'),
  'c': ('en', 'nobody may say this sentence but in a test'),
}
GRADES = grades_lib.Grades(
  speed=(2, -1, 1), pitch=(3,), volume=(-2, 2), pause=(1, 3), steps=(1, 2)
)
RECIPE = items_lib.Recipe(
  seed=1,
  chain=chain.Chain((chain.Step(noise.Noise(snr_db=(40.0, 50.0)), 1.0),)),
  gates=line.Gates((sound.Duration(0.3, 9.0),)),
  grades=GRADES,
)
VOICES = (espeak.Espeak(('m3', 'f2')),)


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
  folder = tmp_path_factory.mktemp('texts')
  lines = [
    manifest.Utterance(id=name, kind='text', language=language, text=text)
    for name, (language, text) in TEXTS.items()
  ]
  manifest.write(folder, lines)
  return folder


@pytest.fixture(scope='module')
def held_out(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tests')
  test = manifest.Utterance(
    id='q', kind='text', split='test', text=TEXTS['c'][1]
  )
  manifest.write(folder, [test])
  return held_out_lib.HeldOut([folder])


def run(output, texts, held_out, recipe=RECIPE, **more):
  planned = items_lib.plan_items([texts], recipe, VOICES, held_out)
  return job.make(output, planned, recipe, VOICES, **more)


def tree(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.fixture(scope='module')
def made(tmp_path_factory, texts, held_out):
  folder = tmp_path_factory.mktemp('made')
  return folder, run(folder, texts, held_out)


def lines_of(folder):
  found = {one.id: one for one in manifest.read(folder)}
  return found, [n for n, one in found.items() if one.kind == 'chat']


def test_a_text_is_said_at_each_level(made):
  folder, _ = made
  lines, _ = lines_of(folder)
  names = ['', '.speed-1', '.speed+1', '.speed+2', '.pitch+3', '.volume-2',
           '.volume+2', '.pause+1', '.pause+3']  # fmt: skip
  spoken = [name for name, one in lines.items() if one.kind == 'speech']
  assert spoken == [*(f'a{n}' for n in names), *(f'b{n}' for n in names[:-2])]
  heard = {n: audio_io.read_audio(lines[n].audio_path(folder)) for n in spoken}
  for group in 'ab':
    (voice,) = {lines[n].speaker for n in spoken if n[0] == group}
    assert voice.startswith('espeak-ng-')
    lengths = {n: lines[group + n].duration for n in names[:7]}
    for name, rate in (('.speed-1', 1 / 1.12), ('.speed+2', 1.12**2)):
      assert lengths[''] / lengths[name] == pytest.approx(rate, rel=0.04)
    notes = [
      measure.measure(*heard[group + n]).f0_semitones for n in ('', '.pitch+3')
    ]
    assert notes[1] - notes[0] == pytest.approx(3, abs=0.5)
    loud = [
      10 * np.log10(np.mean(heard[group + n][0] ** 2))
      for n in ('.volume-2', '', '.volume+2')
    ]
    np.testing.assert_allclose(np.diff(loud), 4, atol=0.2)
  plain, paused = lines['a'], lines['a.pause+3']
  assert paused.duration - plain.duration == pytest.approx(0.7, abs=1e-3)
  ((gap, silence),) = [
    (one[0], two[1] - one[2])
    for one, two in zip(paused.words, paused.words[1:])
    if two[1] - one[2] > 0.1
  ]
  assert silence == pytest.approx(0.7, abs=0.02)
  before, _ = markup.parse(paused.marked)
  assert before.text.split()[-1] == gap and markup.parse(paused.marked)[1].pause
  # What looks like a tag in a text is spoken.
  assert lines['a.speed+2'].marked == r'(快速2)' + TEXTS['a'][1].replace(
    '(fast', r'\(fast'
  )


def test_edits_lead_from_one_level_to_another(made):
  folder, result = made
  lines, edits = lines_of(folder)
  speed = ['-1to+0', '-1to+1', '+0to-1', '+0to+1', '+0to+2', '+1to-1',
           '+1to+0', '+1to+2', '+2to+0', '+2to+1']  # fmt: skip
  # Three levels are more than a step of two, and codes know no volume.
  assert [n for n in edits if n[0] == 'a'] == [
    *(f'a.speed{n}' for n in speed),
    *('a.pause+0to+1', 'a.pause+1to+3'),
  ]
  assert [n for n in edits if n[0] == 'b'] == [f'b.speed{n}' for n in speed]
  assert list(lines)[9:21] == [n for n in edits if n[0] == 'a']
  for name in edits:
    talk = own.parse(lines[name].turns)
    shown = views.VIEWS['audio_edit'](talk, lambda speech: None)
    asked, reply = shown.turns
    start, end = (n.speech.id for n in (asked, reply))
    spans, speech = views.edited(talk.turns[0], lambda speech: None)
    assert markup.plain(spans) == lines[start].text and speech.id == start
    (tag,) = markup.tags_of(spans)
    level = [int(side.partition(tag.axis)[2] or 0) for side in (start, end)]
    sign = -1 if str(tag).startswith('慢速') else 1
    assert level[1] - level[0] == sign * tag.level
    if tag.axis == 'pause':  # where the recording has it
      assert spans[0].text == markup.parse(lines[end].marked)[0].text
  assert result['gates']['edit'] == {
    'passed': 22, 'unmeasured': 2, 'not_asked': 19,
  }  # fmt: skip
  quarantine = files.read_jsonl(folder / 'quarantine.jsonl')
  told = {one['id']: one['reason'] for one in quarantine}
  assert set(told) == {'c', 'b.pause+1', 'b.pause+3', 'b.pause+0to+1',
                       'b.pause+1to+3'}  # fmt: skip
  assert 'no second word' in told['b.pause+1']
  assert told['b.pause+0to+1'].startswith("edit: 'b.pause+1' was not kept")


def test_provenance_binds_lines_and_edits(made):
  folder, result = made
  checked = collections.Counter()
  assert not list(provenance.faults(folder, checked))
  assert checked['provenance'] == result['kept']
  job_, items = provenance.read(folder)
  assert job_.settings['grades']['pause'] == [1, 3]
  found = {one.id: origin for one, origin in items}
  style = found['a.speed+2'].speech['style']
  assert style['marked'].startswith('(快速2)')
  assert found['a.pause+0to+1'].sources == ['a', 'a.pause+1']
  # The noise of a group is one noise.
  noises = {json.dumps(found[n].augmentation['operations'][0]['snr_db'])
            for n in ('a', 'a.speed+2', 'a.pause+3')}  # fmt: skip
  assert len(noises) == 1
  (folder / 'manifest.jsonl').rename(folder / 'kept')
  text = (folder / 'kept').read_text().replace('(快速1)', '(快速2)', 1)
  (folder / 'manifest.jsonl').write_text(text)
  assert any('made of another' in fault for fault in
             provenance.faults(folder, collections.Counter()))  # fmt: skip
  (folder / 'kept').rename(folder / 'manifest.jsonl')


def test_killed_and_cut_into_shards_it_makes_the_same(
  made, texts, held_out, tmp_path, monkeypatch
):
  folder, _ = made
  monkeypatch.setattr(shards_lib, '_TOGETHER', 3)
  real, left = shards_lib._make_batch, [0]

  def batch(*args):
    left[0] -= 1
    if left[0] < 0:
      raise KeyboardInterrupt
    return real(*args)

  monkeypatch.setattr(shards_lib, '_make_batch', batch)
  for _ in range(5):  # a group lies in several shards
    left[0] = 1
    with pytest.raises(KeyboardInterrupt):
      run(tmp_path / 'x', texts, held_out, shard_size=5)
  left[0] = 99
  run(tmp_path / 'x', texts, held_out, shard_size=5)
  assert tree(tmp_path / 'x') == tree(folder)


def test_a_side_that_no_gate_lets_pass_costs_its_edits(texts, tmp_path):
  spoken = run(tmp_path / 'all', texts, None)
  lines, _ = lines_of(tmp_path / 'all')
  longest = lines['a.speed-1'].duration
  between = (longest + lines['a'].duration) / 2
  gates = line.Gates((sound.Duration(0.3, between),))
  recipe = dataclasses.replace(
    RECIPE, gates=gates, grades=grades_lib.Grades(speed=(-1, 1))
  )
  told = run(tmp_path / 'few', texts, None, recipe)
  lines, edits = lines_of(tmp_path / 'few')
  assert 'a' in lines and 'a.speed-1' not in lines
  assert [n for n in edits if n[0] == 'a'] == [
    'a.speed+0to+1', 'a.speed+1to+0',
  ]  # fmt: skip
  assert told['kept'] + told['rejected'] < spoken['kept']
  assert told['gates']['edit']['unmeasured'] >= 4


def test_an_id_is_not_that_of_a_level(texts, tmp_path):
  manifest.write(
    tmp_path,
    [
      manifest.Utterance(id=name, kind='text', text='one two')
      for name in ('a', 'a.speed+2')
    ],
  )
  with pytest.raises(errors.UserError, match=r"id 'a.speed\+2' is that of a l"):
    items_lib.plan_items([tmp_path], RECIPE, VOICES)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'speed': (0, 1)}, r'speed: found \(0, 1\), expected .* −?-5 to 5'),
    ({'speed': (1, 1)}, 'speed: found'),
    ({'pitch': (6,)}, 'pitch: found'),
    ({'pause': (-1,)}, 'pause: found .* from 1 to 5'),
    ({'steps': (0,)}, 'steps: found'),
    ({'edited': ('volume',)}, "found 'volume': codes do not have it"),
    ({'edited': ('tempo',)}, "found 'tempo', expected some of speed"),
  ],
)
def test_bad_grades(settings, message):
  with pytest.raises(errors.UserError, match=message):
    grades_lib.Grades(**settings)


def test_a_recipe_of_gin_asks_for_levels(texts, tmp_path, capsys):
  gin = tmp_path / 'recipe.gin'
  gin.write_text(
    """
from __gin__ import dynamic_registration
from data_pipelines.factory.making import grades
from data_pipelines.factory.making import items

items.Recipe.grades = @grades.Grades()
grades.Grades.speed = [-1, 1]
"""
  )
  argv = ['data_pipelines', 'make', f'--texts={texts}', '--most=1',
          f'--output={tmp_path}/made', f'--gin_file={gin}', '--dry_run',
          '--json']  # fmt: skip
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert told['items'] == 3
