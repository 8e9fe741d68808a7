"""What every part of the training tree uses."""
