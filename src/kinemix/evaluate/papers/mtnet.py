"""The tables of "Multi-Temporal Convolutions for Human Action Recognition in Videos" (MTNet).

What it prints as FLOPs are MACs for some networks of others (TSM) and twice that for some of its own (Table II);
no reading of text or released code gives the counts of MTNet itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kinemix.evaluate.papers.row import NUM_CLASSES, Row

K400, K700, MIT, HACS, UCF = "Kinetics-400", "Kinetics-700", "Moments in Time", "HACS", "UCF-101"
S, M, L = "mtnet_s", "mtnet_m", "mtnet_l"
NAMES = {S: "MTNet_S", M: "MTNet_M", L: "MTNet_L"}
COUNTS = {S: ("25.8", "5.8"), M: ("25.8", "8.8"), L: ("50.1", "17.6")}
"""Printed parameters and FLOPs of the three networks, the same in every table."""

_NO_READING = (
    "neither text nor released code gives this count: X3D alone has 3.8 M (S, M) and 6.2 M (L) parameters, "
    "and the released code 40.0, 44.0 and 88.1 M"
)
_FALLING = (
    _NO_READING
    + "; nor do the parameters of eq. 1 to 4 fall with δ: the prolonged branch has two convolutions"
)
_R50 = "neither text nor released code gives this count"
_FACTORISED = "no known rule for the channels between space and time gives this count"
_THIRTY_FOUR = "152 G is what GSM's Table 3 prints for R(2+1)D with 34 layers, not 101"


def list_rows() -> Iterator[Row]:
    """Tables I to VII."""
    yield from _list_table_1()
    yield from _list_table_2()
    yield from _list_table_3()
    yield from _list_table_4()
    yield from _list_table_5()
    yield from _list_table_6a()
    yield from _list_table_6b()
    yield from _list_table_6c()
    yield from _list_table_7()


def _make_row(table: str, label: str, model: str | None = None, *, dataset: str, **fields: Any) -> Row:
    own: dict[str, Any] = {}
    if model is not None:
        own = {"num_frames": 16, "size": 256, "num_classes": NUM_CLASSES[dataset]}
    return Row(paper="mtnet", table=table, label=label, model=model, dataset=dataset, **{**own, **fields})


def _make_own(
    table: str,
    model: str,
    top1: float,
    top5: float | None,
    *,
    dataset: str,
    counts: tuple[str | None, str | None] = (None, None),
    label: str = "",
    **fields: Any,
) -> Row:
    """A row of one of the paper's own networks."""
    parameters, flops = counts
    if parameters or flops:
        fields = {"reason": _NO_READING, "unit": "unclear", **fields}
    results = {"top-1": top1} if top5 is None else {"top-1": top1, "top-5": top5}
    return _make_row(
        table,
        f"{NAMES[model]} {label}".strip(),
        model,
        dataset=dataset,
        parameters=parameters,
        flops=flops,
        **{"results": results, **fields},
    )


def _list_table_1() -> Iterator[Row]:
    """Kinetics-400; FLOPs are for one view."""
    named: dict[str, dict[str, Any]] = {
        "R(2+1)D": {"model": "r2plus1d_resnet101", "size": 224, "reason": _THIRTY_FOUR},
        "TSM": {"model": "tsm_resnet50", "size": 224},
    }
    others = (
        ("R(2+1)D", "16x224^2, ResNet101", 62.8, 83.9, "152", "115", "63.6"),
        ("I3D", "16x224^2, InceptionV1", 71.6, 90.0, "108", "N/A", "12.0"),
        ("MF-Net", "16x224^2, ResNet50", 72.8, 90.4, "11.1", "50", "8.0"),
        ("TAM", "(24,2)x224^2, ResNet50", 73.5, 91.2, "93.4", "9", "25.0"),
        ("SRTG-101 (3D)", "16x224^2, ResNet101", 73.2, 91.3, "78.1", "30", "107.1"),
        ("SRTG-101 (2+1D)", "16x224^2, ResNet101", 73.8, 92.0, "163.1", "30", "105.3"),
        ("TSM", "16x224^2, ResNet50", 74.7, 91.4, "65", "10", "24.3"),
        ("ip-CSN-101", "8x224^2, ResNet101", 76.7, 92.3, "83", "30", "24.5"),
        ("ip-CSN-152", "8x224^2, ResNet152", 77.8, 92.8, "108.8", "30", "32.8"),
        ("SF-50", "(8,8)x224^2, ResNet50", 77.0, 92.6, "65.7", "30", "34.4"),
        ("SF-101", "(8,8)x224^2, ResNet101", 77.9, 93.5, "213", "30", "53.7"),
        ("SF-101+NL", "(8,8)x224^2, ResNet101", 78.7, 93.5, "116", "30", "59.9"),
        ("X3D-XL", "16x312^2, ResNet(X3D)", 79.1, 93.9, "48.4", "30", "11.0"),
    )
    for label, about, top1, top5, flops, views, parameters in others:
        yield _make_row(
            "I",
            label,
            dataset=K400,
            about=about,
            results={"top-1": top1, "top-5": top5},
            parameters=parameters,
            flops=flops,
            views=views,
            **named.get(label, {}),
        )
    for model, top1, top5 in ((S, 74.8, 92.1), (M, 76.6, 92.5), (L, 78.1, 93.2)):
        yield _make_own(
            "I",
            model,
            top1,
            top5,
            dataset=K400,
            counts=COUNTS[model],
            views="30",
            about="16x256^2, ResNet(X3D)",
        )


def _list_table_2() -> Iterator[Row]:
    """Spatio-temporal blocks on the same 3D ResNet-50; its printed count is that of frames of 224 px."""
    twice: dict[str, str] = {"unit": "2 x MACs"}
    rows: tuple[tuple[str, str | None, float, float, str, str, Mapping[str, str]], ...] = (
        ("3D", "r3d_resnet50", 61.3, 83.1, "53.2", "36.7", twice),
        (
            "(2+1)D",
            "r2plus1d_resnet50",
            *(61.8, 83.5, "56.0", "38.8"),
            {"reason": _FACTORISED, **twice},
        ),
        ("Multi-Fiber", None, 72.8, 90.4, "22.5", "8.0", {}),
        ("Slow-only", None, 72.6, 90.3, "27.3", "26.6", {}),
        ("SlowFast", None, 74.3, 91.0, "39.8", "34.4", {}),
        ("MTConv", "mtconv_resnet50", 74.8, 91.3, "23.1", "35.7", {"unit": "unclear", "reason": _R50}),
    )
    for label, model, top1, top5, flops, parameters, fields in rows:
        yield _make_row(
            "II",
            label,
            model,
            dataset=K400,
            results={"top-1": top1, "top-5": top5},
            parameters=parameters,
            flops=flops,
            **({"size": 224} if model else {}),
            **fields,
        )


def _list_table_3() -> Iterator[Row]:
    others: tuple[tuple[str, str, float, float | None], ...] = (
        ("EvaNet", "NAS", 31.8, None),
        ("AssembleNet", "NAS", 34.3, 62.7),
        ("TSN-Flow", "fixed, optical flow", 15.7, 34.7),
        ("TSN-2stream", "fixed, optical flow", 25.3, 50.1),
        ("TRN-Multiscale", "fixed", 28.3, 53.9),
        ("I3D", "fixed", 29.5, 56.1),
        ("CoST", "fixed", 32.4, 60.0),
        ("SRTG-101", "fixed", 33.6, 58.5),
    )
    for label, about, top1, top5 in others:
        results = {"top-1": top1} if top5 is None else {"top-1": top1, "top-5": top5}
        yield _make_row("III", label, dataset=MIT, about=about, results=results)
    for model, top1, top5 in ((M, 34.5, 58.6), (L, 35.2, 59.3)):
        yield _make_own("III", model, top1, top5, dataset=MIT, about="fixed")


def _list_table_4() -> Iterator[Row]:
    others = (
        ("I3D", "K-600", 58.7, 81.7, "108", "N/A"),
        ("SRTG-101 (3D)", "HACS", 56.5, 76.8, "78.1", "30"),
        ("SRTG-101 (2+1)D", "HACS", 56.8, 77.4, "163.1", "30"),
    )
    for label, about, top1, top5, flops, views in others:
        results = {"top-1": top1, "top-5": top5}
        yield _make_row("IV", label, dataset=K700, about=about, results=results, flops=flops, views=views)
    for model, top1, top5 in ((M, 58.4, 77.6), (L, 63.3, 84.1)):
        counts = (None, COUNTS[model][1])
        yield _make_own("IV", model, top1, top5, dataset=K700, counts=counts, views="30", about="HACS")


def _list_table_5() -> Iterator[Row]:
    x3d = {
        "model": "x3d_l",
        "size": 312,
        "count_size": 356,
        "count_classes": 400,
        "reason": "the printed count is that of 400 classes and, at 24.8 G, of frames of 356 px",
    }
    r3d = {"model": "r3d_resnet101", "size": 224, "unit": "2 x MACs"}
    r2plus1d = {"model": "r2plus1d_resnet101", "size": 224, "unit": "2 x MACs", "reason": _FACTORISED}
    others: tuple[tuple[str, str, float, float, str, str, str, Mapping[str, Any]], ...] = (
        ("MF-Net", "K-400", 78.3, 94.6, "11.1", "50", "8.0", {}),
        ("TAM", "K-400", 82.2, 95.2, "93.4", "9", "25.0", {}),
        ("SF-101", "K-400", 83.7, 96.8, "213", "30", "53.7", {}),
        ("X3D-L", "K-400", 85.8, 96.1, "24.8", "30", "6.1", x3d),
        ("R3D-101", "K-700", 80.5, 95.8, "78.0", "30", "69.0", r3d),
        ("R(2+1)D-101", "K-700", 82.9, 95.6, "163.0", "30", "72.1", r2plus1d),
        ("ir-CSN-101", "IG65", 83.8, 93.8, "63.6", "10", "22.1", {}),
        ("ip-CSN-101", "IG65", 84.1, 93.9, "63.6", "10", "24.5", {}),
        ("SRTG-101 (3D)", "-", 81.6, 96.3, "78.1", "30", "107.1", {}),
        ("SRTG-101 (2+1)D", "-", 84.3, 96.8, "163.1", "30", "105.3", {}),
    )
    for label, about, top1, top5, flops, views, parameters, fields in others:
        yield _make_row(
            "V",
            label,
            dataset=HACS,
            about=about,
            results={"top-1": top1, "top-5": top5},
            parameters=parameters,
            flops=flops,
            views=views,
            **fields,
        )
    for model, top1, top5 in ((S, 80.7, 95.2), (M, 83.4, 95.9), (L, 86.6, 96.7)):
        yield _make_own(
            "V", model, top1, top5, dataset=HACS, counts=COUNTS[model], views="30", about="from scratch"
        )


def _list_table_6a() -> Iterator[Row]:
    """Branch channel ratio δ."""
    tables = {
        M: (
            ("1.0 (No P)", 1.0, 82.2, 93.6, "10.8", "29.7"),
            ("7/8", 7 / 8, 83.4, 95.9, "8.8", "25.8"),
            ("3/4", 3 / 4, 83.1, 95.6, "6.7", "21.8"),
            ("5/8", 5 / 8, 81.6, 93.2, "4.8", "19.3"),
            ("1/2", 1 / 2, 79.7, 91.8, "3.6", "18.6"),
            ("3/8", 3 / 8, 78.6, 89.4, "2.6", "19.2"),
            ("1/4", 1 / 4, 77.1, 88.6, "2.1", "21.0"),
        ),
        L: (
            ("1.0 (No P)", 1.0, 84.9, 95.7, "20.6", "53.5"),
            ("7/8", 7 / 8, 86.6, 96.7, "17.6", "50.1"),
            ("3/4", 3 / 4, 86.1, 96.2, "12.5", "45.3"),
            ("1/2", 1 / 2, 83.2, 95.3, "7.09", "42.7"),
            ("3/8", 3 / 8, 82.1, 93.9, "5.2", "45.3"),
            ("1/4", 1 / 4, 80.3, 92.4, "4.1", "47.8"),
        ),
    }
    for model, rows in tables.items():
        for printed, delta, top1, top5, flops, parameters in rows:
            yield _make_own(
                "VIa",
                model,
                top1,
                top5,
                dataset=HACS,
                counts=(parameters, flops),
                label=f"δ = {printed}",
                model_options={"delta": delta},
                reason=_FALLING,
            )


def _list_table_6b() -> Iterator[Row]:
    """Recurrent cells, with the authors' latencies."""
    cells = (("RNN", "rnn"), ("LSTM", "lstm"), ("LSTM (peephole)", "peephole_lstm"), ("GRU", "gru"))
    parameters = ("24.3", "26.5", "26.5", "25.8")
    figures = {
        S: ((58, 78, 78.8, 93.7), (61, 79, 79.9, 94.3), (68, 85, 80.1, 94.5), (65, 80, 80.7, 95.2)),
        M: ((84, 113, 82.5, 94.8), (86, 109, 83.1, 95.4), (94, 120, 83.2, 95.6), (90, 111, 83.4, 95.9)),
    }
    for model, rows in figures.items():
        for (label, cell), count, (forward, backward, top1, top5) in zip(
            cells, parameters, rows, strict=True
        ):
            yield _make_own(
                "VIb",
                model,
                top1,
                top5,
                dataset=HACS,
                counts=(count, COUNTS[model][1]),
                label=label,
                model_options={"cell": cell},
                results={"top-1": top1, "top-5": top5, "forward ms": forward, "backward ms": backward},
            )


def _list_table_6c() -> Iterator[Row]:
    """Pooling of the prolonged branch."""
    columns = (
        ("Avg", "average", False),
        ("Max", "max", False),
        ("Stochastic", "stochastic", False),
        ("SoftPool", "soft", False),
        ("Avg + cos", "average", True),
        ("SoftPool + cos", "soft", True),
    )
    figures = {
        S: (77.8, 75.9, 76.8, 77.8, 80.5, 80.7),
        M: (79.8, 77.6, 78.2, 80.7, 82.6, 83.4),
        L: (83.8, 82.1, 82.9, 84.2, 85.9, 86.6),
    }
    for model, accuracies in figures.items():
        for (label, pooling, selects), top1 in zip(columns, accuracies, strict=True):
            options = {"pooling": pooling, "frame_selection": selects}
            yield _make_own("VIc", model, top1, None, dataset=HACS, label=label, model_options=options)


def _list_table_7() -> Iterator[Row]:
    others = (
        ("I3D", "K-400", 92.4, 97.6),
        ("TSM", "K-400", 92.3, 97.9),
        ("ir-CSN-152", "IG65M", 95.4, 99.2),
        ("MF-Net", "K-400", 93.8, 98.4),
        ("SF-50", "ImageNet", 94.6, 98.7),
        ("SF-101", "ImageNet", 95.8, 99.1),
        ("SRTG-101 (2+1)D", "HACS+K-700", 97.2, 99.1),
        ("SRTG-101 (3D)", "HACS+K-700", 97.3, 99.6),
    )
    for label, about, top1, top5 in others:
        own: dict[str, Any] = (
            {"model": "tsm_resnet50", "size": 224} if label == "TSM" else {}
        )  # as in Table I
        results = {"top-1": top1, "top-5": top5}
        yield _make_row("VII", label, dataset=UCF, about=about, results=results, **own)
    for model, top1, top5 in ((S, 94.2, 98.0), (M, 95.4, 98.1), (L, 97.4, 99.2)):
        yield _make_own("VII", model, top1, top5, dataset=UCF, about="HACS")
