"""Policies: when a group restarts, how many local steps a round has, which shard it trains on; also registered ones."""
