"""CosyVoice-300M-25Hz as released → this project's sealed decoder folder.

    FOLDER/cosyvoice.yaml    shapes of flow, vocoder and mel (`hyper_yaml`)
    FOLDER/flow.pt           tokens → mel
    FOLDER/hift.pt           mel → waveform
    FOLDER/campplus.onnx     who speaks; or its state dict, campplus.pt

Step-Audio-TTS-3B brings such a folder. Every array is checked by name and shape
before anything is written, and no code of the files is run. The way back is
`interop.decoder.exporting`, which writes the speaker encoder as
`speaker.safetensors` under its original names; such a folder is read as well.
"""

import math
import pathlib
import types
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import speech
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import campplus_onnx
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.interop.formats import hyper_yaml
from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.speaker import campplus
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.storage import shards

CONFIG, FLOW, VOCODER = 'cosyvoice.yaml', 'flow.pt', 'hift.pt'
SPEAKER, NAMED_SPEAKER = 'campplus.onnx', 'speaker.safetensors'
PICKLED_SPEAKER = 'campplus.pt'
_COUNTER = 'num_batches_tracked'  # of norms in training, no weight
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
  return any(files.is_file(path / name) for name in (FLOW, VOCODER))


def import_folder(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  dry_run: bool = False,
  allow_nonfinite: bool = False,
) -> dict[str, Any]:
  """Converts the released folder once.

  Args:
    source: As downloaded.
    target: Folder of `decoder.speech`; must not exist.
    dry_run: Check everything, write nothing.
    allow_nonfinite: Take numbers that are not finite as they are.

  Returns:
    What was written.

  Raises:
    UserError: A file is missing, broken or another one.
  """
  path = source / CONFIG
  tree = hyper_yaml.read(path)
  mel = read_mel(tree, path)
  flow_state, flow = _checkpoint(
    source / FLOW, tree, path, 'flow', allow_nonfinite
  )
  hift_state, hift = _checkpoint(
    source / VOCODER, tree, path, 'hift', allow_nonfinite
  )
  flow_shapes = flow_interop.shapes(flow)
  _same(source / FLOW, flow_state, flow_shapes)
  speaker, speaker_tree = read_speaker(source, tree, allow_nonfinite)
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
    tokenizer = bindings.tokenizer_of(tree, path)
    decoder = speech.SpeechDecoder(*parts, mel, None, tokenizer)
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
      files.atomic_folder(target, last=speech.CONFIG) as temporary,
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


def _checkpoint(path, tree, config_path, name, allow):
  """A checkpoint, unread, and the shape that the yaml says it has."""
  interop = {'flow': flow_interop, 'hift': hift_interop}[name]
  checkpoint = state_lib.State(
    pickles.Checkpoint(path),
    interop.KIND,
    interop.ROOTS,
    others=getattr(interop, 'OTHERS', ()),
    where=str(path),
    allow=allow,
  )
  section = tree.get(name)
  if not isinstance(section, Mapping):
    raise errors.UserError(
      f'{config_path}: {name}: found {section!r}, expected its description.'
    )
  shapes = checkpoint.shapes()
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
  folder: pathlib.Path, tree: Mapping[str, Any], allow_nonfinite: bool = False
) -> tuple[campplus.CampplusConfig, dict[str, Any]]:
  """The speaker encoder of a folder, from any of its three files.

  Raises:
    UserError: There is none, or it is another network.
  """
  names = (SPEAKER, PICKLED_SPEAKER, NAMED_SPEAKER)
  there = [folder / name for name in names if files.is_file(folder / name)]
  path = there[0] if there else folder / SPEAKER
  if path.name == SPEAKER:
    return campplus_onnx.read(path, allow_nonfinite)
  opened = {
    PICKLED_SPEAKER: pickles.Checkpoint,
    NAMED_SPEAKER: shards.read_header,
  }[path.name](path)
  state = state_lib.State(
    opened,
    campplus_interop.KIND,
    campplus_interop.ROOTS,
    where=str(path),
    allow=allow_nonfinite,
  )
  try:
    dilations = tuple(tree.get(DILATIONS, (1, 2, 2)))
    config = campplus_interop.config_from(state, dilations)
  except (errors.UserError, TypeError, ZeroDivisionError) as error:
    raise errors.UserError(f'{path}: {error}') from error
  wanted = campplus_interop.shapes(config)
  given = {name for name in state if not name.endswith(_COUNTER)}
  for name in sorted(given | wanted.keys()):
    found = state.shape(name) if name in state else 'nothing'
    if found != wanted.get(name, 'nothing'):
      raise errors.UserError(
        f'{path}: {name}: found {found}, expected '
        f'{wanted.get(name, "nothing")}.'
      )
  return config, campplus_interop.params(state, config)
