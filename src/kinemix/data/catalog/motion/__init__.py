"""``motion``: a generated benchmark of real video files in which only the order of frames tells the class.

Twelve classes in six pairs; each clip of a class has a twin in the opposite class that holds the same frames
backwards, in the same split. So any answer that does not depend on the order of frames is the same for both
twins, right for at most one: an orderless model cannot pass 50 %.
"""

from kinemix.data.catalog.motion.boxes import draw_boxes, read_boxes
from kinemix.data.catalog.motion.make import CLASSES, FLIPS, INDEX_NAME, PAIRS, make_motion

__all__ = ["CLASSES", "FLIPS", "INDEX_NAME", "PAIRS", "draw_boxes", "make_motion", "read_boxes"]
