"""Bulk work: one function, many files, in processes here or on a cluster; nothing is lost when a worker dies.

::

    run         call_on_all: what is given out next, in which order answers come back, what is done again
    workplace   what every place offers: a crew of workers for one function
    local       processes of this machine (the default)
    on_ray      actors of a Ray cluster; the only door to Ray
"""

from kinemix.data.bulk.local import LOCAL
from kinemix.data.bulk.on_ray import RayCluster
from kinemix.data.bulk.run import Outcome, call_on_all
from kinemix.data.bulk.workplace import Workplace

__all__ = ["LOCAL", "Outcome", "RayCluster", "Workplace", "call_on_all"]
