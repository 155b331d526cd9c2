"""What a search found: its trials, the board people watch, and tune.html."""
