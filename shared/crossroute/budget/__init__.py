"""What a budget or a share of the calls asks of a router: arrays in, decisions out."""
