"""CosyVoice-300M-25Hz as released → this project's sealed decoder folder.

    FOLDER/cosyvoice.yaml    shapes of flow, vocoder and mel (`hyper_yaml`)
    FOLDER/flow.pt           tokens → mel
    FOLDER/hift.pt           mel → waveform
    FOLDER/campplus.onnx     who speaks

Step-Audio-TTS-3B brings such a folder. Every array is checked by name and shape
before anything is written, and no code of the files is run. The way back is
`decoder_export`, which writes the speaker encoder as `speaker.safetensors`
under its original names; such a folder is read as well.
"""

import math
import pathlib
import types
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import progress
from step_audio_jax.audio import vocoder_mel
from step_audio_jax.decoder import speech
from step_audio_jax.interop import campplus as campplus_interop
from step_audio_jax.interop import campplus_onnx
from step_audio_jax.interop import flow as flow_interop
from step_audio_jax.interop import hift as hift_interop
from step_audio_jax.interop import hyper_yaml
from step_audio_jax.interop import pickles
from step_audio_jax.interop import shards
from step_audio_jax.models import campplus

CONFIG, FLOW, VOCODER = 'cosyvoice.yaml', 'flow.pt', 'hift.pt'
SPEAKER, NAMED_SPEAKER = 'campplus.onnx', 'speaker.safetensors'
# The yaml's names of the mel's numbers → ours.
MEL = {
  'n_fft': 'fft',
  'num_mels': 'bands',
  'sampling_rate': 'sample_rate',
  'hop_size': 'hop',
  'win_size': 'window',
  'fmin': 'low_hz',
  'fmax': 'high_hz',
}
DILATIONS = 'campplus_dilations'  # this project's own field of the yaml


def is_folder(path: pathlib.Path) -> bool:
  """Whether this is a released decoder, by its files."""
  return any((path / name).is_file() for name in (FLOW, VOCODER))


def import_folder(
  source: pathlib.Path, target: pathlib.Path, *, dry_run: bool = False
) -> dict[str, Any]:
  """Converts the released folder once.

  Args:
    source: As downloaded.
    target: Folder of `decoder.speech`; must not exist.
    dry_run: Check everything, write nothing.

  Returns:
    What was written.

  Raises:
    UserError: A file is missing, broken or another one.
  """
  path = source / CONFIG
  tree = hyper_yaml.read(path)
  mel = read_mel(tree, path)
  flow_state, flow = _checkpoint(source / FLOW, tree, path, 'flow')
  hift_state, hift = _checkpoint(source / VOCODER, tree, path, 'hift')
  flow_shapes = flow_interop.shapes(flow)
  _same(source / FLOW, flow_state, flow_shapes)
  speaker, speaker_tree = read_speaker(source, tree)
  for name, found, wanted in (
    ('feat_extractor.num_mels', mel.bands, flow.estimator.bands),
    ('flow.spk_embed_dim', flow.speaker_size, speaker.embedding),
  ):
    if found != wanted:
      raise errors.UserError(
        f'{path}: {name}: found {found}, expected {wanted} as the weights '
        'beside it have it.'
      )
  vocoder = types.SimpleNamespace(
    config=hift,
    name='hift',
    sample_rate=hift.sample_rate,
    hop=hift.hop,
    bands=hift.bands,
  )
  parts = [
    types.SimpleNamespace(config=flow),
    vocoder,
    types.SimpleNamespace(config=speaker, params=speaker_tree),
  ]
  try:
    decoder = speech.SpeechDecoder(*parts, mel)
  except errors.UserError as error:
    raise errors.UserError(f'{path}: {error}') from error
  counts = {
    name: sum(map(math.prod, shapes.values()))
    for name, shapes in (
      ('flow', flow_shapes),
      ('vocoder', hift_interop.shapes(hift, 'plain')),
      ('speaker', campplus_interop.shapes(speaker)),
    )
  }
  if not dry_run:
    with (
      files.atomic_folder(target) as temporary,
      progress.bar(label='import', total=3, unit='part') as bar,
    ):
      parts[0].params = flow_interop.params(flow_state, flow)
      bar.update(1)
      parts[1].params = hift_interop.params(hift_state, hift)
      bar.update(1)
      decoder.save(temporary)
      bar.update(1)
  return {
    'kind': 'speech decoder',
    'parameters': sum(counts.values()),
    'parts': counts,
    'sample_rate': mel.sample_rate,
    'speech_ids': flow.vocabulary,
  }


def _checkpoint(path, tree, config_path, name):
  """A checkpoint, unread, and the shape that the yaml says it has."""
  checkpoint = pickles.Checkpoint(path)
  section = tree.get(name)
  if not isinstance(section, Mapping):
    raise errors.UserError(
      f'{config_path}: {name}: found {section!r}, expected its description.'
    )
  shapes = {array: checkpoint.shape(array) for array in checkpoint}
  interop = {'flow': flow_interop, 'hift': hift_interop}[name]
  return checkpoint, interop.config_from(section, shapes, str(config_path))


def _same(path, checkpoint, wanted) -> None:
  """Refuses the first array that is missing, unknown or of another shape."""
  for name in sorted(set(checkpoint) | wanted.keys()):
    found = checkpoint.shape(name) if name in checkpoint else 'nothing'
    expected = wanted.get(name, 'nothing')
    if found != expected:
      raise errors.UserError(
        f'{path}: {name}: found {found}, expected {expected}.'
      )


def read_mel(
  tree: Mapping[str, Any], path: pathlib.Path
) -> vocoder_mel.VocoderMel:
  """The mel that `feat_extractor` of the yaml computes.

  Raises:
    UserError: A number is missing or no such number.
  """
  section = tree.get('feat_extractor')
  section = section if isinstance(section, Mapping) else {}
  numbers = {}
  for theirs, ours in MEL.items():
    value = section.get(theirs)
    whole = ours not in ('low_hz', 'high_hz')
    if theirs == 'fmax' and theirs in section and value is None:
      pass  # up to half the sample rate
    elif isinstance(value, bool) or not isinstance(
      value, int if whole else int | float
    ):
      raise errors.UserError(
        f'{path}: feat_extractor.{theirs}: found {value!r}, expected a '
        f'{"whole " if whole else ""}number.'
      )
    numbers[ours] = value
  if section.get('center', False):
    raise errors.UserError(
      f'{path}: feat_extractor.center: found {section["center"]!r}, expected '
      'False.'
    )
  try:
    return vocoder_mel.VocoderMel(**numbers)
  except errors.UserError as error:
    raise errors.UserError(f'{path}: {error}') from error


def read_speaker(
  folder: pathlib.Path, tree: Mapping[str, Any]
) -> tuple[campplus.CampplusConfig, dict[str, Any]]:
  """The speaker encoder of a folder, from either of its two files.

  Raises:
    UserError: There is none, or it is another network.
  """
  path = folder / NAMED_SPEAKER
  if (folder / SPEAKER).is_file() or not path.is_file():
    return campplus_onnx.read(folder / SPEAKER)
  state = shards.read_header(path)
  try:
    dilations = tuple(tree.get(DILATIONS, (1, 2, 2)))
    config = campplus_interop.config_from(state, dilations)
  except (errors.UserError, TypeError, ZeroDivisionError) as error:
    raise errors.UserError(f'{path}: {error}') from error
  wanted = campplus_interop.shapes(config)
  for name in sorted(state.keys() | wanted.keys()):
    found = state[name].shape if name in state else 'nothing'
    if found != wanted.get(name, 'nothing'):
      raise errors.UserError(
        f'{path}: {name}: found {found}, expected '
        f'{wanted.get(name, "nothing")}.'
      )
  return config, campplus_interop.params(state, config)
