"""`vocabulary`: trains a SentencePiece text vocabulary on corpora.

Ids 0..67 are the control pieces of Step-Audio's tokenizer at their places,
the unused ones as `<spare_k>`; then 256 bytes, so that every text has ids;
then what is learnt. Texts are taken as they are (no normalisation, no space
put in front), so that decoding gives back the text byte for byte.
"""

import io
import itertools
import json
import os
import pathlib
from typing import Any, Iterable, Mapping, Sequence

from absl import flags

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

MODEL_TYPES = ('char', 'unigram', 'bpe')
BYTES = 256


def control_pieces() -> list[str]:
  """Pieces 0..67; the places that Step-Audio leaves free are `<spare_k>`."""
  pieces = [f'<spare_{k}>' for k in range(vocabulary.CONTROL_SIZE)]
  for piece, place in vocabulary.CONTROL.items():
    pieces[place] = piece
  return pieces


def texts_of(corpora: Sequence[str], split: str = 'train') -> list[str]:
  """The texts of one split of some corpora, in order.

  Raises:
    UserError: A corpus cannot be read, or there is no text at all.
  """
  texts = [
    utterance.text
    for corpus in corpora
    for utterance in manifest.read(corpus, splits=[split])
    if utterance.text
  ]
  if not texts:
    raise errors.UserError(
      f'--corpus={",".join(corpora)}: no text in split {split!r}.'
    )
  return texts


def train(
  texts: Iterable[str], *, model_type: str = 'char', size: int = 0
) -> bytes:
  """Trains a model and checks it.

  Args:
    texts: One sentence each.
    model_type: `char`, `unigram` or `bpe`.
    size: Number of pieces, all kinds together; 0 gives `char` a piece for
      every character of the texts.

  Returns:
    The serialised SentencePiece model.

  Raises:
    UserError: The size or the type cannot be had from these texts.
  """
  import sentencepiece

  texts = list(texts)
  if model_type not in MODEL_TYPES:
    raise errors.UserError(
      f'--model_type: found {model_type!r}, expected one of '
      f'{", ".join(MODEL_TYPES)}.'
    )
  least = vocabulary.CONTROL_SIZE + BYTES
  characters = len(set(itertools.chain.from_iterable(texts)))
  if not size and model_type == 'char':
    size = least + characters + 1
  if size <= least:
    raise errors.UserError(
      f'--size: found {size}, expected more than {least} '
      f'({vocabulary.CONTROL_SIZE} control pieces and {BYTES} bytes).'
    )
  out = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts),
      model_writer=out,
      model_type=model_type,
      vocab_size=size,
      hard_vocab_limit=False,
      character_coverage=1.0,
      byte_fallback=True,
      unk_id=vocabulary.PAD,
      bos_id=vocabulary.BOS,
      eos_id=vocabulary.CONTROL['</s>'],
      pad_id=-1,
      control_symbols=control_pieces()[3:],
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      num_threads=1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise errors.UserError(
      f'--size={size} --model_type={model_type}: sentencepiece cannot train '
      f'that on {len(texts)} texts: {" ".join(str(error).split())}'
    ) from error
  model = out.getvalue()
  check(model, texts[:1000])
  return model


def check(model: bytes, texts: Sequence[str] = ()) -> int:
  """Checks a model's control pieces and that texts survive; returns its size.

  Raises:
    UserError: A piece is not at its place, or a text changes.
  """
  import sentencepiece

  processor = sentencepiece.SentencePieceProcessor(model_proto=model)
  size = processor.vocab_size()
  for place, piece in enumerate(control_pieces()):
    found = processor.id_to_piece(place) if place < size else None
    spare = piece.startswith('<spare_')
    if found != piece and not spare:
      raise errors.UserError(
        f'text model: piece {place} is {found!r}, expected {piece!r}.'
      )
  for text in texts:
    again = processor.decode(processor.encode(text))
    if again != text:
      raise errors.UserError(f'text model: {text!r} comes back as {again!r}.')
  return size


def make(
  output: str | os.PathLike,
  corpora: Sequence[str],
  *,
  model_type: str = 'char',
  size: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Trains `output` unless it was made from the same texts and settings.

  Args:
    output: The model's file.
    corpora: Whose texts are learnt.
    model_type: As `train`.
    size: As `train`.
    overwrite: Whether another vocabulary may be replaced.

  Raises:
    UserError: As `train`; or `output` cannot be written, or holds another
      vocabulary: rows and runs may have been built with it.
  """
  output = files.check_writable(output, '--output')
  files.check_writable(output.with_suffix('.json'))
  texts = texts_of(corpora)
  digest = digests.of_bytes(
    json.dumps([texts, model_type, size], ensure_ascii=False).encode()
  )
  record = output.with_suffix('.json')
  if files.exists(output) and files.exists(record):
    found = files.read_json(record)
    if found.get('inputs') == digest and (
      digests.of_file(output) == found.get('sha256')
    ):
      return {**found, 'made': False}
  model = train(texts, model_type=model_type, size=size)
  pieces = check(model)
  if not overwrite:
    _check_not_another(output, model)
  with files.atomic(output) as handle:
    handle.write(model)
  result = {
    'text_model': str(output),
    'model_type': model_type,
    'size': pieces,
    'texts': len(texts),
    'inputs': digest,
    'sha256': digests.of_bytes(model),
  }
  files.write_json(record, result)
  return {**result, 'made': True}


def _check_not_another(output: pathlib.Path, model: bytes) -> None:
  """Raises UserError where `output` is a file of other bytes."""
  if not files.exists(output):
    return
  if digests.of_file(output) == digests.of_bytes(model):
    return
  raise errors.UserError(
    f'--output={output}: holds another vocabulary '
    f'({digests.short(digests.of_file(output))}) than these texts and settings '
    f'give ({digests.short(digests.of_bytes(model))}), and rows and runs may '
    'have been built with it; name another file, or say --overwrite to '
    'replace it.'
  )


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'corpus', None, 'A corpus folder; repeat it for more.', flag_values=fv
  )
  flags.DEFINE_string('output', None, 'Model file to write.', flag_values=fv)
  flags.mark_flags_as_required(['corpus', 'output'], flag_values=fv)
  flags.DEFINE_string(
    'model_type', 'char', f'One of {", ".join(MODEL_TYPES)}.', flag_values=fv
  )
  flags.DEFINE_integer(
    'size', 0, 'Pieces in all; 0: what `char` needs.', flag_values=fv
  )
  flags.DEFINE_bool(
    'overwrite',
    False,
    'Replace another vocabulary; what was built with it keeps its digest.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  files.check_writable(fv.output, '--output')
  if fv.dry_run:
    texts = texts_of(fv.corpus)
    print(f'would train {fv.output} ({fv.model_type}) on {len(texts)} texts')
    return {'dry_run': True, 'texts': len(texts)}
  result = make(
    fv.output,
    fv.corpus,
    model_type=fv.model_type,
    size=fv.size,
    overwrite=fv.overwrite,
  )
  print(f'{fv.output}: {result["size"]} pieces from {result["texts"]} texts')
  return result


DOOR = cli.Door(
  summary="""Trains a SentencePiece text vocabulary with Step-Audio's places.

    python -m data_pipelines vocabulary --corpus=data/quickstart/text \\
      --corpus=data/quickstart/speech --output=data/quickstart/text.model
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
