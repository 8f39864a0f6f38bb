"""Speech codes as they are handed to `speak --codes`.

An `<audio_k>…` string, a JSON file of `tokenize --json`, or a recording, which
is tokenised.
"""

import json
import os
from typing import Any, Callable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import io
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files

_STREAMS = ('linguistic', 'semantic')


def read(
  source: str,
  tokenizer: Callable[[], Any],
  channel: int | None = None,
  check: Callable[[str, bindings.Described], None] = lambda what, made_by: None,
) -> np.ndarray:
  """Mixed ids 0..5119 of a source, int32 (N,), checked.

  Args:
    source: See the module.
    tokenizer: Gives a `tokenizers.speech.dual.DualTokenizer`, asked for only
      where the source is a recording.
    channel: Of a recording, from 0; None is the mean of all.
    check: Called with what codes are called and the tokenizer that made them,
      None where they do not say.

  Raises:
    UserError: It cannot be read, the ids are not those of speech, or `check`
      refuses them.
  """
  if source.lstrip().startswith('<audio_'):
    ids = _named(
      lambda: voice_lib.check_ids(
        voice_lib.IDS.from_audio_string(source.strip())
      ),
      '--codes',
    )
    check('--codes', None)
    return ids
  if is_recording(source, channel):
    codes = tokenizer().encode_file(source, channel=channel)
    return voice_lib.IDS.interleave(*codes)
  return _named(lambda: _from_json(source, check), source)


def is_recording(source: str, channel: int | None = None) -> bool:
  """Whether a source is neither a string of codes nor JSON.

  Raises:
    UserError: It is a file that is not there, or a recording that is too
      short for a code, silent, or otherwise not to be read.
  """
  if source.lstrip().startswith('<audio_'):
    return False
  with files.opened(source) as handle:
    head = handle.read(512).lstrip()
  if head[:1] in (b'{', b'['):
    return False
  if source.endswith('.json'):
    raise errors.UserError(f'{source}: found no JSON object.')
  wave, _ = io.read_audio(source, duration=1.0, channel=channel)
  if len(wave) < vocabulary_lib.GROUP_SECONDS * io.SAMPLE_RATE:
    raise errors.UserError(
      f'{source}: {len(wave) / io.SAMPLE_RATE:.3f} s of audio, expected at '
      f'least {vocabulary_lib.GROUP_SECONDS} s, one group of codes.'
    )
  io.find_peak(source, channel=channel, audible=True)  # reads it through
  return True


def _from_json(path: str | os.PathLike, check) -> np.ndarray:
  with files.opened(path) as handle:
    raw = handle.read()
  try:
    value = files.parsed(raw)
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise errors.UserError(f'not valid JSON: {error}.') from error
  if isinstance(value, Mapping) and isinstance(value.get('files'), list):
    if len(value['files']) != 1:
      raise errors.UserError(
        f'files: found {len(value["files"])} recordings, expected one.'
      )
    whole, value = value, value['files'][0]
  else:
    whole = value
  made_by = bindings.tokenizer_of(value, path)
  made_by = made_by or bindings.tokenizer_of(whole, path)
  if isinstance(value, list):
    ids = voice_lib.check_ids(_whole(value, 'ids'))
    check(str(path), None)
    return ids
  if not isinstance(value, Mapping) or not set(_STREAMS) <= set(value):
    raise errors.UserError(
      'expected "linguistic" and "semantic" codes, as `tokenize --json` prints '
      'them, or a list of ids.'
    )
  one, two = (_whole(value[name], name) for name in _STREAMS)
  ids = voice_lib.check_ids(voice_lib.IDS.interleave(one, two))
  check(str(path), made_by)
  return ids


def _whole(value: Any, field: str) -> np.ndarray:
  """A list of whole numbers as an array."""
  if not isinstance(value, list) or any(type(x) is not int for x in value):
    raise errors.UserError(f'{field}: expected a list of whole numbers.')
  try:
    return np.asarray(value, np.int64)
  except OverflowError as error:
    raise errors.UserError(
      f'{field}: a number is too large for a code.'
    ) from error


def _named(found: Callable[[], np.ndarray], name: str) -> np.ndarray:
  try:
    return found()
  except errors.UserError as error:
    text = str(error)
    raise errors.UserError(
      text if text.startswith(f'{name}:') else f'{name}: {text}'
    ) from error
