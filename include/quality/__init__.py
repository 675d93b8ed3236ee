"""What may go live: Great Expectations suites over documents and chunks, and the gates that judge their results."""
