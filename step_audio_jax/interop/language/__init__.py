"""Language models: Hugging Face and PEFT folders in and out."""
