"""A sealed decoder folder → the files that CosyVoice reads.

    FOLDER/cosyvoice.yaml        flow, vocoder and mel, with CosyVoice's tags
    FOLDER/flow.pt, hift.pt      plain state dicts (`torch_archive`)
    FOLDER/speaker.safetensors   CAM++ under its original names

`campplus.onnx` is not written again: an ONNX file is a program, and the weights
by name serve whoever has CAM++'s class. A sealed folder that is exported and
imported again comes back to the bit.
"""

import math
import pathlib
from typing import Any, Mapping

import yaml

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import parts
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.decoder.vocoder import vocoder as vocoder_lib
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.interop.decoder import importing
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.formats import torch_archive
from step_audio_jax.models.flow import flow as flow_model
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.vocoder import hift
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.speech import storage

_MLP_FACTOR = 4


def is_sealed(path: pathlib.Path) -> bool:
  """Whether this is a decoder folder of `decoder.speech`."""
  path = path / speech.CONFIG
  if not files.is_file(path):
    return False
  config = files.read_json(path)
  return isinstance(config, dict) and config.get('format') == speech.FORMAT


def export_folder(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  dry_run: bool = False,
  allow_nonfinite: bool = False,
) -> dict[str, Any]:
  """Writes the files of a sealed folder under their original names.

  Args:
    source: Sealed folder.
    target: Must not exist.
    dry_run: Check the descriptions, write nothing.
    allow_nonfinite: Write numbers that are not finite as they are.

  Returns:
    What was written.

  Raises:
    UserError: The folder is broken, or a part has no place in CosyVoice.
  """
  path = source / speech.CONFIG
  config = files.read_json(path)

  def described(kind, name):
    if config.get(name) is None:
      return None
    return parts.config_of(kind, config[name], path, name)

  mel = described(vocoder_mel.VocoderMel, 'mel')
  flow = described(flow_model.FlowConfig, 'flow')
  vocoder = described(hift.HiftConfig, 'vocoder')
  speaker = described(campplus.CampplusConfig, 'speaker')
  for name, part in (('mel', mel), ('flow', flow)):
    if part is None:
      raise errors.UserError(f'{path}: {name}: found none, expected it.')
  if vocoder is not None and vocoder.causal:
    raise errors.UserError(
      f'{path}: vocoder.causal: found True, expected False: '
      f'{importing.VOCODER} has no place for a causal vocoder.'
    )
  if flow.estimator.mlp_factor != _MLP_FACTOR:
    raise errors.UserError(
      f'{path}: flow.estimator.mlp_factor: found {flow.estimator.mlp_factor}, '
      f'expected {_MLP_FACTOR}, the only one that {importing.CONFIG} can mean.'
    )
  if flow.start != 'noise':
    raise errors.UserError(
      f"{path}: flow.start: found {flow.start!r}, expected 'noise': CosyVoice "
      'has no other.'
    )
  facts = {'kind': 'speech decoder', 'left_out': _left_out(vocoder, speaker)}
  writers = [(source / 'flow.safetensors', _flow, flow)]
  if vocoder is not None:
    writers.append((source / 'vocoder.safetensors', _vocoder, vocoder))
  if speaker is not None:
    writers.append((source / speaker_lib.FILE, _speaker, speaker))
  facts['parameters'] = sum(
    math.prod(array.shape)
    for file, _, _ in writers
    for array in shards.read_header(file).values()
  )
  speech.check_files(source, config)
  if dry_run:
    return facts
  with files.atomic_folder(target, last=importing.CONFIG) as folder:
    for file, write, part in progress.bar(
      writers, label='export', unit='part', total=len(writers)
    ):
      write(file, folder, part, allow_nonfinite)
    tree = yaml_tree(flow, vocoder, speaker, mel)
    tokenizer = bindings.tokenizer_of(config, path)
    if tokenizer:  # this project's own field, as its dilations are
      tree[bindings.TOKENIZER] = dict(tokenizer)
    with files.atomic(folder / importing.CONFIG, 'w') as handle:
      yaml.dump(tree, handle, _Dumper, sort_keys=False)
  return facts


def _left_out(vocoder, speaker):
  found = [importing.SPEAKER] if speaker else ['the speaker encoder: none here']
  if vocoder is None:
    found.append(f'{importing.VOCODER}: Griffin-Lim speaks')
  return found


def _looked_at(state, file, allow):
  """The arrays, each of which is looked at."""
  for name, array in state.items():
    checked.read_checked(array, name, str(file), allow)
  return state


def _flow(file, folder, config, allow):
  tree = storage.read_tree(file, flow_model.shapes(config))
  state = _looked_at(flow_interop.state(tree, config), file, allow)
  torch_archive.write(folder / importing.FLOW, state)


def _vocoder(file, folder, config, allow):
  tree = storage.read_tree(file, vocoder_lib.shapes(config))
  state = _looked_at(hift_interop.state(tree, config), file, allow)
  torch_archive.write(folder / importing.VOCODER, state)


def _speaker(file, folder, config, allow):
  tree = storage.read_tree(file, speaker_lib.shapes(config))
  state = _looked_at(campplus_interop.state(tree, config), file, allow)
  shards.write_file(folder / importing.NAMED_SPEAKER, state)


class _Dumper(yaml.SafeDumper):
  """The safe dumper, which knows `New` too."""

  def ignore_aliases(self, data):
    return True


class New(dict):
  """A mapping behind a tag `!new:NAME` or `!name:NAME`."""

  def __init__(self, tag: str, fields: Mapping[str, Any]):
    """Holds `fields`."""
    super().__init__(fields)
    self.tag = tag


_Dumper.add_representer(
  New, lambda dumper, value: dumper.represent_mapping(f'!{value.tag}', value)
)
_Dumper.add_representer(
  tuple,
  lambda dumper, value: dumper.represent_list(
    [list(v) if isinstance(v, tuple) else v for v in value]
  ),
)


def yaml_tree(
  flow: flow_model.FlowConfig,
  vocoder: hift.HiftConfig | None,
  speaker: campplus.CampplusConfig | None,
  mel: vocoder_mel.VocoderMel,
) -> dict[str, Any]:
  """`cosyvoice.yaml` of these parts, with the classes that CosyVoice makes."""
  tree = {'sample_rate': mel.sample_rate, 'flow': _flow_tree(flow)}
  if vocoder is not None:
    tree['hift'] = _hift_tree(vocoder)
  numbers = {
    theirs: getattr(mel, ours) for theirs, ours in importing.MEL.items()
  }
  tree['feat_extractor'] = New(
    'name:matcha.utils.audio.mel_spectrogram', numbers | {'center': False}
  )
  if speaker is not None:
    tree[importing.DILATIONS] = list(speaker.dilations)
  return tree


def _flow_tree(c):
  e, u = c.encoder, c.estimator
  own = 'new:cosyvoice'
  return New(
    f'{own}.flow.flow.MaskedDiffWithXvec',
    {
      'input_size': c.input_width,
      'output_size': u.bands,
      'spk_embed_dim': c.speaker_size,
      'output_type': 'mel',
      'vocab_size': c.vocabulary,
      'input_frame_rate': c.token_rate,
      'only_mask_loss': True,
      'encoder': New(
        f'{own}.transformer.encoder.ConformerEncoder',
        {
          'input_size': c.input_width,
          'output_size': e.width,
          'attention_heads': e.heads,
          'linear_units': e.mlp_width,
          'num_blocks': e.layers,
          'dropout_rate': e.dropout,
          'positional_dropout_rate': e.dropout,
          'attention_dropout_rate': e.dropout,
          'normalize_before': True,
          'input_layer': 'linear',
          'pos_enc_layer_type': 'rel_pos_espnet',
          'selfattention_layer_type': 'rel_selfattn',
          'use_cnn_module': False,
          'macaron_style': False,
        },
      ),
      'length_regulator': New(
        f'{own}.flow.length_regulator.InterpolateRegulator',
        {'channels': u.bands, 'sampling_ratios': [1] * c.regulator_layers},
      ),
      'decoder': New(
        f'{own}.flow.flow_matching.ConditionalCFM',
        {
          'in_channels': 3 * u.bands,
          'n_spks': 1,
          'spk_emb_dim': u.bands,
          'cfm_params': New(
            'new:omegaconf.DictConfig',
            {
              'content': {
                'sigma_min': c.sigma,
                'solver': 'euler',
                't_scheduler': 'cosine',
                'training_cfg_rate': 0.2,
                'inference_cfg_rate': c.guidance,
                'reg_loss_type': 'l1',
              }
            },
          ),
          'estimator': New(
            f'{own}.flow.decoder.ConditionalDecoder',
            {
              'in_channels': 4 * u.bands,
              'out_channels': u.bands,
              'channels': [u.channels] * 2,
              'dropout': 0.0,
              'attention_head_dim': u.head_width,
              'n_blocks': u.blocks,
              'num_mid_blocks': u.middle,
              'num_heads': u.heads,
              'act_fn': 'gelu',
            },
          ),
        },
      ),
    },
  )


def _hift_tree(c):
  tree: dict[str, Any] = {}
  for theirs, (ours, _) in hift_interop.FIELDS.items():
    *outer, last = theirs.split('.')
    place = tree
    for name in outer:
      place = place.setdefault(name, {})
    place[last] = getattr(c, ours)
  own = 'new:cosyvoice.hifigan'
  predictor = {'num_class': 1, 'in_channels': c.bands, **tree['f0_predictor']}
  tree['f0_predictor'] = New(
    f'{own}.f0_predictor.ConvRNNF0Predictor', predictor
  )
  return New(f'{own}.generator.HiFTGenerator', tree)
