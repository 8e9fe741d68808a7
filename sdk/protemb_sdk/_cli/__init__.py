"""The commands of `protemb`, one file each."""
