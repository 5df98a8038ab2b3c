"""Code that tests share: models, oracles, tolerances, and checks of error messages."""
