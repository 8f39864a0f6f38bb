"""What is asked aloud: questions, chats, options, tools (`heard`)."""

from typing import Any, Mapping

from data_pipelines.benchmarks import entries
from data_pipelines.benchmarks import uro_sets

_HUB = 'huggingface.co/datasets/'
_HERE = 'heard.'
_JUDGED = 'judge; exist_match'
_RATED = 'judge'
_CHOSEN = 'accuracy, unparsed'
_PROMPT = 'prompt of its judge unpublished'
_OWN = 'its audio and the prompt of its judge unpublished'


def _accuracy(value: float) -> Mapping[str, Mapping[str, float]]:
  return {entries.CHAT: {'judge': value}}


def _questions(
  table: str, summary: str, layout: str, source: str, expected: int, said: float
) -> entries.Entry:
  return entries.Entry(
    f'{_HERE}spoken_qa:SpokenQuestions',
    summary,
    layout,
    _JUDGED,
    f'{_HUB}{source}',
    {'table': table, 'prompt': 'step_accuracy@1'},
    expected,
    _accuracy(said),
    _PROMPT,
  )


def _open_audio(table, summary, loader, scored, expected, **arguments):
  return entries.Entry(
    f'{_HERE}{loader}',
    summary,
    f'eval_datas/{table}/{table}.csv, eval_datas/{table}/audios/',
    scored,
    f'{_HUB}baichuan-inc/OpenAudioBench',
    {'table': table, **arguments},
    expected,
  )


def _voice(subset, summary, loader, scored, expected, **arguments):
  return entries.Entry(
    f'{_HERE}voicebench:{loader}',
    summary,
    f'{subset}/*.parquet',
    scored,
    f'{_HUB}hlt-lab/voicebench',
    {'subset': subset, **arguments},
    expected,
  )


def _heard(layout, summary, files, source, expected, **arguments):
  return entries.Entry(
    f'{_HERE}multiple_choice:Heard',
    summary,
    files,
    _CHOSEN,
    source,
    {'layout': layout, **arguments},
    expected,
  )


_WORDS = f'{_RATED}, by the words alone'

# How the sets of URO-Bench are scored: class, by what, fields.
_URO: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
  'open': ('Rated', _RATED, {'prompt': 'voicebench_open@1'}),
  'semi-open': ('Rated', _RATED, {'prompt': 'suggested@1'}),
  'qa': ('Right', _JUDGED, {'prompt': 'voicebench_qa@1'}),
  'wer': ('Repeated', 'error rates', {}),
  'multi': ('Rated', _RATED, {'prompt': 'voicebench_open@1'}),
  'ml': ('Rated', _RATED, {'prompt': 'voicebench_open@1'}),
  'sf': ('Rated', _RATED, {'prompt': 'instruction@1'}),
  'ge': ('Rated', _WORDS, {'prompt': 'emotion@1'}),
  'ue': ('Rated', _WORDS, {'prompt': 'emotion@1'}),
  'gs': ('Rated', _WORDS, {'prompt': 'instruction@1'}),
  'srt': (
    'Rated',
    f'{_RATED}, by the words alone',
    {'prompt': 'instruction@1'},
  ),
}


def _uro(name: str) -> entries.Entry:
  chosen = uro_sets.SETS[name]
  loader, scored, arguments = _URO[chosen.scored]
  return entries.Entry(
    f'{_HERE}uro:{loader}',
    f'{name} of URO-Bench, {chosen.track} track',
    f'URO-Bench-data/{chosen.track}/{name}/test.jsonl',
    scored,
    f'{_HUB}Honggao/URO-Bench',
    {'subset': name, **arguments},
    chosen.size,
  )


ENTRIES: dict[str, entries.Entry] = {
  'llama_questions': _questions(
    'llama_questions',
    'questions of general knowledge, heard',
    'data/*.parquet',
    'fixie-ai/llama-questions',
    300,
    81.0,
  ),
  'web_questions': _questions(
    'web_questions',
    'questions of searchers, spoken',
    'data/*.parquet',
    'TwinkStart/speech-web-questions',
    2032,
    75.1,
  ),
  'trivia_qa': _questions(
    'trivia_qa',
    'trivia, spoken',
    'data/*.parquet',
    'TwinkStart/speech-triavia-qa',
    1000,
    58.0,
  ),
  'complex_bench': entries.Entry(
    f'{_HERE}own_audio:ComplexBench',
    'instructions with many conditions, spoken by you',
    'data_final.json, wav/MAIN_ID.wav',
    'judge, condition by condition',
    'github.com/thu-coai/ComplexBench',
    {},
    1150,
    _accuracy(74.0),
    _OWN,
  ),
  'hsk6': entries.Entry(
    f'{_HERE}own_audio:Exam',
    'the listening exam of HSK, level 6, spoken by you',
    'questions.jsonl, wav/ID.wav',
    _CHOSEN,
    'of your own',
    {},
    0,
    {entries.CHAT: {'accuracy': 86.0}},
    _OWN,
  ),
  'stepeval_audio_360': entries.Entry(
    f'{_HERE}stepeval:Chats360',
    'chats of several turns in nine categories',
    'data/*.parquet, audios/ or audios.tar.gz',
    'chat, factuality, relevance',
    f'{_HUB}stepfun-ai/StepEval-Audio-360',
    {},
    137,
    {entries.CHAT: {'chat': 4.11, 'factuality': 66.4, 'relevance': 75.2}},
    _PROMPT,
  ),
  'stepeval_toolcall': entries.Entry(
    f'{_HERE}toolcall:Toolcall',
    'chats after which a tool is called, or not',
    'TOOL_positive.jsonl, TOOL_negative.jsonl, wav/ or wav.tar',
    'trigger_precision, trigger_recall, type_accuracy, argument_match',
    f'{_HUB}stepfun-ai/StepEval-Audio-Toolcall',
  ),
  'stepeval_paralinguistic': entries.Entry(
    f'{_HERE}stepeval:Paralinguistic',
    'what is heard of speakers and rooms, 11 tasks',
    'TASK/TASK.json, TASK/audio/',
    _JUDGED,
    'github.com/stepfun-ai/Step-Audio2',
    {'prompt': 'refqa@1'},
    550,
  ),
  'voicebench_alpacaeval': _voice(
    'alpacaeval', 'open questions, spoken', 'Open', _RATED, 199, votes=3
  ),
  'voicebench_alpacaeval_full': _voice(
    'alpacaeval_full', 'open questions, spoken', 'Open', _RATED, 636, votes=3
  ),
  'voicebench_commoneval': _voice(
    'commoneval', 'questions of many speakers', 'Open', _RATED, 200, votes=3
  ),
  'voicebench_wildvoice': _voice(
    'wildvoice', 'questions as users ask them', 'Open', _RATED, 1000, votes=3
  ),
  'voicebench_mtbench': _voice(
    'mtbench', 'chats of two turns', 'Turns', _RATED, 46, votes=3
  ),
  'voicebench_sd_qa': _voice(
    'sd-qa', 'questions in the English of a region', 'Regions', _JUDGED, 553,
    prompt='voicebench_qa@1', votes=3, region='usa',
  ),
  'voicebench_openbookqa': _voice(
    'openbookqa', 'multiple choice, all of it heard', 'Letters', _CHOSEN, 455
  ),
  'voicebench_mmsu': _voice(
    'mmsu', 'multiple choice of 12 domains, heard', 'Letters', _CHOSEN, 3074
  ),
  'voicebench_bbh': _voice(
    'bbh', 'reasoning with two answers, heard', 'Hard', _CHOSEN, 1000
  ),
  'voicebench_ifeval': _voice(
    'ifeval', 'instructions that can be checked', 'Instructions',
    'ifeval: mean of strict and loose', 345,
  ),
  'voicebench_advbench': _voice(
    'advbench', 'what should be declined', 'Refused', 'refusal', 520
  ),
  'openaudiobench_alpaca': _open_audio(
    'alpaca_eval', 'open questions, spoken', 'openaudio:Rated', _RATED, 199,
    prompt='openaudiobench_alpaca@1', times=10.0,
  ),
  'openaudiobench_llama': _open_audio(
    'llama_questions', 'questions of general knowledge, heard',
    'spoken_qa:SpokenQuestions', _JUDGED, 300, prompt='openaudiobench_mark@1',
  ),
  'openaudiobench_reasoning': _open_audio(
    'reasoning_qa', 'reasoning in Chinese', 'openaudio:Rated', _RATED, 202,
    prompt='openaudiobench_reasoning@1', times=20.0, language='zh',
  ),
  'openaudiobench_trivia': _open_audio(
    'trivia_qa', 'trivia, spoken', 'spoken_qa:SpokenQuestions', _JUDGED, 1000,
    prompt='openaudiobench_json@1',
  ),
  'openaudiobench_web': _open_audio(
    'web_questions', 'questions of searchers, spoken',
    'spoken_qa:SpokenQuestions', _JUDGED, 1000, prompt='openaudiobench_json@1',
  ),
  'bigbench_audio': entries.Entry(
    f'{_HERE}spoken_qa:BigBenchAudio',
    'reasoning of four kinds, heard',
    'metadata.jsonl, data/',
    f'{_CHOSEN}; judge',
    f'{_HUB}ArtificialAnalysis/big_bench_audio',
    {'prompt': 'step_accuracy@1'},
    1000,
  ),
  'mmau': _heard(
    'mmau', 'sounds, music and speech',
    'mmau-test-mini.json, test-mini-audios/', 'github.com/Sakshi113/MMAU', 1000,
  ),
  'mmar': _heard(
    'mmar', 'reasoning about what is heard',
    'MMAR-meta.json, audio/ or mmar-audio.tar.gz', f'{_HUB}BoJack/MMAR', 1000,
  ),
  'mmsu': _heard(
    'mmsu', 'how something is said: 47 tasks', 'data/*.parquet',
    f'{_HUB}ddwang2000/MMSU', 5000,
  ),
  'audiomcq_strongac': _heard(
    'audiomcq', 'questions that need their sound', 'data.jsonl, and its audio',
    f'{_HUB}Harland/AudioMCQ-StrongAC-GeminiCoT', 19480,
  ),
  **{
    f'uro_{name.lower().replace("-", "_")}': _uro(name)
    for name in uro_sets.SETS
  },
}  # fmt: skip
