"""Words by what may follow them: the closed classes, and the usual others."""


def _set(*texts: str) -> frozenset[str]:
  return frozenset(word for text in texts for word in text.split())


FILLERS = _set(
  """uh um uhm umm er erm hmm hm ah eh basically actually anyway
  嗯 呃 额 那个 这个 就是 然后"""
)
# What a turn may be by itself.
ANSWERS = _set(
  """yes no yeah yep nope okay ok sure thanks right exactly correct hello hi hey
  goodbye bye stop please never always maybe nothing why cancel wait continue
  help pause good great fine"""
)
# Words in front of a sentence that are none of it.
OPENING = _set(
  """so well okay ok and but hey hi hello please yes no yeah now then oh sorry
  also alright right maybe"""
)
DETERMINERS = _set(
  """a an the my your his its our their every each whose no another
  several both either neither"""
)
DEMONSTRATIVES = _set('this that these those her some any all')
BEFORE_THAT = _set(
  """is was are were do did does like about with for at than after before want
  need have see get take give use buy read call help love show tell hear of
  in on to from by doing"""
)
JOINING = _set(
  """and or but so because if while although though unless until than as whether
  whereas since plus versus except"""
)
ASKING = _set('what who whom where when why how which')
# Clauses that lean on another.
CONDITIONS = _set('if because since although though while unless once whenever')
# Of what people do to things.
HOLDING = _set('have has had did do does')
# Behind these a clause that asks is no question: "tell me what time it is".
TELLING = _set(
  """me us know see wonder remember sure understand idea explain say about of
  find out ask guess matter care notice learn"""
)
SUBJECTS = _set('i we he she they')
PRONOUNS = SUBJECTS | _set(
  """you it me him us them myself yourself himself herself itself ourselves
  themselves everyone everybody someone somebody anyone anybody"""
)
BE = _set("is are was were am what's who's where's how's")
AUXILIARIES = (
  _set(
    """be been being do does did have has had will would can could shall
  should may might must isn't aren't wasn't don't doesn't didn't can't couldn't
  won't wouldn't shouldn't haven't hasn't"""
  )
  | BE
)
PREPOSITIONS = _set(
  """of to in on at by for from with without about into onto over under between
  among through during before after against toward towards near across behind
  beside beneath above below inside outside around along within upon per via
  off up down out away back like"""
)
PARTICLES = _set('on off up down out in over away back around')
# Verbs whose particle may stand behind what they are done to.
SWITCHING = _set('turn switch put take bring throw pick wake set call write')
# "Who is the fish with", "what is it for"; others need a verb in front.
STRANDING = _set('who whom what which where')
STRANDED = _set('with about like')
WITH_STRANDED = _set(
  """made think talk look looks listen live lives work works belong wait go
  come speak sit stay it you they he she"""
)
ENDING_PAIRS = frozenset(
  tuple(pair.split('_'))
  for pair in """hold_on come_on go_on go_ahead shut_up hang_up give_up wake_up
  get_up sit_down stand_up slow_down calm_down come_back go_back go_away log_in
  log_out come_in carry_on going_on what's_up you_too me_too why_not think_so
  hope_so guess_so how_many how_much how_come what_else who_else tell_me_more
  me_more some_more any_more one_more once_more thank_you thanks_you see_you
  let_me_know me_know don't_know not_know i_see i_know i_understand so_much
  of_course no_more what_for where_to like_that like_this so_far as_well
  and_you look_like looks_like""".split()
)
# They lead on to what they belong to.
LEADING = _set(
  """very really quite rather just only even almost usually often probably
  simply basically mostly mainly nearly not let lets let's such own"""
)
# They come last, mostly.
CLOSING = _set(
  """please thanks today tonight tomorrow yesterday again now there here too
  one ones mine yours hers ours theirs something anything nothing everything
  well better else yet already soon later together instead alone once twice
  ago ever forever morning afternoon evening minutes minute hours hour seconds
  days weeks months years o'clock dollars euros percent people much many
  correctly quickly slowly away"""
)
# Verbs that want to be told what.
WANTING = _set(
  """play find show send give bring put set book call remind tell want need make
  take get add open close buy say mean hear use try keep read write order
  reserve schedule create check turn switch increase decrease delete explain
  describe translate recommend suggest cancel become seem contain include
  looking trying wondering thinking having using making getting buying calling
  asking hoping planning know believe think wish like love hate prefer enjoy
  visit meet ask teach discuss change move share save remove update compare
  wanted needed said told gave made took got bought called found sent tried
  decided thought heard forgot gonna wanna
  gets makes takes gives wants needs says means seems becomes has"""
)
# Of these somebody is given something.
GIVING = _set(
  """tell show give bring send get find read teach buy make ask remind tells
  gave told sent showed give hand lend offer pass"""
)
FRONTING = _set('what who whom which')
VERBS = WANTING | _set(
  """go come run walk stop start wait talk speak listen look see live work eat
  drink sleep sit stand stay leave learn study help cook drive fly travel wear
  pay spend win lose break fix build draw sing dance clean wash bake cut mix
  let please set repeat continue pause skip resume lower raise dim lock unlock
  navigate search record spell count sell happen cost belong open finish arrive
  rain snow grow follow remember forget agree understand feel smell taste sound
  weigh hold watch choose pick charge join invite water feed order act roll
  flip imagine pretend guess write explain compose plan pack print translate"""
)
PAST = _set(
  """went came saw ate drank slept sat stood left ran spoke knew grew flew drove
  wore paid spent won lost broke built drew sang cut felt held chose began
  wrote read met kept put let hurt became brought caught fell fought led meant
  rose sold shot stole swam taught threw woke understood happened was were"""
)
ADJECTIVES = _set(
  """big small large little old new young good bad best worst better worse great
  nice red green blue black white yellow brown pink orange purple grey gray long
  short high low hot cold warm cool fast slow early late next last first second
  third fourth fifth same other different whole main real full free easy hard
  simple important famous favorite favourite beautiful strange quiet loud cheap
  expensive local nearest closest latest biggest largest smallest highest
  tallest longest fastest oldest most more less few many russian french german
  english american italian chinese spanish japanese british swimming
  vegetarian double single public private dark light bright"""
)
DIGITS = _set('zero oh one two three four five six seven eight nine')
NUMBERS = DIGITS | _set(
  """ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
  nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
  thousand million billion half"""
)
# What they are of is to come.
RELATIONAL = _set(
  """capital name meaning size number distance difference definition president
  king queen title population height length weight rest part kind sort type
  piece bunch pair amount beginning role purpose cause effect percentage
  majority ingredients lyrics director inventor founder"""
)

GOES_ON_WIDE = tuple(
  """的 和 跟 与 但 但是 因为 所以 如果 虽然 然后 在 把 被 对 从 向 给 是 要 想
  会 能 可以 还有 或者 就是 那个 这个 一个 一张 一杯 一块 一些 很 最 请 帮我
  我想 我要 比如 关于 到 为 让 叫 去 用 觉得 认为 比 再 也 都 应该""".split()
)
ENDS_WIDE = tuple(
  """吗 呢 吧 了 啊 呀 么 嘛 谢谢 什么 谁 哪里 哪儿 多少 几 怎么样 怎么办 再见
  可以吗 好吗 说说 一下 起床""".split()
)
CONDITIONS_WIDE = '如果', '因为', '虽然', '要是', '由于', '假如', '当'
THEN_WIDE = '就', '所以', '但', '那么', '才', '还是', '怎么', '什么'
ASKING_WIDE = tuple(
  '什么 谁 哪 怎么 多少 几 为什么 多远 多久 多大 是不是 有没有 能不能'.split()
)
