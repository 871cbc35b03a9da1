"""What engines really share: values and functions, no class hierarchy."""
