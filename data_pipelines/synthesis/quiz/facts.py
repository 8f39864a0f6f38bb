"""What is asked, what is right, and sentences about the same things.

The facts are those that SmolLM2 135M Instruct gets right when it is asked in
writing through its own chat template, greedily, with the system prompt "You
answer with one word." (24 ids at most, the answer somewhere in them):

    capitals 43 of 54   cities' countries 43 of 54   opposites 37 of 48
    continents 11 of 15   languages 11 of 15

It does not know what else was tried well enough to be asked: colours (7 of 36,
5 of 36 in other words), the next number (8 of 19), sums (6 of 15).

A subject is a country, with all that is asked of it and its capital, or a word
with an opposite.
"""

import dataclasses
from typing import Mapping


@dataclasses.dataclass(frozen=True)
class Fact:
  """One question and its answer.

  Attributes:
    subject: Whom it belongs to.
    asked: How it is asked, in one or more wordings.
    told: The answer as a sentence.
    answer: The words of it that make it right.
    named: What it is asked of; "And Peru?" asks the same of Peru. What the same
      is, only the question before it tells.
  """

  subject: str
  asked: tuple[str, ...]
  told: str
  answer: str
  named: str


CAPITALS = dict(
  pair.split(':')
  for pair in (
    'France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon '
    'Greece:Athens Austria:Vienna Hungary:Budapest Poland:Warsaw Russia:Moscow '
    'Sweden:Stockholm Norway:Oslo Ireland:Dublin England:London '
    'Belgium:Brussels Egypt:Cairo Kenya:Nairobi Nigeria:Abuja Ghana:Accra '
    'Morocco:Rabat Iran:Tehran Iraq:Baghdad China:Beijing Japan:Tokyo '
    'Thailand:Bangkok Cuba:Havana Peru:Lima Chile:Santiago Brazil:Brasilia '
    'Canada:Ottawa Australia:Canberra Colombia:Bogota Pakistan:Islamabad '
    'Romania:Bucharest Bulgaria:Sofia Lebanon:Beirut Israel:Jerusalem '
    'Qatar:Doha Afghanistan:Kabul'
  ).split()
)
# Of whose capital it knows where it lies.
LOCATED = frozenset(
  'France Germany Italy Spain Portugal Greece Hungary Poland Russia Sweden '
  'Norway Ireland Egypt Kenya Nigeria Morocco Iran Japan Thailand Cuba Peru '
  'Chile Brazil Canada Australia Pakistan Romania Lebanon Israel '
  'Afghanistan'.split()
)
CONTINENTS = {
  'France': 'Europe',
  'Kenya': 'Africa',
  'Peru': 'South America',
  'Japan': 'Asia',
  'Spain': 'Europe',
  'Brazil': 'South America',
  'Canada': 'North America',
  'Germany': 'Europe',
  'Nigeria': 'Africa',
}
LANGUAGES = {
  'France': 'French',
  'Germany': 'German',
  'Italy': 'Italian',
  'Portugal': 'Portuguese',
  'Russia': 'Russian',
  'Sweden': 'Swedish',
  'China': 'Chinese',
  'Japan': 'Japanese',
  'Egypt': 'Arabic',
}
OPPOSITES = dict(
  pair.split(':')
  for pair in (
    'hot:cold big:small fast:slow up:down left:right open:closed day:night '
    'black:white happy:sad strong:weak hard:soft light:dark wet:dry full:empty '
    'high:low long:short early:late true:false near:far love:hate north:south '
    'east:west heavy:light thick:thin wide:narrow deep:shallow cheap:expensive '
    'easy:difficult inside:outside buy:sell push:pull war:peace summer:winter '
    'life:death top:bottom more:less before:after'
  ).split()
)


def _of(what: str, answers: Mapping[str, str]) -> list[Fact]:
  """Facts of what something has one of."""
  return [
    Fact(
      subject,
      (f'What is the {what} of {subject}?', f'Name the {what} of {subject}.'),
      f'The {what} of {subject} is {answer}.',
      answer,
      subject,
    )
    for subject, answer in answers.items()
  ]


def by_kind() -> dict[str, list[Fact]]:
  """All of them: kind → facts."""
  return {
    'capital': _of('capital', CAPITALS),
    'located': [
      Fact(
        country,
        (f'What country is {city} in?', f'In which country is {city}?'),
        f'{city} is in {country}.',
        country,
        city,
      )
      for country, city in CAPITALS.items()
      if country in LOCATED
    ],
    'continent': [
      Fact(
        country,
        (f'What continent is {country} in?',),
        f'{country} is in {continent}.',
        continent,
        country,
      )
      for country, continent in CONTINENTS.items()
    ],
    'language': [
      Fact(
        country,
        (f'What language do people speak in {country}?',),
        f'People in {country} speak {language}.',
        language,
        country,
      )
      for country, language in LANGUAGES.items()
    ],
    'opposite': _of('opposite', OPPOSITES),
  }


def facts() -> list[Fact]:
  """All of them, by kind."""
  return [fact for some in by_kind().values() for fact in some]


def heard_only() -> frozenset[str]:
  """A third of the subjects: they occur in sentences, and are never asked."""
  return frozenset([*list(CAPITALS)[1::3], *list(OPPOSITES)[1::3]])


# Sentences that only are transcribed; no answer can be learnt of them.
SLOTS = {
  'country': tuple(CAPITALS),
  'city': tuple(CAPITALS.values()),
  'word': tuple(dict.fromkeys([*OPPOSITES, *OPPOSITES.values()])),
  'language': tuple(LANGUAGES.values()),
  'continent': tuple(dict.fromkeys(CONTINENTS.values())),
  'name': tuple('Anna Ben Clara David Emma Frank Maria Peter'.split()),
  'kin': tuple('brother sister mother father uncle teacher'.split()),
  'month': tuple(
    'January March April May June August September October'.split()
  ),
  'number': tuple('two three four five six seven eight nine ten'.split()),
  'thing': tuple('book car house lamp ring table boat coat clock'.split()),
}
PATTERNS = (
  '{name} flew to {country} in {month}.',
  'My {kin} lives in {country}.',
  '{name} comes from {country}.',
  'The map of {country} is {number} years old.',
  'People in {country} like this {thing}.',
  'Our {thing} is from {country}.',
  'I learned {language} in {country}.',
  'We sent {number} letters to {city}.',
  'The train to {city} was late.',
  'They bought a {thing} in {city}.',
  'It often rains in {city} in {month}.',
  'Is {name} still in {city}?',
  'What is the name of your {kin}?',
  'What do people in {continent} do in {month}?',
  'He speaks {language} with his {kin}.',
  'The word {word} is on page {number}.',
  'Please write {word} and {word} on the board.',
  '{name} said {word}, not {word}.',
  'How do you spell {word}?',
  'Where did you read {word}?',
)
