"""Studies: what is asked, which trials that makes, and running them."""
