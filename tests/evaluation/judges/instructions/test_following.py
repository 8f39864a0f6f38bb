"""Each type of instruction, followed and not; verdicts of the public tool."""

import time

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.judges.instructions import following
from step_audio_jax.evaluation.judges.instructions import tongues

LEAST, LESS = 'at least', 'less than'
TEXT = 'The cat sat on the mat. It was a red mat, wasn’t it? Yes.'
# Type, arguments, answers that follow, answers that do not.
CASES = [
  ('keywords:existence', {'keywords': ['Cat', 'mat']}, [TEXT, 'CAT mats'],
   ['cat', 'mat']),
  ('keywords:existence', {'keywords': ['C++']}, ['I like c++.'], ['C', 'CC']),
  ('keywords:frequency', {'keyword': 'mat', 'relation': LEAST, 'frequency': 2},
   [TEXT], ['mat']),
  ('keywords:frequency', {'keyword': 'mat', 'relation': LESS, 'frequency': 2},
   ['mat', 'no'], [TEXT]),
  ('keywords:forbidden_words', {'forbidden_words': ['cat', 'dog']},
   ['Category', 'cats'], [TEXT, 'A Dog.']),
  ('keywords:letter_frequency', {'letter': 'T', 'let_relation': LEAST,
   'let_frequency': 9}, [TEXT], ['tttttttt']),
  ('keywords:letter_frequency', {'letter': '#', 'let_relation': LESS,
   'let_frequency': 2}, ['#x'], ['#x #y']),
  ('language:response_language', {'language': 'de'},
   ['Das ist der Hund und er ist nicht klein.'],
   ['That is the dog and it is not small.', '这是一只狗。']),
  ('length_constraints:number_sentences', {'num_sentences': 3, 'relation':
   LEAST}, [TEXT], ['One. Two.', 'Dr. Smith came at 3.5 o’clock.']),
  ('length_constraints:number_sentences', {'num_sentences': 3, 'relation':
   LESS}, ['One. Two!'], [TEXT]),
  ('length_constraints:number_paragraphs', {'num_paragraphs': 2},
   ['a\n***\nb', '***\na *** b\n***'], ['a', 'a\n***\n***\nb', 'a***b***c']),
  ('length_constraints:number_words', {'num_words': 5, 'relation': LEAST},
   ['one two three four five', "don't stop me now"], ['one two three four']),
  ('length_constraints:number_words', {'num_words': 3, 'relation': LESS},
   ['one two'], ['one-two-three']),
  ('length_constraints:nth_paragraph_first_word', {'num_paragraphs': 2,
   'nth_paragraph': 2, 'first_word': 'Well'},
   ['One.\n\nwell, two.', 'One.\n\n"Well" two.\n\n'],
   ['Well.\n\nOne.', 'One.\n\nWell.\n\nThree.', 'Well']),
  ('detectable_content:number_placeholders', {'num_placeholders': 2},
   ['Dear [name] of [town]'], ['Dear [name]', '[a\nb] [c]']),
  ('detectable_content:postscript', {'postscript_marker': 'P.S.'},
   ['Bye.\nP.S. I am late.', 'p. s. so'], ['Bye. PS late']),
  ('detectable_content:postscript', {'postscript_marker': 'P.P.S'},
   ['x p.p.s later', 'P. P. S'], ['P.S. x']),
  ('detectable_content:postscript', {'postscript_marker': 'By the way'},
   ['so. By the Way, x'], ['P.S. x']),
  ('detectable_format:number_bullet_lists', {'num_bullets': 2},
   ['* a\n* b', 'x\n - a\n* b'], ['* a', '* a\n* b\n* c', '**a**\n* b']),
  ('detectable_format:constrained_response', {}, ['My answer is no.',
   ' My answer is maybe. So.'], ['No.', 'my answer is no.']),
  ('detectable_format:number_highlighted_sections', {'num_highlights': 2},
   ['*a* and **b**', '*a* *b*'], ['*a*', '** ** * *']),
  ('detectable_format:multiple_sections', {'section_spliter': 'Section',
   'num_sections': 2}, ['Section 1\na\nSection 2\nb', 'Section1 Section2'],
   ['Section 1', 'SECTION 1 SECTION 2']),
  ('detectable_format:json_format', {}, ['{"a": [1]}', '```json\n{"a": 1}\n```',
   '```\n[]```'], ['a: 1', '{"a": 1} so', '[' * 9999]),
  ('detectable_format:title', {}, ['<<A song>>\nla'],
   ['<<>>', '<a>', '<< >>', '<<a\nb>>', '>> a <<']),
  ('combination:two_responses', {}, ['a\n******\nb', '****** a ****** b'],
   ['a', 'a ****** a', 'a ****** b ****** c', 'a ************ b']),
  ('combination:repeat_prompt', {'prompt_to_repeat': 'Say Hi. '},
   ['say hi. Hi!'], ['Sure: Say Hi. Hi!']),
  ('startend:end_checker', {'end_phrase': 'Any questions?'},
   ['So. any questions?', '"So. Any questions?"'], ['Any questions? No.']),
  ('startend:quotation', {}, ['"a"', ' "a b" '], ['"', '"a', '“a”']),
  ('change_case:capital_word_frequency', {'capital_frequency': 2,
   'capital_relation': LEAST}, ['A CAT', 'I said U.S. once'], ['A cat']),
  ('change_case:capital_word_frequency', {'capital_frequency': 2,
   'capital_relation': LESS}, ['the MOTHER-IN-LAW came'], ['GO THERE']),
  ('change_case:english_capital', {}, ['THIS IS THE ONE THAT YOU WANT.'],
   ['THIS is the one that you want.', 'DAS IST DER HUND UND DIE KATZE']),
  ('change_case:english_lowercase', {}, ['this is the one that you want.'],
   ['This is the one that you want.', 'das ist der hund und die katze']),
  ('punctuation:no_comma', {}, ['a; b', 'a，b'], ['a, b']),
]  # fmt: skip
CASE_IDS = [f'{case[0]}-{k}' for k, case in enumerate(CASES)]


@pytest.mark.parametrize('name, given, good, bad', CASES, ids=CASE_IDS)
def test_followed_or_not(name, given, good, bad):
  for answer in good:
    assert following.followed(answer, name, given) == (1.0, '', {}), answer
  for answer in bad:
    assert following.followed(answer, name, given) == (0.0, '', {}), answer
  more = {**given, 'capital_frequency': None} if not given else given
  assert following.followed(good[0], name, more).value == 1  # null is none
  assert following.followed(' \n', name, given) == (0.0, 'silent', {})
  if given:
    lacking = following.followed(good[0], name, {})
    assert lacking == (None, 'no_argument', {})


def test_every_type_is_tried():
  assert {case[0] for case in CASES} == set(following.CHECKS)
  assert len(following.CHECKS) == 25


def test_what_cannot_be_told_is_not_guessed():
  followed = following.followed
  name = 'language:response_language'
  assert followed('12 34', name, {'language': 'en'}).kind == 'unknown_language'
  assert followed('Zxqv brtl', name, {'language': 'en'}).value is None
  assert followed('x', 'length:of_arms', {}).kind == 'unknown_instruction'
  words = 'length_constraints:number_words'
  for given in ({'num_words': 'many', 'relation': LEAST},
                {'num_words': 3, 'relation': 'about'}):  # fmt: skip
    assert followed('a b c', words, given).kind == 'no_argument'


def test_loose_leaves_out_the_frame():
  name = 'detectable_format:json_format'
  framed = 'Sure, here it is:\n{"a": 1}\nI hope that helps.'
  assert following.followed(framed, name, {}).value == 0
  assert following.followed(framed, name, {}, loose=True).value == 1
  starred = '**My answer is** yes.'
  name = 'detectable_format:constrained_response'
  assert following.followed(starred, name, {}).value == 0
  assert following.followed(starred, name, {}, loose=True).value == 1


def test_rows_and_figures():
  comma, title = ('punctuation:no_comma', {}), ('detectable_format:title', None)
  rows = [
    {'id': '1', 'answer': '<<A>> b', 'instructions': [comma, title]},
    {'id': '2', 'answer': 'a, b\nc', 'instructions': [comma, title]},
    {'id': '3', 'answer': None, 'instructions': [comma]},
    {'id': '4', 'answer': 'a', 'instructions': [comma, ['x:y', {}]]},
    {'id': '5', 'answer': 'a,', 'instructions': [comma, ['x:y', {}]]},
  ]
  assert [following.verdict(row)[:2] for row in rows] == [
    (1.0, ''),
    (0.0, ''),
    (0.0, 'silent'),
    (None, 'unknown_instruction'),
    (0.0, ''),  # one is broken, whatever the other is
  ]
  found = following.rates(rows)
  assert found['prompt_strict']['over_all'] == 0.2
  assert found['prompt_strict']['over_parsed'] == 0.25
  strict = found['instruction_strict']
  assert (strict['of'], strict['parsed'], strict['over_all']) == (9, 7, 3 / 9)
  assert found['instruction_loose']['over_all'] == 4 / 9  # 2 without its line
  with pytest.raises(errors.UserError, match="row '6': instructions: found no"):
    following.verdict({'id': '6', 'answer': 'a', 'instructions': []})


# A sentence of each language that IFEval asks for.
SENTENCES = {
  'ar': 'ذهب الولد إلى المدرسة في الصباح مع صديقه ولم يكن هذا سهلا.',
  'bg': 'Това е моят приятел и той ще дойде с нас на пазара утре.',
  'bn': 'আমি প্রতিদিন সকালে চা খাই।',
  'de': 'Wir gehen heute nicht in die Schule, denn es ist ein Feiertag.',
  'en': 'We are not going to school today because it is a holiday.',
  'es': 'Hoy no vamos a la escuela porque es un día de fiesta muy bonito.',
  'fa': 'من امروز به مدرسه نمی روم و این برای ما خوب است.',
  'fi': 'Minä en ole tänään koulussa, koska se on juhlapäivä ja sataa.',
  'fr': "Nous n'allons pas à l'école aujourd'hui, car c'est un jour de fête.",
  'gu': 'હું દરરોજ સવારે ચા પીઉં છું.',
  'he': 'אני שותה תה בכל בוקר.',
  'hi': 'आज हम स्कूल नहीं जा रहे हैं क्योंकि यह एक छुट्टी का दिन है।',
  'it': 'Oggi non andiamo a scuola perché è un giorno di festa per tutti.',
  'ja': '今日は休みなので、学校に行きません。',
  'kn': 'ನಾನು ಪ್ರತಿದಿನ ಬೆಳಿಗ್ಗೆ ಚಹಾ ಕುಡಿಯುತ್ತೇನೆ.',
  'ko': '오늘은 휴일이라서 학교에 가지 않습니다.',
  'ml': 'ഞാൻ എല്ലാ ദിവസവും രാവിലെ ചായ കുടിക്കും.',
  'mr': 'आज आम्ही शाळेत जात नाही कारण ही एक सुट्टी आहे आणि पाऊस पडत आहे.',
  'ne': 'आज हामी विद्यालय जाँदैनौं किनभने यो एक बिदाको दिन हो र पानी पनि पर्यो।',
  'pa': 'ਮੈਂ ਹਰ ਰੋਜ਼ ਸਵੇਰੇ ਚਾਹ ਪੀਂਦਾ ਹਾਂ।',
  'pl': 'Dzisiaj nie idziemy do szkoły, bo to jest święto i pada deszcz.',
  'pt': 'Hoje não vamos à escola porque é um dia de festa para todos.',
  'ru': 'Сегодня мы не идём в школу, потому что это праздник и идёт дождь.',
  'sw': 'Leo hatuendi shule kwa sababu ni siku ya mapumziko na mvua kubwa.',
  'ta': 'நான் தினமும் காலையில் தேநீர் குடிப்பேன்.',
  'te': 'నేను ప్రతిరోజూ ఉదయం టీ తాగుతాను.',
  'th': 'วันนี้เราไม่ไปโรงเรียนเพราะเป็นวันหยุด',
  'uk': 'Сьогодні ми не йдемо до школи, бо це свято і йде дощ.',
  'ur': 'آج ہم اسکول نہیں جا رہے ہیں کیونکہ یہ ایک چھٹی کا دن ہے۔',
  'vi': 'Hôm nay chúng tôi không đi học vì đó là một ngày nghỉ của trường.',
  'zh': '今天是假日，我们不去学校。',
}


@pytest.mark.parametrize('tag', SENTENCES)
def test_languages_are_told(tag):
  assert tongues.told(SENTENCES[tag]) == tag
  assert tongues.told(SENTENCES[tag].upper()) == tag


def test_a_word_of_another_script_changes_nothing():
  assert tongues.told(f'{SENTENCES["en"]} 北京') == 'en'
  assert tongues.told('…') is None


def test_long_answers_are_checked_quickly():
  began = time.process_time()
  for text in ('[' * 20000, '<<' * 20000, '\n' * 20000 + 'x'):
    for name, given, *_ in CASES:
      following.followed(text, name, given)
  assert time.process_time() - began < 3
