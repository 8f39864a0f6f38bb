r"""StepEval-Audio-Toolcall: is the right tool called, and no other.

    TOOL_positive.jsonl   get_date_time, get_weather, timbre, web_search
    TOOL_negative.jsonl   a chat a line, a list of turns:
                          {"session_id", "turn_idx", "from": "Human",
                           "Assistant" or "Input", "text", "value": {"type":
                           "wav", "value": "wav/….wav"} or the text}
    wav/…, or wav.tar     what the turns sound like

About 200 chats in each file. The last turn is the answer: of a positive chat a
call of its tool, of a negative one words, or a call of another tool. A call is
`<tool_call>function\nNAME\nARGUMENTS</tool_call>`, at times after some words;
`Input` is what a tool gave.
Published with Step-Audio 2, also in its repository as Step-Audio_Toolcall.

The schemas of the tools are not part of the files; ours name what the calls in
them have, `calculate` included, which only negative chats call.
"""

import dataclasses
import json
import re
from typing import Any, Mapping

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import tools
from step_audio_jax.storage import files

# File → the tool that it is about.
FILES = {
  'get_date_time': 'get_date_time',
  'get_weather': 'get_weather',
  'timbre': 'timbre_rag',
  'web_search': 'web_search',
}
_CALL = re.compile(
  r'(?P<words>(?:(?!<tool_call>).)*)<tool_call>\s*function\s+(?P<name>\w+)\s*'
  r'(?P<arguments>\{(?:(?!</tool_call>).)*\})?\s*</tool_call>',
  re.DOTALL,
)


def _schema(name: str, says: str, **arguments: str) -> Mapping[str, Any]:
  properties = {
    argument: {'type': 'string', 'description': told}
    for argument, told in arguments.items()
  }
  parameters = {
    'type': 'object',
    'properties': properties,
    'required': list(arguments),
  }
  function = {'name': name, 'description': says, 'parameters': parameters}
  return {'type': 'function', 'function': function}


TOOLS = (
  _schema('get_date_time', '查询当前的日期和时间'),
  _schema('get_weather', '查询天气预报', location='城市的拼音'),
  _schema('timbre_rag', '切换说话的音色', query='想要的音色'),
  _schema('web_search', '搜索网页', query='搜索的内容'),
  _schema('calculate', '计算', expression='算式'),
)


@dataclasses.dataclass(frozen=True)
class Toolcall(tools.ToolCalls):
  """All chats of the four tools.

  Attributes:
    expected: Chats of the public set.
  """

  expected: int = 0

  def read(self) -> benchmark.Reading:
    root = self.path()
    if files.is_dir(root / 'Step-Audio_Toolcall'):
      root /= 'Step-Audio_Toolcall'
    archive = reading.Archive(root, 'wav', 'wav.tar')
    found: list[benchmark.Item | reading.Left] = []
    for name, tool in FILES.items():
      for side in ('positive', 'negative'):
        path = root / f'{name}_{side}.jsonl'
        if not files.is_file(path):
          found.append((str(path), reading.PART))
          continue
        for number, line in enumerate(_lines(path), start=1):
          made = gathering.made(
            f'{path}:{number}',
            _item,
            archive,
            f'{name}-{side}-{number}',
            line,
            tool if side == 'positive' else '',
            tool,
          )
          found.append(made)
    return gathering.reading(self, found, expected=self.expected)


def _lines(path):
  with files.opened(path, mode='r', encoding='utf-8-sig') as handle:
    yield from (line for line in handle if line.strip())


def _item(archive, name, line, wanted, tool):
  try:
    said = json.loads(line)
  except ValueError as error:
    raise errors.UserError('not a line of JSON.') from error
  if not isinstance(said, list) or len(said) < 2:
    raise errors.UserError('found no list of turns, expected one.')
  *before, last = said
  turns = [chats_lib.Turn(chats_lib.TOOLS, tools=TOOLS)]
  turns += [_turn(archive, one) for one in before]
  answer = _turn(archive, last)
  if turns[-1].role != chats_lib.USER or answer.role != chats_lib.ASSISTANT:
    raise errors.UserError(
      'from: found another order, expected Human and then Assistant at the end.'
    )
  calls = [
    {'name': call.name, 'arguments': dict(call.arguments)}
    for call in answer.calls
  ]
  if wanted and [call['name'] for call in calls] != [wanted]:
    raise errors.UserError(
      'text: found another call than the one that its file is about.'
    )
  return benchmark.Item(
    name,
    chats_lib.Conversation(tuple(turns)),
    (answer.text,) if answer.text else (),
    'zh',
    {
      'category': tool,
      'wanted': wanted,
      'avoided': '' if wanted else tool,
      'expected_calls': calls,
    },
  )


def _turn(archive, said):
  if not isinstance(said, Mapping):
    raise errors.UserError('found a turn that is no object.')
  who, text = said.get('from'), str(said.get('text') or '').strip()
  value = said.get('value')
  if who == 'Input':
    return reading.turn(chats_lib.RESULT, text)
  if who == 'Human':
    if not isinstance(value, Mapping):
      raise errors.UserError('value: found no recording of the user.')
    return reading.user(archive.recording(str(value.get('value')), text))
  if who != 'Assistant':
    raise errors.UserError(
      f'from: found {who!r}, expected Human, Assistant or Input.'
    )
  if '<tool_call>' not in text:
    return reading.assistant(text)
  found = _CALL.fullmatch(text)
  if not found:
    raise errors.UserError('text: found a call of another form.')
  try:
    arguments = json.loads(found['arguments'] or '{}')
  except ValueError as error:
    raise errors.UserError('text: found arguments that are no JSON.') from error
  calls = (chats_lib.Call(found['name'], arguments),)
  return reading.turn(chats_lib.ASSISTANT, found['words'].strip(), calls=calls)
