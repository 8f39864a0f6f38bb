"""Answers that were given, on disk: nothing is asked twice.

    FOLDER/ab/ab12….json    {"asked": {…}, "answer": {…}, "sha256": "…"}

Its name is the digest of all that was asked: prompt, model, parameters. What
lies there counts only if it was asked the same and its own digest fits; else it
is asked again. Processes may share a folder, which may lie in a bucket.
"""

import os
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files


class Answers:
  """A folder of answers.

  Attributes:
    folder: Where it is.
    broken: How many were found that do not count.
  """

  def __init__(self, folder: str | os.PathLike):
    """Nothing is read or written yet."""
    self.folder, self.broken = files.path(folder), 0

  def key_of(self, asked: Mapping[str, Any]) -> str:
    """Digest of all that was asked, the name of its answer."""
    return digests.of_value(asked)

  def path_of(self, key: str) -> files.AnyPath:
    """The file of an answer."""
    return self.folder / key[:2] / f'{key}.json'

  def get(self, asked: Mapping[str, Any]) -> Any | None:
    """What was answered; None where nothing that counts is there.

    Args:
      asked: All of it, JSON-able.
    """
    path = self.path_of(self.key_of(asked))
    if not files.is_file(path):
      return None
    try:
      found = files.read_json(path)
      answer = found['answer']
      if found['sha256'] == _digest(asked, answer):
        return answer
    except (errors.UserError, KeyError, TypeError) as error:
      if isinstance(error, errors.UserError):
        files.raise_outage(error)
    self.broken += 1
    return None

  def put(self, asked: Mapping[str, Any], answer: Any) -> None:
    """Keeps an answer, whole or not at all."""
    path = self.path_of(self.key_of(asked))
    files.make_folder(path.parent)
    files.write_json(
      path,
      {'asked': asked, 'answer': answer, 'sha256': _digest(asked, answer)},
    )

  def forget(self, asked: Mapping[str, Any]) -> None:
    """Removes an answer, to ask again."""
    files.remove(self.path_of(self.key_of(asked)))


def _digest(asked, answer) -> str:
  return digests.of_value([asked, answer])
