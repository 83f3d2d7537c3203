"""The registry of metrics: what protocols, tables, claims and probes read from it."""

from dataclasses import fields

from twinbench.sweeps.metrics import KNN, LINEAR, METRICS, get_metric, metric_names, variants
from twinbench.sweeps.protocol import Evaluation
from twinbench.sweeps.sweep import read_protocol, shipped_protocols


def test_every_metric_of_a_shipped_protocol_is_registered_with_its_variant() -> None:
    protocols = [read_protocol(name) for name in shipped_protocols()]
    assert protocols
    for protocol in protocols:
        assert protocol.evaluation.metrics.items() <= variants(protocol.checkpoint).items()


def test_the_best_on_test_rule_has_knn_as_a_maximum_and_no_other_probe() -> None:
    assert variants("last")["knn_top1"] == "knn/cosine-softmax@1"
    found = variants("best_on_test")
    assert found["knn_top1"] == "knn/cosine-softmax-max-over-epochs@1"
    assert {"linear_top1", "ridge_top1"}.isdisjoint(found)
    assert found.items() - variants("last").items() == {("knn_top1", found["knn_top1"])}


def test_names_are_unique_and_costs_have_no_variant_that_a_protocol_could_name() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    costs = {*metric_names("trial_cost"), *metric_names("published_cost")}
    assert costs == {"train_seconds", "peak_memory_bytes", "minutes", "peak_memory_gb"}
    assert costs.isdisjoint(variants("last"))
    assert all(METRICS[name].higher_is_better is False for name in costs)


def test_candidates_are_keys_of_a_protocols_evaluation() -> None:
    keys = {field.name for field in fields(Evaluation)}
    candidates = [key for metric in METRICS.values() for key in metric.candidates]
    assert len(candidates) == 5 and set(candidates) <= keys
    assert all(len(metric.candidates) == len(metric.chosen) for metric in METRICS.values())


def test_a_metric_is_titled_for_tables_for_sentences_and_for_files_of_outputs() -> None:
    assert (LINEAR.heading, LINEAR.phrase, LINEAR.probe) == ("Linear top-1 (%)", "linear top-1", "linear")
    assert (KNN.heading, KNN.phrase, KNN.probe) == ("kNN top-1 (%)", "kNN top-1", "knn")
    assert METRICS["alignment"].heading == "Alignment"


def test_a_metric_that_is_not_registered_keeps_its_name_and_is_an_accuracy_if_it_is_a_top1() -> None:
    assert get_metric("linear_top1") is LINEAR
    top1, other = get_metric("finetune_top1"), get_metric("linear_top5")
    assert (top1.title, top1.is_accuracy, top1.higher_is_better) == ("finetune_top1", True, True)
    assert (other.title, other.is_accuracy, other.higher_is_better) == ("linear_top5", False, None)
