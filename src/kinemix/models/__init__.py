"""Networks: the door to image backbones, the surgery that lets them see time, and how they are kept."""
