"""Documents and prompts, id by id, with their loss weights."""

import io

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import sentencepiece
import tokenizers

from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.evaluation.metrics import captions
from step_audio_jax.tokenizers.text import vocabularies
from tests.data_pipelines.letters import TABLE
from tests.data_pipelines.letters import codes

LAYOUTS = documents.LAYOUTS
CONTROL = vocabulary_lib.CONTROL
BOS, EOT, BOT, AUDIO, TEXT = 1, 3, 4, 31, 33

LINGUISTIC = np.array([7, 8, 9, 10, 11], np.uint16)  # two groups, one left
SEMANTIC = np.array([20, 21, 22, 23, 24, 25], np.uint16)
A = [507, 508, 1544, 1545, 1546, 509, 510, 1547, 1548, 1549]
HI = [100 + ord('h'), 100 + ord('i')]
SPEECH = documents.speech_ids(TABLE, LINGUISTIC, SEMANTIC)
IMAGE = documents.Image(np.full((4, 4, 3), 9, np.uint8), 3)


def check(document, tokens, weights):
  assert document.tokens.dtype == np.int32
  assert document.loss_weights.dtype == np.float32
  assert document.tokens.tolist() == tokens
  assert document.loss_weights.tolist() == weights


def make(task, **contents):
  return LAYOUTS[task].document(TABLE, 'x', **contents)


def test_text():
  check(make('text', text='hi'), [BOS, *HI, EOT], [0, 1, 1, 1])


def test_continuation():
  check(
    make('continuation', speech=SPEECH),
    [BOS, AUDIO, *A, EOT],
    [0, 0, *[1] * 10, 1],
  )


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5, 1.0])
def test_asr(prompt_loss):
  p = prompt_loss
  check(
    make('asr', text='hi', speech=SPEECH, prompt_loss=p),
    [BOS, 36, AUDIO, *A, TEXT, *HI, EOT],
    [0, 0, 0, *[p] * 10, p, 1, 1, 1],
  )


@pytest.mark.parametrize('prompt_loss', [0.0, 1.0])
def test_tts(prompt_loss):
  p = prompt_loss
  check(
    make('tts', text='hi', speech=SPEECH, prompt_loss=p),
    [BOS, 35, TEXT, *HI, AUDIO, *A, EOT],
    [0, 0, 0, p, p, p, *[1] * 10, 1],
  )


def test_image_text():
  document = make('image_text', text='hi', image=IMAGE)
  check(
    document,
    [BOS, 14, 13, 13, 13, 15, TEXT, *HI, EOT],
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
  )
  assert document.image_slots.tolist() == [2]
  assert document.image_slots.dtype == np.int32
  assert document.images.shape == (1, 4, 4, 3)


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5])
def test_chat(prompt_loss):
  p = prompt_loss
  human, assistant = (
    [100 + ord(c) for c in f'{role}\n'] for role in ('human', 'assistant')
  )
  turns = [('user', SPEECH), ('assistant', 'hi')]
  check(
    documents.CHAT.document(TABLE, 'c', turns, prompt_loss=p),
    [BOS, 4, *human, *A, EOT, 4, *assistant, *HI, EOT],
    [
      *[0] * (2 + len(human)),
      *[p] * (len(A) + 1),
      *[0] * (1 + len(assistant)),
      *[1, 1, 1],
    ],
  )
  with pytest.raises(errors.UserError, match='none of the assistant'):
    documents.CHAT.document(TABLE, 'c', turns[:1])
  with pytest.raises(errors.UserError, match='text: '):
    documents.CHAT.document(TABLE, 'c', [('assistant', '')])


def test_control_pieces_in_a_transcript_are_only_characters():
  tokens = make('text', text='<|EOT|>').tokens[1:-1]
  assert EOT not in tokens and len(tokens) == len('<|EOT|>')


def test_nothing_to_say_is_an_error():
  with pytest.raises(errors.UserError, match='has no ids'):
    make('text', text='')
  with pytest.raises(errors.UserError, match='speech: no ids'):
    make('asr', text='hi', speech=())
  with pytest.raises(errors.UserError, match='at least 2 and 3'):
    documents.speech_ids(TABLE, LINGUISTIC[:1], SEMANTIC)
  with pytest.raises(errors.UserError, match='code 1024 at position 0'):
    documents.speech_ids(TABLE, [1024, 1], SEMANTIC)


def test_the_linguistic_stream_may_stand_alone():
  alone = documents.speech_ids(TABLE, LINGUISTIC, SEMANTIC, 'linguistic')
  assert alone.dtype == np.int32
  assert alone.tolist() == [id for id in A if id < 1524]
  with pytest.raises(
    errors.UserError, match='expected one of both, linguistic'
  ):
    documents.speech_ids(TABLE, LINGUISTIC, SEMANTIC, 'semantic')


def test_a_prompt_may_be_empty():
  assert LAYOUTS['asr'].prompt(TABLE, speech=()) == [BOS, 36, AUDIO, TEXT]


@hypothesis.given(st.integers(1, 30), st.integers(2, 200))
def test_a_cut_keeps_groups_whole_and_learns_every_id_once(groups, room):
  document = make('continuation', speech=TABLE.interleave(*codes(groups)))
  pieces = document.split(room)
  if pieces is None:
    assert room < 7 or groups == 1 and room < len(document)
    return
  first, second = pieces
  assert len(first) <= room and len(first) % 5 == 2
  assert second.tokens[:2].tolist() == [BOS, AUDIO]
  assert second.loss_weights[:2].tolist() == [0, 0]
  whole = np.concatenate([first.tokens, second.tokens[2:]])
  np.testing.assert_array_equal(whole, document.tokens)
  learnt = first.loss_weights.sum() + second.loss_weights.sum()
  assert learnt == document.loss_weights.sum()


def test_what_may_not_be_cut():
  assert make('asr', text='hi', speech=SPEECH).split(8) is None
  assert make('text', text='abc').split(2)[0].tokens.tolist() == [
    BOS, 100 + ord('a')
  ]  # fmt: skip


class Spaced:
  """Letters as ids; like SentencePiece it puts a space before the first."""

  pieces = '▁\nabcdefghijklmnopqrstuvwxyz '
  size = vocabulary_lib.CONTROL_SIZE + len(pieces)
  prefix = '▁'

  def encode(self, text):
    first = vocabulary_lib.CONTROL_SIZE
    return [first + self.pieces.index(x) for x in self.prefix + text]

  def decode(self, ids):
    return ''.join(self.pieces[i - vocabulary_lib.CONTROL_SIZE] for i in ids)


class Joined(Spaced):
  """Makes one piece of a line break and the letter behind it."""

  def encode(self, text):
    return [9] * (text == '\n') or super().encode(text.removeprefix('\n'))


def vocabulary(text):
  return vocabulary_lib.Vocabulary(text_size=120, text=text)


VOCABULARY = vocabulary(Spaced())


def ids(text):
  first = vocabulary_lib.CONTROL_SIZE
  return [first + Spaced.pieces.index(x) for x in text]


def asked(table, text, **settings):
  """The prompt of turns that ask for speech."""
  turns = documents.tts_turns(text, **settings)
  return documents.TTS_TURNS.prompt(table, turns)


def test_prompts_of_speech():
  speech = VOCABULARY.interleave([3, 4], [0, 1, 2])
  found = LAYOUTS['asr'].prompt(VOCABULARY, speech=speech)
  assert found == [
    BOS,
    CONTROL['<|ASR|>'],
    CONTROL['<audio_start>'],
    *speech.tolist(),
    CONTROL['<text_start>'],
  ]
  assert all(type(i) is int for i in found)
  assert LAYOUTS['tts'].prompt(VOCABULARY, text='ab') == [
    BOS,
    CONTROL['<|TTS|>'],
    CONTROL['<text_start>'],
    *ids('▁ab'),
    CONTROL['<audio_start>'],
  ]


def test_turns_have_one_start_and_one_space_before_each_role():
  speech = VOCABULARY.interleave([3, 4, 5, 6], [0, 1, 2, 9, 9, 9])
  found = asked(
    VOCABULARY,
    'go on',
    system='be kind',
    voice_text='hi',
    voice_ids=speech,
  )
  assert found == [
    BOS,
    *[BOT, *ids('▁system\n'), *ids('be kind'), EOT],
    *[BOT, *ids('▁human\n'), *ids('hi'), EOT],
    *[BOT, *ids('▁assistant\n'), *speech.tolist(), EOT],
    *[BOT, *ids('▁human\n'), *ids('go on'), EOT],
    *[BOT, *ids('▁assistant\n')],
  ]
  assert all(type(i) is int for i in found)


def test_turns_without_a_voice_leave_its_two_out():
  assert asked(VOCABULARY, 'a') == [
    BOS,
    *[BOT, *ids('▁system\n'), EOT],
    *[BOT, *ids('▁human\n'), *ids('a'), EOT],
    *[BOT, *ids('▁assistant\n')],
  ]


@pytest.mark.parametrize('prefix', ['▁', ''])
def test_the_space_goes_only_where_the_tokenizer_puts_one(prefix):
  text = Spaced()
  text.prefix = prefix
  assert asked(vocabulary(text), 'ab', system='c') == [
    BOS,
    *[BOT, *ids(f'{prefix}system\n'), *ids('c'), EOT],
    *[BOT, *ids(f'{prefix}human\n'), *ids('ab'), EOT],
    *[BOT, *ids(f'{prefix}assistant\n')],
  ]


def test_a_tokenizer_that_joins_the_line_break_gets_the_plain_text():
  found = asked(vocabulary(Joined()), 'ab')
  turn = [BOT, *ids('▁human\n'), *ids('▁ab'), EOT]
  assert found[-len(turn) - 12 : -12] == turn


WORDS = 'the old  cat sees 妈妈'
TEXTS = ['the cat sees a dog', '妈妈有水', 'the old king has tea\nhuman'] * 9


def sentencepiece_model(path, **settings):
  out = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS),
    model_writer=out,
    vocab_size=320,
    hard_vocab_limit=False,
    byte_fallback=True,
    pad_id=-1,
    minloglevel=2,
    **settings,
  )
  path.write_bytes(out.getvalue())
  return path


def byte_level_model(path):
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=300,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(TEXTS, trainer)
  model.save(str(path))
  return path


PLAIN = {
  'normalization_rule_name': 'identity',
  'remove_extra_whitespaces': False,
}
MODELS = {
  'as trained by default': {},  # a line break becomes a space
  'the same, no prefix': {'add_dummy_prefix': False},
  'prefix': {**PLAIN, 'model_type': 'bpe'},
  'no prefix': {**PLAIN, 'model_type': 'char', 'add_dummy_prefix': False},
  'byte level': None,
}


@pytest.fixture(scope='module', params=[*MODELS, 'letters'])
def table(request, tmp_path_factory):
  if request.param == 'letters':
    return TABLE
  folder, settings = tmp_path_factory.mktemp('text'), MODELS[request.param]
  if settings is None:
    path = byte_level_model(folder / 'tokenizer.json')
  else:
    path = sentencepiece_model(folder / 'text.model', **settings)
  return vocabularies.load(text_model=str(path))


TASKS = {
  **LAYOUTS,
  # A question that is heard and an answer that is written: one more entry.
  'aqta': documents.Layout(
    '<s> <|AQTA|> <audio_start>', 'speech <text_start>', 'text <|EOT|>'
  ),
}


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5])
@pytest.mark.parametrize('task', TASKS)
def test_a_prompt_and_its_answer_are_the_document(table, task, prompt_loss):
  layout, p = TASKS[task], prompt_loss
  speech = documents.speech_ids(table, *codes(3))
  whole = {'text': WORDS, 'speech': speech, 'image': IMAGE}
  whole = {name: whole[name] for name in layout.contents}
  name = layout.learnt.split()[0]
  given = {key: value for key, value in whole.items() if key != name}
  document = layout.document(table, task, prompt_loss=p, **whole)
  prompt = layout.prompt(table, **given)
  answer = table.encode_text(WORDS) if name == 'text' else speech.tolist()
  marks = len(layout.marks.split())
  if task == 'image_text':
    marks += IMAGE.patches - 1
  check(
    document,
    [*prompt, *answer, EOT],
    [0] * marks + [p] * (len(prompt) - marks) + [1] * (len(answer) + 1),
  )
  if not p:
    assert np.flatnonzero(document.loss_weights)[0] == len(prompt)
  if len(prompt) > 1:  # not <s> alone
    assert layout.opener == prompt[-1]


def chats(table):
  speech = documents.speech_ids(table, *codes(2))
  answer = documents.speech_ids(table, *codes(4))
  asks = documents.tts_turns(WORDS, system='Be  kind.')
  heard = documents.tts_turns(
    WORDS, system='Be  kind.', voice_text='Oh, no.', voice_ids=speech
  )
  chat, turns = documents.CHAT, documents.TTS_TURNS
  yield chat, [('user', WORDS)], 'a dog'
  yield chat, [('system', 'Be  kind.'), ('user', speech)], 'a  dog,\nno cat'
  yield chat, [('user', '妈妈 \n')], answer
  yield chat, [('user', 'a'), ('assistant', WORDS), ('user', speech)], answer
  yield turns, asks, answer
  yield turns, heard, answer


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5])
def test_open_turns_and_their_answer_are_the_document(table, prompt_loss):
  p = prompt_loss
  for layout, turns, answer in chats(table):
    closed = [*turns, ('assistant', answer)]
    document = layout.document(table, 'x', closed, prompt_loss=p)
    prompt = layout.prompt(table, turns)
    tokens, weights = document.tokens.tolist(), document.loss_weights.tolist()
    written = tokens[len(prompt) : -1]
    assert tokens == [*prompt, *written, EOT]
    if isinstance(answer, str):
      assert table.decode(written).split() == answer.split()
    else:
      assert written == answer.tolist()
    if not p and all(role != 'assistant' for role, _ in turns):
      assert np.flatnonzero(document.loss_weights)[0] == len(prompt)
    at = 1
    for role, _ in closed:
      head = [BOT, *table.encode_text(f'{documents.ROLES[role]}\n')]
      end = tokens.index(EOT, at) + 1
      said = end - at - len(head)
      weight = 1 if role == 'assistant' else p
      assert tokens[at : at + len(head)] == head and said > 1
      assert weights[at:end] == [0] * len(head) + [weight] * said
      at = end
    assert at == len(tokens)


def test_an_interleaved_document_is_learnt_from_its_first_content_on(table):
  speech = documents.speech_ids(table, *codes(2))
  words = table.encode_text(WORDS)
  check(
    documents.interleaved(table, 'x', [speech, WORDS, speech]),
    [BOS, AUDIO, *speech, TEXT, *words, AUDIO, *speech, EOT],
    [0, 0, *[1] * (len(words) + 2 * len(speech) + 3)],
  )
  check(
    documents.interleaved(table, 'x', [WORDS, speech]),
    [BOS, TEXT, *words, AUDIO, *speech, EOT],
    [0, 0, *[1] * (len(words) + len(speech) + 2)],
  )
  # It can be gone on with as speech alone is.
  prompt = LAYOUTS['continuation'].prompt(table)
  whole = documents.interleaved(table, 'x', [speech], cut=documents.SPANS)
  assert prompt == whole.tokens[: len(prompt)].tolist() == [BOS, AUDIO]
  assert whole.cut == documents.SPANS


def test_captions_are_asked_for_by_the_prompt_of_their_document(table):
  layout = LAYOUTS['image_text']
  document = layout.document(table, 'x', text=WORDS, image=IMAGE)
  row = {
    'tokens': document.tokens,
    'segment_ids': np.ones(len(document), np.int32),
    'images': document.images,
    'image_slots': document.image_slots,
  }
  ((prompt, caption, image, slot),) = captions.documents(row)
  assert prompt == layout.prompt(table, image=IMAGE)
  assert caption == [*table.encode_text(WORDS), EOT]
  assert slot == document.image_slots[0]
  np.testing.assert_array_equal(image, document.images[0])
