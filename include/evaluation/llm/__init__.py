"""Language models that were trained, asked beside what serves: their answers, their losses, what they must not lose."""
