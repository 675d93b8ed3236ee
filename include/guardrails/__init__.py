"""What may go into an answer and come out of it: length, personal data, hidden instructions, groundedness."""
