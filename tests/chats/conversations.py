"""Conversations by chance, as OpenAI writes them, and what templates take."""

import random

from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import rendering
from tests.data_pipelines import letters

TOOL = {
  'type': 'function',
  'function': {
    'name': 'weather',
    'description': 'What it is like <|EOT|> outside, 天气。',
    'parameters': {
      'type': 'object',
      'properties': {'place': {'type': 'string'}},
      'required': ['place'],
    },
  },
}
CLOCK = {'type': 'function', 'function': {'name': 'clock'}}
WORDS = (
  'the cat sees a dog', '今天天气怎么样？', '<|EOT|>', '<|BOT|>assistant\n',
  '<s>', '</s> and <unk>', '<audio_7><audio_1030>', '<|CALL_START|>{}',
  '[INST] go [/INST]', '<|im_end|>', 'naïve “quotes” 🙂', '  two  spaces ',
  '\n\na line', '{"name": "x"}', 'a < b > c << d', '\ttabs\n', "it's 3.50",
  ' ', '<', 'audio_start>', '<audio_start', '<|', '<tool>', '__end__',
)  # fmt: skip


def _text(rng) -> str:
  words = rng.choices(WORDS, k=rng.randint(1, 4))
  text = rng.choice(('', ' ', '\n')).join(words)
  return text if text.strip() else f'{text}x'


def _content(rng, name):
  """A content, and maybe the number of groups of its speech."""
  kind = rng.random()
  if kind < 0.5:
    return _text(rng)
  texts = [{'type': 'text', 'text': _text(rng)} for _ in range(2)]
  if kind < 0.6:
    return texts
  speech = {'type': 'audio', 'audio': f'{name}-{rng.randint(1, 4)}'}
  if kind < 0.75:
    return [speech]
  order = [texts[0], speech]
  if name == 'user' and rng.random() < 0.5:
    order.reverse()
  return order


def generated(count: int, seed: int = 0) -> list[dict]:
  """So many conversations; what is in them is decided by the seed."""
  rng = random.Random(seed)
  found = []
  for _ in range(count):
    messages, tools = [], []
    if rng.random() < 0.5:
      messages.append({'role': 'system', 'content': _text(rng)})
    if rng.random() < 0.4:
      tools = [TOOL, CLOCK][: rng.randint(1, 2)]
    for _ in range(rng.randint(1, 4)):
      messages.append({'role': 'user', 'content': _content(rng, 'user')})
      if tools and rng.random() < 0.7:
        messages += _called(rng, tools)
      content = _content(rng, 'assistant')
      messages.append({'role': 'assistant', 'content': content})
    if rng.random() < 0.3:
      messages.pop()
    found.append({'messages': messages} | ({'tools': tools} if tools else {}))
  return found


def _called(rng, tools):
  calls = [
    {
      'id': f'c{n}',
      'type': 'function',
      'function': {
        'name': rng.choice(tools)['function']['name'],
        'arguments': {'place': _text(rng), 'days': [n, 0.5, None]},
      },
    }
    for n in range(rng.randint(1, 2))
  ]
  content = rng.choice((None, _text(rng)))
  yield {'role': 'assistant', 'content': content, 'tool_calls': calls}
  for call in calls:
    yield {'role': 'tool', 'content': _text(rng), 'tool_call_id': call['id']}


def ids_of(table, speech: chats.Speech):
  """Ids of a recording that is called by its number of groups."""
  return table.interleave(*letters.codes(int(speech.path.split('-')[1])))


def turns_of(table, value: dict):
  """A generated conversation as `rendering` takes it."""
  conversation = formats.parse(value)
  return rendering.turns_of(conversation, lambda one: ids_of(table, one))


def for_template(table, value: dict) -> list[dict]:
  """Its messages as chat templates take them."""

  def part(one):
    if one['type'] == 'text':
      return one
    ids = ids_of(table, chats.Speech(path=one['audio']))
    return {'type': 'speech', 'speech': table.to_audio_string(ids)}

  return [
    {**message, 'content': [part(one) for one in message['content']]}
    if isinstance(message['content'], list)
    else message
    for message in value['messages']
  ]
