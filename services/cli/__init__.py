"""`postyard …` for operators."""
