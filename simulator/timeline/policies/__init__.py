"""Policies: when a meeting ends, how many local steps a round has, which shard it trains on; also registered ones."""
