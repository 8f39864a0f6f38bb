"""The prompts that there are, by their scales.

Whose scale it is stands in the comment; the words are ours. A change of any
word is a new entry with the next version, and the old one stays.
"""

from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import prompts

_Prompt = prompts.Prompt
_SPOKEN = (
  'A user spoke to a voice assistant. Judge the transcript of what it said.'
)
_ASKED = 'What the user said:\n{question}\n\n'
_ANSWERED = 'What the assistant said:\n{answer}\n\n'
_QA = (
  'Question:\n{question}\n\nRight answer (any of them, if there are several):\n'
  '{reference}\n\nAnswer to be judged:\n{answer}\n\n'
)
_SAME = (
  'It is right if it says the same as a right answer, in whatever words, '
  'spelling, language or notation, and does not take it back. It is wrong if '
  'it says another thing, several things of which one fits, or nothing to the '
  'point.\n'
)
_JSON = 'Answer with one JSON object and nothing else, such as\n'


def _json(example: str) -> str:
  return f'{_JSON}{example}'


def _rubric(name: str, about: str, steps: tuple[str, ...]) -> _Prompt:
  """One mark of 1 to 5 by a ladder."""
  ladder = ''.join(f'{n}: {step}\n' for n, step in enumerate(steps, 1))
  text = f'{_SPOKEN} {about}\n\n{_ASKED}{_ANSWERED}Marks:\n{ladder}' + _json(
    '{"reason": "one sentence", "score": 3}'
  )
  return _Prompt(name, 1, text, parsing.rubric())


PROMPTS = (
  # Step-Audio's reward of objective questions: 0 or 1, arXiv 2502.11946, 5.2.6.
  # Where nobody knows the right answer, `expected` is ''.
  _Prompt(
    'objective',
    1,
    'Question:\n{question}\n\nRight answer (nothing, where it is not known):\n'
    '{expected}\n\nAnswer to be judged:\n{answer}\n\n'
    f'{_SAME}Say 1 if it is right and 0 if it is wrong, and nothing else.',
    parsing.one_zero(),
  ),
  # VoiceBench, open questions: 1 to 5, a bare number, mean of three votes.
  _Prompt(
    'voicebench_open',
    1,
    f'{_SPOKEN}\n\n{_ASKED}{_ANSWERED}Marks:\n'
    '1: beside the point, wrong, or no help\n'
    '2: to the point in part, with gaps, errors or much that is not asked for\n'
    '3: to the point and mostly right, but wordy or roundabout\n'
    '4: right, to the point and brief\n'
    '5: as 4, and could hardly be better: what was wanted, easy to follow\n'
    'Say the mark, one digit, and nothing else.',
    parsing.score(1, 5),
  ),
  # VoiceBench, SD-QA: yes or no against a reference, majority of three votes.
  _Prompt(
    'voicebench_qa',
    1,
    f'{_QA}{_SAME}Is the answer right? Say yes or no, and nothing else.',
    parsing.yes_no(),
  ),
  # almeval, SD-QA and ClothoAQA: reasons, then yes or no on the last line.
  _Prompt(
    'refqa',
    1,
    f'{_QA}{_SAME}Ignore how the question wants the answer to look. Give your '
    'reasons in a sentence or two. Then, on a line of its own and last, say '
    'yes if the answer is right, and no if it is not.',
    parsing.yes_no(parsing.LAST),
  ),
  # OpenAudioBench, Llama Questions: reasons with a mark.
  _Prompt(
    'openaudiobench_mark',
    1,
    f'{_QA}{_SAME}Give your reasons in a sentence or two, and end with '
    '[Correct] or [Incorrect].',
    parsing.right_wrong(),
  ),
  # OpenAudioBench, TriviaQA and Web Questions: JSON, any of the references.
  _Prompt(
    'openaudiobench_json',
    1,
    _QA
    + _SAME
    + _json('{"analysis": "one sentence", "judgment": "correct"}')
    + '\nwhere judgment is "correct" or "incorrect".',
    parsing.judgment(),
  ),
  # OpenAudioBench, AlpacaEval: 1 to 10 in double brackets.
  _Prompt(
    'openaudiobench_alpaca',
    1,
    f'{_SPOKEN}\n\n{_ASKED}{_ANSWERED}Look at how helpful, relevant and '
    'correct it is, and how deep it goes. Explain yourself in a few sentences. '
    'Then rate it with a whole number from 1 (useless) to 10 (excellent) in '
    'double brackets, such as: Rating: [[5]]',
    parsing.score(1, 10, parsing.MARKED),
  ),
  # OpenAudioBench, Reasoning QA: a teacher's marks of 1 to 5, by the way there.
  _Prompt(
    'openaudiobench_reasoning',
    1,
    '你是一位阅卷老师，请根据标准答案给学生的回答评分。\n\n题目：\n{question}\n\n'
    '标准答案：\n{reference}\n\n学生的回答：\n{answer}\n\n评分标准：\n'
    '5：结果正确，过程正确而完整\n4：结果正确，没有写出过程\n'
    '3：结果正确而过程有明显错误，或结果错误而过程大体正确\n'
    '2：结果错误，过程只有少部分正确\n1：结果和思路都错误\n'
    '数值、公式和单位的不同写法视为相同。先用一两句话说明理由，最后把分数写在双方括号'
    '里，例如：[[4]]',
    parsing.score(1, 5, parsing.MARKED),
  ),
  # Step-Audio: accuracy of the text answer (ComplexBench, HSK-6 and others).
  _Prompt(
    'step_accuracy',
    1,
    _QA
    + _SAME
    + 'Where the question sets conditions on the answer, all of them have to '
    'be met.\n'
    + _json('{"analysis": "one sentence", "judgment": "correct"}')
    + '\nwhere judgment is "correct" or "incorrect".',
    parsing.judgment(),
  ),
  # StepEval-Audio-360: factuality and relevance as shares, chat from 1 to 5.
  _Prompt(
    'stepeval_360',
    1,
    f'{_SPOKEN}\n\nWhat was said so far, the user last:\n{{question}}\n\n'
    f'{_ANSWERED}Judge three things:\n'
    'factuality: "yes" if nothing that it states is false or made up, else '
    '"no"; of what cannot be true or false, such as a song, "yes" if it is '
    'what it says it is\n'
    'relevance: "yes" if it takes up what the user said and wants, else "no"\n'
    'chat: how good a turn of a conversation it is, from 1 to 5: 1 useless or '
    'broken, 2 poor, 3 fair, 4 good, 5 excellent\n'
    + _json(
      '{"reason": "one sentence", "factuality": "yes", "relevance": "yes", '
      '"chat": 3}'
    ),
    parsing.Json(
      {
        'factuality': parsing.YES_NO,
        'relevance': parsing.YES_NO,
        'chat': parsing.Scale(1, 5),
      }
    ),
  ),
  # StepEval-Audio-360, by category: what people rate there from 1 to 5.
  _rubric(
    'role_play',
    'The user gave it a role.',
    (
      'it does not play the role',
      'it says that it does, but speaks as an assistant',
      'it plays the role with breaks, or as a cliché',
      'it plays the role well: what it knows, says and how it says it fit',
      'it is the role: consistent, particular and alive',
    ),
  ),
  _rubric(
    'emotion',
    'What counts is how it treats the feelings that are shown or asked for.',
    (
      'cold, or the wrong feeling',
      'it names a feeling and goes on without it',
      'a fitting feeling, stiffly or as a formula',
      'a fitting feeling, said naturally',
      'just the tone that the moment wants, and of help',
    ),
  ),
  _rubric(
    'instruction',
    'What counts is whether it does what it was told.',
    (
      'it does not do it',
      'it does a small part of it',
      'it does most of it, or all with a clear error',
      'it does all of it, with a blemish',
      'it does all of it, exactly',
    ),
  ),
)
