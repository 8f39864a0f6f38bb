"""Whether words are a whole, by the words alone.

Recognisers give small letters and no punctuation, so that the words themselves
have to say whether a sentence is over. They mostly do by how it ends: a closed
class of words cannot end one ("what is the", "i would like to"), others end
hardly any without what they ask for ("could you play", "a small red"), and the
rest do where the sentence has what its kind needs:

    a question    a word that asks, its verb and somebody ("what is it")
    a request     a verb and what it wants ("tell me a joke")
    a statement   somebody and a verb ("i need a train")

Later words count most: what was said before a question is no part of it ("my
cat has the red cup what color is it").
"""

import re

from step_audio_jax.dialogue.turns import lexicon as lex

_ENDS = '.!?。！？…'
_OPEN = ',;:，、；：—-'

# Probabilities that a turn is over.
_NEVER, _HARDLY, _RATHER_NOT = 0.05, 0.12, 0.3
_PERHAPS, _LIKELY, _SURELY = 0.5, 0.68, 0.85
_CLAUSE = 8  # words


def completeness(text: str | None) -> float | None:
  """Whether a transcript is a whole, 0 to 1; None where there is none."""
  if text is None or not text.strip():
    return None
  text = text.strip().lower().replace('’', "'")
  if text.endswith(('...', '…')) or text[-1] in _OPEN:
    return _HARDLY
  ended = text[-1] in _ENDS
  words = re.findall(r"[\w']+", text.rstrip(_ENDS))
  if not words:
    return None
  if words[-1] in lex.FILLERS:
    return _NEVER
  if not words[-1].isascii():
    return _wide(words[-1], ended)
  # A recogniser that writes full stops writes them behind half sentences too.
  by_words = _english(words)
  return max(by_words, 0.95) if ended and by_words >= _PERHAPS / 2 else by_words


def _english(words: list[str]) -> float:
  """Of small words without punctuation."""
  words = [word for word in words if word not in lex.FILLERS] or words
  if _is_within_number(words):
    return _HARDLY
  found = _by_end(words)
  if found is None:
    found = _by_shape(words)
  return min(found, 0.15) if _leans(words) else found


def _leans(words: list[str]) -> bool:
  """Whether the clause is to come that this one belongs to."""
  while len(words) > 1 and words[0] in lex.OPENING:
    words = words[1:]
  is_when = words[0] == 'when' and not (
    words[1:] and words[1] in lex.AUXILIARIES
  )
  somebody = sum(word in lex.SUBJECTS | {'you', 'it'} for word in words)
  if len(words) > _CLAUSE or somebody > 1:
    return False  # the other clause is there
  return is_when or words[0] in lex.CONDITIONS


def _by_end(words: list[str]) -> float | None:
  """What the last words say; None: nothing."""
  last = words[-1]
  before = words[-2] if len(words) > 1 else ''
  asked = _asked(words)
  if last not in lex.ANSWERS and all(word in lex.OPENING for word in words):
    return _HARDLY
  if len(words) == 1:
    if last in lex.ANSWERS:
      return _SURELY
    if last in lex.ASKING:
      return _PERHAPS
  if (before, last) in lex.ENDING_PAIRS:
    return _SURELY
  if last in lex.DETERMINERS or last in lex.JOINING or _is_short(last):
    return _NEVER
  if last in lex.ASKING:
    return _HARDLY
  if last in lex.DEMONSTRATIVES:
    if before in lex.BE:  # "what is that", and not "the problem is that"
      return _SURELY if asked else _RATHER_NOT / 2
    return _LIKELY if before in lex.BEFORE_THAT else _RATHER_NOT / 2
  if last in lex.PRONOUNS:
    return _behind_pronoun(words, before, asked)
  if last in lex.AUXILIARIES:
    return _behind_auxiliary(words, before, asked)
  if last in lex.PREPOSITIONS:
    return _behind_preposition(words, asked)
  if last in lex.LEADING:
    return _HARDLY
  if last in lex.CLOSING:
    return _SURELY
  return _behind_content(words, before, asked)


def _is_short(word: str) -> bool:
  """Whether a verb hangs on it that wants more: "what's", "i'd", "don't"."""
  _, mark, rest = word.partition("'")
  return bool(mark) and rest in ('s', 'm', 're', 'll', 've', 'd', 't')


def _asked(words: list[str]) -> list[str]:
  """From the last word that asks on; empty where none does.

  "When" and "where" also join clauses; there they stand in front of somebody.
  """
  for place in range(len(words) - 1, -1, -1):
    if words[place] in lex.ASKING:
      return words[place:]
  return []


def _is_turned(asked: list[str]) -> bool:
  """Whether a question has its verb in front of who does it."""
  return any(word in lex.AUXILIARIES for word in asked[1:4])


def _behind_pronoun(words, before: str, asked: list[str]) -> float:
  """As in "what is it", "can you", "tell me", "i love you"."""
  last = words[-1]
  if before in lex.BE and asked:
    return _SURELY
  if before in lex.HOLDING and last not in lex.SUBJECTS | {'you'}:
    if asked:  # "who has it", and not "where did it"
      return _SURELY if asked[:2] == ['who', before] else _HARDLY
    return _SURELY if len(words) > 2 else _HARDLY
  if before in lex.AUXILIARIES or before in lex.JOINING or not before:
    return _HARDLY
  if before in lex.ASKING or _is_short(before) and not before.endswith("'s"):
    return _HARDLY
  if last in lex.SUBJECTS:
    return _HARDLY
  if before in lex.GIVING and last != 'it':
    return 0.2  # what is given is to come
  return _SURELY


def _behind_auxiliary(words, before: str, asked: list[str]) -> float:
  """As in "what time it is", "what should i do", "yes i can"."""
  if words[-1] in ('do', 'have') and len(asked) > 3 and _is_turned(asked[:-1]):
    return _SURELY
  somebody = before in lex.PRONOUNS
  if somebody and words[0] in lex.ANSWERS:
    return _SURELY
  # "Do you know where the station is": it is not turned, nor a question alone.
  if (
    len(asked) > 2
    and words[: -len(asked)][-1:]
    and (words[-len(asked) - 1] in lex.TELLING)
  ):
    return _HARDLY if _is_turned(asked[:-1]) else _SURELY
  return _HARDLY


def _behind_preposition(words: list[str], asked: list[str]) -> float:
  """As in "turn it off", "who is it with", "where are you from"."""
  last, before = words[-1], words[-2] if len(words) > 1 else ''
  if last in lex.PARTICLES:
    if before in lex.PRONOUNS:
      return _SURELY
    if words[0] in lex.SWITCHING and len(words) > 3:
      return _LIKELY
  if not _is_turned(asked) or len(asked) < 4:
    return _HARDLY
  if asked[0] not in lex.STRANDING or asked[1] in ('time', 'kind', 'day'):
    return _HARDLY
  if last in lex.STRANDED or before in lex.WITH_STRANDED:
    return _SURELY
  return _SURELY if before.endswith('ing') else _HARDLY


def _behind_content(words, before: str, asked: list[str]) -> float | None:
  """Where a sentence ends with a word of the open classes."""
  last = words[-1]
  is_noun = before in lex.DETERMINERS or before in lex.ADJECTIVES
  if last in lex.WANTING and not is_noun:
    if len(words) == 1:
      return _RATHER_NOT
    fronting = asked[:1] and asked[0] in lex.FRONTING
    if _is_turned(asked) and (fronting or asked[1] in ('many', 'much')):
      return _SURELY  # what it wants stands in front: "what do you want"
    return _HARDLY
  if last.endswith('ing') and before in lex.BE and not asked:
    return 0.45
  if before == 'the' and last in lex.RELATIONAL:
    return _RATHER_NOT
  if last in lex.ADJECTIVES or last in lex.NUMBERS:
    place = len(words) - 1
    while place and (words[place] in lex.ADJECTIVES | lex.NUMBERS):
      place -= 1
    if words[place] in lex.DETERMINERS or words[place] in lex.DEMONSTRATIVES:
      return 0.2  # of something: "the second", "a small red"
    told = len(words) - 1 - place
    if words[place] in lex.AUXILIARIES and not asked:
      return _RATHER_NOT if last in lex.NUMBERS else None
    if last in lex.NUMBERS and told < 3 and words[place] in lex.PREPOSITIONS:
      return 0.42
  return None


def _by_shape(words: list[str]) -> float:
  """Whether a sentence has what its kind needs."""
  while len(words) > 1 and words[0] in lex.OPENING:
    words = words[1:]
  asked = _asked(words)
  if asked and _is_turned(asked) and len(asked) > 2:
    return _SURELY
  if words[0] in lex.ASKING:
    return (_RATHER_NOT, _LIKELY, _SURELY)[(len(words) > 3) + (len(words) > 4)]
  if words[0] in lex.AUXILIARIES or _is_short(words[0]):
    return 0.78 if len(words) > 2 else _HARDLY
  if words[0] in lex.VERBS:
    return 0.75 if len(words) > 2 else 0.6
  if any(map(_is_verb, words[1:])):
    return _LIKELY if len(words) > 2 else _PERHAPS
  if words[0] in lex.DETERMINERS:
    return 0.4  # somebody of whom something is to be told
  return 0.6


def _is_verb(word: str) -> bool:
  if word in lex.AUXILIARIES or word in lex.VERBS or _is_short(word):
    return True
  for ending in ('s', 'es', 'd', 'ed', 'ing'):
    if word.endswith(ending) and word[: -len(ending)] in lex.VERBS:
      return True
  return word in lex.PAST or len(word) > 4 and word.endswith('ed')


def _is_within_number(words: list[str]) -> bool:
  """Whether digits are told one by one, and may go on."""
  told = 0
  for word in reversed(words):
    if word not in lex.DIGITS:
      break
    told += 1
  return 2 <= told < 7


def _wide(text: str, ended: bool) -> float:
  """Of scripts without spaces."""
  if text.endswith(lex.ENDS_WIDE) or re.search('谁.{1,2}$', text):
    return 0.95
  if text.endswith(lex.GOES_ON_WIDE):
    return _HARDLY
  if text.startswith(lex.CONDITIONS_WIDE) and not any(
    one in text for one in lex.THEN_WIDE
  ):
    return 0.2
  if ended or any(one in text for one in lex.ASKING_WIDE):
    return 0.9
  return 0.72 if len(text) > 3 else _PERHAPS
