"""Numbers of Mandarin text as they are read, and punctuation as spaces.

The rules are those of speechio's TextNorm (`cn_tn`) with all its switches off,
as Qwen2-Audio, Kimi-Audio and UltraEval-Audio use it:

1. Dates, money, mobile and fixed telephones, fractions, percentages, numbers
   before a measure word, long digit strings and remaining numbers, in this
   order, are written as they are said. Each finding replaces the first place
   where its text stands, which need not be where it was found.
2. `二` between Latin letters is `2` again (B2B).
3. Every punctuation mark, Chinese or ASCII, becomes a space.

Full-width forms, case, fillers and erhua stay.
"""

import functools
import re
import string

_DIGITS = '零一二三四五六七八九'
_UNITS = {
  **dict(zip((1, 2, 3, 4), '十百千万', strict=True)),
  **dict(zip(range(8, 45, 4), '亿兆京垓秭穰沟涧正载', strict=True)),
}

_MULTIPLES = '亿|千万|百万|万|千|百'
_MONEY_UNITS = (
  f'(?:{_MULTIPLES}|(?:{_MULTIPLES}|)元|(?:{_MULTIPLES}|)块|角|毛|分)'
)
_MEASURES = (
  '匹 张 座 回 场 尾 条 个 首 阙 阵 网 炮 顶 丘 棵 只 支 袭 辆 挑 担 颗 壳 窠 '
  '曲 墙 群 腔 砣 客 贯 扎 捆 刀 令 打 手 罗 坡 山 岭 江 溪 钟 队 单 双 对 出 '
  '口 头 脚 板 跳 枝 件 贴 针 线 管 名 位 身 堂 课 本 页 家 户 层 丝 毫 厘 分 '
  '钱 两 斤 铢 石 钧 锱 忽 千克 毫克 微克 寸 尺 丈 里 寻 常 铺 程 千米 分米 '
  '厘米 毫米 微米 撮 勺 合 升 斗 盘 碗 碟 叠 桶 笼 盆 盒 杯 斛 锅 簋 篮 罐 瓶 '
  '壶 卮 盏 箩 箱 煲 啖 袋 钵 年 月 日 季 刻 时 周 天 秒 旬 纪 岁 世 更 夜 春 '
  '夏 秋 冬 代 伏 辈 丸 泡 粒 幢 堆 根 道 面 片 块'
)

_NUMBER = r'\d+(?:\.\d+)?'
_PUNCTUATION = (
  '！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃《》「」『』'
  '【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏·〈〉' + string.punctuation
)
_SPACES = str.maketrans(dict.fromkeys(_PUNCTUATION, ' '))
_DIGIT = re.compile(r'\d')
_LETTER_TWO_LETTER = re.compile(r'(([a-zA-Z]+)二([a-zA-Z]+))')


def said(digits: str) -> str:
  """Each digit by itself; what is no digit is an error of the caller."""
  return ''.join(_DIGITS[int(digit)] for digit in digits)


def cardinal(number: str) -> str:
  """A number, perhaps with one decimal point, as it is read.

  10 to 19 begin with 十; 2 before a unit but 十 is 两, unless 十 is before it.
  """
  whole, _, fraction = number.partition('.')
  symbols = _symbols(whole) if len(whole) > 1 else [int(d) for d in whole]
  read = []
  for i, symbol in enumerate(symbols):
    if isinstance(symbol, str):
      read.append(symbol)
      continue
    before = symbols[i - 1] if i else None
    after = symbols[i + 1] if i + 1 < len(symbols) else None
    liang = (
      symbol == 2
      and isinstance(after, str)
      and after != '十'
      and not isinstance(before, int)
      and before != '十'
    )
    read.append('两' if liang else _DIGITS[symbol])
  text = ''.join(read)
  if fraction:
    text = f'{text or "零"}点{said(fraction)}'
  return text[1:] if text.startswith('一十') else text


def _symbols(number: str) -> list[int | str]:
  """Digits as numbers, units as characters."""
  short = number.lstrip('0')
  if not short:
    return []
  if len(short) == 1:
    return [int(short)] if short == number else [0, int(short)]
  power = max(power for power in _UNITS if power < len(short))
  return [
    *_symbols(number[:-power]),
    _UNITS[power],
    *_symbols(short[-power:]),
  ]


def _date(text: str) -> str:
  year, sign, rest = text.partition('年')
  if not sign:
    year, rest = '', text
  month, _, day = rest.partition('月')
  read = f'{said(year)}年' if sign else ''
  if rest:
    read += f'{cardinal(month)}月'
  return read + (cardinal(day[:-1]) + day[-1] if day else '')


def _money(text: str) -> str:
  for number in re.findall(_NUMBER, text):
    text = text.replace(number, cardinal(number))
  return text


def _fraction(text: str) -> str:
  numerator, denominator = text.split('/')
  return f'{cardinal(denominator)}分之{cardinal(numerator)}'


# (pattern whose one group is what is read, how it is read)
_READINGS = tuple(
  (re.compile(pattern), reading)
  for pattern, reading in (
    (
      r'\D+((?:(?:[089]\d|(?:19|20)\d{2})年)?'
      r'(?:\d{1,2}月(?:\d{1,2}[日号])?)?)',
      _date,
    ),
    (
      rf'\D+({_NUMBER}[多余几]?{_MONEY_UNITS}(?:\d{_MONEY_UNITS}?)?)',
      _money,
    ),
    (
      r'\D((?:\+?86 ?)?1(?:[38]\d|5[0-35-9]|7[678]|9[89])\d{8})\D',
      lambda text: said(''.join(text.strip('+').split())),
    ),
    (
      r'\D((?:0(?:10|2[1-3]|[3-9]\d{2})-?)?[1-9]\d{6,7})\D',
      lambda text: said(text.replace('-', '')),
    ),
    (r'(\d+/\d+)', _fraction),
    (rf'({_NUMBER}[%％])', lambda text: f'百分之{cardinal(text[:-1])}'),
    (rf'({_NUMBER})[多余几]?(?:{"|".join(_MEASURES.split())})', cardinal),
    (r'(\d{4,32})', said),
    (rf'({_NUMBER})', cardinal),
  )
)


@functools.lru_cache(maxsize=2**15)
def normalise(text: str) -> str:
  """Mandarin text as it is said, without punctuation; spaces stay."""
  text = f'^{text}$'
  if _DIGIT.search(text):
    for pattern, reading in _READINGS:
      for found in pattern.findall(text):
        text = text.replace(found, reading(found), 1)
  for whole, before, after in _LETTER_TWO_LETTER.findall(text):
    text = text.replace(whole, f'{before}2{after}', 1)
  return text.lstrip('^').rstrip('$').translate(_SPACES)
