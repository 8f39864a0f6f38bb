"""Which language a text is in, of those that IFEval asks for.

The script decides where one language alone is written in it. Where several
are, the commonest small words do, and letters that only one of them has. A text
that has too few of them is in no language that could be told.
"""

import collections
import re
import unicodedata

# How the Unicode names of letters begin → the language.
_SCRIPTS = {
  'BENGALI': 'bn', 'GUJARATI': 'gu', 'GURMUKHI': 'pa', 'HANGUL': 'ko',
  'HEBREW': 'he', 'KANNADA': 'kn', 'MALAYALAM': 'ml', 'TAMIL': 'ta',
  'TELUGU': 'te', 'THAI': 'th', 'HIRAGANA': 'ja', 'KATAKANA': 'ja',
  'CJK': 'zh', 'ARABIC': '', 'CYRILLIC': '', 'DEVANAGARI': '', 'LATIN': '',
}  # fmt: skip

# Script → language → small words.
_WORDS = {
  'LATIN': {
    'en': 'the of and to in is that it for you was with are this be have not '
    'but from they we an by my your will can what all their',
    'de': 'der die das und ist nicht ein eine zu den von mit sich auf für dem '
    'des es im ich sie wir auch als an werden wird einen',
    'fr': 'le la les et est un une des du que pour dans pas vous nous il elle '
    'qui sur avec ce cette je sont au plus ne se par',
    'es': 'el la los las y es un una de que en por para con no se su del lo '
    'como más pero este esta muy también son al',
    'pt': 'o a os as e é um uma de que em por para com não se seu do da dos '
    'das no na como mais mas este esta muito também são ao',
    'it': 'il lo la gli le e è un una di che in per con non si del della dei '
    'come più ma questo questa molto anche sono al nel',
    'pl': 'i w na z do się nie jest to że o jak po dla za od przez ale są tym '
    'co być oraz także',
    'vi': 'là và của có không được cho một các trong với người này những để '
    'khi đã từ tôi bạn',
    'fi': 'ja on ei se että oli hän mutta ovat kun niin myös tai joka sen '
    'kuin olla voi mitä tämä ole',
    'sw': 'na ya wa kwa ni katika la za cha kama hii hiyo yake lakini ambayo '
    'kuwa sana wake pia si',
  },
  'CYRILLIC': {
    'ru': 'и в не на что я с он как это по но из у за от так же для вы мы она '
    'был быть или их',
    'uk': 'і в не на що я з він як це по але із у за від так же для ви ми вона '
    'був бути або їх та є',
    'bg': 'и в не на че аз с той как това по но от за да се е са ще съм или '
    'тя със който също',
  },
  'DEVANAGARI': {
    'hi': 'है हैं और के में की को से का यह एक नहीं पर भी था कि लिए ने इस',
    'mr': 'आहे आहेत आणि च्या मध्ये हे ते एक नाही पण या होते की साठी ही त्या',
    'ne': 'छ छन् र मा को हो यो पनि लागि एक छैन थियो गर्न हुन् यस',
  },
  'ARABIC': {
    'ar': 'في من على إلى أن هذا هذه التي الذي مع عن لا ما هو هي كان كل أو',
    'fa': 'و در به از که این را با است برای آن یک می های خود تا شد',
    'ur': 'کے میں ہے کی اور سے کا کو ہیں یہ نے پر ایک نہیں کہ اس بھی',
  },
}  # fmt: skip
_WORDS = {
  script: {tag: frozenset(text.split()) for tag, text in some.items()}
  for script, some in _WORDS.items()
}
# Letters of one of them, as good as a word each.
_LETTERS = {
  'de': 'ß', 'es': 'ñ¿¡', 'pt': 'ãõ', 'pl': 'łżźćńśęą',
  'vi': 'ơưđạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ',
  'ru': 'ыэё', 'uk': 'іїєґ', 'fa': 'پچژ', 'ur': 'ٹڈڑںےہھ', 'ar': 'ةيك',
  'mr': 'ळ',
}  # fmt: skip
_LEAST, _MOST_WORDS = 0.05, 2000  # share of words that are known; looked at
_RUN = re.compile(r'[\w\u0300-\u036f\u0900-\u0dff\u200c]+')


def told(text: str) -> str | None:
  """The language of a text, by its tag; None where nobody can tell."""
  text = unicodedata.normalize('NFC', text.casefold())
  letters = collections.Counter(
    name
    for sign in text
    if unicodedata.category(sign)[0] == 'L' and (name := _script(sign))
  )
  if not letters:
    return None
  if letters['HIRAGANA'] + letters['KATAKANA'] > 0.1 * letters.total():
    return 'ja'
  script = letters.most_common(1)[0][0]
  return _SCRIPTS[script] or _by_words(text, script)


def _script(sign: str) -> str:
  first = unicodedata.name(sign, '').split(' ')[0].split('-')[0]
  return first if first in _SCRIPTS else ''


def _by_words(text: str, script: str) -> str | None:
  words = _RUN.findall(text)[:_MOST_WORDS]
  if not words:
    return None
  found = collections.Counter()
  for tag, known in _WORDS[script].items():
    marks = _LETTERS.get(tag, '')
    found[tag] = sum(
      (word in known) + any(sign in word for sign in marks) for word in words
    )
  (first, most), (_, second) = found.most_common(2)
  if most == second or most < _LEAST * len(words):
    return None
  return first
