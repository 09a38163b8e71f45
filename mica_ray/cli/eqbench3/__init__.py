"""`mica evaluate eqbench3`: score a policy by a judge, and rank several policies by comparisons."""
