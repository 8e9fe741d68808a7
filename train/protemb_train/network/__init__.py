"""The score network: features, loss, configurations and checkpoints."""
