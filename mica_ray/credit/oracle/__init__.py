"""Is an estimator right? Dialogue processes so small that enumeration gives the exact policy gradient."""
