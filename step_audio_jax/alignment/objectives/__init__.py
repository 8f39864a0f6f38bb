"""What is learnt from answers that were preferred to others."""
