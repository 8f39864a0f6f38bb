"""Chats as an open model's own template lays them out.

A template is a program of whoever made the model. It runs in jinja2's sandbox,
and what it gives is text, in which the tokenizer's special pieces count only
where the template wrote them: one that stands in what somebody said stays
characters.
"""

import json
import pathlib
import re
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import text_models as text_lib

# Where a converted run keeps the files of its origin.
FOLDER = 'huggingface'
_FILE, _CONFIG = 'chat_template.jinja', 'tokenizer_config.json'
# Private characters, one of which parts a special piece in what was said.
_PRIVATE = range(0xE000, 0xF8FF)
Message = Mapping[str, str]  # role and content


class ChatTemplate:
  """A template with the names of special tokens that it may use."""

  def __init__(self, source: str, special: Mapping[str, str], where: str):
    """Takes a template.

    Args:
      source: In jinja2's language.
      special: `bos_token` and its like, by name.
      where: Its file, for messages.
    """
    self._source, self._special, self._where = source, dict(special), where

  @classmethod
  def of_run(cls, run: str | pathlib.Path) -> 'ChatTemplate | None':
    """The template that came with a converted run; None without one.

    Raises:
      UserError: A file of it is malformed.
    """
    folder = files.path(run) / FOLDER
    path, config = folder / _CONFIG, {}
    if files.is_file(path):
      config = files.read_json(path)
      if not isinstance(config, dict):
        raise errors.UserError(f'{path}: found no JSON object.')
    source, where = config.get('chat_template'), path
    if files.is_file(folder / _FILE):
      where = folder / _FILE
      try:
        source = files.read_text(where)
      except UnicodeDecodeError as error:
        raise errors.UserError(
          f'{where}: found bytes that are no UTF-8 ({error.reason} at byte '
          f'{error.start}), expected a text.'
        ) from error
    if isinstance(source, list):
      source = _default(source, where)
    if source is None or source == '':
      return None
    if not isinstance(source, str):
      raise errors.UserError(
        f'{where}: chat_template is a {type(source).__name__}, expected a text.'
      )
    return cls(source, _special_tokens(config), str(where))

  def render(self, messages: Sequence[Message]) -> str:
    """The text of a chat, up to where the assistant speaks next.

    Raises:
      UserError: The template refuses the messages, or is no template.
    """
    import jinja2
    from jinja2 import sandbox

    def refuse(message):
      raise jinja2.TemplateError(message)

    world = sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True, lstrip_blocks=True
    )
    world.globals['raise_exception'] = refuse
    world.filters['tojson'] = _as_json
    try:
      return world.from_string(self._source).render(
        messages=[dict(message) for message in messages],
        add_generation_prompt=True,
        **self._special,
      )
    except Exception as error:  # a template may raise anything
      raise errors.UserError(
        f'{self._where}: the chat template cannot lay this chat out '
        f'({" ".join(str(error).split()) or type(error).__name__}).'
      ) from error

  def prompt(
    self, text: text_lib.Text, messages: Sequence[Message]
  ) -> list[int]:
    """Ids of a chat, up to where the assistant speaks next.

    Args:
      text: The model's tokenizer.
      messages: Who said what.

    Raises:
      UserError: As `render`.
    """
    names = {
      piece: place
      for place, (piece, kind) in enumerate(text.pieces)
      if kind == 'special' and place >= text.moved and piece
    }
    # The longest first: one may begin like another.
    ordered = sorted(names, key=len, reverse=True)
    wanted = re.compile('|'.join(map(re.escape, ordered)) or r'(?!)')
    said = ''.join(message['content'] for message in messages)
    mark = next(chr(c) for c in _PRIVATE if chr(c) not in said + self._source)

    def part(match):
      return match[0][:1] + mark + match[0][1:]

    parted = [
      {**message, 'content': wanted.sub(part, message['content'])}
      for message in messages
    ]
    rendered, ids, place = self.render(parted), [], 0
    for match in (*wanted.finditer(rendered), None):
      end = match.start() if match else len(rendered)
      plain = rendered[place:end].replace(mark, '')
      ids += text.encode(plain) if plain else []
      if match:
        ids.append(names[match[0]])
        place = match.end()
    return ids


def _default(entries: list[Any], where: pathlib.Path) -> str | None:
  """Of several templates the one that is called 'default', if one is."""
  named = {}
  for place, entry in enumerate(entries):
    entry = entry if isinstance(entry, dict) else {}
    name, template = entry.get('name'), entry.get('template')
    if not isinstance(name, str) or not isinstance(template, str):
      raise errors.UserError(
        f'{where}: chat_template[{place}] is no object with the texts "name" '
        'and "template", expected one.'
      )
    named[name] = template
  return named.get('default')


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
  """`bos_token` and its like; each a text or an object with one."""
  found = {}
  for name, value in config.items():
    value = value.get('content') if isinstance(value, dict) else value
    if name.endswith('_token') and isinstance(value, str):
      found[name] = value
  return found


def _as_json(value: Any, indent: int | None = None, **_: Any) -> str:
  return json.dumps(value, ensure_ascii=False, indent=indent)
