"""Looking inside a network: the network that is looked at, its classes by name, and a file for each command."""
