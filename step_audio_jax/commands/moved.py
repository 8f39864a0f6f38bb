"""What was called otherwise before: modules, and what moved between them.

The one place that knows. Gin files and modules of users that say an old name
are told the new one (`old_names`); what runs wrote of themselves is read as if
it said the new one. A line here is all that a further rename needs: of a
module a word in `_FOLDERS`, of a class or function a line in `_NAMES`. What is
renamed again gets another line, and the old one stays: names are followed.
"""

import functools
import importlib.util

# 'old folder > new folder' → modules, those with another name as old=new.
_FOLDERS = {
  'data_pipelines > data_pipelines.codes': (
    'tokenize encoding align journal code_shards=shards code_stream=stream'
  ),
  'data_pipelines > data_pipelines.documents': (
    'corpus_examples=examples corpus_survey=survey'
  ),
  'data_pipelines > data_pipelines.ingestion': (
    'ingest intake admission staging'
  ),
  'data_pipelines > data_pipelines.inspection': (
    'inspect inspect_page=page inspect_rows=rows inspect_schedule=schedule '
    'inspect_sound=sound'
  ),
  'data_pipelines > data_pipelines.interleaving': (
    'interleaving=spans interleaving_builders=builders '
    'interleaving_examples=examples interleaving_report=report '
    'interleaving_source=source interleaving_voice=voice'
  ),
  'data_pipelines.readers > data_pipelines.readers.common': (
    'base channels columns delimited json_stream media tables tars'
  ),
  'data_pipelines.readers > data_pipelines.readers.speech': (
    'aishell librispeech kaldi lhotse lhotse_cuts nemo seed_tts wenet '
    'wenetspeech folder webdataset'
  ),
  'data_pipelines > data_pipelines.rows': (
    'build packing verify rows=folders row_parts=parts row_checks=checks '
    'row_bindings=bindings'
  ),
  'data_pipelines > data_pipelines.synthesis': (
    'espeak grammar drawing synthesize'
  ),
  'data_pipelines.synthesis > data_pipelines.synthesis.voices': 'espeak',
  'data_pipelines > data_pipelines.tasks': (
    'definitions corpora metrics modules vocabulary'
  ),
  'data_pipelines > step_audio_jax': ('documents'),
  'step_audio_jax.generation > step_audio_jax': 'prompts=documents',
  'step_audio_jax.audio > step_audio_jax.audio.features': (
    'fbank framing log_mel pitch spectrum vocoder_mel'
  ),
  'step_audio_jax.audio > step_audio_jax.audio.formats': (
    'checksums chunks decoding flac links mpeg mpeg_frames ogg spans sphere '
    'tags mpeg_links=mpg123'
  ),
  'step_audio_jax > step_audio_jax.commands': (
    'cli console gin_files gin_types'
  ),
  'step_audio_jax > step_audio_jax.corpus': ('manifest stages'),
  'step_audio_jax.training > step_audio_jax.corpus': ('schedule exposure'),
  'step_audio_jax.decoder > step_audio_jax.decoder.causal': (
    'causal_flow=flow causal_layout=layout causal_objective=objective '
    'causal_solver=solver causal_stream=stream'
  ),
  'step_audio_jax.corpus > step_audio_jax.corpus': 'exposure=epochs',
  'step_audio_jax.decoder > step_audio_jax.decoder': (
    'sounding=rendering speaking=text_to_codes'
  ),
  'step_audio_jax.decoder > step_audio_jax.decoder.doors': (
    'door=speak embed_door=embed'
  ),
  'step_audio_jax.decoder > step_audio_jax.decoder.exports': (
    'export=folder causal_export=flow speaker_export=speaker '
    'vocoder_export=vocoder'
  ),
  'step_audio_jax.decoder > step_audio_jax.decoder.flow': (
    'flow=offline flow_feed=feed flow_matching=matching '
    'flow_objective=objective'
  ),
  'step_audio_jax.decoder > step_audio_jax.decoder.speaker': (
    'embeddings speaker=encoder speaker_feed=feed speaker_objective=objective'
  ),
  'step_audio_jax.decoder > step_audio_jax.decoder.vocoder': (
    'vocoder vocoder_objective=objective vocoder_step=step wave_feed=feed '
    'streaming_vocoder=streaming piecewise_vocoder=piecewise'
  ),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.metrics': (
    'scoring distances counts perplexity captions speech sound quiz'
  ),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.families': (
    'scores stranger'
  ),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.memory': (
    'identity parts'
  ),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.pages': ('page svg'),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.sweeps': (
    'curves=charts'
  ),
  'step_audio_jax.evaluation > step_audio_jax.evaluation.reports': (
    'report facts utterances report_page=page'
  ),
  'step_audio_jax.interop > step_audio_jax.interop.decoder': (
    'campplus campplus_onnx flow hift decoder=importing '
    'decoder_export=exporting'
  ),
  'step_audio_jax.interop > step_audio_jax.interop.formats': (
    'pickles torch_archive onnx hyper_yaml state checked outputs '
    'sentencepiece_json'
  ),
  'step_audio_jax.interop > step_audio_jax.interop.language': (
    'configs folders exporting importing peft rows vision bases '
    'tokenizer_files language=weights'
  ),
  'step_audio_jax.interop > step_audio_jax.interop.tokenizer': (
    'paraformer s3 tokenizer=released'
  ),
  'step_audio_jax.kernels > step_audio_jax.kernels.attention': (
    'attention blockwise full layout mosaic mosaic_kernels reference tiles '
    'triton triton_kernels windows'
  ),
  'step_audio_jax.models > step_audio_jax.models.causal_flow': (
    'causal_flow causal_blocks=blocks causal_config '
    'causal_sight=attention_masks'
  ),
  'step_audio_jax.models > step_audio_jax.models.flow': (
    'flow flow_encoder=encoder flow_estimator=estimator'
  ),
  'step_audio_jax.models > step_audio_jax.models.language': (
    'transformer speech_text vision decoding_layout'
  ),
  'step_audio_jax.models > step_audio_jax.models.speaker': (
    'campplus campplus_layers=layers'
  ),
  'step_audio_jax.models > step_audio_jax.models.tokenizer': (
    'paraformer s3 cif chunk_masked'
  ),
  'step_audio_jax.models > step_audio_jax.models.vocoder': (
    'hift hift_config hift_layers=layers harmonics=harmonic_source '
    'short_fourier=stft fast_conv=winograd '
    'vocoder_discriminators=discriminators'
  ),
  'step_audio_jax > step_audio_jax.storage': (
    'files lfs digests bindings lazy'
  ),
  'step_audio_jax.interop > step_audio_jax.storage': ('shards'),
  'step_audio_jax.tokenizers > step_audio_jax.tokenizers.speech': (
    'alignment codebook dual features linguistic seal semantic storage '
    'streaming=linguistic_stream streaming_dual=dual_stream '
    'streaming_semantic=semantic_stream'
  ),
  'step_audio_jax.tokenizers > step_audio_jax.tokenizers.text': (
    'characters text=text_models'
  ),
  'step_audio_jax.tokenizers > step_audio_jax.tokenizers.training': (
    'audio_feed objectives labels forced_alignment'
  ),
  'step_audio_jax.training > step_audio_jax.training.checkpoints': (
    'checkpoints stored sums failed_saves'
  ),
  'step_audio_jax.training > step_audio_jax.training.feeds': (
    'feed buckets crops recording_feed recordings contents'
  ),
  'step_audio_jax.training > step_audio_jax.training.objectives': (
    'objectives contrastive lora'
  ),
  'step_audio_jax.training > step_audio_jax.training.transfer': (
    'transfer heads remap own_vocabulary'
  ),
  'tpu_launch > tpu_launch.backends': (
    'jobs local queued_resource shell backends=registry'
  ),
  'tpu_launch > tpu_launch.recipes': ('recipe quickstart adapt adapt_recipe'),
}

# Classes and functions: where they were → where they are.
_NAMES = {
  'step_audio_jax.models.flow.flow.Regulator': (
    'step_audio_jax.models.flow.flow.LengthRegulator'
  ),
  'step_audio_jax.models.vocoder.discriminators.PeriodJudge': (
    'step_audio_jax.models.vocoder.discriminators.PeriodDiscriminator'
  ),
  'step_audio_jax.models.vocoder.discriminators.SpectrumJudge': (
    'step_audio_jax.models.vocoder.discriminators.SpectrumDiscriminator'
  ),
  'step_audio_jax.vocabulary.load': (
    'step_audio_jax.tokenizers.text.vocabularies.load'
  ),
  'step_audio_jax.vocabulary.step_audio': (
    'step_audio_jax.tokenizers.text.vocabularies.step_audio'
  ),
}


@functools.cache
def table() -> dict[str, str]:
  """Old dotted name → new one, as the lines above say it."""
  found = dict(_NAMES)
  for folders, words in _FOLDERS.items():
    before, after = folders.split(' > ')
    for word in words.split():
      old, _, new = word.partition('=')
      found[f'{before}.{old}'] = f'{after}.{new or old}'
  return found


def entry(name: str) -> str | None:
  """The line of the table that a dotted name falls under, by its old name.

  Some old names of modules are packages now: such a one falls under its line
  only with something after it that is no module of the package.
  """
  parts = name.split('.')
  for end in range(len(parts), 1, -1):
    old = '.'.join(parts[:end])
    if old not in table():
      continue
    if not is_module(old):
      return old
    if end < len(parts) and not is_module('.'.join(parts[: end + 1])):
      return old
  return None


def new_name(name: str) -> str | None:
  """What an old dotted name is called today; None where it is none."""
  old = entry(name)
  if old is None:
    return None
  new = table()[old] + name[len(old) :]
  return new_name(new) or new


def place(old: str) -> str:
  """Where what a line of the table is about lies today."""
  new = table()[old]
  return new_name(new) or new


def new_class(name: str) -> str:
  """What a class is called today, by its bare name, as `resume.json` has it."""
  for old, new in _NAMES.items():
    before, after = (one.rpartition('.')[2] for one in (old, new))
    if name == before != after:
      return new_class(after)
  return name


def split(name: str) -> tuple[str, str]:
  """The module of a dotted name, and what follows: ('a.b', 'Class.field')."""
  parts = name.split('.')
  end = len(parts)
  while end > 1 and not is_module('.'.join(parts[:end])):
    end -= 1
  return '.'.join(parts[:end]), '.'.join(parts[end:])


@functools.cache
def is_module(name: str) -> bool:
  """Whether there is such a module or package today; it is not imported."""
  try:
    return importlib.util.find_spec(name) is not None
  except (ImportError, ValueError):
    return False
