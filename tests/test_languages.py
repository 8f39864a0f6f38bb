"""Language tags as corpora write them, and scripts without spaces."""

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import languages
from step_audio_jax.corpus import manifest


@pytest.mark.parametrize(
  'subtag, spellings',
  [
    ('zh', 'zh ZH zh_CN zh-Hant-TW cmn cmn_hans_cn zho chi Chinese Mandarin '
           'CHINESE zh_TW.UTF-8 zh-cmn-Hans-CN 中文 zh-en zh_ <|zh|> [zh-CN]'),
    ('en', 'en_ EN- <|en|>'),
    ('yue', 'yue zh-yue Cantonese yue_Hant_HK'),
    ('wuu', 'wuu'),
    ('ja', 'ja ja_jp JA-JP jpn Japanese 日本語'),
    ('th', 'th th_TH tha Thai THAI ไทย'),
    ('lo', 'lo lao Lao lo-LA'),
    ('km', 'km khm Khmer km_kh'),
    ('my', 'my mya bur Burmese'),
    ('bo', 'bo bod tib Tibetan'),
    ('en', 'en EN en_us en-GB eng English ENGLISH english_us'),
    ('ar', 'ar arb ar_EG ara Arabic'),
    ('sr', 'sr sr-Latn sh srp'),
    ('he', 'he iw heb Hebrew'),
    ('und', 'und UND'),
  ],
)  # fmt: skip
def test_spellings_of_a_language(subtag, spellings):
  for tag in spellings.split():
    assert languages.language_subtag(tag) == subtag, tag
    assert languages.normalise(f' {tag}\n') == subtag
    # On the way in, whoever wrote the manifest.
    line = {'id': 'a', 'kind': 'text', 'text': 'x', 'language': tag}
    assert manifest.Utterance.from_json(line).language == subtag


def test_names_of_several_words():
  for name, subtag in {
    'Mandarin Chinese': 'zh',
    'mandarin_chinese': 'zh',
    'Chinese (Simplified)': 'zh',
    'English (US)': 'en',
    'Norwegian Bokmål': 'nb',
    'Haitian Creole': 'ht',
  }.items():
    assert languages.language_subtag(name) == subtag, name


@pytest.mark.parametrize(
  'tag', ['', ' ', '-', 'xx', 'unknown', 'None', 'en,zh', 'x' * 500, 'zh\0']
)
def test_what_is_no_language_stays_as_it_is(tag):
  assert languages.language_subtag(tag) is None
  assert languages.normalise(tag) == tag.strip()


def test_private_tags_are_whose_they_are():
  assert languages.normalise('x-dolphin') == 'x-dolphin'
  assert languages.normalise('qaa') == 'qaa'


@hypothesis.given(st.text(max_size=30))
def test_any_text_is_a_tag_or_none(text):
  found = languages.normalise(text)
  assert languages.normalise(found) == found
  languages.contradicts(text, text)


@pytest.mark.parametrize(
  'text, looks',
  [
    ('今天天气', True),
    ('สวัสดี ครับ', True),
    ('ສະບາຍດີ', True),
    ('សួស្តី', True),
    ('မင်္ဂလာပါ', True),
    ('བཀྲ་ཤིས་', True),
    ('ひらがな カタカナ ﾊﾝｶｸ', True),
    ('the cat', False),
    ('안녕 하세요', False),
    ('नमस्ते दुनिया', False),
    ('مرحبا', False),
    ('OpenAI 发布', False),
    ('12:30', None),
    ('', None),
  ],
)
def test_a_script_tells_whether_there_are_spaces(text, looks):
  assert languages.looks_spaceless(text) is looks
  # Under a tag that says nothing the text decides.
  for tag in ('', 'xx', 'en', 'nan'):
    assert languages.is_spaceless(tag, text) is bool(looks)


def test_a_spaceless_tag_decides_whatever_the_text():
  for tag in ('zh_CN', 'Thai', 'jpn', 'yue', 'lo', 'km', 'my', 'bo'):
    assert languages.is_spaceless(tag)
    assert languages.is_spaceless(tag, 'in latin letters')
  for tag in languages.SPACELESS:
    assert languages.language_subtag(tag), tag


def test_tags_that_cannot_be_believed_are_counted():
  doubts = languages.Census()
  assert doubts.notes() == []
  for tag, text, heard in [
    ('en', 'the cat', None),
    ('en', '今天天气', None),
    ('en', '今天天气', 'en'),
    ('zh', 'the cat', None),
    ('zh', '今天天气 ok', 'zh_CN'),
    ('nan', '今天', None),
    ('xx', '今天', None),
    ('xx', None, None),
    ('de', 'guten Tag', 'en'),
  ]:
    doubts.add(tag, text, heard)
  unknown, script, translation = doubts.notes()
  assert "the tag 'xx' (2 lines) is in no registry" in unknown
  assert "the tags 'en' (2 lines) and 'zh' (1 line) are not" in script
  assert "'en > de' (1 line) is of translations" in translation
  for n in range(9):
    doubts.add(f'bad{n}', 'x')
  assert 'and 5 more' in doubts.notes()[0]
