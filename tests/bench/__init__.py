"""What the pipeline costs, measured beside a reference."""
