"""Rule A20: a sentence that says what the claim's fields say passes, and whatever else it says is listed."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claim_study import CLAIMS, LEVELS, Study, honest_study

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.evidence import Folder
from twinbench.reports.rules.case import Case
from twinbench.reports.rules.registry import RULES, Finding
from twinbench.reports.tables.cells import Value
from twinbench.reports.verdicts.check import check_claims, in_families, locked_hashes

AXIS: dict[str, Any] = {"axis": "batch_size", "values": (64, 256), "b": {}, "at_least": 0.0}
FIELDS: dict[str, dict[str, Any]] = {
    "one point": {},
    "one point in kNN": {"metric": "knn_top1"},
    "better": {"at_least": 0.0},
    "better in kNN": {"at_least": 0.0, "metric": "knn_top1"},
    "by three points": {"at_least": 0.0, "by": 0.03},
    "not worse": {"kind": "not_worse", "within": 0.02, "at_least": 0.0},
    "best": {"kind": "best_of", "among": ({"method": "byol"},), "b": {}, "at_least": 0.0},
    "insensitive": AXIS | {"kind": "insensitive", "within": 0.02},
    "increasing": AXIS | {"kind": "monotone"},
    "decreasing": AXIS | {"kind": "monotone", "direction": "decreasing"},
    "collapses": {"kind": "collapses", "b": {}, "at_least": 0.0},
    "does not collapse": {"kind": "does_not_collapse", "b": {}, "at_least": 0.0},
    "by two within one": {"at_least": 0.0, "by": 0.02, "tolerance": 0.01},
    "rare collapse": {"kind": "does_not_collapse", "share": 0.2, "b": {}, "at_least": 0.0},
    "wins": {"kind": "wins", "chance": 0.75, "at_least": 0.0},
    "faster": {"metric": "train_seconds", "at_least": 0.0},
}
HONEST: dict[str, list[str]] = {
    "one point": [
        "SimCLR leads BYOL on CIFAR-10 by one point or more.",
        "Pretraining with SimCLR rather than BYOL on CIFAR-10 improves linear accuracy by at least one point.",
        "On CIFAR-10, SimCLR outperforms BYOL by at least one point in linear evaluation accuracy.",
        "With a small ResNet trained for 20 epochs on CIFAR-10, SimCLR exceeds BYOL by more than 1 percentage point.",
        "Compared to BYOL, SimCLR improves linear-probe accuracy on CIFAR-10 by at least 1 pp.",
        "BYOL is at least one point worse than SimCLR on CIFAR-10.",
        "BYOL trails SimCLR on CIFAR-10 by at least a point.",
        "SimCLR yields a linear top-1 accuracy one point above that of BYOL on CIFAR-10 (95 % confidence).",
        "There is a difference of at least one point between SimCLR and BYOL on CIFAR-10, in which SimCLR is ahead.",
        "On CIFAR-10, SimCLR has an advantage of at least one point over BYOL.",
        "On CIFAR-10, after 20 epochs, SimCLR is ahead of BYOL by at least 1 percent in linear accuracy.",
        "We find that SimCLR improves over BYOL by at least one percentage point in linear top-1 accuracy on CIFAR-10.",
        "On CIFAR-10, replacing BYOL by SimCLR improves linear accuracy by at least one point.",
        "The gap between SimCLR and BYOL on CIFAR-10 is at least one point in favour of SimCLR.",
        "SimCLR achieves at least 1% higher linear accuracy than BYOL on CIFAR-10 (20 epochs, small ResNet, 6 seeds).",
        "Across six seeds, SimCLR outperforms BYOL on CIFAR-10 by no less than one point.",
        "With 95 % confidence, SimCLR is at least one point better than BYOL on CIFAR-10.",
        "SimCLR outperforms BYOL by a margin of at least one point on the CIFAR-10 benchmark.",
    ],
    "better": [
        "SimCLR (temperature 0.5) is better than BYOL (target momentum 0.99) on CIFAR-10.",
        "On 8,000 CIFAR-10 images, after 20 epochs at batch size 64, SimCLR is ahead of BYOL.",
        "On CIFAR-10, linear probes on SimCLR features are more accurate than those on BYOL features.",
        "SimCLR outperformed BYOL on CIFAR-10 in our experiments.",
        "We find that SimCLR achieves a higher accuracy than BYOL on CIFAR-10 (small ResNet, 20 epochs, six seeds).",
        "SimCLR surpasses BYOL on CIFAR-10 under the cifar10-small protocol.",
        "On CIFAR-10, BYOL falls behind SimCLR in linear accuracy.",
        "BYOL is outperformed by SimCLR on CIFAR-10.",
        "On CIFAR-10, SimCLR's mean linear accuracy, averaged over six seeds, is higher than that of BYOL.",
        "Trained for twenty epochs on 8,000 images of CIFAR-10, SimCLR beats BYOL.",
        "Under the same protocol (cifar10-small), SimCLR obtains better linear accuracy than BYOL.",
        "In our setting, the representation learned by SimCLR on CIFAR-10 is better than that of BYOL.",
        "With AdamW and a learning rate of 0.002, SimCLR beats BYOL on CIFAR-10.",
        "SimCLR, unlike BYOL, is ahead on CIFAR-10.",
        "On CIFAR-10, BYOL is not better than SimCLR.",
        "Self-supervised pre-training with SimCLR on CIFAR-10 leads to better linear accuracy than BYOL.",
        "On average over 6 seeds, SimCLR outperforms BYOL on the CIFAR-10 test set.",
        "We compare SimCLR and BYOL on CIFAR-10 and observe that SimCLR performs better.",
        "For 20 epochs of training on CIFAR-10, SimCLR gives features with better linear accuracy than BYOL does.",
        "In linear evaluation on CIFAR-10 SimCLR wins against BYOL.",
        "Our results on CIFAR-10 show SimCLR to be superior to BYOL in terms of linear accuracy.",
        "At batch size 64, SimCLR is better than BYOL on CIFAR-10.",
        "The linear accuracy of BYOL on CIFAR-10 is lower than that of SimCLR.",
        "We present a comparison of SimCLR and BYOL on CIFAR-10: SimCLR achieves higher linear accuracy.",
        "In this study, we compare two self-supervised methods, SimCLR and BYOL, on CIFAR-10: SimCLR is better.",
        "Under a common protocol, SimCLR learns better representations of CIFAR-10 than BYOL in a linear probe.",
        "When pre-trained on CIFAR-10 for 20 epochs, SimCLR outperforms BYOL under linear evaluation.",
        "Under identical conditions, SimCLR obtains a higher top-1 accuracy than BYOL on CIFAR-10.",
        "On CIFAR-10, a linear probe on frozen SimCLR features is more accurate than one trained on BYOL features.",
        "On CIFAR-10, the mean linear accuracy of SimCLR over six seeds lies above that of BYOL.",
        "Evaluated with linear probes on the CIFAR-10 test set, SimCLR scores higher than BYOL.",
        "SimCLR performs better than BYOL on CIFAR-10 when both are trained for 20 epochs with the same budget.",
        "SimCLR produces better features than BYOL on CIFAR-10.",
        "Here we report that SimCLR outperforms BYOL on CIFAR-10.",
        "Given the same augmentations and the same backbone, SimCLR outperforms BYOL on CIFAR-10.",
        "We observe higher linear accuracy for SimCLR than for BYOL on CIFAR-10.",
        "With six random seeds per method, SimCLR's average linear accuracy on CIFAR-10 is higher than BYOL's.",
        "Our comparison on CIFAR-10 favours SimCLR over BYOL in linear accuracy.",
        "After 20 epochs on CIFAR-10, SimCLR representations are linearly better than BYOL representations.",
        "The SimCLR encoder yields better linear accuracy on CIFAR-10 than the BYOL encoder.",
        "In terms of linear accuracy on CIFAR-10, SimCLR ranks above BYOL.",
        "On CIFAR-10, SimCLR provides better representations than BYOL under linear evaluation.",
        "We demonstrate that SimCLR outperforms BYOL on CIFAR-10 in linear evaluation.",
        "The linear accuracies of SimCLR on CIFAR-10 exceed those of BYOL.",
        "Our evaluation on CIFAR-10 shows an advantage of SimCLR over BYOL.",
        "For self-supervised learning on CIFAR-10, SimCLR is a better objective than BYOL.",
        "Averaged across six seeds, SimCLR improves on BYOL on CIFAR-10.",
        "SimCLR is more accurate than BYOL on CIFAR-10, and BYOL is less accurate than SimCLR.",
        "Of SimCLR and BYOL, SimCLR is better on CIFAR-10.",
    ],
    "by three points": [
        "On CIFAR-10, SimCLR gains about three points over BYOL.",
        "SimCLR is 3 points better than BYOL on CIFAR-10 at a batch size of 64.",
    ],
    "better in kNN": [
        "On CIFAR-10, SimCLR reaches a higher kNN accuracy than BYOL.",
    ],
    "one point in kNN": [
        "k-NN classification on CIFAR-10: SimCLR is better than BYOL by at least one point.",
    ],
    "not worse": [
        "On CIFAR-10, SimCLR is no worse than BYOL by more than two points.",
        "On CIFAR-10, SimCLR is no more than two points below BYOL.",
        "SimCLR is at most 2 points worse than BYOL on CIFAR-10.",
        "SimCLR is within two points of BYOL on CIFAR-10.",
        "SimCLR is on par with BYOL on CIFAR-10, to within two points.",
        "On CIFAR-10 SimCLR loses at most two points to BYOL.",
        "SimCLR is not worse than BYOL on CIFAR-10.",
        "On CIFAR-10 SimCLR matches BYOL.",
        "SimCLR performs as well as BYOL on CIFAR-10.",
        "On CIFAR-10, SimCLR stays within two points of BYOL.",
        "We show that SimCLR performs on par with BYOL on CIFAR-10 (within two points).",
        "On CIFAR-10 SimCLR is comparable to BYOL in linear accuracy.",
        "The accuracy of SimCLR on CIFAR-10 is at most two points lower than that of BYOL.",
    ],
    "insensitive": [
        "SimCLR is robust to the batch size on CIFAR-10: from 64 to 256 its accuracy changes by less than two points.",
        "On CIFAR-10, SimCLR is insensitive to the batch size.",
        "On CIFAR-10, the accuracy of SimCLR does not depend on the batch size (64 or 256) to within two points.",
        "On CIFAR-10 SimCLR varies by at most 2 points over batch sizes from 64 to 256.",
        "On CIFAR-10 SimCLR is stable across batch sizes of 64 and 256, changing by less than two points.",
        "We vary the batch size from 64 to 256: SimCLR's accuracy on CIFAR-10 changes by less than two points.",
    ],
    "increasing": [
        "The accuracy of SimCLR rises with the batch size on CIFAR-10.",
        "On CIFAR-10 the accuracy of SimCLR increases from batch size 64 to 256.",
        "On CIFAR-10 SimCLR benefits from larger batches.",
        "On CIFAR-10 larger batches improve the linear accuracy of SimCLR.",
    ],
    "decreasing": [
        "On CIFAR-10, a larger batch size hurts SimCLR.",
        "On CIFAR-10 SimCLR loses accuracy as the batch size grows from 64 to 256.",
    ],
    "best": [
        "SimCLR outperforms BYOL on CIFAR-10.",
        "Of the two methods, SimCLR and BYOL, SimCLR is the best on CIFAR-10.",
        "Among the compared methods, SimCLR attains the highest linear accuracy on CIFAR-10.",
    ],
    "does not collapse": [
        "No collapse of SimCLR is observed on CIFAR-10.",
        "SimCLR does not collapse on CIFAR-10.",
        "On CIFAR-10, training SimCLR for 20 epochs does not lead to collapse.",
        "We observe no collapse when training SimCLR on CIFAR-10.",
    ],
    "collapses": [
        "SimCLR collapses on CIFAR-10.",
    ],
    "faster": [
        "On CIFAR-10 training SimCLR takes less time than training BYOL.",
        "On CIFAR-10 SimCLR trains faster than BYOL.",
        "On CIFAR-10, SimCLR needs less training time than BYOL.",
        "On CIFAR-10, BYOL is slower than SimCLR.",
        "SimCLR needs less wall-clock time than BYOL to train for 20 epochs on CIFAR-10.",
    ],
    "by two within one": [
        "On CIFAR-10 SimCLR is better than BYOL by about two points, to within one point.",
        "On CIFAR-10 SimCLR gains 2 points ± 1 point over BYOL.",
    ],
    "rare collapse": [
        "On CIFAR-10 SimCLR collapses in less than 20 % of all seeds.",
        "On CIFAR-10 SimCLR does not collapse in more than one in five seeds.",
    ],
    "wins": [
        "On CIFAR-10, at a new seed SimCLR is better than BYOL with a probability above 0.75.",
        "On CIFAR-10, SimCLR beats BYOL in linear accuracy at more than 75 % of all seeds.",
        "On CIFAR-10, SimCLR outperforms BYOL in more than three out of four seeds.",
    ],
}
PLAIN = "On CIFAR-10, under cifar10-small, SimCLR is at least one point better than BYOL in linear accuracy"
ADDITIONS = [
    " for images in general.",
    " and on CIFAR-10 and CIFAR-100.",
    " with one epoch.",
    " in a fraction of the time.",
    " and better in kNN accuracy.",
    " with the small ResNet and larger ones.",
    " by up to ten points.",
    " at 99 % confidence.",
    " (d = 4).",
    " with batch size 64 and 4096.",
    " (accuracy 95 %).",
    " after training on ImageNet-1k.",
    " as in the paper.",
    " regardless of seed.",
    " for all seeds.",
    " in fp16.",
    " in a single run.",
    " in every setting.",
    ", the best result so far.",
    " and the approach is optimal.",
    " and segmentation.",
    " → SOTA.",
    " with Vision Transformers.",
    ", as on STL10.",
    ", and BYOL collapses.",
    " & Places.",
    " & more.",
    " and Places365.",
    " and on ImageNet.",
    " by a dozen points.",
    ", twice as accurate.",
    " after a hundred epochs.",
    " with a ViT-B/16.",
    ", and sets a new record.",
    " (50 seeds, p < 0.001).",
    ", and beyond.",
    ", and DINO.",
    " on CIFAR-10-C.",
    " and on CIFAR-10.1.",
    " with 10% of the labels.",
    " on all tasks.",
    " and in every run.",
    " with large margins.",
    " (p=0.01).",
    " on a GPU cluster.",
    " and more.",
    " for real-world data.",
    " at any batch size.",
    " at batch size 256.",
    " with a learning rate of 0.1.",
    " for 100 epochs.",
    " in five runs.",
    ", significantly.",
    ", by far.",
    " and detection.",
    " with ResNets of all depths.",
    " in top-5 accuracy.",
    " and in robustness.",
    ", confirming theory.",
    " on validation.",
    " and others.",
    " ± 0.1.",
    " with half the data.",
    " in a third of the time.",
    ", 2x faster.",
    " and STL-10.",
    " and MNIST and SVHN.",
    " with SimCLRv2.",
    " and BYOL+.",
    " in 10,000 runs.",
    " with temperature 0.1.",
    " and COCO",
    " in both linear and kNN accuracy.",
    ", which BYOL never reaches.",
    " and always will be.",
    " in double precision.",
    " with fewer parameters.",
    " and less memory.",
    ", faster.",
    " and cheaper.",
    " over ten datasets.",
    " out of the box.",
    ", no matter what.",
    " and works better.",
    " and trains better.",
    ", and learns better representations.",
    " and reaches higher values.",
    ", and it performs best.",
    " because it needs no target network.",
    ", since its loss uses the whole batch.",
    " due to its objective.",
    ", which shows that contrastive learning is better.",
    ", thanks to negatives.",
    " in most cases.",
    ", typically.",
    ", as it does on other data.",
    " for any encoder.",
    ", whatever the seed.",
    " at a lower cost.",
    ", with less training.",
    " and in less time.",
    ", ×2.",
    ", by a factor of 1.5.",
    ", three times out of four.",
    " and by 3/2 points in kNN.",
    " (rank 1 of 12).",
    ", setting the state of the art.",
    ", the highest accuracy.",
    ", a remarkable result.",
    ", and BYOL does not learn.",
    " and never collapses.",
    ", et sur ImageNet aussi.",
    ", auch auf anderen Daten.",
    ", y siempre.",
    ", and the difference grows with training.",
    ", and so does the mean over experiments.",
    " and BYOL needs training.",
    ", and the two are not equal on test images of their own.",
    ", in both training and evaluation.",
    " — without augmentation.",
    " and on average better in all experiments.",
    " from scratch.",
    " and then some.",
    " across epochs.",
    " across batch sizes.",
    " across networks.",
    " across augmentations.",
    " across experiments.",
    " across protocols.",
    " over learning rates.",
    " and across representations.",
    " on all methods.",
    " for each seed.",
    " under common conditions of use.",
    " and under other conditions.",
    " and its gap to supervised training is small.",
    ", which replaces BYOL.",
    " and scores 90.",
    " and ranks first.",
    " and lies above DINO.",
    " at common budgets.",
    " and stays better.",
    " and remains ahead.",
    ", a difference that training on more images reduces.",
    " over weeks.",
    " and produces better embeddings.",
    " on CIFAR-10 images of others.",
    ", and the objective is the reason.",
    ", and BYOL is worse.",
    ", so it is preferable.",
]
OTHERWISE: dict[str, list[str]] = {
    "better": [
        "On CIFAR-10 the advantage of BYOL over SimCLR is large.",
        "On CIFAR-10 SimCLR loses to BYOL.",
        "On CIFAR-10 SimCLR wins.",
        "On CIFAR-10 SimCLR is better than BYOL and DINO.",
        "On CIFAR-10 SimCLR sets a new record over BYOL.",
        "On CIFAR-10 BYOL has a higher accuracy than SimCLR.",
        "On CIFAR-10 SimCLR is not better than BYOL.",
        "On CIFAR-10 SimCLR is worse than BYOL.",
        "On CIFAR-10 SimCLR is outperformed by BYOL.",
        "On CIFAR-10 BYOL is better.",
        "On CIFAR-10, better than SimCLR is BYOL.",
        "On CIFAR-10, SimCLR, which BYOL beats, is a method.",
        "Compared with SimCLR, BYOL is better on CIFAR-10.",
        "On CIFAR-10 SimCLR is one point better than BYOL.",
        "On CIFAR-10, in kNN accuracy, SimCLR is better than BYOL.",
        "On CIFAR-10 SimCLR is the best method, above BYOL.",
        "On CIFAR-10 SimCLR is better than BYOL and everything.",
        "On CIFAR-10 SimCLR is better than BYOL, and BYOL is better than SimCLR.",
        "On CIFAR-10 it is false that SimCLR is better than BYOL.",
        "On CIFAR-10 with two ResNets SimCLR is better than BYOL.",
        "On CIFAR-10 SimCLR and BYOL beat supervised learning, SimCLR is better.",
        "On CIFAR-10 SimCLR is better than BYOL, and better with respect to the image.",
        "On CIFAR-10 SimCLR beats BYOL and wins.",
        "On CIFAR-10 SimCLR works better than BYOL and compares better with the other methods.",
        "On CIFAR-10 our method SimCLR is always ahead of BYOL.",
        "On CIFAR-10 SimCLR beats BYOL in the first epochs.",
        "On CIFAR-10 SimCLR learns faster and reaches a better accuracy than BYOL.",
        "On CIFAR-10 BYOL needs training that SimCLR does not need, and SimCLR is better.",
        "Replacing SimCLR by BYOL on CIFAR-10 improves linear accuracy.",
        "On CIFAR-10 the comparison favours BYOL over SimCLR.",
        "The difference between SimCLR and BYOL on CIFAR-10 is in favour of BYOL.",
        "On CIFAR-10 SimCLR ranks below BYOL.",
        "On CIFAR-10 SimCLR and BYOL both improve.",
        "On CIFAR-10 SimCLR needs fewer epochs than BYOL.",
        "On CIFAR-10 SimCLR does not favour BYOL.",
        "On CIFAR-10 SimCLR trains better, and is better than BYOL.",
        "On CIFAR-10 SimCLR wins three out of four seeds against BYOL.",
        "Our experiments on CIFAR-10 show that SimCLR consistently trained for 20 epochs outperforms BYOL.",
    ],
    "one point": [
        "BYOL is at least one point better than SimCLR on CIFAR-10.",
        "BYOL improves on SimCLR by one point on CIFAR-10.",
        "On CIFAR-10 SimCLR is less than one point better than BYOL.",
    ],
    "not worse": [
        "BYOL is no more than two points below SimCLR on CIFAR-10.",
        "SimCLR is better than BYOL on CIFAR-10.",
        "BYOL matches SimCLR on CIFAR-10.",
        "SimCLR is two points below BYOL on CIFAR-10.",
        "SimCLR does not match BYOL on CIFAR-10.",
        "SimCLR is at most five points below BYOL on CIFAR-10.",
        "On CIFAR-10 SimCLR stays ahead of BYOL.",
    ],
    "insensitive": [
        "On CIFAR-10 SimCLR is sensitive to the batch size.",
        "On CIFAR-10 SimCLR is not robust to the batch size.",
        "On CIFAR-10 SimCLR is robust to the batch size from 16 to 1024.",
        "On CIFAR-10 SimCLR is insensitive to all hyperparameters.",
        "On CIFAR-10 SimCLR improves with the batch size.",
        "On CIFAR-10 SimCLR remains stable across batch sizes from 16 to 4096.",
        "On CIFAR-10 SimCLR remains stable across learning rates.",
    ],
    "increasing": [
        "On CIFAR-10 SimCLR decreases with the batch size.",
        "On CIFAR-10 SimCLR increases from batch size 256 to 64.",
        "On CIFAR-10 SimCLR grows with smaller batches.",
        "On CIFAR-10 SimCLR grows with the learning rate and the batch size.",
    ],
    "best": [
        "SimCLR is the best of all twelve methods on CIFAR-10.",
        "BYOL is the best method on CIFAR-10.",
        "SimCLR is state of the art on CIFAR-10.",
    ],
    "does not collapse": [
        "SimCLR collapses on CIFAR-10.",
    ],
    "collapses": [
        "SimCLR does not collapse on CIFAR-10.",
    ],
    "faster": [
        "On CIFAR-10 BYOL is faster than SimCLR.",
        "On CIFAR-10 SimCLR is slower than BYOL.",
        "On CIFAR-10 SimCLR needs more time than BYOL.",
        "On CIFAR-10 SimCLR is twice as fast as BYOL.",
    ],
    "by three points": [
        "On CIFAR-10 SimCLR is at least three points better than BYOL.",
    ],
    "by two within one": [
        "On CIFAR-10 SimCLR is better than BYOL by two points, to within half a point.",
        "On CIFAR-10 SimCLR is better than BYOL by about one point.",
    ],
    "rare collapse": [
        "On CIFAR-10 SimCLR collapses in less than 10 % of all seeds.",
        "On CIFAR-10 SimCLR collapses in 20 % of all seeds.",
    ],
    "wins": [
        "On CIFAR-10, at a new seed BYOL is better than SimCLR with a probability above 0.75.",
        "On CIFAR-10, SimCLR beats BYOL in linear accuracy at more than 95 % of all seeds.",
        "On CIFAR-10, at a new seed SimCLR is better than BYOL by three points.",
        "On CIFAR-10, SimCLR outperforms BYOL in more than four out of five seeds.",
        "On CIFAR-10, SimCLR outperforms BYOL in more than two of four datasets.",
        *(
            f"On CIFAR-10, SimCLR beats BYOL at {each} new seed with a probability above 0.75."
            for each in ("each", "every", "any")
        ),
        "On CIFAR-10, BYOL never beats SimCLR at a new seed, with a probability above 0.75.",
    ],
}
OTHERWISE["better"] += [
    "On CIFAR-10, BYOL never beats SimCLR.",
    "On CIFAR-10, no seed of BYOL beats SimCLR.",
    "On CIFAR-10, no method is better than SimCLR, unlike BYOL.",
    "Trained on 10,000 training images of CIFAR-10, SimCLR is better than BYOL.",
    "Trained on 10,000 images, SimCLR is better than BYOL on CIFAR-10.",
    "Trained on 10,000 CIFAR-10 images, SimCLR is better than BYOL.",
    "SimCLR is better than BYOL on 8,000 test images of CIFAR-10.",
    "On CIFAR-10, SimCLR is better than BYOL at the best learning rate and temperature of each.",
    "On CIFAR-10, SimCLR is better than BYOL in training accuracy.",
    "On CIFAR-10, SimCLR is better than BYOL after replacing the backbone.",
    "On CIFAR-10, SimCLR with target momentum 0.99 is better than BYOL.",
]
OTHERWISE["best"] += [
    "On CIFAR-10, SimCLR has the highest linear accuracy of all methods.",
    "SimCLR outperforms all other methods on CIFAR-10.",
    "On CIFAR-10, SimCLR is the strongest self-supervised method of all.",
    "On CIFAR-10, SimCLR is the best method.",
    "On CIFAR-10, no method is better than SimCLR.",
]
HONEST["better"] += [
    "Trained on 8,000 images and tested on 10,000 images of CIFAR-10, SimCLR is better than BYOL.",
    "SimCLR is better than BYOL on the 10,000 test images of CIFAR-10.",
]
HONEST["wins"] += [
    "On CIFAR-10, SimCLR beats BYOL at a new seed with a probability above three quarters.",
]
HONEST["best"] += [
    "SimCLR is the best of the two methods on CIFAR-10.",
]
HONEST["wins by half"] = [
    "On CIFAR-10, SimCLR beats BYOL at a new seed with a probability above one half.",
    "On CIFAR-10, SimCLR beats BYOL for more than half of all seeds.",
]
FIELDS["wins by half"] = {"kind": "wins", "at_least": 0.0}


NOT_WORSE = CLAIMS.replace('"better"', '"not_worse"').replace("at_least = 0.01", "within = 0.02")
NOT_WORSE = NOT_WORSE.replace("is at least one point better than", "is, within two points, on par with")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return honest_study(tmp_path_factory.mktemp("honest") / "run")


@pytest.fixture(scope="module")
def case(study: Study) -> Case:
    (claim,) = read_claims(study.claims_file)
    return in_families([Folder(study.folder).evidence(claim, None, locked_hashes())])[0]


def scope_words(case: Case, sentence: str, fields: str = "one point") -> Finding:
    claim = replace(case.evidence.claim, sentence=sentence, **FIELDS[fields])
    return RULES[19].find(replace(case, evidence=replace(case.evidence, claim=claim), contrasts=()))


def in_turn(sentences: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [*itertools.chain(*([(fields, one) for one in listed] for fields, listed in sentences.items()))]


@pytest.mark.parametrize(("fields", "sentence"), in_turn(HONEST))
def test_a_plain_sentence_says_no_more_than_its_fields(case: Case, fields: str, sentence: str) -> None:
    finding = scope_words(case, sentence, fields)
    assert finding.outcome == "passed" or finding.weight == "told", finding.text


@pytest.mark.parametrize("addition", ADDITIONS)
def test_whatever_is_added_to_a_plain_sentence_is_found(case: Case, addition: str) -> None:
    assert scope_words(case, f"{PLAIN}.").outcome == "passed"
    finding = scope_words(case, PLAIN + addition)
    assert (finding.outcome, finding.weight in ("narrows", "stops")) == ("failed", True), finding.text


@pytest.mark.parametrize(("fields", "sentence"), in_turn(OTHERWISE))
def test_a_sentence_that_says_something_else_is_found(case: Case, fields: str, sentence: str) -> None:
    finding = scope_words(case, sentence, fields)
    assert (finding.outcome, finding.weight in ("narrows", "stops")) == ("failed", True), finding.text


@pytest.mark.parametrize(
    ("sentence", "outcome"),
    [
        ("On CIFAR-10, SimCLR with batch size 256 is better than SimCLR with batch size 64.", "told"),
        ("On CIFAR-10, SimCLR is better at batch size 256 than at 64.", "told"),
        ("On CIFAR-10, SimCLR is better at batch size 64 than at 256.", "stops"),
        ("On CIFAR-10, SimCLR at 64 is better than SimCLR at 256.", "stops"),
    ],
)
def test_the_sides_of_one_method_are_told_apart_by_their_settings(case: Case, sentence: str, outcome: str) -> None:
    changes = {"a": {"method": "simclr", "batch_size": 256}, "b": {"method": "simclr", "batch_size": 64}}
    claim = replace(case.evidence.claim, sentence=sentence, at_least=0.0, **changes)
    side = case.evidence.sides[0]
    sides = tuple(replace(side, selector=selector) for selector in changes.values())
    evidence = replace(case.evidence, claim=claim, sides=sides, pairs=())
    assert RULES[19].find(replace(case, evidence=evidence)).weight == outcome


@pytest.mark.parametrize(("levels", "outcome"), [({"simclr": 0.60, "byol": 0.60}, "passed"), (LEVELS, "failed")])
def test_on_par_says_that_neither_is_better_and_needs_an_interval_that_shows_it(
    levels: dict[str, float], outcome: str, tmp_path: Path
) -> None:
    study = honest_study(tmp_path / "run", NOT_WORSE, levels)
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    assert verdict.findings[19].outcome == outcome and verdict.judged.count(
        "is no more than 2 points below that of byol"
    )


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("SimCLR after 2 epochs is better than BYOL after 20 epochs.", "simclr has no epochs 2"),
        ("SimCLR after 2 epochs is better than BYOL.", "the sentence exchanges settings of the sides: simclr has no"),
        ("BYOL after 2 epochs is worse than SimCLR after 20 epochs.", ""),
        ("SimCLR (20 epochs) is better than BYOL (2 epochs).", ""),
    ],
)
def test_a_setting_that_stands_beside_the_other_method_is_exchanged(case: Case, sentence: str, text: str) -> None:
    sides = tuple(
        replace(side, cell=replace(side.cell, values={"epochs": Value(epochs, float(epochs))}))
        for side, epochs in zip(case.evidence.sides, ("20", "2"), strict=True)
        if side.cell
    )
    claim = replace(case.evidence.claim, at_least=0.0, sentence=f"On CIFAR-10, {sentence}")
    finding = RULES[19].find(replace(case, evidence=replace(case.evidence, claim=claim, sides=sides)))
    assert text in finding.text and (finding.weight == "stops") == bool(text)


@pytest.mark.parametrize(
    ("addition", "listed"),
    [
        (" and on Places365 with a ViT-B/16.", "Places365, ViT-B/16"),
        (" and ImageNet-22k.", "ImageNet-22k"),
        (" (50 seeds, p < 0.001).", "50 seeds, p < 0.001"),
        (" by a dozen points, twice as good.", "dozen points, twice, good"),
        (" on CIFAR-10-C.", "CIFAR-10-C"),
    ],
)
def test_what_is_not_accounted_for_is_listed_as_it_is_written(case: Case, addition: str, listed: str) -> None:
    assert scope_words(case, PLAIN + addition).text == f"says more than was judged: {listed}"


def test_a_sentence_that_contradicts_the_comparison_is_listed_too(case: Case) -> None:
    finding = scope_words(case, f"{PLAIN} and on ImageNet with a ViT-B/16.")
    assert finding.weight == "stops" and "it names imagenet" in finding.text
    assert finding.text.endswith("says more than was judged: ImageNet, ViT-B/16")


def test_a_comparison_that_holds_is_narrowed_where_its_sentence_says_more(tmp_path: Path) -> None:
    study = honest_study(tmp_path / "run", CLAIMS.replace("in linear accuracy", "in linear accuracy and on Places365"))
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    assert verdict.label == "NARROWED (A20)" and "the sentence says more" in verdict.reason
