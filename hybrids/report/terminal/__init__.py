"""What a command prints, and the picture that it leaves beside its table."""
