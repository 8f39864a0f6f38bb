"""What a spoken dialogue remembers: words, the last recording, what was heard.

`Context` in `context` is the whole of it: items as clients know them (`items`,
`history`), the sound that went out and how much of it was played (`played`,
`cutting`), and the turns that a mind is asked with (`laying`, `budget`).
"""
