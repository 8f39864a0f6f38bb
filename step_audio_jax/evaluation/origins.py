"""What meets in an evaluation must be of one vocabulary and one tokenizer.

A model, rows, codes, and the decoder and tokenizer that make its speech sound:
all are compared before anything is scored (`bindings`).
"""

import pathlib
from typing import Any, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.feeds import feed


def check(
  run: str | pathlib.Path,
  *,
  codes: str | None = None,
  tokenizer: str | None = None,
  rows: str | None = None,
  sources: Sequence[str] = (),
  split: str = 'dev',
  sound: Any | None = None,
) -> None:
  """Compares what an evaluation is given with the run that it scores.

  Args:
    run: Run directory.
    codes: Folder of a tokenised corpus.
    tokenizer: Folder of the tokenizer that makes more codes.
    rows: Folder of built rows.
    sources: Row folders; empty means every one that has the split.
    split: Of the rows.
    sound: `sound.SoundConfig`.

  Raises:
    UserError: Ids or codes belong to another vocabulary or tokenizer; both
      are named.
  """
  run = files.path(run)
  if not files.is_file(run / 'config.json'):
    return  # told where the model is loaded
  config = checkpoints.run_config(run)
  mine = config.get(bindings.VOCABULARY)
  its_tokenizer = bindings.tokenizer_of(config, run / 'config.json')
  hears = bool(mine and mine.get('linguistic_size'))
  if codes is not None and hears and files.is_dir(codes):
    bindings.check_tokenizer(
      str(codes),
      bindings.of_codes(codes),
      str(run),
      its_tokenizer,
      'evaluate on codes of the tokenizer that the run was trained with',
    )
  if tokenizer is not None and hears:
    bindings.check_tokenizer(
      f'the tokenizer {tokenizer}',
      seal.identity(tokenizer),
      str(run),
      its_tokenizer,
      'name the tokenizer that the run was trained with',
    )
  if rows is not None:
    for source in _sources(files.path(rows), sources, split):
      if hears or not source.speech:
        _check_rows(source, run, mine, its_tokenizer)
  if sound is not None and hears:
    _check_sound(sound, run, its_tokenizer)


def compare(runs: Sequence[str | pathlib.Path]) -> None:
  """Says which runs of a report have other ids than the first of them.

  Error rates of texts may be compared all the same, perplexities may not.
  """
  first: dict[str, tuple[Any, Any]] = {}
  for run in map(files.path, runs):
    path = run / 'config.json'
    config = files.read_json(path) if files.is_file(path) else {}
    for key, digest in (
      (bindings.VOCABULARY, bindings.PIECES),
      (bindings.TOKENIZER, 'sha256'),
    ):
      mine = (config.get(key) or {}).get(digest)
      before, theirs = (
        first.setdefault(key, (run, mine)) if mine else (run, mine)
      )
      if mine != theirs:
        bindings.warn_once(
          f'{run} and {before} differ in their {key} '
          f'({digests.short(mine)}, {digests.short(theirs)}): their '
          'perplexities cannot be compared.'
        )


def _sources(rows, names, split):
  folders = [rows / name / split for name in names]
  if not names:
    folders = [
      path.parent for path in sorted(files.glob(rows, f'*/{split}/stats.json'))
    ]
  for folder in folders:
    try:
      source = feed.Source(folder.parent.name, folder)
    except errors.UserError:
      continue  # what is missing or broken is told where it is scored
    yield source


def _check_rows(source, run, mine, tokenizer) -> None:
  way_on = 'evaluate on rows that were built with the text model of the run'
  bindings.check_vocabulary(
    str(source.folder),
    source.vocabulary,
    str(run),
    mine,
    way_on,
    speech=source.speech,
  )
  if source.tokenizer:
    bindings.check_tokenizer(
      str(source.folder), source.tokenizer, str(run), tokenizer, way_on
    )


def _check_sound(sound, run, tokenizer) -> None:
  config = files.path(sound.decoder) / 'config.json'
  if not files.is_file(config):
    return  # told where it is loaded
  decoder = bindings.tokenizer_of(files.read_json(config), config)
  way_on = 'name the decoder and the tokenizer of the codes that the run speaks'
  bindings.check_tokenizer(
    str(run), tokenizer, f'the decoder {sound.decoder}', decoder, way_on
  )
  if files.is_file(files.path(sound.tokenizer) / seal.NAME):
    bindings.check_tokenizer(
      f'the tokenizer {sound.tokenizer}',
      seal.identity(sound.tokenizer),
      f'the decoder {sound.decoder}' if decoder else str(run),
      decoder or tokenizer,
      way_on,
    )
