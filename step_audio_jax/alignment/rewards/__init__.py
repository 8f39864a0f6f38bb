"""What an answer is worth: rules, learned scores, and their sum."""
