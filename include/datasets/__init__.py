"""What models are trained on: questions with the passages that answer them, hard negatives, splits that do not leak."""
