"""Preparing a dataset: every clip transcoded once into a layout that is fast to sample.

::

    run        kinemix prepare: who is to be prepared, in which processes, resumed where it was interrupted
    clip       one clip: read, encode, verify
    encode     frames to H.264 or images, and where each frame's bytes are
    shards     the clips of a shard, put together
    manifest   what was made of what: written last, read by training
    speed      reading before and after, timed
"""
