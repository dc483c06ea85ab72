"""The tables of "CTM: Collaborative Temporal Modeling for Action Recognition". It prints no counts at all."""

from collections.abc import Iterator
from typing import Any

from kinemix.evaluate.papers.row import NUM_CLASSES, Row

MINI, K600, UCF, HMDB = "Mini-Kinetics-200", "Kinetics-600", "UCF-101", "HMDB51"
R50, R101 = "ctm_resnet50", "ctm_resnet101"
_BASELINE: tuple[str, float, str, dict[str, Any]] = ("baseline", 76.76, "tsn_resnet50", {})


def list_rows() -> Iterator[Row]:
    """Tables 1 to 6."""
    yield from _list_ablations()
    yield from _list_table_4()
    yield from _list_table_5()
    yield from _list_table_6()


def _make_row(table: str, label: str, model: str | None = None, *, dataset: str, **fields: Any) -> Row:
    own: dict[str, Any] = {}
    if model is not None:
        own = {"num_frames": 8, "size": 224, "num_classes": NUM_CLASSES[dataset]}
    return Row(paper="ctm", table=table, label=label, model=model, dataset=dataset, **{**own, **fields})


def _list_ablations() -> Iterator[Row]:
    """Tables 1 to 3, on 2D ResNet-50; one block before the last residual block of Res4 unless said otherwise."""
    tables: dict[str, tuple[tuple[str, float, str, dict[str, Any]], ...]] = {
        "1": (
            _BASELINE,
            ("TCCM + shortcut (Path1 + shortcut)", 78.60, R50, {"paths": "tccm", "num_blocks": 1}),
            ("Path 2 + shortcut", 78.58, R50, {"paths": "temporal", "num_blocks": 1}),
            ("CTM (Path1 + Path 2 + shortcut)", 78.94, R50, {"num_blocks": 1}),
        ),
        "2": (
            _BASELINE,
            ("Res2", 78.87, R50, {"stage": 2, "num_blocks": 1}),
            ("Res3", 78.79, R50, {"stage": 3, "num_blocks": 1}),
            ("Res4", 78.94, R50, {"stage": 4, "num_blocks": 1}),
            ("Res5", 78.07, R50, {"stage": 5, "num_blocks": 1}),
        ),
        "3": (
            _BASELINE,
            ("+ 1 CTM block", 78.94, R50, {"num_blocks": 1}),
            ("+ 3 CTM blocks", 79.13, R50, {"num_blocks": 3}),
            ("+ 6 CTM blocks", 79.15, R50, {"num_blocks": 6}),
        ),
    }
    for table, rows in tables.items():
        for label, top1, model, options in rows:
            yield _make_row(table, label, model, dataset=MINI, model_options=options, results={"top-1": top1})


def _list_table_4() -> Iterator[Row]:
    others = (
        ("TSN (SE-ResNeXt152)", 76.16),
        ("StNet (SE-ResNeXt101)", 76.04),
        ("StNet (IRv2)", 78.99),
        ("LGD-2D", 76.7),
        ("LGD-3D", 78.3),
        ("LGD-3D (Long)", 81.5),
        ("D3D", 77.9),
        ("D3D+S3D-G", 79.1),
        ("Oct-I3D", 76.0),
    )
    for label, top1 in others:
        yield _make_row("4", label, dataset=K600, about="RGB", results={"top-1": top1})
    yield _make_row("4", "(Our) CTM", R101, dataset=K600, about="RGB", results={"top-1": 78.24})


def _list_table_5() -> Iterator[Row]:
    rows: tuple[tuple[str, float, float | None], ...] = (
        ("StNet", 95.7, None),
        ("STM", 96.2, 72.2),
        ("TSM", 96.0, 73.6),
        ("I3D", 95.6, 74.8),
        ("R(2+1)D", 96.8, 74.5),
        ("S3D-G", 96.8, 75.9),
        ("(Our) CTM", 96.9, 74.6),
    )
    for label, ucf, hmdb in rows:
        model = R101 if "CTM" in label else None
        yield _make_row("5", label, model, dataset=UCF, about="UCF-101", results={"top-1": ucf})
        if hmdb is not None:
            yield _make_row("5", label, model, dataset=HMDB, about="HMDB51", results={"top-1": hmdb})


def _list_table_6() -> Iterator[Row]:
    columns = (
        (K600, "resnet101", 75.34, 78.24),
        (UCF, "resnet101", 95.5, 96.9),
        (HMDB, "resnet101", 69.0, 74.6),
        (MINI, "resnet50", 76.76, 79.13),
    )
    for dataset, backbone, baseline, ours in columns:
        about = f"{dataset}, 2D {backbone.replace('resnet', 'ResNet-')}"
        for label, module, top1 in (("baseline", "tsn", baseline), ("(Our) CTM", "ctm", ours)):
            yield _make_row(
                "6", label, f"{module}_{backbone}", dataset=dataset, about=about, results={"top-1": top1}
            )
