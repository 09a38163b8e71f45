"""Critic-free reinforcement learning of language models over whole conversations, on Ray.

mica_ray implements MICA (arXiv 2603.06194). Each reply of the policy moves a simulated user's state toward or
away from "needs met". The reward of a turn is the distance it closed; its advantage mixes a turn-normalized
return with a group-normalized immediate reward. README.md shows the data flow.
"""

__version__ = "0.1.0"
