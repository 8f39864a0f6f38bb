"""The `embed` door: a corpus in, a speaker embedding for each utterance out."""

from typing import Any

from absl import flags

from step_audio_jax import errors
from step_audio_jax import memory
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'corpus',
    None,
    'Corpus folder or its manifest.jsonl.',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_string(
    'speaker',
    None,
    'Who listens: a training run of gin/decoder/speaker.gin, or a speech '
    'decoder that has a speaker encoder.',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_string(
    'output', None, 'The .npz that is written.', flag_values=fv, required=True
  )
  flags.DEFINE_list(
    'splits', None, 'Only these splits; by default all.', flag_values=fv
  )


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  from step_audio_jax.decoder.exports import speaker
  from step_audio_jax.decoder.speaker import embeddings

  output = files.check_writable(fv.output, '--output')
  if output.suffix != '.npz':
    raise errors.UserError(
      f'--output={output}: expected a name ending in .npz.'
    )
  splits = fv.splits or None
  count = len(manifest.read(fv.corpus, splits=splits, kind='speech'))
  memory.keep_freed()  # batches of one shape ask for the same memory again
  encoder = speaker.open_encoder(fv.speaker)
  facts = {
    'output': str(output),
    'utterances': count,
    'size': encoder.config.embedding,
  }
  if fv.dry_run:
    print(f'would embed {count} utterances in {output}')
    return facts
  found = embeddings.embed_corpus(fv.corpus, encoder, splits)
  embeddings.write(output, found.vectors)
  print(
    f'{output}: {len(found.vectors)} embeddings of {facts["size"]} numbers; '
    f'{len(found.left_out)} utterances left out'
  )
  return facts | {
    'embedded': len(found.vectors),
    'left_out': dict(found.left_out),
  }


DOOR = cli.Door(
  summary="""Tells who speaks: one embedding for each utterance of a corpus.

    python -m step_audio_jax embed --corpus=data/speech \\
      --speaker=runs/speaker --output=data/speakers.npz

Training of the flow reads the file. An utterance that cannot be read, is
silent or shorter than 0.4 s is left out and told.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
