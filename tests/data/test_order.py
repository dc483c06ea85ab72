"""Balanced draws by counting; shapes of multigrid batches against a table worked out by hand."""

from collections import Counter

from kinemix.data.dataset import Key
from kinemix.data.multigrid import BatchShape, ClipShape, plan_phases, spread_milestones
from kinemix.data.order import TrainOrder, draw_balanced

LABELS = [0] * 11 + [1] * 3 + [2] * 1 + [5] * 7
"""22 samples of four classes; the numbers need not be without gaps."""


def test_balanced_draws_are_exact():
    total, classes = Counter(), Counter()
    for epoch in range(40):
        drawn = draw_balanced(LABELS, epoch=epoch, seed=3)
        assert len(drawn) == len(LABELS)
        counts = Counter(LABELS[index] for index in drawn)
        assert max(counts.values()) - min(counts.values()) <= 1
        total.update(drawn)
        classes += counts
        assert max(classes.values()) - min(classes.values()) <= 1
        for label in set(LABELS):
            of_class = [total[index] for index, own in enumerate(LABELS) if own == label]
            assert max(of_class) - min(of_class) <= 1
    assert draw_balanced(LABELS, epoch=7, seed=3) == draw_balanced(LABELS, epoch=7, seed=3)
    assert draw_balanced(LABELS, epoch=7, seed=3) != draw_balanced(LABELS, epoch=7, seed=4)


def test_balanced_batches():
    orders = [
        TrainOrder(22, batch_size=3, seed=0, rank=rank, world_size=2, labels=LABELS) for rank in range(2)
    ]
    for order in orders:
        order.epoch = 4
    keys = [key for order in orders for batch in order for key in batch]
    assert len(keys) == 18
    assert len(set(keys)) == 18, "the same sample, twice in an epoch, is to be augmented twice"
    drawn = draw_balanced(LABELS, epoch=4, seed=0)
    assert not Counter(key.index for key in keys) - Counter(drawn)
    classes = [LABELS[key.index] for key in keys]
    assert classes != sorted(classes), "the classes are mixed"
    first = list(orders[0])
    orders[0].start = 1
    assert list(orders[0]) == first[1:]


def shape(batch, frames, side):
    return BatchShape(batch, ClipShape(frames, (side, side)))


FULL = {"batch_size": 8, "num_frames": 16, "size": (224, 224), "epochs": 40}


def test_both_cycles_by_hand():
    """16 x 224^2 / (4 x 158^2) = 8.04, / (4 x 112^2) = 16, ...: clips for one; then times 8.

    The mean batches of the four shapes are (16 + 8 + 8) / 3, (8 + 4 + 4) / 3, (8 + 4 + 2) / 3, (4 + 2 + 1) / 3, so
    of thirty epochs they get 13.9, 7.0, 6.1 and 3.0, and as many steps each.
    """
    phases = plan_phases(**FULL, milestones=(30,))
    assert [(p.first, p.last, p.factor) for p in phases] == [
        (0, 14, 8),
        (14, 21, 4),
        (21, 27, 2),
        (27, 30, 1),
        (30, 40, 1),
    ]
    assert [p.shapes for p in phases] == [
        (shape(128, 4, 112), shape(64, 4, 158), shape(64, 4, 158)),
        (shape(64, 8, 112), shape(32, 8, 158), shape(32, 8, 158)),
        (shape(64, 8, 112), shape(32, 8, 158), shape(16, 8, 224)),
        (shape(32, 16, 112), shape(16, 16, 158), shape(8, 16, 224)),
        (shape(32, 16, 112), shape(16, 16, 158), shape(8, 16, 224)),
    ]


def test_one_cycle_by_hand():
    short = plan_phases(**FULL, milestones=(30,), long=False)
    assert [(p.first, p.last, p.factor) for p in short] == [(0, 40, 1)]
    assert short[0].shapes == (shape(32, 16, 112), shape(16, 16, 158), shape(8, 16, 224))
    long = plan_phases(**FULL, milestones=(15, 30), short=False)
    assert [(p.first, p.last, p.factor, *p.shapes) for p in long] == [
        (0, 8, 8, shape(64, 4, 158)),
        (8, 12, 4, shape(32, 8, 158)),
        (12, 14, 2, shape(16, 8, 224)),
        (14, 15, 1, shape(8, 16, 224)),
        (15, 23, 8, shape(64, 4, 158)),
        (23, 27, 4, shape(32, 8, 158)),
        (27, 29, 2, shape(16, 8, 224)),
        (29, 30, 1, shape(8, 16, 224)),
        (30, 40, 1, shape(8, 16, 224)),
    ]
    assert spread_milestones(40, 3) == (10, 20, 30)
    wide = plan_phases(batch_size=1, num_frames=13, size=(96, 128), epochs=2, milestones=(), long=False)
    assert [one.clip.size for one in wide[0].shapes] == [(48, 64), (68, 91), (96, 128)]


def test_batches_of_an_epoch_by_hand():
    """1000 clips by 128 + 64 + 64: three rounds, then 128 and 64, and 40 that do not fill the next batch."""
    phases = plan_phases(**FULL, milestones=(30,))
    order = TrainOrder(1000, batch_size=8, seed=0, phases=phases)
    counts = {epoch: order.count_batches(epoch) for epoch in (0, 14, 21, 27, 30)}
    # 64 + 32 + 32: seven rounds and 64, 32; 64 + 32 + 16: eight and 64, 32; 32 + 16 + 8: 17 and 32, 16.
    assert counts == {0: 11, 14: 23, 21: 26, 27: 53, 30: 53}
    order.epoch = 21
    batches = order.list_batches()
    assert [len(batch) for batch in batches[:4]] == [64, 32, 16, 64]
    assert [{key.shape for key in batch} for batch in batches[:3]] == [{one.clip} for one in phases[2].shapes]
    indices = [key.index for batch in batches for key in batch]
    assert len(set(indices)) == len(indices) == 64 * 9 + 32 * 9 + 16 * 8


def test_processes_and_micro_batches_share_a_shape():
    phases = plan_phases(**FULL, milestones=(), long=False)
    orders = [
        TrainOrder(500, batch_size=8, seed=0, rank=rank, world_size=2, phases=phases, accumulate=2)
        for rank in range(2)
    ]
    ours, theirs = (order.list_batches() for order in orders)
    assert [len(batch) for batch in ours] == [len(batch) for batch in theirs]
    assert [len(batch) for batch in ours][:8] == [32, 32, 16, 16, 8, 8, 32, 32]
    both = [key.index for batch in (*ours, *theirs) for key in batch]
    # 250 clips for each process: two rounds of 112, and 26 that do not fill the next batch.
    assert len(set(both)) == len(both) == 2 * 2 * 112
    tiny = TrainOrder(5, batch_size=8, seed=0, phases=phases)
    assert [len(batch) for batch in tiny.list_batches()] == [5]


def test_without_phases_all_batches_have_the_usual_shape():
    batches = TrainOrder(10, batch_size=4, seed=0).list_batches()
    assert [len(batch) for batch in batches] == [4, 4]
    assert all(key == Key(0, key.index) for batch in batches for key in batch)
