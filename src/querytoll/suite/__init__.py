"""What tests expect of queries, and what a run of tests says of them."""
