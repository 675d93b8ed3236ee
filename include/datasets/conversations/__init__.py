"""What language models are trained on: conversations, and answers with a worse one beside them."""
