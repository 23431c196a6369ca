"""``hornetmail archive …`` and what else concerns archived mail."""
