"""What tests share: models, oracles, tolerances, and what errors must say."""
