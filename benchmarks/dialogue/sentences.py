"""What people say in a dialogue, shared out between parts.

Every second sentence of a list is of the first of its parts, so that what is
tuned on one is measured on the other. `|` is where a speaker stops to think.
"""

from typing import Sequence

# Settings may be chosen on all but `unseen`.
PARTS = ('dev', 'test', 'check', 'unseen')
_WHOLE = """what is the capital of peru
tell me a joke about penguins
how far is it to the moon
please set a timer for ten minutes
can you book a table for two people
what will the weather be like tomorrow
i need a train to berlin on friday
play some quiet music in the kitchen
who wrote the old man and the sea
turn off all the lights downstairs
how do i make a good omelette
remind me to call my mother tonight
what time does the museum open
translate good morning into french
i would like to hear the news
how many people live in tokyo""".splitlines()
_WHOLE_WIDE = """今天天气怎么样
请给我讲一个故事
明天早上八点叫我起床
北京到上海有多远
这道菜怎么做
帮我订一张去广州的票""".splitlines()
_PAUSED = """what is the capital of | peru
i want to fly to | san francisco
can you tell me about the | second world war
please remind me to | call my brother
i need a hotel with | a swimming pool
we should leave early because | the roads are busy
my number is four two | seven nine one
how do i get from | the station to the river
i like tea but | my sister drinks coffee
send a message to | doctor williams
could you play | something by mozart
what happens if | i press this button
i am looking for a | small red notebook
it was built in | nineteen twenty three
the meeting is on monday and | the dinner is on friday
add milk | and bread to my list
i would like a table | near the window
tell me more | about this painting""".splitlines()
_PAUSED_WIDE = """我想 | 去北京看长城
请帮我 | 订一张火车票
因为 | 今天下雨了
你知道那个 | 电影的名字吗
我要一杯咖啡和 | 一块蛋糕
如果 | 明天天气好的话""".splitlines()
_HESITANT = """i would like um | to change my flight
what is the uh | name of that actor
can you um | find me a dentist
i think uh | it was last tuesday
so er | how does this work
the book by um | the russian writer
maybe um | the green one
it costs uh | about forty dollars
well um | i am not sure about it
please call uh | my office""".splitlines()
# "mhm" is spelt by espeak-ng, letter by letter: no hum.
_LISTENING = ('hmm', 'uh-huh', 'yeah', 'okay', 'right', 'ah', 'i see', 'sure')
_LISTENING_WIDE = ('嗯', '对', '好', '是')
_BARGING = """stop
wait a moment please
no i meant the other one
hold on i have a question
what about the second one
that is enough thank you""".splitlines()
SAID = """the museum opens at nine in the morning and it closes at six
here are three recipes that you can make in less than half an hour
peru lies on the western coast of south america next to the pacific
there are two trains to berlin on friday and both of them are quite full
""".splitlines()
_WHOLE_NEW = """is it going to rain this weekend
who is the president of france
i want to book a flight to madrid
what is on my calendar today
how do you spell necessary
can you read me the latest news
where is the nearest pharmacy
what color is it
my sister has a green bicycle who has it
open the window in the bedroom
how much does a bus ticket cost
i think we should go home
tell me about the history of rome
what did the doctor say
set the volume to fifty percent
when does the next train leave
my dog is eating the cake
are there any good restaurants around here
i need help with my homework
what are you talking about
please repeat the last sentence
how old is the universe
the printer does not work
could you wake me up at seven
where are you from
what should i wear tonight
she moved to canada last year
do you know what time it is
play the next song
why is the sky blue
add eggs to my shopping list
i have never been to africa
what is twelve times fourteen
let us start again
is this seat taken
who are you going with
we are looking for a quiet place
find a recipe for apple pie
i would rather stay at home
does it snow in athens
the soup was too salty
what is the fastest animal on land
turn it off
cancel my appointment
how long does it take to boil an egg
that sounds great
when was the telephone invented
i cannot hear you""".splitlines()
_WHOLE_WIDE_NEW = """现在几点了
附近有什么好吃的
把灯关掉
我想听音乐
你叫什么名字
妈妈买红苹果谁买
给爸爸打电话
去机场要多长时间
今天是星期几
播放下一首歌
苹果多少钱一斤
明天会下雨吗""".splitlines()
_PAUSED_NEW = """what is the population of | brazil
can you help me with | my tax forms
i want to | cancel my subscription
where can i find | a cheap hotel
the problem with this is that | nobody knows the answer
i was thinking about | going to the beach
how many people live in the | united kingdom
tell my wife that | i will be late
is there a bus from | the airport to the center
my phone number is six five | three two eight
if it rains tomorrow | we can go to the museum
i need to buy some milk and | a loaf of bread
could you please show me the | fastest way home
when i was a child | we lived near the sea
what is the difference between | a crocodile and an alligator
i do not really | understand the question
would you like to | have dinner with us
she told me that she was | very tired
the best thing about it is | the price
put the meeting in my | calendar for tuesday
who was the first | man on the moon
we could take the car or | walk through the park
i am calling because | my internet is broken
do you have any | vegetarian dishes
remind me on friday to | water the plants
it depends on | how much it costs
send this picture to | my grandmother
how can i | change my password
my favorite color is | dark green
let me know when | the food is ready
i have been waiting for | two hours
what would happen if | the moon disappeared
the second reason is | more important
i left my keys on the | kitchen table
there are three | bottles in the fridge
please translate this into | italian
you should talk to | your teacher
because of the snow | the school is closed
i would like a coffee with | two sugars
can we meet at the | train station
what time does the | pharmacy close
he is not only smart but | also very kind
give me a list of | european capitals
i want to know what | you think about it""".splitlines()
_PAUSED_WIDE_NEW = """我要一张去 | 上海的机票
请把音量调到 | 百分之五十
我觉得 | 这个电影很好看
虽然很贵 | 但是我喜欢
我朋友和 | 他的妹妹住在北京
请问最近的 | 地铁站在哪里
我们应该 | 早一点出发
他说他想 | 学习中文
如果你有时间 | 我们一起吃饭
给我 | 推荐一本书""".splitlines()
_HESITANT_NEW = """i am looking for uh | a birthday present
could we um | meet a bit later
the name of the street is er | maple avenue
what about um | next thursday
i guess uh | we need more chairs
is it um | open on sundays
he works for uh | a big company
i wanted to ask um | about the garden
maybe we could uh | take a taxi
it is about um | twenty kilometers
my address is uh | ten main street
um | can you say that again
how do i uh | get there
the doctor said um | twice a day
please play um | some jazz
there was uh | a problem with the order""".splitlines()
_LISTENING_NEW = ('yep', 'oh wow', 'mm', 'uh-huh', 'great', 'oh', 'yes', 'okay')
_LISTENING_WIDE_NEW = ('好的', '嗯嗯', '哦', '对对')
_BARGING_NEW = """no stop please
sorry can i ask something
actually i want the other hotel
be quiet
that is not what i meant
please tell me the price first
cancel that
can you speak more slowly""".splitlines()
_EACH = {
  'whole': (_WHOLE, _WHOLE_NEW),
  'pause': (_PAUSED, _PAUSED_NEW),
  'hesitation': (_HESITANT, _HESITANT_NEW),
  'backchannel': (_LISTENING, _LISTENING_NEW),
  'barge_in': (_BARGING, _BARGING_NEW),
}
_EACH_WIDE = {
  'whole': (_WHOLE_WIDE, _WHOLE_WIDE_NEW),
  'pause': (_PAUSED_WIDE, _PAUSED_WIDE_NEW),
  'backchannel': (_LISTENING_WIDE, _LISTENING_WIDE_NEW),
}


def of(kind: str, part: str, is_wide: bool = False) -> Sequence[str]:
  """Sentences of a kind and a part, English or Mandarin; empty: none."""
  place = PARTS.index(part)
  lists = (_EACH_WIDE if is_wide else _EACH).get(kind, ((), ()))
  return lists[place // 2][place % 2 :: 2]
