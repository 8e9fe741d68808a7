"""From structure files and objects to protein chains."""
