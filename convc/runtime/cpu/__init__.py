"""Running machine code for processors."""
