"""Account sessions: `freshness` decides (pure), `keeper` holds one chain with a single flight, `pool` has them all."""
