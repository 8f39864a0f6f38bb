"""Chat completions: what is asked, what is answered, written and spoken."""
