"""The one exception that means "the input is wrong, not the program"."""


class UserError(ValueError):
  """Bad input, told in one sentence.

  The message names the file and the field, what was found and what was
  expected. The command-line doors print it without a traceback and exit with
  status 2.
  """
