"""What a run of the language model minimises; LoRA around it."""
