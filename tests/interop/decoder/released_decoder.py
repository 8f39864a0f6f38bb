"""The released decoder's files in small, written without torch or onnx."""

import collections

import numpy as np

from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.models.flow import flow
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.speaker import layers
from step_audio_jax.models.vocoder import hift
from tests.interop.tokenizer import released_tokenizer as released

SPEAKER = campplus.CampplusConfig(
  bands=16,
  embedding=6,
  growth=4,
  bottleneck=2,
  initial=8,
  head_width=2,
  head_blocks=(2, 1),
  layers=(2, 1, 1),
)
FLOW = flow.FlowConfig(
  vocabulary=5121,
  input_width=12,
  token_rate=41.667,
  speaker_size=6,
  encoder=flow.EncoderConfig(width=16, heads=2, mlp_width=20, layers=2),
  estimator=flow.EstimatorConfig(
    bands=16, channels=8, heads=2, head_width=6, blocks=1, middle=2
  ),
)
HIFT = hift.HiftConfig(
  bands=16,
  channels=8,
  sample_rate=8000,
  harmonics=2,
  upsample_rates=(4, 4),
  upsample_kernels=(8, 8),
  resblock_kernels=(3, 5),
  resblock_dilations=((1, 3), (1, 3)),
  source_resblock_kernels=(3, 5),
  source_resblock_dilations=((1, 3), (1, 3)),
  f0_channels=8,
)
YAML = """\
# seeds
__set_seed1: !apply:random.seed [1986]
__set_seed2: !apply:numpy.random.seed [1986]

sample_rate: 8000
text_encoder_input_size: 512
spk_embed_dim: 6

llm: !new:cosyvoice.llm.llm.TransformerLM
    text_encoder_input_size: !ref <text_encoder_input_size>

flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_size: 12
    output_size: 16
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: 4096
    input_frame_rate: 41.667
    only_mask_loss: True
    encoder: !new:cosyvoice.transformer.encoder.ConformerEncoder
        output_size: 16
        attention_heads: 2
        linear_units: 20
        num_blocks: 2
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        input_size: 12
        use_cnn_module: False
        macaron_style: False
    length_regulator: !new:cosyvoice.flow.length_regulator.InterpolateRegulator
        channels: 16
        sampling_ratios: [1, 1, 1, 1]
    decoder: !new:cosyvoice.flow.flow_matching.ConditionalCFM
        in_channels: 48
        n_spks: 1
        spk_emb_dim: 16
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                training_cfg_rate: 0.2
                inference_cfg_rate: 0.7
                reg_loss_type: 'l1'
        estimator: !new:cosyvoice.flow.decoder.ConditionalDecoder
            in_channels: 64
            out_channels: 16
            channels: [8, 8]
            dropout: 0
            attention_head_dim: 6
            n_blocks: 1
            num_mid_blocks: 2
            num_heads: 2
            act_fn: 'gelu'

hift: !new:cosyvoice.hifigan.generator.HiFTGenerator
    in_channels: 16
    base_channels: 8
    nb_harmonics: 2
    sampling_rate: !ref <sample_rate>
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [4, 4]
    upsample_kernel_sizes: [8, 8]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 5]
    resblock_dilation_sizes: [[1, 3], [1, 3]]
    source_resblock_kernel_sizes: [3, 5]
    source_resblock_dilation_sizes: [[1, 3], [1, 3]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: 16
        cond_channels: 8

parquet_opener: !name:cosyvoice.dataset.processor.parquet_opener
get_tokenizer: !name:whisper.tokenizer.get_tokenizer
    multilingual: True
allowed_special: 'all'
feat_extractor: !name:matcha.utils.audio.mel_spectrogram
    n_fft: 256
    num_mels: 16
    sampling_rate: !ref <sample_rate>
    hop_size: 64
    win_size: 256
    fmin: 0
    fmax: 4000
    center: False
compute_fbank: !name:cosyvoice.dataset.processor.compute_fbank
    feat_extractor: !ref <feat_extractor>
data_pipeline: [
    !ref <parquet_opener>,
    !ref <compute_fbank>,
]
"""


def speaker_state(config=SPEAKER, seed=3):
  """Random weights under their original names, variances positive."""
  state = released.arrays(campplus_interop.shapes(config), seed)
  for name, value in state.items():
    if name.endswith('running_var'):
      value[:] = np.abs(value) + 0.5
  return state


def _attribute(name, numbers):
  packed = b''.join(map(released._varint, numbers))
  return released.field(5, released.field(1, name) + released.field(8, packed))


def campplus_parts(state, config=SPEAKER, *, folded=True):
  """Nodes and initialisers of CAM++ as exporters write them.

  Folded, a norm that alone reads a convolution is in it, and both have
  numbers for names; a norm without scale and offset gets constants for them.
  """
  nodes, weights, taken = [], [], set()

  def constant(array, name=None):
    name = name or f'onnx::Conv_{3742 + len(weights)}'
    weights.append(released.tensor(name, np.ascontiguousarray(array)))
    return name

  def alike(array):
    """Of equal arrays one is kept, the other is an Identity of it."""
    name = f'same_{len(nodes)}'
    node = released.node(name, 'Identity', [constant(array)])
    nodes.append(node)
    return f'{name}_out'

  listed = list(campplus_interop.units(config))
  for unit, behind in zip(listed, [*listed[1:], None]):
    if unit.name in taken:
      continue
    if isinstance(unit, campplus_interop.Norm):
      ones = np.ones(unit.width, np.float32)
      pair = [
        state.get(f'{unit.name}.{kind}', value)
        for kind, value in (('weight', ones), ('bias', 0 * ones))
      ]
      inputs = [constant(value) for value in pair]
      inputs += [
        alike(state[f'{unit.name}.{kind}'])
        for kind in ('running_mean', 'running_var')
      ]
      nodes.append(
        released.node(unit.name, 'BatchNormalization', ['x', *inputs])
      )
      continue
    kernel = state[f'{unit.name}.weight']
    bias = state.get(f'{unit.name}.bias')
    if folded and unit.alone:
      taken.add(behind.name)
      mean, var = (
        state[f'{behind.name}.running_{kind}'] for kind in ('mean', 'var')
      )
      scale = 1 / np.sqrt(var + np.float32(layers.EPSILON))
      offset = np.zeros_like(scale)
      if behind.affine:
        scale = scale * state[f'{behind.name}.weight']
        offset = state[f'{behind.name}.bias']
      kernel = kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1))
      bias = offset - mean * scale
    inputs = [constant(kernel)] + ([] if bias is None else [constant(bias)])
    strides = unit.strides or (1,) * (kernel.ndim - 2)
    node = released.node(unit.name, 'Conv', ['x', *inputs], strides)
    dilations = (unit.dilation,) * (kernel.ndim - 2)
    nodes.append(node + _attribute('dilations', dilations))
    nodes.append(released.node(f'{unit.name}/Relu', 'Relu', ['x']))
  return nodes, weights


def save_graph(path, nodes, weights):
  """An ONNX file of nodes and initialisers."""
  graph = b''.join(released.field(1, n) for n in nodes)
  graph += b''.join(released.field(5, w) for w in weights)
  path.write_bytes(released.field(1, 8) + released.field(7, graph))


def write(folder, *, spelling='weight_g', folded=True):
  """The whole folder; returns what was written into it."""
  folder.mkdir(parents=True)
  flows = released.arrays(flow_interop.shapes(FLOW), 1)
  hifts = released.arrays(hift_interop.shapes(HIFT, spelling), 2)
  speakers = speaker_state()
  for name, state in (('flow.pt', flows), ('hift.pt', hifts)):
    released.save_pt(folder / name, collections.OrderedDict(state))
  save_graph(folder / 'campplus.onnx', *campplus_parts(speakers, folded=folded))
  (folder / 'cosyvoice.yaml').write_text(YAML)
  # What lies beside them there, and belongs to the tokenizer.
  (folder / 'speech_tokenizer_v1.onnx').write_bytes(b'')
  return {'flow': flows, 'hift': hifts, 'speaker': speakers}
