"""The whole system on one machine with nothing installed: `backpropd serve`, and the command itself."""
