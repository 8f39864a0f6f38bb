"""Several answers to each prompt, from one or several runs, to be judged."""
