"""Replies that say that nothing was heard.

Where only silence is answered so in what people prefer, a reward model learns
that such a reply is good, and a policy that it need not listen (arXiv
2502.11946, section 5.2.6: "deaf hacking"). The lists are ours.
"""

import re
from typing import Mapping, Sequence

# Language → replies that can be drawn.
REPLIES = {
  'en': (
    'I did not hear you.',
    "Sorry, I didn't catch that.",
    'I could not hear anything. Could you say that again?',
    'Sorry, there was no sound. Please try once more.',
    'I am afraid I did not hear what you said.',
    'Could you please repeat that? I could not hear you.',
  ),
  'zh': (
    '我没有听清。',
    '抱歉，我没听到您说的话。',
    '不好意思，我没有听到声音，请再说一遍。',
    '我没听清楚，能再说一次吗？',
    '抱歉，刚才没有听见，麻烦您重复一下。',
    '我好像什么都没听到，请您再说一遍。',
  ),
}
_NOT = r"(?:not|n['’]t|unable to|never)"
# Language → expressions of which such a reply has one. What others did not
# hear, or nobody can, is an answer: somebody says it of himself, or asks again.
CLAIMS = {
  'en': (
    rf'\bI\b[^.!?]{{0,40}}?{_NOT} (?:\w+ ){{0,2}}(?:hear|catch|make out)\b',
    rf'\bI\b[^.!?]{{0,40}}?{_NOT} (?:quite )?understand (?:you|that|what)\b',
    r"\bdidn['’]t (?:quite )?(?:hear|catch) (?:that|it|you)\b",
    r'\bI heard? nothing\b',
    r'\bthere (?:was|is) no (?:sound|audio)\b',
    r'\b(?:say|ask) (?:that|it|your question) (?:again|once more)\b',
    r'\brepeat (?:that|it|yourself|your question)\b',
    r'\bsorry,? (?:what|pardon)\b',
  ),
  'zh': (
    r'(?:我|抱歉|对不起|不好意思)[^。！？]{0,12}?'
    r'(?:(?:没有?|未)能?听(?:清|到|见|懂)|听不(?:清|到|见))',
    r'(?:请|能|麻烦)[^。！？]{0,6}?(?:再(?:说|讲)一?[遍次]|重复一[下遍])',
  ),
}


def claims(text: str, patterns: Mapping[str, Sequence[str]] = CLAIMS) -> bool:
  """Whether a reply says that nothing, or not enough, was heard.

  Args:
    text: Of any language.
    patterns: Expressions by language; those of all are looked for.
  """
  said = ' '.join(text.split())
  return any(
    re.search(pattern, said, re.IGNORECASE)
    for some in patterns.values()
    for pattern in some
  )
