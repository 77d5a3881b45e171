"""What an adaptation is compared with."""
