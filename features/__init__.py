"""What a request is: the lowest room. No network, no ML library, no clock, no global state."""
