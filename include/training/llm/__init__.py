"""Fine-tuning of language models: bases, adapters, their merging with proof, and what a training will need."""
