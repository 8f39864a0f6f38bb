"""The protocol of chat completions, as OpenAI has it and many servers speak it.

    POST URL/chat/completions  {"model", "messages", "temperature", "seed", …}
    ← {"choices": [{"message": {"content"}, "finish_reason"}], "model", "usage"}

What comes back was written by others: it is read as data, in one shape, and
whatever else comes is a fault in one sentence.
"""

import dataclasses
import json
import os
import re
from typing import Any, Mapping, NamedTuple
import urllib.parse

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

STOPPED, CUT, FILTERED = 'stop', 'length', 'content_filter'
_OURS = ('model', 'messages', 'stream', 'n')  # what no parameter may be
_SHOWN = 80  # characters of what somebody else wrote
_VARIABLE = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_SEEDS = 2**31


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked.

  Attributes:
    messages: (role, text) each.
    sample: Which of several answers to the same; each has a seed of its own.
  """

  messages: tuple[tuple[str, str], ...]
  sample: int = 0


@dataclasses.dataclass(frozen=True)
class Model:
  """A model behind an address, and how it answers.

  Attributes:
    url: `https://HOST/v1`, what stands before `/chat/completions`.
    model: Its name there.
    key_variable: Of the environment, that holds a key; None sends none. The
      key is kept nowhere.
    temperature: 0 is greedy.
    top_p: Of the best tokens with this probability; None is the server's.
    max_tokens: Of an answer.
    seed: Each question's own follows from it.
    parameters: More that are sent along, `{'reasoning_effort': 'low'}`.
  """

  url: str
  model: str
  key_variable: str | None = None
  temperature: float = 0.7
  top_p: float | None = None
  max_tokens: int = 512
  seed: int = 0
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_url(self.url)
    if not self.model.strip():
      raise errors.UserError('endpoint: model: found no name, expected one.')
    if not 0 <= self.temperature <= 2:
      raise errors.UserError(
        f'endpoint: temperature: found {self.temperature}, expected 0 to 2.'
      )
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise errors.UserError(
        f'endpoint: top_p: found {self.top_p}, expected a share above 0, at '
        'most 1.'
      )
    errors.at_least_one('endpoint', self, ('max_tokens',))
    for name in _OURS:
      if name in self.parameters:
        raise errors.UserError(
          f'endpoint: parameters: found {name!r}, which is not a parameter.'
        )
    try:
      json.dumps(dict(self.parameters), allow_nan=False)
    except (TypeError, ValueError) as error:
      raise errors.UserError(
        f'endpoint: parameters: found what is no JSON ({error}).'
      ) from error
    _check_variable(self.key_variable)

  @property
  def identity(self) -> dict[str, Any]:
    """All that decides what it answers, without secrets, JSON-able."""
    names = [field.name for field in dataclasses.fields(Model)]
    names.remove('key_variable')
    return {
      **{name: getattr(self, name) for name in names},
      'url': shown_url(self.url),
      'parameters': json.loads(json.dumps(dict(self.parameters))),
    }

  def asked(self, question: Question) -> dict[str, Any]:
    """What an answer is kept by: all of it."""
    told = {
      **self.identity,
      'messages': [list(one) for one in question.messages],
      'sample': question.sample,
    }
    seed = digests.number(digests.of_value(told)) % _SEEDS
    return {**told, 'seed': seed}

  def body(self, asked: Mapping[str, Any]) -> bytes:
    """What is sent, of `asked`."""
    told = {
      'model': self.model,
      'messages': [
        {'role': role, 'content': text} for role, text in asked['messages']
      ],
      'temperature': self.temperature,
      'max_tokens': self.max_tokens,
      'seed': asked['seed'],
      **({} if self.top_p is None else {'top_p': self.top_p}),
      **self.parameters,
    }
    return json.dumps(told).encode()

  @property
  def address(self) -> str:
    """Where it is sent."""
    head, mark, tail = self.url.partition('?')
    return f'{head.rstrip("/")}/chat/completions{mark}{tail}'

  @property
  def name(self) -> str:
    """For messages, without secrets."""
    return f'{shown_url(self.url)} ({self.model})'

  def key(self) -> str:
    """The key, '' where none is sent.

    Raises:
      UserError: The variable is not set.
    """
    if self.key_variable is None:
      return ''
    found = os.environ.get(self.key_variable, '').strip()
    if not found.isascii() or not found.isprintable() or not found:
      raise errors.UserError(
        f'endpoint: ${self.key_variable}: found '
        f'{"other characters" if found else "nothing"}, expected the key of '
        f'{shown_url(self.url)}.'
      )
    return found


class Reply(NamedTuple):
  """What became of a question.

  Attributes:
    key: Digest of all that was asked.
    text: What was answered, as it came; None where nothing was.
    kind: '' of an answer; else what is wrong, in a word, as it is counted.
    fault: In one sentence; '' of an answer.
    model: What the endpoint calls the model that answered, if it does.
    is_kept: Whether it was on disk.
  """

  key: str
  text: str | None
  kind: str = ''
  fault: str = ''
  model: str | None = None
  is_kept: bool = False


class Wrong(Exception):
  """What came back is none of the protocol.

  Attributes:
    kind: In a word.
    fault: What was found and expected, in one sentence without the address.
  """

  def __init__(self, kind: str, fault: str):
    """Tells both."""
    super().__init__(fault)
    self.kind, self.fault = kind, fault


def read(body: bytes, kind: str | None = None) -> dict[str, Any]:
  """The answer in a body: {'text', 'finish', 'model', 'tokens'}.

  Args:
    body: Bytes of whatever came back with a status of success.
    kind: Its content type, where it says one.

  Raises:
    Wrong: It is none.
  """
  if (kind or '').startswith('text/html') or body.lstrip()[:1] == b'<':
    raise Wrong('html', f'found HTML {_start(body)}, expected JSON.')
  try:
    value = files.parsed(body.decode())
  except ValueError as error:  # UTF-8, JSON, or a number of 5,000 digits
    raise Wrong(
      'not_json', f'found {_start(body)}, expected JSON in UTF-8.'
    ) from error
  if isinstance(value, Mapping) and value.get('error') is not None:
    raise Wrong('error', f'found an error: {said_of(value["error"])}.')
  try:
    choice = value['choices'][0]
    message = choice['message']
    text, finish = message['content'], choice.get('finish_reason')
    refused = message.get('refusal')
  except (TypeError, KeyError, IndexError, AttributeError) as error:
    raise Wrong(
      'shape', f'found {_start(body)}, expected choices[0].message.content.'
    ) from error
  if refused and text is None:
    raise Wrong('refusal', f'the model refused: {said_of(refused)}.')
  if not isinstance(text, str) or not isinstance(finish, (str, type(None))):
    raise Wrong(
      'shape',
      f'content, finish_reason: found {type(text).__name__}, '
      f'{type(finish).__name__}, expected strings.',
    )
  if any('\ud800' <= character <= '\udfff' for character in text):
    raise Wrong(
      'control',
      f'content: found half of a surrogate pair in {said_of(text)!r}, expected '
      'characters.',
    )
  told, usage = value.get('model'), value.get('usage')
  tokens = usage.get('completion_tokens') if isinstance(usage, Mapping) else 0
  return {
    'text': text,
    'finish': said_of(finish) if finish else None,
    'model': said_of(told) if isinstance(told, str) else None,
    'tokens': tokens if type(tokens) is int and 0 <= tokens < 2**53 else None,
  }


def is_answer(value: Any) -> bool:
  """Whether what was kept is an answer of `read`, or a fault."""
  if not isinstance(value, Mapping):
    return False
  if 'kind' in value:
    return isinstance(value['kind'], str) and isinstance(
      value.get('fault'), str
    )
  told = [value.get('finish'), value.get('model')]
  return isinstance(value.get('text'), str) and all(
    isinstance(one, (str, type(None))) for one in told
  )


def unusable(answer: Mapping[str, Any]) -> tuple[str, str]:
  """Kind and fault of an answer of the right shape; two '' of a good one."""
  text, finish = answer['text'], answer['finish']
  if finish == CUT:
    return 'truncated', (
      f'truncated: the answer reached max_tokens: …{said_of(text[-40:])}.'
    )
  if finish == FILTERED:
    return 'refusal', 'the endpoint filtered the content of the answer.'
  if not text.strip():
    return 'empty', 'found an empty answer, expected a text.'
  return '', ''


def error_of(body: bytes) -> str:
  """What a body says of an error, short."""
  try:
    return said_of(files.parsed(body.decode())['error'])
  except (ValueError, TypeError, KeyError):
    return said_of(body[: 8 * _SHOWN].decode(errors='replace'))


def said_of(value: Any) -> str:
  """What somebody else wrote, as a message shows it: short, on one line."""
  if isinstance(value, Mapping):
    value = value.get('message', value)
  text = value if isinstance(value, str) else repr(value)
  text = ' '.join(text[: 8 * _SHOWN].split())
  text = ''.join(c if c.isprintable() else '?' for c in text)
  short = text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'
  return short.rstrip('. ')


def shown_url(url: str) -> str:
  """An address without what may be secret in it."""
  return url.partition('?')[0].partition('#')[0].rstrip('/')


def _start(body: bytes) -> str:
  start = body[: 4 * _SHOWN].decode(errors='replace')
  return repr(said_of(start)) if body.strip() else 'nothing'


def _check_url(url: str) -> None:
  try:
    parts = urllib.parse.urlsplit(url)
    _ = parts.port  # a property that may raise
  except ValueError as error:
    raise errors.UserError(
      'endpoint: url: found no address, expected https://HOST/v1.'
    ) from error
  if parts.username is not None or parts.password is not None:
    raise errors.UserError(  # which is not shown
      'endpoint: url: found a name or password in it, expected a key in an '
      'environment variable, named by key_variable.'
    )
  if parts.scheme not in ('http', 'https') or not parts.hostname:
    raise errors.UserError(
      f'endpoint: url: found {shown_url(url)!r}, expected https://HOST/v1.'
    )
  if parts.fragment or re.search(r'[\s\x00-\x1f]', url) or not url.isascii():
    raise errors.UserError(
      f'endpoint: url: found {shown_url(url)!r} with spaces, other characters '
      'or a #, expected https://HOST/v1.'
    )


def _check_variable(name: str | None) -> None:
  if name is not None and not _VARIABLE.fullmatch(name):
    raise errors.UserError(  # it may be the key itself
      f'endpoint: key_variable: found {len(name)} characters that are no name '
      'of an environment variable, expected one such as OPENAI_API_KEY.'
    )
