"""A voice whose files lie in a bucket speaks as one on a disk."""

import numpy as np
import pytest

from data_pipelines.synthesis.voices import graphs
from data_pipelines.synthesis.voices import piper
from data_pipelines.synthesis.voices import sources
from step_audio_jax import errors
from tests import stores
from tests.data_pipelines.synthesis.voices import tiny


def said(source):
  loaded = piper.load(source)
  fields = {k: getattr(loaded, k) for k in ('noises', 'lengths')}
  voice = piper.Piper(source, loaded.config, session=tiny.Session(), **fields)
  return voice.speak('a b', language='en', speaker=0, rate=1.0, seed=3)


def test_a_voice_in_a_bucket(root, tmp_path):
  here = tiny.write(tmp_path / 'voice')
  there = stores.upload(here.parent, root / 'voice') / here.name
  near, far = sources.find(str(here)), sources.find(str(there))
  assert (far.model, far.config) == (there, there.with_name('tiny.onnx.json'))
  assert far.files == near.files and far.sha256 == near.sha256
  assert sources.find(str(there.parent)).files == near.files
  pinned = sources.find(f'{there}@sha256:{near.files[here.name]}')
  assert pinned.model == there
  assert graphs.read(there).raw == graphs.read(here).raw
  np.testing.assert_array_equal(said(far).samples, said(near).samples)
  with pytest.raises(errors.UserError, match='no such voice'):
    sources.find(f'{root}/gone.onnx')
