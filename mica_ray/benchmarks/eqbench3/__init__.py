"""EQ-Bench 3: role-plays of several turns and analyses, scored by a judge or compared by one.

items.py reads the user's copy; conversations.py plays, rubric.py scores, pairwise.py compares, elo.py ranks.
"""
