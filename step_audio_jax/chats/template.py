"""The chat template of a model that was trained here, in Jinja.

What it gives is text, which `transformers` and vLLM take to ids with the
tokenizer beside it: those of `rendering`. In that text a control piece counts
wherever it is written, so the template writes a mark behind each character of
what somebody said that may begin one; the tokenizer drops the marks before it
cuts words (`interop.language.chat_marks`). Where a tokenizer would join white
space at the beginning of a turn to the line break in front of it, another mark,
at which it cuts, parts them. Both are noncharacters, which no text holds.

A content is a text, or a list of parts: {"type": "text", "text": …}, and
{"type": "speech", "speech": "<audio_7><audio_1030>…"} for codes. Tools are what
`transformers` is given as `tools`, calls are `tool_calls` of a message.
"""

import re
from typing import Collection, Mapping

from step_audio_jax import documents as documents_lib
from step_audio_jax.chats import conversation as chats

PARTED, CUT = '\ufdd2', '\ufdd3'  # within a piece; between words
_PIECES = ('<|BOT|>', '<|EOT|>', '<|CALL_START|>', '<|CALL_END|>')

# Lines are joined, so that none of their ends is part of the text.
_NAME = re.compile('@([A-Z_]+)@')  # is replaced
_MACROS = r"""
{%- macro plain(text) -%}
{%- if '@PARTED@' in text or '@CUT@' in text -%}
{{- raise_exception('text: found a noncharacter, U+FDD2 or U+FDD3.') -}}
{%- endif -%}
{{- text @ESCAPES@ -}}
{%- endmacro -%}

{%- macro codes(text) -%}
{%- set numbers = text.replace('<audio_', '').replace('>', '') -%}
{%- if not text.startswith('<audio_') or not numbers.isdigit() -%}
{{- raise_exception('speech: expected "<audio_7><audio_1030>...".') -}}
{%- endif -%}
{{- text -}}
{%- endmacro -%}

{%- macro parts(content) -%}
{%- set seen = namespace(text=false) -%}
{%- for part in content -%}
{%- if part.type == 'text' and part.text -%}
{{- '\n' if seen.text else '' -}}{{- plain(part.text) -}}
{%- set seen.text = true -%}
{%- elif part.type == 'speech' -%}
{{- codes(part.speech) -}}
{%- set seen.text = false -%}
{%- elif part.type != 'text' -%}
{{- raise_exception('content: expected parts of the types text and speech.') -}}
{%- endif -%}
{%- endfor -%}
{%- endmacro -%}

{%- macro calls(found) -%}
{%- for one in found -%}
{%- set call = one.function if one.function else one -%}
{%- set given = call.arguments -%}
{%- set given = given if given is string else (given or {}) | tojson -%}
{{- '@CALL_START@' -}}
{%- set named = '{"name": ' + call.name | tojson -%}
{{- plain(named + ', "arguments": ' + given + '}') -}}
{{- '@CALL_END@' -}}
{%- endfor -%}
{%- endmacro -%}

{%- macro turn(role, said) -%}
{{- '@BEGIN@' + role + '\n' -}}
@CUTS@
{{- said + '@END@' -}}
{%- endmacro -%}
"""
_TURNS = r"""
{%- set roles = @ROLES@ -%}
{%- set told = namespace(tools=not tools) -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role not in roles -%}
{{- raise_exception('role: expected one of ' + roles | join(', ') + '.') -}}
{%- endif -%}
{%- if not told.tools and message.role != 'system' -%}
{{- turn('@TOOLS@', plain(tools | tojson)) -}}
{%- set told.tools = true -%}
{%- endif -%}
{%- set content = message.content or '' -%}
{%- set said = plain(content) if content is string else parts(content) -%}
{{- turn(roles[message.role], said + calls(message.tool_calls or [])) -}}
{%- endfor -%}
{%- if not told.tools -%}
{{- turn('@TOOLS@', plain(tools | tojson)) -}}
{%- endif -%}
{%- if add_generation_prompt -%}
{{- '@BEGIN@assistant\n' -}}
{%- endif -%}
"""


def write(
  pieces: Mapping[str, str],
  escaped: Collection[str] = ('<',),
  *,
  cuts: bool = False,
  starts: bool = False,
) -> str:
  """The template's source.

  Args:
    pieces: Control piece → what the tokenizer calls it; those that are left
      out are called what they are.
    escaped: First characters of all that must not become a piece.
    cuts: Whether the tokenizer joins white space to a line break before it.
    starts: As `documents.Turns.starts`.
  """
  name = {piece: pieces.get(piece, piece) for piece in _PIECES}
  begin = name['<|BOT|>']
  if starts:
    begin += pieces.get('<s>', '<s>')
  roles = {**{role: role for role in documents_lib.ROLES}, 'human': 'user'}
  written = {
    'ESCAPES': ' '.join(
      f'| replace({_quoted(one)}, {_quoted(one + PARTED)})'
      for one in sorted(escaped)
    ),
    'PARTED': _quoted(PARTED)[1:-1],
    'CUTS': f"{{{{- {_quoted(CUT)} if said and said[0].isspace() else '' -}}}}"
    if cuts
    else '',
    'CUT': _quoted(CUT)[1:-1],
    'CALL_START': _quoted(name['<|CALL_START|>'])[1:-1],
    'CALL_END': _quoted(name['<|CALL_END|>'])[1:-1],
    'BEGIN': _quoted(begin)[1:-1],
    'END': _quoted(name['<|EOT|>'])[1:-1],
    'TOOLS': chats.TOOLS,
    'ROLES': repr({k: documents_lib.ROLES[v] for k, v in roles.items()}),
  }
  source = _NAME.sub(lambda match: written[match[1]], _MACROS + _TURNS)
  return source.strip() + '\n'


def _quoted(text: str) -> str:
  """A literal of Jinja, in ASCII where it is a noncharacter."""
  escaped = text.replace('\\', '\\\\').replace("'", "\\'")
  for one in (PARTED, CUT):
    escaped = escaped.replace(one, f'\\u{ord(one):04x}')
  return f"'{escaped}'"
