r"""Prompts of speech: what stands before the first id that a model writes.

Documents, as the project's training rows hold them, cut before the answer:

    asr  <s> <|ASR|> <audio_start> codes <text_start>
    tts  <s> <|TTS|> <text_start> text <audio_start>

Turns, as Step-Audio-TTS-3B is asked (arXiv 2502.11946 and its released code),
each `<|BOT|>role\n…<|EOT|>`; the last one is left open:

    <s> system: system text · human: what the voice says · assistant: its codes
        · human: text · assistant:

The released code puts `<s>` behind every `<|BOT|>`, a habit of its text
tokenizer's default; which form the model was trained on is not published. Here
it stands once, at the very start. Texts are characters: a control piece that is
written in one is spelt, as in the rows.
"""

from typing import Sequence

from step_audio_jax import vocabulary as vocabulary_lib

Vocabulary = vocabulary_lib.Vocabulary

_BOS, _EOT = vocabulary_lib.BOS, vocabulary_lib.EOT
_CONTROL = vocabulary_lib.CONTROL
_BOT = _CONTROL['<|BOT|>']


def asr(vocabulary: Vocabulary, ids: Sequence[int]) -> list[int]:
  """Interleaved speech ids → the prompt of a transcript."""
  head = [_BOS, _CONTROL['<|ASR|>'], _CONTROL['<audio_start>']]
  return [*head, *map(int, ids), _CONTROL['<text_start>']]


def tts(vocabulary: Vocabulary, text: str) -> list[int]:
  """Text → the prompt of its speech."""
  head = [_BOS, _CONTROL['<|TTS|>'], _CONTROL['<text_start>']]
  return [*head, *vocabulary.encode_text(text), _CONTROL['<audio_start>']]


def tts_turns(
  vocabulary: Vocabulary,
  text: str,
  *,
  system: str = '',
  voice_text: str = '',
  voice_ids: Sequence[int] = (),
) -> list[int]:
  """Text → the prompt of its speech, in Step-Audio-TTS-3B's turns.

  Args:
    vocabulary: The id space.
    text: What is to be said.
    system: Instruction. The released ones are not part of this project.
    voice_text: What the recording of the voice says.
    voice_ids: The recording's interleaved speech ids; without them the
      voice's two turns are left out.
  """
  ids = [_BOS, *_turn(vocabulary, 'system', _inside(vocabulary, system))]
  if len(voice_ids):
    said = _inside(vocabulary, voice_text)
    ids += _turn(vocabulary, 'human', said)
    ids += _turn(vocabulary, 'assistant', list(map(int, voice_ids)))
  ids += _turn(vocabulary, 'human', _inside(vocabulary, text))
  return ids + _turn(vocabulary, 'assistant', [])[:-1]


def _turn(vocabulary, role: str, content: list[int]) -> list[int]:
  return [_BOT, *vocabulary.encode_text(f'{role}\n'), *content, _EOT]


def _inside(vocabulary, text: str) -> list[int]:
  """Ids of a text that goes on behind others.

  SentencePiece puts a space before the first word of whatever it is given. So
  the text is encoded behind a line break, whose ids are taken off again.
  """
  before = vocabulary.encode_text('\n')
  ids = vocabulary.encode_text(f'\n{text}')
  if ids[: len(before)] == before:
    return ids[len(before) :]
  return vocabulary.encode_text(text)  # a line break is joined to what follows
