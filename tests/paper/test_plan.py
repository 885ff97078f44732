"""The rows of the tables against the paper's figures, and what data, --only, --quick and --recipe make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.model.select import make_model
from rtseg.paper.plan import LEFT_OUT, QUOTED, Options, plan, sections
from rtseg.paper.systems import AUGMENTED, SYSTEMS, TABLES, Figures, System
from tests.paper.scenes import ALL_HEADS, paper_data

# Typed off the paper once more, apart from the code: table, system, task, F1, mAP.
PAPER = [
    ("I", "Fully connected", 1, 0.659, 0.726),
    ("I", "LSTM", 1, 0.675, 0.712),
    ("I", "Self-attention", 1, 0.610, 0.644),
    ("I", "1D conv net", 1, 0.793, 0.856),
    ("II", "TCN (MS-TCN)", 1, 0.844, 0.886),
    ("II", "Transformer (ASFormer)", 1, 0.85, 0.89),
    ("II", "Top-1 entry of the challenge", 1, 0.864, 0.914),
    ("III", "TCN (MS-TCN)", 2, 0.8, 0.848),
    ("III", "Transformer (ASFormer)", 2, 0.79, 0.84),
    ("III", "Top-1 entry of the challenge", 2, 0.809, 0.857),
    ("IV", "TCN (MS-TCN)", 3, 0.23, 0.29),
    ("IV", "Transformer (ASFormer)", 3, 0.25, 0.30),
    ("IV", "Top-1 entry of the challenge", 3, 0.363, 0.352),
    ("V", "Multitask TCN", 1, 0.858, 0.901),
    ("V", "Multitask TCN", 2, 0.80, 0.84),
    ("V", "Multitask TCN", 3, 0.355, 0.34),
]


def test_every_figure_of_the_paper_has_its_row() -> None:
    rows, _ = plan(paper_data(), Options())
    assert [(r.table, r.label, r.task, r.paper.f1, r.paper.map) for r in rows if r.paper] == PAPER


def test_every_system_that_can_be_is_trained_as_the_paper_had_it_and_causal() -> None:
    rows, trainings = plan(paper_data(), Options())
    recipes = {t.key: t.recipe for t in trainings}
    assert {r.training for r in rows if r.training} == set(recipes)
    for system in SYSTEMS:
        for table in system.tables:
            if system.both:
                assert not recipes[f"{table}/{system.key}"].model.causal
                assert recipes[f"{table}/{system.key}-causal"].model.causal
    assert {r.absent for r in rows if not r.training} == {QUOTED}


def test_the_papers_preprocessing_and_loss_are_in_the_recipes() -> None:
    recipes = {t.key: t.recipe for t in plan(paper_data(), Options())[1]}
    assert recipes["I/conv1d"].features.groups == ("position", "missing")
    assert recipes["I/conv1d"].augment.interpolate == 1
    for key in ("II/tcn", "III/transformer", "V/multitask"):
        assert recipes[key].augment.interpolate == 3
        assert recipes[key].scaler.kind == "range"
        assert {"between_distance", "speed", "box_overlap", "center", "extension"} <= set(recipes[key].features.groups)
    assert (recipes["V/multitask"].train.task_weighting, recipes["V/multitask"].train.loss_factor) == ("share", 0.1)
    assert recipes["V/multitask"].augment.balance_tasks
    # Task 1 has the most sequences: it alone is not augmented.
    assert not recipes["II/tcn"].augment.rotate
    assert recipes["III/tcn"].augment.rotate
    assert recipes["IV/tcn"].augment.rotate


def test_tables_train_their_own_tasks() -> None:
    for training in plan(paper_data(), Options())[1]:
        assert training.tasks == TABLES[training.key.split("/")[0]].trained


def test_tasks_that_the_data_lacks_are_absent_rows_with_the_reason() -> None:
    rows, trainings = plan(paper_data((1, 2)), Options())
    assert {r.absent for r in rows if r.task == 3} == {"no Task 3: left out here"}
    assert {t.tasks for t in trainings if t.key.startswith("V/")} == {(1, 2)}
    rows, trainings = plan(paper_data((1,)), Options())
    multitask = {r.absent for r in rows if r.table == "V" and r.task == 1 and r.form != "ours"}
    assert multitask == {"the data has one task; nothing can be trained together"}
    assert "V/ours" in {t.key for t in trainings}


@pytest.mark.parametrize(
    ("only", "keys"),
    [
        (("I/lstm",), ["I/lstm", "I/lstm-causal"]),
        (("I/lstm-causal", "V/ours"), ["I/lstm-causal", "V/ours"]),
        (
            ("V",),
            ["V/multitask", "V/multitask-causal", "V/ours"],
        ),
    ],
)
def test_only_keeps_tables_and_rows(only: tuple[str, ...], keys: list[str]) -> None:
    rows, trainings = plan(paper_data(), Options(only=only))
    assert [t.key for t in trainings] == keys
    assert {r.absent for r in rows} >= {LEFT_OUT}


def test_only_with_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(SettingError, match=r"II/tpyo.*II/tcn"):
        plan(paper_data(), Options(only=("II/tpyo",)))


def test_epochs_caps_and_never_raises() -> None:
    for epochs, expected in ((2, 2), (1000, 40)):
        trainings = plan(paper_data(), Options(only=("II/tcn",), epochs=epochs))[1]
        assert {t.recipe.train.epochs for t in trainings} == {expected}


def test_quick_makes_everything_smaller_and_set_has_the_last_word() -> None:
    full = {t.key: t.recipe for t in plan(paper_data(), Options())[1]}
    quick = {t.key: t.recipe for t in plan(paper_data(), Options(quick=True, overrides=("model.channels=8",)))[1]}
    for key, recipe in quick.items():
        assert recipe.model.channels == 8
        assert recipe.train.epochs < full[key].train.epochs
        assert recipe.augment.interpolate == 1


@pytest.mark.parametrize("options", [Options(), Options(quick=True), Options(frame_stride=2)])
def test_every_network_can_be_made_with_all_heads_of_calms21(options: Options) -> None:
    for training in plan(paper_data(), options)[1]:
        if training.recipe.model.kind != "gradient-boosting":
            heads = [head for head in ALL_HEADS if head.group in {f"task{task}" for task in training.tasks}]
            model = make_model(training.recipe, 10, heads)
            assert model.causal == training.recipe.model.causal


def test_a_users_recipe_is_what_rtsegs_own_rows_train() -> None:
    own = Recipe("mine", "none.toml", (0, 0, 1, 1))
    own = replace(
        own,
        features=replace(own.features, animal_order="sorted"),
        model=replace(own.model, channels=24, lookahead_frames=6),
        train=replace(own.train, select_group="task1", epochs=7, future_pose_weight=0.25),
    )
    recipes = {t.key: t.recipe for t in plan(paper_data(), Options(recipe=sections(own)))[1]}
    assert recipes["V/ours"].model == own.model
    assert recipes["V/ours"].train == own.train
    for key in ("II/gru", "III/boosting"):
        assert recipes[key].features.animal_order == "sorted"
        assert recipes[key].model.lookahead_frames == 0
    assert recipes["III/boosting"].train.epochs == 7
    assert recipes["II/tcn-own-features"].features.animal_order == "sorted"
    assert not recipes["II/tcn-own-features"].train.future_pose_weight  # refused of what sees the future
    # How long a network is trained is the comparison's rule, or its rows would say nothing of the network.
    rule = ("epochs", "epoch_batches", "evaluate_every", "patience", "schedule")
    gru, tcn = recipes["II/gru"].train, recipes["II/tcn"].train
    assert [getattr(gru, name) for name in rule] == [getattr(tcn, name) for name in rule]
    assert recipes["III/gru"].train.select_group == ""
    # Rare behaviours: a network of the paper that has learnt nothing yet has reached no plateau.
    late = ("III/tcn", "III/tcn-causal", "III/transformer", "V/multitask")
    assert {key: recipes[key].train.patience_from for key in late} == dict.fromkeys(late, "constant")
    assert {recipes[key].train.patience_from for key in ("I/conv1d", "II/tcn", "II/transformer", "III/gru")} == {
        "start"
    }
    assert recipes["V/multitask"].features.animal_order == "kept"


def test_every_network_of_the_paper_sees_every_second_frame_with_windows_as_long() -> None:
    full = {t.key: t.recipe for t in plan(paper_data(), Options())[1]}
    half = {t.key: t.recipe for t in plan(paper_data(), Options(frame_stride=2))[1]}
    for key in ("I/conv1d", "I/self-attention", "II/tcn", "II/transformer-causal", "II/gru", "V/multitask"):
        assert (full[key].train.frame_stride, half[key].train.frame_stride) == (1, 2)
    # What is seen lasts as long: windows in frames that are half as many, or taps twice as far apart.
    assert (half["I/conv1d"].model.window_frames, half["I/conv1d"].model.window_stride) == (50, 1)
    assert half["II/transformer"].model.attention_window == full["II/transformer"].model.attention_window // 2
    assert half["V/multitask"].model.first_dilation == half["V/multitask"].model.head_first_dilation == 2
    # Trees see every frame, and the user's recipe says itself what it sees.
    assert half["V/ours"] == full["V/ours"]
    assert half["II/boosting"].model == full["II/boosting"].model


def test_a_row_with_one_change_differs_in_one_thing() -> None:
    recipes = {t.key: replace(t.recipe, name="") for t in plan(paper_data(), Options())[1]}
    for key, change in (
        ("I/conv1d-minmax", {"scaler": replace(recipes["I/conv1d"].scaler, kind="minmax")}),
        ("I/conv1d-standard", {"scaler": replace(recipes["I/conv1d"].scaler, kind="standard")}),
        ("I/conv1d-augmented", {"augment": replace(recipes["I/conv1d"].augment, **AUGMENTED["augment"])}),
        ("II/tcn-standard", {"scaler": replace(recipes["II/tcn"].scaler, kind="standard")}),
        ("II/tcn-camera-rate", {"augment": replace(recipes["II/tcn"].augment, interpolate=1)}),
    ):
        paper = key.split("-")[0]
        assert recipes[key] == replace(recipes[paper], **change)  # type: ignore[arg-type]


def test_one_more_system_is_one_more_entry() -> None:
    more = System("wide", "Wide LSTM", ("I",), {"model": {"kind": "lstm", "channels": 256}}, ours=True)
    figures = {"I": (Figures(0.1, 0.2, 0.3, 0.4),)}
    quoted = System("other", "Somebody else's", ("I",), None, figures)
    rows, trainings = plan(paper_data(), Options(), [more, quoted])
    assert [t.key for t in trainings] == ["I/wide"]
    assert [(r.label, r.absent) for r in rows] == [("Wide LSTM", ""), ("Somebody else's", QUOTED)]
