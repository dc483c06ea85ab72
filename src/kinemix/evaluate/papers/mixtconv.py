"""The tables of "MixTConv: Mixed Temporal Convolutional Kernels for Efficient Action Recognition", and its slides.

FLOPs are MACs (TSM's ResNet-50 with 8 frames is 33 G). 24.3 M for ResNet-50 and 10.7 M for BN-Inception are the
counts with a classifier of 400 classes, although Something-Something has 174.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kinemix.evaluate.papers.row import NUM_CLASSES, Row

V1, V2, JESTER = "Something-Something v1", "Something-Something v2", "Jester"
_HEAD_OF_400 = "the printed parameters are those with 400 classes"
_ORDINARY = (
    "no reading gives 43 G: a temporal convolution of all channels before each conv1 costs far more, and one of "
    "the fewer channels after it less"
)
_INNER = "no reading of the inner place gives the printed difference of 0.05 G"


def list_rows() -> Iterator[Row]:
    """Tables 1 to 5, then those of the slides."""
    rows = [*_list_table_1(), *_list_table_2(), *_list_table_3(), *_list_table_4(), *_list_table_5()]
    yield from rows
    yield from _list_slides_table_1()
    titles = {"2": "slides: kernel sizes", "4": "slides: state of the art"}
    yield from (replace(row, table=titles[row.table]) for row in rows if row.table in titles)


def _make_row(table: str, label: str, model: str | None = None, *, dataset: str = V1, **fields: Any) -> Row:
    own: dict[str, Any] = {}
    if model is not None:
        own = {"num_frames": 8, "size": 224, "num_classes": NUM_CLASSES.get(dataset)}
    return Row(paper="mixtconv", table=table, label=label, model=model, dataset=dataset, **{**own, **fields})


def _pair(dataset: str, table: str, tsn: Mapping[str, float], ours: Mapping[str, float]) -> Iterator[Row]:
    about = "8 frames, 2 clips, full resolution"
    for label, model, results in (("TSN", "tsn_resnet50", tsn), ("Ours", "mstnet_resnet50", ours)):
        yield _make_row(
            table, f"{dataset}: {label}", model, dataset=dataset, about=about, size=256, results=results
        )


def _list_table_1(table: str = "1") -> Iterator[Row]:
    yield from _pair(V1, table, {"top-1": 20.5, "top-5": 47.5}, {"top-1": 48.1, "top-5": 77.3})
    yield from _pair(V2, table, {"top-1": 30.4, "top-5": 61.0}, {"top-1": 61.8, "top-5": 87.8})
    yield from _pair(JESTER, table, {"top-1": 83.9, "top-5": 99.6}, {"top-1": 96.9, "top-5": 99.9})


def _list_slides_table_1() -> Iterator[Row]:
    table = "slides: 2D CNN baseline"
    yield from _pair("Kinetics-400", table, {"top-1": 68.8, "top-5": 88.3}, {"top-1": 71.3, "top-5": 89.5})
    yield from _pair("UCF-101", table, {"top-1": 91.5, "top-5": 99.2}, {"top-1": 94.8, "top-5": 99.6})
    yield from _list_table_1(table)


def _list_table_2() -> Iterator[Row]:
    mixed = "mixtconv_resnet50"

    def make(label: str, model: str, top1: float, flops: str, reason: str = "", **options: Any) -> Row:
        results = {"top-1": top1}
        over = ("tsn_resnet50", "33") if model == mixed else None
        return _make_row(
            "2", label, model, model_options=options, results=results, flops=flops, over=over, reason=reason
        )

    yield make("TSN (baseline)", "tsn_resnet50", 19.7, "33")
    yield make("TSN+Ordinary 1D", "conv1d_resnet50", 41.0, "43", _ORDINARY)
    yield make("TSM*", "tsm_resnet50", 45.6, "33")
    yield make("TSN+ks3", mixed, 45.9, "33.13", kernel_sizes=(3,))
    yield make("TSN+ks5", mixed, 46.3, "33.23", kernel_sizes=(5,))
    yield make("TSN+ks7", mixed, 45.8, "33.32", kernel_sizes=(7,))
    yield make("TSN+ks13", mixed, 45.8, "33.09", kernel_sizes=(1, 3))
    yield make("TSN+ks135", mixed, 46.4, "33.13", kernel_sizes=(1, 3, 5))
    yield make("TSN+ks1357", mixed, 46.7, "33.18", kernel_sizes=(1, 3, 5, 7))
    yield make("TSN+ks357", mixed, 46.4, "33.13", kernel_sizes=(3, 3, 3), dilations=(1, 2, 3))


def _list_table_3() -> Iterator[Row]:
    rows = (
        ("MST Block inner", "after 1x1", "inner", {"top-1": 45.8, "top-5": 74.4}, "33.05", _INNER),
        ("MST Block head", "before 1x1", "head", {"top-1": 46.7, "top-5": 75.6}, "33.18", ""),
    )
    for label, about, placement, results, flops, reason in rows:
        yield _make_row(
            "3",
            label,
            "mstnet_resnet50",
            about=about,
            model_options={"placement": placement},
            results=results,
            flops=flops,
            over=("tsn_resnet50", "33"),
            reason=reason,
        )


def _list_table_4() -> Iterator[Row]:
    def make(
        label: str,
        about: str,
        counts: tuple[str | None, str | None],
        figures: tuple[float | None, ...],
        **fields: Any,
    ) -> Row:
        columns = ("v1 top-1", "v1 top-5", "v2 top-1", "v2 top-5")
        results = {c: f for c, f in zip(columns, figures, strict=True) if f is not None}
        parameters, flops = counts
        return _make_row(
            "4",
            label,
            fields.pop("model", None),
            dataset=f"{V1} and v2",
            about=about,
            results=results,
            parameters=parameters,
            flops=flops,
            **fields,
        )

    head = {"num_classes": 174, "count_classes": 400, "reason": _HEAD_OF_400}
    r50, inception, i3d = "ResNet-50, RGB", "BNInception, RGB", "3D ResNet-50, RGB, 32x2 clips"
    eco = "BNInc+Res3D18, RGB"
    # The first accuracy is printed in the paper's PDF and in the slides, where it is legible.
    yield make(
        "TSN", f"{inception}, 8", ("10.7", "16"), (19.5, None, None, None), model="tsn_bn_inception", **head
    )
    yield make(
        "TSN (baseline)", f"{r50}, 8", ("24.3", "33"), (19.7, 46.6, 27.8, 57.6), model="tsn_resnet50", **head
    )
    yield make("TRN Multiscale", f"{inception}, 8", ("18.3", "16"), (34.4, None, 44.8, 77.6))
    yield make(
        "TRN Two-steam", "BNInception, RGB+Flow, 8+8", ("36.6", None), (42.0, None, 55.5, 83.1)
    )  # their spelling
    yield make("I3D", i3d, ("28.0", "153"), (41.6, 72.2, None, None), views="2")
    yield make("NL+I3D", i3d, ("35.3", "168"), (44.4, 76.0, None, None), views="2")
    yield make(
        "NL+I3D+GCN",
        "3D ResNet-50+GCN, RGB, 32x2 clips",
        ("62.2", "303"),
        (46.1, 76.8, None, None),
        views="2",
    )
    yield make("ECO", f"{eco}, 8", ("47.5", "32"), (39.6, None, None, None))
    yield make("ECO", f"{eco}, 16", ("47.5", "64"), (41.4, None, None, None))
    yield make("ECO_En Lite", f"{eco}, 92", ("150", "267"), (46.4, None, None, None))
    for frames, flops, figures in (
        (8, "33", (45.6, 74.2, 58.7, 85.4)),
        (16, "65", (47.2, 77.1, 61.0, 86.8)),
    ):
        about = f"{r50}, {frames}"
        yield make(
            "TSM", about, ("24.3", flops), figures, model="tsm_resnet50", **{**head, "num_frames": frames}
        )
    for frames, flops, figures in (
        (8, "33.2", (46.7, 75.4, 59.5, 86.0)),
        (16, "65.3", (48.4, 78.8, 61.8, 87.3)),
    ):
        about = f"{r50}, {frames}"
        yield make(
            "MSTNet",
            about,
            ("24.3", flops),
            figures,
            model="mstnet_resnet50",
            **{**head, "num_frames": frames},
        )


def _list_table_5() -> Iterator[Row]:
    rows = (
        ("TSN", "tsn_resnet50", 8, "33", 81.0, 99.0),
        ("TSN", "tsn_resnet50", 16, "65", 82.3, 99.2),
        ("TRN-MS*", None, 8, "16", 93.7, None),
        ("TSM*", "tsm_resnet50", 8, "33", 94.5, 99.7),
        ("TSM*", "tsm_resnet50", 16, "65", 95.3, 99.8),
        ("MSTNet", "mstnet_resnet50", 8, "33.2", 96.0, 99.8),
        ("MSTNet", "mstnet_resnet50", 16, "65.3", 96.8, 99.8),
    )
    for label, model, frames, flops, top1, top5 in rows:
        results = {"top-1": top1} if top5 is None else {"top-1": top1, "top-5": top5}
        fields: dict[str, Any] = {"about": f"RGB, {frames}", "results": results, "flops": flops}
        if model is not None:
            fields["num_frames"] = frames
        yield _make_row("5", label, model, dataset=JESTER, **fields)
