"""How far levels are apart, in figures of speech: a table, and nothing else.

How far those of Step-Audio are apart is published nowhere: these are our
choice. Each step is more than a listener's smallest noticed difference (about 5
% of the rate of speech, half a semitone, 1 dB), and five of them stay within
what speech survives.
"""

VERSION = 1  # of the table; items say which one made them
RATE = 1.12  # ^ level: fast 2 is 1.25, slow 2 is 0.80
SEMITONES = 1.0  # · level
GAIN_DB = 2.0  # · level
PAUSES = (0.25, 0.45, 0.7, 1.0, 1.4)  # seconds, of levels 1 … 5
