"""Plain words for a style: "a bit faster, and sad" → `(悲伤2)(快速1)`.

By a table, in English and Chinese, and nothing else: every word of an
instruction must be one of a property, of its strength, or say nothing. What is
left over is told, not guessed; "not so fast" is refused, for it has a "not".

    slightly, a bit, 一点, 稍微    level 1
    (nothing)                      `tags.Name.usual`: 2, sad and cute 1
    very, 很                       level 3
    extremely, 极其                level 4
    as … as possible, 最           level 5
"""

import re
import unicodedata

from step_audio_jax import errors
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib

# Tag → words and phrases, as patterns. What would fit two of them alone
# ("lower", of a voice and of its loudness) is in none.
WORDS = {
  'RAP': ('rap(?:ping)?', 'as a rap', '说唱', '饶舌'),
  '哼唱': (
    'sing(?:ing)?',
    'hum(?:ming)?',
    '哼唱',
    '哼',
    '唱歌',
    '唱出来',
    '唱',
  ),
  '高兴': (
    *('happ(?:y|ier|ily)', 'cheerful(?:ly)?', 'joyful(?:ly)?', 'glad(?:ly)?'),
    *('高兴', '开心', '快乐', '喜悦', '欢快'),
  ),
  '生气': (
    *('angr(?:y|ier|ily)', 'furious(?:ly)?', 'annoyed'),
    *('生气', '愤怒', '发火'),
  ),
  '悲伤': (
    *('sad(?:der|ly)?', 'sorrowful(?:ly)?', 'unhapp(?:y|ily)'),
    *('悲伤', '难过', '伤心', '悲痛', '忧伤'),
  ),
  '撒娇': ('cute(?:r|ly)?', 'coquettish(?:ly)?', '撒娇', '可爱'),
  '惊讶': ('surprised', 'astonished', '惊讶', '吃惊', '惊奇'),
  '害怕': ('afraid', 'scared', 'fearful(?:ly)?', '害怕', '恐惧'),
  '中文': ('chinese', 'mandarin', '中文', '普通话', '汉语', '国语'),
  '英文': ('english', '英文', '英语'),
  '韩语': ('korean', '韩语', '韩文'),
  '日语': ('japanese', '日语', '日文'),
  '四川话': ('sichuan(?:ese)?', '四川话', '四川方言', '四川口音'),
  '粤语': ('cantonese', '粤语', '广东话', '广州话'),
  '快速': (
    *('fast(?:er)?', 'quick(?:er|ly)?', 'speed(?: it)? up', 'rapidly'),
    *('快速', '语速快', '快', '加快(?:语速)?'),
  ),
  '慢速': (
    *('slow(?:er|ly)?', 'slow(?: it)? down'),
    *('慢速', '缓慢', '语速慢', '慢', '放慢(?:语速)?'),
  ),
  '高音': (
    *('high(?:er)?[- ]pitch(?:ed)?', 'pitch(?:ed)? high(?:er)?'),
    *('high(?:er)? voice', 'raise (?:the |your )?pitch'),
    *('高音', '音调高', '声调高', '音高'),
  ),
  '低音': (
    *('low(?:er)?[- ]pitch(?:ed)?', 'pitch(?:ed)? low(?:er)?'),
    *('deep(?:er)?', 'low(?:er)? voice', 'lower (?:the |your )?pitch'),
    *('低音', '音调低', '声调低', '低沉'),
  ),
  '大声': (
    *('loud(?:er|ly)?', 'speak up', 'shout(?:ing)?'),
    *('大声', '响亮', '(?:声音|音量)[再更]?大', '大音量'),
  ),
  '小声': (
    *('quiet(?:er|ly)?', 'soft(?:er|ly)?', 'low(?:er)? volume'),
    *('小声', '轻声', '(?:声音|音量)[再更]?小', '小音量'),
  ),
  '耳语': ('whisper(?:ed|ing)?', '耳语', '悄悄话?'),
  '播音': ('newsreader', 'news anchor', '播音(?:员)?', '新闻(?:腔)?'),
  '讲故事': ('story ?tell(?:er|ing)', '讲故事'),
}
# Level → what stands before the property, and what behind it.
STRENGTHS = {
  1: (
    ('slightly', 'somewhat', 'a (?:little )?bit', 'a little', 'a touch'),
    ('a (?:little )?bit', 'a little', 'slightly'),
  ),
  3: (('very', 'really', 'much', 'a lot'), ('a lot',)),
  4: (('extremely', 'extraordinarily'), ()),
  5: (('as',), ('as possible', 'as you can')),
}
WIDE_STRENGTHS = {
  1: (
    ('稍微', '稍', '略微', '有一点', '有点'),
    ('一点点?', '点儿?', '一些', '些'),
  ),
  3: (('很', '非常', '十分'), ('很多', '得多')),
  4: (('极其', '特别', '极'), ()),
  5: (('最', '尽可能', '尽量'), ()),
}
_FILLERS = (
  *('please', 'can', 'could', 'would', 'you', 'speak', 'say', 'talk', 'read'),
  *('tell', 'me', 'to', 'it', 'this', 'that', 'in', 'with', 'a', 'an', 'the'),
  *('and', 'but', 'then', 'accent', 'dialect', 'voice', 'tone', 'speech'),
  *('language', 'way', 'manner', 'style', 'sound', 'sounding', 'be', 'more'),
  *('like', 'now', 'out', 'your', 'speed', 'mood', 'aloud'),
)
_WIDE_FILLERS = (
  *('请', '麻烦', '你', '您', '能', '可以', '能不能', '可不可以', '吗', '吧'),
  *('帮我', '给我', '用', '以', '说话', '说', '讲话', '讲', '读', '念', '朗读'),
  *('来', '一下', '这句话', '这段话', '这段', '话', '的', '地', '得', '着'),
  *('语气', '语调', '口吻', '声音', '方式', '风格', '情绪', '感觉', '语速'),
  *('并且', '并', '和', '又', '而且', '而', '也', '再', '更'),
  *('要', '把', '它'),
)


def _either(words) -> str:
  return '|'.join(sorted(words, key=len, reverse=True))


def _properties() -> list[tuple[re.Pattern, tags_lib.Tag]]:
  """Patterns of a property with its strength, each with the tag it stands for.

  Longer words stand first, so that 快乐 is no 快; of one word, what says a
  strength stands before what says none.
  """
  found = []
  for name, words in WORDS.items():
    usual = tags_lib.find(name)
    for word in words:
      wide = not word.isascii()
      found.append((-len(word), 2, word if wide else _whole(word), usual))
      if not usual.level:
        continue
      for level, (before, behind) in (
        WIDE_STRENGTHS if wide else STRENGTHS
      ).items():
        ahead, after = _either(before), _either(behind)
        if wide:
          patterns = [f'(?:{ahead}){word}']
          patterns += [f'{word}(?:{after})'] if behind else []
        elif level == tags_lib.LEVELS:  # as … as possible
          patterns = [_whole(rf'(?:{ahead})\s+(?:{word})\s+(?:{after})')]
        else:
          patterns = [_whole(rf'(?:{ahead})\s+(?:more\s+)?(?:{word})')]
          patterns += [_whole(rf'(?:{word})\s+(?:{after})')] if behind else []
        tag = tags_lib.Tag(name, level)
        found += [(-len(word), 1, pattern, tag) for pattern in patterns]
  found.sort(key=lambda item: item[:2])
  return [(re.compile(pattern), tag) for *_, pattern, tag in found]


def _whole(pattern: str) -> str:
  """Not inside a word; Chinese around it is no part of one."""
  return f'(?<![a-z])(?:{pattern})(?![a-z])'


_PROPERTIES = _properties()
_NOTHING = re.compile(f'{_whole(_either(_FILLERS))}|{_either(_WIDE_FILLERS)}')
_SILENT = re.compile(r'[\s,.;:!?、，。；：！？…·-]+')


def understand(text: str) -> tags_lib.Style:
  """The style that plain words ask for.

  Args:
    text: An instruction, English or Chinese or both, in any case.

  Raises:
    UserError: A part of it is in no table, two parts contradict each other,
      or it asks for nothing.
  """
  left = unicodedata.normalize('NFKC', text).casefold()
  tags = []
  for pattern, tag in _PROPERTIES:
    while match := pattern.search(left):
      tags.append(tag)
      # A mark of its own: what was apart does not become a word.
      left = f'{left[: match.start()]} ; {left[match.end() :]}'
  rest = [part for part in _SILENT.split(_NOTHING.sub(' ', left)) if part]
  if rest:
    raise errors.UserError(
      f'style: found {" ".join(rest)[:60]!r} in {text[:60]!r}, which is in no '
      f'table; expected words about {_known()}, or tags such as (fast 2).'
    )
  if not tags:
    raise errors.UserError(
      f'style: found {text[:60]!r}, which asks for nothing; expected words '
      f'about {_known()}, or tags such as (fast 2).'
    )
  return tags_lib.Style(tuple(tags))


def read(text: str) -> tags_lib.Style:
  """A style as people write it: tags, or plain words.

  Brackets, and a tag with its level (`fast 2`), are tags.

  Raises:
    UserError: As `markup.style`, or as `understand`.
  """
  bare = text.strip()
  is_tags = any(mark in bare for mark in '()（）')
  is_tags = is_tags or tags_lib.split(bare)[1] is not None
  return markup.style(bare) if is_tags else understand(bare)


def _known() -> str:
  kinds = [kind for kind in tags_lib.KINDS if kind != 'pause']
  return ', '.join(kinds)
