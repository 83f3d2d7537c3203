"""The words of labels: what they mean, and which of them mean nothing for a number."""

import re

from twinbench.reports.table_check.latex_text import GREEK

# Phrases, longest first, and the statistic over seeds that each means.
STATISTICS = {
    r"half widths?|± ?95 ?%(?: ci\b)?|(?:95 ?% ?)?(?:(?:confidence |t )?intervals?|\bcis?\b)": "half width",
    r"standard errors?|\bsem\b|\bstd ?err(?:or)?\b": "standard error",
    r"standard deviations?|\bstd ?dev\b|\bstd\b|\bsd\b|\bstdev\b": "standard deviation",
    r"\bbest (?:of|over|among) (?:the |all )?(?:\w+ )?(?:seeds|runs)|\bbest (?:seed|run)\b"
    r"|\bmax(?:imum)? (?:of|over|among) (?:the |all )?(?:\w+ )?(?:seeds|runs)": "best",
    r"\bmedian\b": "median",
    r"\bmean\b|\baverages?\b|\baveraged\b|\bavg\b": "mean",
}
SPLITS = {r"\b(?:validation|valid|val|dev)\b": "validation", r"\btest(?:ing)?\b": "test"}
ERROR_BARS = re.compile(r"\berror bars?\b")
ERROR = re.compile(r"\berr(?:or)?s?(?: rates?)?\b\.?")
CHOSEN_ON = re.compile(r"\b(?:select|chose|choos|pick|tun|stopp)\w* (?:\w+ ){0,4}?(?:validation|val)\b[\w ]*")
CITATIONS = re.compile(r"\[\d+(?:, ?\d+)*\]|\([^()]*\bet al\b[^()]*\)|\bet al\.?,? ?\(?(?:19|20)\d\d\)?")
N_SEEDS = re.compile(r"\b(\d{1,4}) (?:[a-z]+ ){0,2}?(?:seeds|runs)\b|\bn ?= ?(\d{1,4})\b")
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SEED = re.compile(r"\bseed ?[=:#]? ?(\d{1,18})\b")
EPOCHS = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})*|\d{1,9}) ?(?:epochs?|ep)\b(?! ?[=:])")
METRIC_PHRASES = {
    "lin": "linear", "accuracy": "top1", "acc": "top1",
    "accuracies": "top1", "acc1": "top1", "acc5": "top5", "top1": "top1", "top5": "top5", "map": "map", "f1": "f1",
    "auroc": "auroc", "nmi": "nmi", "ari": "ari",
}  # fmt: skip
METHOD_PHRASES = {
    "barlow": "barlow_twins", "random": "untrained", "randominit": "untrained", "randominitialisation": "untrained",
    "randominitialization": "untrained", "randomencoder": "untrained", "pixels": "raw_pixels", "rawpixel": "raw_pixels",
    "mocov2+": "moco_v2_plus",
}  # fmt: skip
SETTING_PHRASES = {
    "batch": ("batch_size",), "minibatch": ("batch_size",), "bs": ("batch_size",), "epoch": ("epochs",),
    "ep": ("epochs",), "lr": ("learning_rate",), "wd": ("weight_decay",), "momentum": ("target_momentum",),
    "ema": ("target_momentum",), "width": ("projector_width",), "projection width": ("projector_width",),
    "projector dim": ("projector_width", "projector_output_width"), "depth": ("projector_depth",),
    "lambda": ("off_diagonal_weight", "invariance_weight"), "mu": ("variance_weight",), "nu": ("covariance_weight",),
    "tau": ("temperature", "target_momentum"),
}  # fmt: skip
GREEK_LETTERS = dict(zip("αβγδεηλμνρστ", GREEK, strict=True))
DATASETS = ("cifar10", "cifar100", "imagenet", "imagenet100", "imagenette", "stl10", "mnist", "svhn", "tinyimagenet")
# Words that do not affect which number is meant. A number beside any other unknown word is not traced.
NOISE = (
    "a an the of on in at by for and or with to our ours we us this is are as all each per over under vs both "
    "method methods model models result results score scores performance evaluation evaluated eval probe probing "
    "classifier classification readout protocol dataset data set split baseline baselines chosen selected seeds seed "
    "runs run reproduced reproduction rerun re reimplementation implementation reimplemented measured trained training "
    "pretrained pretraining test validation representation representations feature features frozen accuracies image "
    "value values number numbers n fraction percentage percent points pts higher lower is better setting settings axis "
    "config configuration default defaults cell metric rate ssl learning framework objective loss family encoder "
    "backbone contrastive decorrelation redundancy reduction distillation clustering siamese asymmetric predictive "
    "joint embedding other others proposed further reference references main"
)
CITED = re.compile(
    r"\b(?:as )?(?:reported|cited|published|quoted)\b|\b(?:taken|copied|numbers|results) from\b"
    r"|\bfrom (?:the )?(?:original |their )?(?:papers?|literature|publications?)\b|\bliterature\b"
)
CITING_NOTE = r"[^.;†‡§¶]*?(?:\b(?:reported|cited|published|quoted)\b|\b(?:taken|copied|numbers|results) from\b)"
MARKS = "†‡§¶*"
NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.?\d+)?(?:e[-+−]?\d{1,3})?"
