"""The rules as PyTorch optimizers for any training loop."""
