"""Critic-free reinforcement learning of language models over whole conversations, on Ray.

mica_ray implements MICA (arXiv 2603.06194): each reply of the policy moves a simulated user's state toward
or away from "needs met"; a turn's reward is the distance it closed; its credit mixes a turn-normalised
Monte-Carlo return with a group-normalised immediate reward. See README.md for the picture of the data flow.
"""

__version__ = "0.1.0"
