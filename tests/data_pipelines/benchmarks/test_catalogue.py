"""Benchmarks by name."""

import pytest

from data_pipelines.benchmarks import catalogue
from data_pipelines.benchmarks import entries
from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark


def test_names_become_benchmarks_of_their_folders():
  names = ('hellaswag', 'librispeech_clean')
  below = catalogue.benchmarks(names, 'gs://bucket/sets', most=3)
  assert [one.folder for one in below] == [
    f'gs://bucket/sets/{name}' for name in names
  ]
  assert [one.most for one in below] == [3, 3]
  own = {'hellaswag': '/h', 'librispeech_clean': '/l'}
  controls = (benchmark.PLAIN, benchmark.SILENCED)
  found = catalogue.benchmarks(
    names,
    own,
    controls=controls,
    changed={'librispeech_clean': {'subset': 'test-other', 'most': 1}},
    more=below[:1],
  )
  assert [one.folder for one in found] == ['/h', '/l', below[0].folder]
  assert (found[1].subset, found[1].most, found[0].most) == ('test-other', 1, 0)
  assert found[1].expected == 2620 and found[0].controls == controls


@pytest.mark.parametrize(
  'names, changes, why',
  [
    (('libri_clean',), {}, "found no 'libri_clean', expected one of libri"),
    (('seed_zh',), {}, 'seed_tts_zh'),
    (('ß',), {}, 'expected a name of docs/benchmarks.md'),
    (('piqa', 'piqa'), {}, "found 'piqa' twice, expected it once"),
    (('piqa',), {'folders': {'mmlu': 'x'}}, "folders: found none for 'piqa'"),
    (('piqa',), {'changed': {'mmlu': {}}}, "changed: found 'mmlu'"),
    (('piqa',), {'changed': {'piqa': {'size': 1}}}, "'size', expected fields"),
    (('piqa',), {'changed': {'piqa': {'name': 'x'}}}, "found 'name', expected"),
    (
      ('manifest',),
      {'changed': {'manifest': {'split': 3}}},
      'split is 3, expe',
    ),
    (('piqa',), {'folders': ''}, "folders: found '', expected the folder"),
    (('piqa',), {'most': -1}, 'most: found -1, expected'),
    (('piqa',), {'controls': ()}, 'controls: found (), expected some of plain'),
    (('piqa',), {'controls': ('plain',) * 2}, 'each once'),
    (('piqa',), {'controls': ('loud',)}, "controls: found 'loud'"),
    (('recordings',), {'changed': {'recordings': {'format': 'x'}}}, 'kaldi'),
  ],
)
def test_what_is_wrong_is_one_sentence(names, changes, why):
  with pytest.raises(errors.UserError) as told:
    catalogue.benchmarks(names, **{'folders': '/x', **changes})
  assert why in str(told.value)
  assert str(told.value).endswith('.')


def test_every_entry_makes_its_class_and_says_what_decides():
  for name, one in catalogue.all_entries().items():
    made = one.make(name, '/folder')
    assert made.name == name and made.asks in benchmark.WAYS
    assert one.summary and one.layout and one.scored and one.source
    assert made.settings['class'] == type(made).__name__
    if one.published:
      assert one.unpublished


def test_step_audios_own_figures():
  told = catalogue.published('librispeech_clean')
  assert told == {entries.CHAT: {'wer': 3.11}, entries.PRETRAIN: {'wer': 2.36}}
  assert catalogue.published('seed_tts_zh')[entries.TTS]['cer'] == 1.17
  assert catalogue.published('mine') == {}
