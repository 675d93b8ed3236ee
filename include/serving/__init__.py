"""The HTTP face of the read path, in the shapes that clients of OpenAI and Cohere already speak."""
