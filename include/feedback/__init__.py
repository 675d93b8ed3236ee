"""What people say about answers: a person reviews it, and only then anything is judged by it or learns from it."""
