"""The corpus of all levels."""

from benchmarks.pipelines import levels
from step_audio_jax.corpus import manifest
from step_audio_jax.styles import markup


def test_every_level_is_said_once(tmp_path):
  (tmp_path / 'wav').mkdir()
  assert levels.make(tmp_path, [], count=2, levels=1) == 2 * 8
  lines = manifest.read(tmp_path)
  assert len({line.speaker for line in lines}) == 2
  said = [line.marked for line in lines[:8]]
  assert said[0] is None
  styles = [str(markup.parse(one)[0].style) for one in said[1:7]]
  assert styles == [
    *('(快速1)', '(慢速1)', '(高音1)', '(低音1)', '(大声1)', '(小声1)'),
  ]
  assert '(停顿1)' in said[7] and not said[7].startswith('(')
