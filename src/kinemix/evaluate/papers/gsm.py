"""The tables of "Gate-Shift Networks for Video Action Recognition" (GSM).

FLOPs are MACs. Those of BN-Inception are 0.7 % above a count of all convolutions and the classifier, those of
Inception V3 0.6 %, with and without GSM alike.
"""

from collections.abc import Iterator
from typing import Any

from kinemix.evaluate.papers.row import NUM_CLASSES, Row

V1 = "Something-Something v1"
INCEPTION, V3 = "gsm_bn_inception", "gsm_inception_v3"
SIZES = {
    "tsn_bn_inception": 224,
    INCEPTION: 224,
    V3: 229,
    "tsm_resnet50": 224,
    "r2plus1d_resnet34": 112,
}
"""Pixels of a side, for every network of the tables that is built here."""

_SMALL_FRAMES = "the size of the frames is not printed; 112 px are those of the network's own paper"


def list_rows() -> Iterator[Row]:
    """Tables 1 to 6, what the text reports beside them, and the two architectures of the appendix."""
    yield from _list_table_1()
    yield from _list_table_2()
    yield from _list_text()
    yield from _list_table_3()
    yield from _list_table_4()
    yield from _list_table_5()
    yield from _list_table_6()
    yield _make_row(
        "7", "Gate-Shift BN-Inception Architecture", INCEPTION, about="224 px, last map 7 x 7 x 1024"
    )
    yield _make_row("8", "Gate-Shift InceptionV3 Architecture", V3, about="229 px, last map 6 x 6 x 2048")


def _make_row(table: str, label: str, model: str | None = None, *, dataset: str = V1, **fields: Any) -> Row:
    own: dict[str, Any] = {}
    if model is not None:
        own = {"num_frames": 8, "size": SIZES[model], "num_classes": NUM_CLASSES.get(dataset)}
    return Row(paper="gsm", table=table, label=label, model=model, dataset=dataset, **{**own, **fields})


def _list_table_1() -> Iterator[Row]:
    rows = (
        ("Branch 1", 1, 45.11),
        ("Branch 2", 2, 44.98),
        ("Branch 3", 3, 45.05),
        ("Branch 4", 4, 47.24),
        ("All branches", "all", 43.5),
    )
    for label, branch, top1 in rows:
        yield _make_row("1", label, INCEPTION, model_options={"branch": branch}, results={"top-1": top1})


def _list_table_2() -> Iterator[Row]:
    yield _make_row(
        "2",
        "BN-Inception (baseline)",
        "tsn_bn_inception",
        results={"top-1": 17.25},
        parameters="10.45",
        flops="16.37",
    )
    rows = ((1, 22.7, "10.46", "16.37"), (5, 43.13, "10.48", "16.39"), (10, 47.24, "10.5", "16.46"))
    for count, top1, parameters, flops in rows:
        yield _make_row(
            "2",
            f"BN-Inception + {count} GSM",
            INCEPTION,
            model_options={"num_modules": count},
            results={"top-1": top1},
            parameters=parameters,
            flops=flops,
        )


def _list_text() -> Iterator[Row]:
    for gate, top1 in (("tanh", 47.24), ("sigmoid", 44.75)):
        yield _make_row(
            "text of 4.3", f"{gate} gate", INCEPTION, model_options={"gate": gate}, results={"top-1": top1}
        )
    for order, top1 in (("forward", 49.01), ("reversed", 15.38)):
        yield _make_row("text of 4.5", f"frames {order}", V3, results={"top-1": top1})


def _list_table_3() -> Iterator[Row]:
    def make(
        label: str,
        about: str,
        flops: str | None,
        top1: float,
        views: str = "",
        model: str | None = None,
        **fields: Any,
    ) -> Row:
        results = {"top-1": top1}
        return _make_row("3", label, model, about=about, flops=flops, results=results, views=views, **fields)

    yield make("TSN", "BN-Inception, ImageNet, 16", "32.73", 17.52, model="tsn_bn_inception", num_frames=16)
    yield make("MultiScale TRN", "BN-Inception, ImageNet, 8", "16.37", 34.44)
    r2plus1d: dict[str, Any] = {"model": "r2plus1d_resnet34", "num_frames": 32, "reason": _SMALL_FRAMES}
    yield make("R(2+1)D", "ResNet-34, Sports-1M, 32", "152", 45.7, **r2plus1d)
    yield make("R(2+1)D from [11]", "ResNet-34, External, 32", "152", 51.6, **r2plus1d)
    yield make("S3D-G", "InceptionV1, ImageNet, 64", "71.38", 48.2)
    yield make("MFNet", "ResNet-101, -, 10", None, 43.9)
    yield make("TrajectoryNet", "ResNet-18, Kinetics, 7x10", None, 47.8)
    yield make("TSM", "ResNet-50, Kinetics, 16", "65", 47.2, model="tsm_resnet50", num_frames=16)
    yield make("STM", "ResNet-50, ImageNet, 16x30", "66.5", 50.7, "30")
    yield make("GST", "ResNet-50, ImageNet, 16", "59", 48.6)
    yield make("ABM", "ResNet-50, ImageNet, 16x3", "35.33", 46.08, "3")
    yield make("CorrNet", "ResNet-101, -, 32x30", "224", 51.1, "30")
    yield make("I3D", "ResNet-50, Kinetics, 32x2", "108", 41.6, "2")
    yield make("Non-local", "ResNet-50, Kinetics, 32x2", "168", 44.4, "2")
    yield make("GCN+Non-local", "ResNet-50, Kinetics, 32x2", "303", 46.1, "2")
    yield make("ECO", "BNInc + ResNet-18, Kinetics, 16", "64", 41.4)
    yield make("Martinez et al.", "ResNet-50, ImageNet, NA", "52.17", 50.1, "NA")
    yield make("Martinez et al.", "ResNet-152, ImageNet, NA", "113.4", 53.4, "NA")
    yield make("GSM", "BN-Inception, ImageNet, 8", "16.46", 47.24, model=INCEPTION)
    yield make("GSM", "InceptionV3, ImageNet, 8", "26.85", 49.01, model=V3)
    yield make("GSM", "BN-Inception, ImageNet, 16", "32.92", 49.56, model=INCEPTION, num_frames=16)
    yield make("GSM", "InceptionV3, ImageNet, 16", "53.7", 50.63, model=V3, num_frames=16)
    yield make("GSM", "InceptionV3, ImageNet, 16x2", "53.7", 51.68, "2", model=V3, num_frames=16)


def _list_table_4() -> Iterator[Row]:
    singles = (
        (8, 1, "26.85", 49.01, 76.99),
        (12, 1, "40.26", 51.58, 79.38),
        (16, 1, "53.7", 50.63, 79.17),
        (24, 1, "80.55", 49.63, 78.24),
        (8, 2, "53.7", 50.43, 78.19),
        (12, 2, "80.55", 51.98, 79.99),
        (16, 2, "107.4", 51.68, 79.64),
        (24, 2, "161.1", 50.35, 78.68),
    )
    for frames, clips, flops, top1, top5 in singles:
        yield _make_row(
            "4",
            "GSM InceptionV3",
            V3,
            about=f"{frames}x{clips}" if clips > 1 else f"{frames}",
            num_frames=frames,
            count_clips=clips,
            results={"top-1": top1, "top-5": top5},
            parameters="22.21",
            flops=flops,
        )
    ensembles = (
        ("En1", "8+12", ((8, 1), (12, 1)), "44.42", "67.13", 52.57, 80.79),
        ("En2", "8+12+16", ((8, 1), (12, 1), (16, 1)), "66.63", "120.83", 54.04, 81.66),
        ("En3", "8+12+16+24", ((8, 1), (12, 1), (16, 1), (24, 1)), "88.84", "201.38", 54.88, 82.23),
        ("En3", "8x2+12x2+16+24", ((8, 2), (12, 2), (16, 1), (24, 1)), "88.84", "268.47", 55.16, 82.49),
    )
    for name, about, members, parameters, flops, top1, top5 in ensembles:
        yield _make_row(
            "4",
            f"GSM InceptionV3 {name}",
            V3,
            about=about,
            members=members,
            results={"top-1": top1, "top-5": top5},
            parameters=parameters,
            flops=flops,
        )


def _list_table_5() -> Iterator[Row]:
    others = (
        ("TSN (from [23])", "ImageNet", 16.77),
        ("TRN (from [19])", "ImageNet", 22.8),
        ("R(2+1)D (from [1])", "Kinetics", 28.9),
        ("DiMoFs", "Kinetics", 31.4),
        ("P3D (from [27])", "ImageNet", 32.4),
        ("C3D (from [27])", "ImageNet", 34.5),
        ("Kanodia et al.", "ImageNet", 35.64),
        ("CorrNet", "-", 37.7),
        ("GST", "ImageNet", 38.8),
    )
    for label, about, top1 in others:
        yield _make_row("5", label, dataset="Diving48", about=about, results={"top-1": top1})
    # Frames, clips and backbone are told in the text.
    yield _make_row(
        "5", "GSM", V3, dataset="Diving48", about="ImageNet", num_frames=16, results={"top-1": 40.27}
    )


def _list_table_6() -> Iterator[Row]:
    columns = tuple(f"{split} {what}" for split in ("S1", "S2") for what in ("verb", "noun", "action"))
    rows = (
        ("TSN", "ImageNet", (45.68, 36.8, 19.86, 34.89, 21.82, 10.11)),
        ("TBN", "ImageNet", (60.87, 42.93, 30.31, 49.61, 25.68, 16.80)),
        ("LSTA", "ImageNet", (59.55, 38.35, 30.33, 47.32, 22.16, 16.63)),
        ("RU-LSTM", "ImageNet", (56.93, 43.05, 33.06, 43.67, 26.77, 19.49)),
        ("LFB", "Kinetics", (60.0, 45, 32.7, 50.9, 31.5, 21.2)),
        ("R(2+1)D", "Sports-1M", (59.6, 43.7, 31.0, 47.2, 28.7, 18.3)),
        ("R(2+1)D", "External", (65.2, 45.1, 34.5, 58.4, 36.9, 26.1)),
        ("GSM", "ImageNet", (59.41, 41.83, 33.45, 48.28, 26.15, 20.18)),
    )
    for label, about, figures in rows:
        own: dict[str, Any] = {"model": INCEPTION, "num_frames": 16} if label == "GSM" else {}
        results = dict(zip(columns, figures, strict=True))
        yield _make_row("6", label, dataset="EPIC-Kitchens", about=about, results=results, **own)
