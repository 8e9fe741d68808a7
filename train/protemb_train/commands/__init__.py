"""The commands of `protemb-train`."""
