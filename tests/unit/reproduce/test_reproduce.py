"""What `keras-srt reproduce` is made of: specs, recipes, fingerprints and kept evaluations."""

import dataclasses
import fcntl
import json
import shutil

import numpy as np
import pytest
from helpers import tiny, write_config

from keras_srt.attacks import ATTACKS, DDN, FGSM, PGD
from keras_srt.core.errors import UserError
from keras_srt.core.registry import settings_of
from keras_srt.data import DatasetInfo
from keras_srt.evaluation.robustness import AttackOutcome, Robustness
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.reproduce.attack_settings import ATTACK_SETS, SEARCHES, UNSTATED_ATTACKS, attack
from keras_srt.reproduce.evaluation_cache import Evaluations, Outcome, same_search, worst_case
from keras_srt.reproduce.patent import Patent
from keras_srt.reproduce.readings import READINGS, with_weight
from keras_srt.reproduce.recipes import make_config
from keras_srt.reproduce.specs import SCALES, ModelSpec
from keras_srt.reproduce.store import Store, fingerprint, steps_done
from keras_srt.reproduce.targets import TARGETS, datasets_of, make_target

INFOS = {
    "mnist": DatasetInfo("MNIST", (28, 28, 1), tuple("0123456789"), 60_000, 10_000),
    "cifar10": DatasetInfo("CIFAR-10", (32, 32, 3), tuple("0123456789"), 50_000, 10_000),
}
EVERY = [(name, dataset) for name in TARGETS for dataset in datasets_of(name)]


# Targets.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("name", "dataset"), EVERY, ids=["-".join(pair) for pair in EVERY])
def test_every_model_and_attack_of_a_target_can_be_built(name, dataset, scale):
    target = make_target(name, dataset, scale)
    assert target.models()
    for panel in target.panels:
        for row in panel.rows:
            assert len(row.cells) == len(panel.columns)
        assert len({row.key for row in panel.rows}) == len(panel.rows)
    for spec in target.models():
        config = make_config(spec, dataset, scale)
        plan = make_plan(config, INFOS[dataset])
        if spec.labeled is not None:
            # At full, a part of the labels is for validation: a tenth of 10,000, a fifth of 300.
            if scale == "full":
                assert plan.num_labeled + plan.num_validation == spec.labeled
                share = 0.1 if spec.labeled >= 1000 else 0.2
                assert plan.num_validation == share * spec.labeled
            else:
                assert plan.num_labeled == spec.labeled
        assert config.data.dataset.name == dataset
        assert config.objective.name == spec.objective
        for wanted in target.attacks_on(spec):
            built = ATTACKS.build(wanted.settings)
            assert ATTACKS.build(settings_of(built)) == built  # kept evaluations are read so


def keys_of(name, dataset, reading="patent"):
    panel = make_target(name, dataset, "quick", reading).panels[0]
    return [row.key for row in panel.rows], [column.key for column in panel.columns]


def test_tables_have_the_rows_and_columns_of_the_patent():
    pixel = ["standard", "adversarial", "trades", "uat", "rst", "srt"]
    spatial = ["standard", "adversarial", "worst_of_k", "klr", "srt"]
    at_pixel = ["clean", "fgsm", "pgd", "mi_fgsm", "jsma", "cw", "pointwise", "ddn"]
    at_spatial = ["clean", "randadv", "gridadv", "randadv_t", "gridadv_t", "randadv_r", "gridadv_r"]
    for dataset in ("mnist", "cifar10"):
        assert keys_of("table3", dataset) == (pixel, at_pixel)
        assert keys_of("table6", dataset) == (spatial, at_spatial)
    by_weight = ["standard"]
    by_weight += [f"{key}_{weight}" for weight in (0.2, 0.4, 0.6, 0.8) for key in ("rt", "srt")]
    for name, dataset in (("table1", "cifar10"), ("table2", "mnist")):
        assert keys_of(name, dataset) == (by_weight, ["clean", "fgsm", "pgd"])
    by_weight = ["standard"]
    by_weight += [f"{key}_{weight}" for weight in (0.15, 0.2, 0.25, 0.3) for key in ("rt", "srt")]
    for name, dataset in (("table4", "cifar10"), ("table5", "mnist")):
        assert keys_of(name, dataset) == (by_weight, ["clean", "randadv", "gridadv"])


def test_all_274_numbers_of_the_patent_stand_beside_ours():
    patent, shown = Patent(), set()
    for name, dataset in EVERY:
        for panel in make_target(name, dataset, "full").panels:
            for row in panel.rows:
                for column in panel.columns:
                    cell = name, dataset, row.key, column.key
                    if patent.accuracy(*cell) is not None:
                        shown.add(cell)
    assert len(shown) == len(patent) == 274
    for table in (f"table{number}" for number in range(1, 7)):
        for dataset in datasets_of(table):
            rows, columns = keys_of(table, dataset)
            assert {(table, dataset, r, c) for r in rows for c in columns} <= shown


@pytest.mark.parametrize(
    ("cell", "accuracy"),
    [
        (("table1", "cifar10", "srt_0.8", "pgd"), 0.4724),
        (("table2", "mnist", "standard", "pgd"), 0.8612),
        (("table3", "mnist", "rst", "ddn"), 0.9425),
        (("table3", "cifar10", "srt", "pointwise"), 0.188),
        (("table4", "cifar10", "rt_0.15", "gridadv"), 0.4123),
        (("table5", "mnist", "srt_0.2", "gridadv"), 0.9212),
        (("table6", "mnist", "adversarial", "randadv_t"), 0.5183),
        (("table6", "cifar10", "klr", "gridadv_r"), 0.7104),
        (("table3", "mnist", "rt", "pgd"), None),
    ],
)
def test_numbers_of_the_patent(cell, accuracy):
    assert Patent().accuracy(*cell) == accuracy


def test_table_6_has_the_srt_model_of_weight_020_in_table_5():
    for reading in READINGS:
        (panel,) = make_target("table5", "mnist", "quick", reading).panels
        (model,) = {row.cells[0].model for row in panel.rows if row.key == "srt_0.2"}
        (panel,) = make_target("table6", "mnist", "quick", reading).panels
        assert panel.rows[-1].cells[0].model == model
        assert panel.rows[1].cells[0].model == ModelSpec("pixel", "adversarial")


def test_datasets_of_the_tables():
    one = {"table1": ("cifar10",), "table2": ("mnist",), "table4": ("cifar10",)}
    one["table5"] = one["budgets"] = ("mnist",)
    for name in TARGETS:
        assert datasets_of(name) == one.get(name, ("cifar10", "mnist"))


def test_targets_that_the_patent_lacks():
    lacking = {n for n, d in EVERY if not make_target(n, d, "quick").in_patent}
    assert lacking == {"figure8_few", "budgets", "composite", "labels", "autoattack"}


# Readings of λ and RT.


@pytest.mark.parametrize(
    ("family", "objective", "dataset", "weight", "batch_size"),
    [
        ("pixel", "srt", "mnist", 0.2, None),  # the pixel code has separate means
        ("pixel", "rt", "mnist", 0.2, 21),
        ("spatial", "srt", "mnist", 1.2, None),  # 6 images per labeled one
        ("spatial", "srt", "cifar10", 1.0, None),
        ("spatial", "rt", "mnist", 0.2, 21),
        ("spatial", "rt", "cifar10", 0.2, 25),
    ],
)
def test_the_authors_code_as_separate_means(family, objective, dataset, weight, batch_size):
    spec = with_weight(family, objective, 0.2, dataset, "code")
    assert (spec.robust_weight, spec.batch_size) == (weight, batch_size)
    assert with_weight(family, objective, 0.2, dataset, "patent") == ModelSpec(
        family, objective, 0.2
    )


def test_the_batch_of_rt_is_the_labeled_part_of_srts_batch():
    sizes = []
    for objective in ("srt", "rt"):
        spec = with_weight("spatial", objective, 0.2, "mnist", "code")
        plan = make_plan(make_config(spec, "mnist", "quick"), INFOS["mnist"])
        sizes.append((plan.sizes.labeled, plan.sizes.unlabeled))
    # 1,000 images are for validation, so SRT has 22 of 128.
    assert sizes == [(22, 106), (21, 0)]


# Attacks that the patent doesn't describe.


def test_table_3_has_two_sets_of_attack_settings():
    ours, inferred = make_target("table3", "mnist", "quick").panels
    assert [column.key for column in inferred.columns] == ["clean", *UNSTATED_ATTACKS]
    for panel, name in ((ours, "ours"), (inferred, "inferred")):
        shown = {
            column.key: cell.attacks[0].settings
            for column, cell in zip(panel.columns, panel.rows[0].cells, strict=True)
            if column.key in UNSTATED_ATTACKS
        }
        for key, settings in ATTACK_SETS[name]["mnist"].items():
            assert settings.items() <= shown[key].items()


def test_budgets_are_compared_with_the_patents_columns_of_table_3():
    panels = make_target("budgets", "mnist", "quick").panels
    assert [panel.patent_cells for panel in panels] == [("table3", s.column) for s in SEARCHES]
    assert {panel.patent_cells[1] for panel in panels} == set(UNSTATED_ATTACKS)
    for panel, search in zip(panels, SEARCHES, strict=True):
        assert [row.key for row in panel.rows] == ["standard", "adversarial", "srt"]
        for row in panel.rows:
            radii = [cell.attacks[0].settings["epsilon"] for cell in row.cells]
            assert radii == list(search.budgets)


# Sweeps.


def test_the_label_sweep_varies_the_labels():
    (pixel, spatial) = make_target("labels", "mnist", "quick").panels
    for panel, family, name in ((pixel, "pixel", "pgd"), (spatial, "spatial", "gridadv")):
        rows = {row.key: row for row in panel.rows}
        assert set(rows) == {f"{key}_{end}" for key in ("srt", "rt") for end in ("clean", name)}
        for row in panel.rows:
            assert [cell.model.labeled for cell in row.cells] == [100, 300, 1000, 3000, 10000]
            assert {cell.model.family for cell in row.cells} == {family}


@pytest.mark.parametrize(("name", "labels"), [("figure8", 10_000), ("figure8_few", 300)])
def test_figure_8_varies_the_unlabeled_images_beside_training_with_all_labels(name, labels):
    pixel, spatial = make_target(name, "mnist", "quick").panels
    for panel, objective in ((pixel, "adversarial"), (spatial, "worst_of_k")):
        srt, _, all_labels, _ = panel.rows
        models = [cell.model for cell in srt.cells]
        assert [m.objective for m in models] == ["rt", "srt", "srt", "srt", "srt"]
        assert [m.unlabeled for m in models] == [None, 1000, 5000, 20000, None]
        assert {m.labeled for m in models} == {labels}
        (model,) = {cell.model for cell in all_labels.cells}
        assert model.objective == objective
        plan = make_plan(make_config(model, "mnist", "quick"), INFOS["mnist"])
        assert (plan.num_labeled, plan.num_unlabeled) == (59_000, 0)


def test_a_share_of_the_perturbation_scales_its_sizes_and_nothing_else():
    full = attack("pgd_plus", "mnist", "full")
    part = attack("pgd_plus", "mnist", "full", share=0.2)
    changed = {k: v for k, v in part.settings.items() if full.settings[k] != v}
    assert changed == {
        "epsilon": 0.06, "step_size": 0.002, "max_rotation": 6.0, "max_translation": 0.6
    }  # fmt: skip
    assert attack("pgd_plus", "mnist", "full", share=1.0) == full


def test_figures_6_and_7_have_all_attacks_and_defenses_by_share():
    attacks = ["pgd", "gridadv", "pgd_plus", "gridadv_plus"]
    defenses = ["at_pixel", "srt_pixel", "worst_of_k", "srt_spatial", "at_plus", "srt_plus"]
    by_defense = make_target("figure6", "mnist", "quick").panels
    assert len(by_defense) == len(defenses)
    for panel in by_defense:
        assert [row.key for row in panel.rows] == attacks
        assert len({cell.model for cell in panel.cells()}) == 1
    by_attack = make_target("figure7", "mnist", "quick").panels
    assert len(by_attack) == 2
    for panel, name in zip(by_attack, attacks[2:], strict=True):
        assert [row.key for row in panel.rows] == defenses
        assert [column.key for column in panel.columns] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        clean, *_, full = panel.rows[-1].cells
        assert clean.attacks == ()
        assert full.attacks == (attack(name, "mnist", "quick"),)


# Recipes.


@pytest.mark.parametrize(
    ("spec", "steps", "interval", "labeled_per_step", "weight"),
    [
        (ModelSpec("pixel", "srt"), 1000, 250, 22, 1.0),
        (ModelSpec("pixel", "srt", labeled=1000), 1000, 250, 32, 1.0),
        (ModelSpec("pixel", "srt", labeled=3000), 1000, 250, 32, 1.0),
        (ModelSpec("pixel", "rt", labeled=100), 1000, 250, 128, 1.0),
        (ModelSpec("pixel", "rst"), 1000, 250, 64, 6.0),
        (ModelSpec("pixel", "adversarial"), 1000, 250, 128, None),
        (ModelSpec("spatial", "srt", 0.2), 1500, 250, 22, 0.2),
        (ModelSpec("spatial", "rt", 0.2, batch_size=21), 1500, 250, 21, 0.2),
        (ModelSpec("composite", "srt"), 800, 200, 22, 1.0),
    ],
    ids=lambda value: value.name if isinstance(value, ModelSpec) else None,
)
def test_the_quick_recipe_on_mnist(spec, steps, interval, labeled_per_step, weight):
    config = make_config(spec, "mnist", "quick")
    assert (config.training.steps, config.training.interval) == (steps, interval)
    assert make_plan(config, INFOS["mnist"]).sizes.labeled == labeled_per_step
    assert getattr(config.objective, "robust_weight", None) == weight
    few_labels = spec.objective == "srt" or spec.batch_size is not None
    assert config.training.weight_warmup == (0.3 if few_labels else 0.0)


@pytest.mark.parametrize("family", ["pixel", "spatial", "composite"])
@pytest.mark.parametrize(("dataset", "prefix"), [("mnist", "mnist"), ("cifar10", "cifar")])
def test_full_is_the_base_config_with_the_draw_of_the_patent(family, dataset, prefix):
    config = make_config(ModelSpec(family, "srt"), dataset, "full")
    draw = ["data.selection=random", "data.validation_from=labeled", "data.validation=null"]
    assert fingerprint(config) == fingerprint(load_config(f"{prefix}_{family}", None, draw))
    plan = make_plan(config, INFOS[dataset])
    others = {"mnist": 50_000, "cifar10": 40_000}[dataset]
    assert (plan.num_labeled, plan.num_unlabeled) == (9_000, others)


def test_full_with_few_labels_takes_as_many_steps_as_with_10000():
    # Of a batch of 128, 20 are labeled: 450 steps for a pass over the 9,000 training labels.
    config = make_config(ModelSpec("pixel", "srt", labeled=300), "mnist", "full")
    assert (config.training.steps, config.training.epochs) == (45_000, None)
    assert config.training.schedule.milestones == (55 * 450, 75 * 450, 90 * 450)
    assert config.training.labeled_per_batch == 32
    # All 128: 71 steps.
    config = make_config(ModelSpec("pixel", "rt", labeled=300), "mnist", "full")
    assert config.training.steps == 7_100
    # All labels: the configs' epochs.
    config = make_config(ModelSpec("pixel", "adversarial", labeled=None), "mnist", "full")
    assert (config.training.steps, config.training.epochs) == (None, 100)


def test_table_2_has_a_smaller_radius_in_training_and_attack():
    target = make_target("table2", "mnist", "quick")
    for spec in target.models():
        ball = make_config(spec, "mnist", "quick").neighborhood
        if spec.objective != "standard":  # the standard model is that of Table 3
            assert (ball.epsilon, ball.num_steps, ball.step_size) == (0.1, 5, 0.04)
        for wanted in target.attacks_on(spec):
            assert wanted.settings["epsilon"] == 0.1


@pytest.mark.parametrize("scale", SCALES)
def test_the_other_order_has_the_same_stages(scale):
    one, other = (
        make_config(ModelSpec(family, "srt"), "mnist", scale).neighborhood.stages
        for family in ("composite", "composite-t2")
    )
    assert [stage.name for stage in other] == ["spatial", "linf"]
    assert other == one[::-1]


def test_trades_and_rst_start_as_in_their_papers_and_weigh_as_there():
    for dataset, trades in (("mnist", 1.0), ("cifar10", 6.0)):
        for objective, weight in (("trades", trades), ("rst", 6.0)):
            config = make_config(ModelSpec("pixel", objective), dataset, "quick")
            assert config.neighborhood.random_start == 0.001
            assert config.objective.robust_weight == weight
    srt = make_config(ModelSpec("pixel", "srt"), "mnist", "quick")
    assert srt.neighborhood.random_start is True


def test_searches_by_draws_draw_alike():
    for dataset, draws in (("mnist", 10), ("cifar10", 5)):
        for objective in ("worst_of_k", "klr"):
            config = make_config(ModelSpec("spatial", objective), dataset, "quick")
            assert config.objective.num_samples == config.neighborhood.num_samples == draws


# Fingerprints and the store.


def tiny_config(folder, overrides=(), **changes):
    return load_config(str(write_config(folder, tiny(**changes))), None, overrides)


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "description=words",
        'evaluation.attacks=[{"name": "fgsm", "epsilon": 0.3}]',
        "evaluation.limit=7",
        "export=elsewhere",
    ],
)
def test_what_makes_no_other_model(tmp_path, change):
    assert fingerprint(tiny_config(tmp_path, [change])) == fingerprint(tiny_config(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        "objective.robust_weight=2",
        "objective.name=rt",
        "data.labeled=50",
        "data.unlabeled=100",
        "model.width=3",
        "neighborhood.epsilon=0.2",
        "training.steps=7",
        "seed=1",
    ],
)
def test_what_makes_another_model(tmp_path, change):
    changes = [change] + (["training.labeled_per_batch=null"] if change.endswith("=rt") else [])
    assert fingerprint(tiny_config(tmp_path, changes)) != fingerprint(tiny_config(tmp_path))


def without_defaults(settings):
    """A config as an older version wrote it, which didn't know some settings."""
    del settings["data"]["augmentation"], settings["training"]["momentum"]
    del settings["neighborhood"]["random_start"], settings["objective"]["clean_loss"]
    del settings["seed"], settings["evaluation"]["batch_size"]
    return settings


def test_a_run_of_an_older_version_is_recognized(tmp_path):
    config = tiny_config(tmp_path)
    run = Store(tmp_path / "runs").claim(config).run
    older = without_defaults(json.loads(run.config.read_text()))
    run.config.write_text(json.dumps(older))
    renamed = run.path.rename(tmp_path / "runs" / "any name")
    store = Store(tmp_path / "runs")
    assert store.find(config, 6).run.path == renamed
    assert store.find(tiny_config(tmp_path, ["seed=1"]), 6) is None


def test_run_folders_are_readable_and_apart(tmp_path):
    store = Store(tmp_path / "runs")
    one, other = (tiny_config(tmp_path, [f"seed={seed}"]) for seed in (0, 1))
    paths = [store.claim(config).run.path.name for config in (one, other)]
    assert paths == [f"tiny-{fingerprint(config)[:10]}" for config in (one, other)]
    assert len(set(paths)) == 2


def test_of_equal_runs_the_one_furthest_on_is_taken(tmp_path):
    config = tiny_config(tmp_path)
    ends = {"a": 3, "b": 6, "c": 0}
    for name, end in ends.items():
        run = RunFolder(tmp_path / "runs" / name)
        run.claim(config.to_json(), resume=False)
        if end:
            run.best_weights.write_bytes(b"weights")
            run.history.write_text(f"step,seconds\n{end},1.5\n")
    store = Store(tmp_path / "runs")
    assert store.find(config, 6).run.path.name == "b"
    assert [steps_done(RunFolder(tmp_path / "runs" / name), 6) for name in ends] == [3, 6, 0]


def test_folders_that_are_no_runs_are_left_aside(tmp_path):
    for name, text in (("broken", "{"), ("foreign", '{"name": "x"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "empty").mkdir()
    store = Store(tmp_path)
    assert [path.name for path in store.unreadable] == ["broken", "foreign"]


def test_a_run_that_another_process_writes_is_left_alone(tmp_path):
    config = load_config(str(write_config(tmp_path)))
    store = Store(tmp_path / "runs")
    run = tmp_path / "runs" / f"{config.name}-{fingerprint(config)[:10]}"
    run.mkdir(parents=True)
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is training in this folder"):
            store.claim(config)
    assert store.claim(config).run.config.is_file()


# Kept evaluations.


@pytest.fixture
def evaluated(make_classifier, images, labels):
    """A random classifier, right on three of four images, and what two attacks do to it."""
    classifier = make_classifier(batch_norm=False)
    labels = np.int32(np.argmax(classifier(images), axis=1))
    labels[3] = (labels[3] + 1) % 3
    attacks = [FGSM(epsilon=0.004), PGD(epsilon=0.02, num_steps=3)]
    return classifier, images, labels, attacks


@pytest.fixture
def run(tmp_path):
    """A run folder with weights."""
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.best_weights.write_bytes(b"weights")
    return run


def outcome_of(still_right, attack=None, limit=None, seed=0):
    """An outcome made by hand; an image that is right after the attack was so before."""
    still = np.array(still_right, bool)
    settings = None if attack is None else settings_of(attack)
    return Outcome(settings, limit, seed, np.ones_like(still), still, 1.5, {"n": len(still)})


def test_the_worst_case_of_kept_outcomes_is_that_of_one_evaluation(evaluated, run):
    classifier, images, labels, attacks = evaluated
    kept = Evaluations(run)
    for one in attacks:
        kept.add(Outcome.of(evaluate_robustness(classifier, images, labels, [one]), one, None, 0))
    read = Evaluations(run)
    outcomes = [read.find(one, None, 0) for one in attacks]
    together = evaluate_robustness(classifier, images, labels, attacks)
    np.testing.assert_array_equal(worst_case(outcomes), together.worst_case())
    for outcome, name in zip(outcomes, together.outcomes, strict=True):
        np.testing.assert_array_equal(outcome.still_right, together.surviving(name))
        np.testing.assert_array_equal(outcome.right, together.correct)


def test_the_worst_case_is_of_the_images_that_all_saw():
    outcomes = [outcome_of([1, 1, 0, 1]), outcome_of([1, 0])]
    np.testing.assert_array_equal(worst_case(outcomes), [True, False])


def test_an_outcome_knows_wrong_images_before_and_after():
    labels, clean, after = np.int32([0, 0, 0]), np.int32([0, 0, 1]), np.int32([0, 1, 0])
    pictures = np.zeros((3, 1, 1, 1), np.float32)
    fgsm = FGSM(epsilon=0.1)
    robustness = Robustness(labels, clean, {"fgsm": AttackOutcome(fgsm, pictures, after, 2.0)})
    outcome = Outcome.of(robustness, fgsm, 3, 0)
    assert outcome.right.tolist() == [True, True, False]
    assert outcome.still_right.tolist() == [True, False, False]
    assert (outcome.seconds, outcome.entry["name"]) == (2.0, "fgsm")
    clean_one = Outcome.of(Robustness(labels, clean, {}), None, 3, 0)
    assert clean_one.still_right.tolist() == [True, True, False]


def test_an_evaluation_is_found_by_attack_limit_and_seed(run):
    kept = Evaluations(run)
    kept.add(outcome_of([1, 0], FGSM(epsilon=0.1), limit=2, seed=0))
    for reader in (kept, Evaluations(run)):
        found = reader.find(FGSM(epsilon=0.1), 2, 0)
        assert found.still_right.tolist() == [True, False]
        for other in ((FGSM(epsilon=0.2), 2, 0), (FGSM(epsilon=0.1), 3, 0), (None, 2, 0)):
            assert reader.find(*other) is None
        assert reader.find(FGSM(epsilon=0.1), 2, 1) is None


def test_the_evaluation_of_another_classifier_does_not_count(run):
    Evaluations(run).add(outcome_of([1], FGSM(epsilon=0.1)))
    assert Evaluations(run).find(FGSM(epsilon=0.1), None, 0) is not None
    run.best_weights.write_bytes(b"other weights")
    assert Evaluations(run).find(FGSM(epsilon=0.1), None, 0) is None


def test_an_evaluation_of_an_older_version_counts_and_a_broken_one_does_not(run):
    pgd = PGD(epsilon=0.1, num_steps=3)
    Evaluations(run).add(outcome_of([1, 0], pgd))
    (path,) = (run.path / "evaluations").iterdir()
    content = json.loads(path.read_text())
    assert content["still_right"] == "10"
    del content["attack"]["restarts"]
    path.write_text(json.dumps(content))
    assert Evaluations(run).find(pgd, None, 0) is not None
    path.write_text(path.read_text()[:40])
    assert Evaluations(run).find(pgd, None, 0) is None


def test_an_evaluation_of_distances_is_found_at_every_radius(run):
    distances = np.array([0.5, 1.0, np.inf, 3.0])
    right = np.array([True, True, True, False])
    settings = settings_of(DDN(epsilon=2.0, num_steps=7))
    kept = Outcome(settings, None, 0, right, right & (distances > 2.0), 1.5, {"n": 4}, distances)
    Evaluations(run).add(kept)
    for radius, still in ((0.4, [1, 1, 1, 0]), (1.0, [0, 0, 1, 0]), (2.0, [0, 0, 1, 0])):
        found = Evaluations(run).find(DDN(epsilon=radius, epsilons=(0.5,), num_steps=7), None, 0)
        assert found.still_right.tolist() == [bool(value) for value in still]
        assert found.entry["accuracy"] == sum(still) / 4
        assert [at["epsilon"] for at in found.entry["distance"]["accuracy_at"]] == sorted(
            {radius, 0.5}
        )
        assert found.entry["distance"]["median"] == 1.0
    assert Evaluations(run).find(DDN(epsilon=2.0, num_steps=8), None, 0) is None


def test_attacks_that_differ_in_their_radius_share_an_evaluation():
    assert same_search(DDN(epsilon=1.0), DDN(epsilon=2.0, epsilons=(0.5,)))
    assert not same_search(DDN(epsilon=1.0), DDN(epsilon=1.0, num_steps=9))
    assert not same_search(FGSM(epsilon=0.1), FGSM(epsilon=0.2))
    assert not same_search(None, FGSM(epsilon=0.1))
    assert same_search(None, None)


def test_distances_are_those_of_one_evaluation(evaluated, run):
    classifier, images, labels, _ = evaluated
    attack = DDN(epsilon=0.05, num_steps=4)
    robustness = evaluate_robustness(classifier, images, labels, [attack])
    Evaluations(run).add(Outcome.of(robustness, attack, None, 0))
    for radius in (0.05, 0.2):
        again = evaluate_robustness(classifier, images, labels, [DDN(epsilon=radius, num_steps=4)])
        found = Evaluations(run).find(DDN(epsilon=radius, num_steps=4), None, 0)
        np.testing.assert_array_equal(found.still_right, again.surviving("ddn"))


def test_evaluations_travel_with_the_run(run, tmp_path):
    Evaluations(run).add(outcome_of([1], FGSM(epsilon=0.1)))
    shutil.copytree(run.path, tmp_path / "copy")
    there = Evaluations(RunFolder(tmp_path / "copy")).find(FGSM(epsilon=0.1), None, 0)
    assert dataclasses.asdict(there)["limit"] is None
