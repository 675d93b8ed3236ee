"""Fine-tuning from the first task of a DAG to answers by the new model, on real questions: figures of docs/training.md."""
