"""Selection: which two of the candidates are the attempts.

Every method is a file of its own that says how good a candidate is; ordering, ties and confidence are the same for all.
"""

from arc_engine.selection.selecting import Attempts, Selection, select

__all__ = ["Attempts", "Selection", "select"]
