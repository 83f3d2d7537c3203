"""The words that a claim's sentence may use without saying more than its fields do; rule A20 lists all others.

Numbers, names and qualifiers are never neutral. Words of comparison and growth are read together with the methods and
values beside them; see comparison.py.
"""

import re


def _any(phrases: str) -> str:
    """Return a pattern of phrases that are separated by commas; a longer one goes before its own beginning."""
    found = [" ".join(phrase.split()) for phrase in phrases.split(",")]
    return "|".join(sorted(found, key=len, reverse=True))


NEUTRAL = frozenset(
    re.findall(
        r"\S+",
        """
        a an the this that these those it its they their them we us here there where when which who whose of in on at by
        to from for with as than under after into between among within per via upon over and or but while whereas
        although though however also then respectively unlike against versus vs is are was were be been being has have
        had do does did can show shows showed shown demonstrate demonstrates demonstrated find finds found observe
        observes observed conclude work works report reports reported present presents presented see saw seen get gets
        got obtain obtains obtained achieve achieves achieved achieving reach reaches reached attain attains attained
        yield yields yielded produce produces produced provide provides provided give gives gave given perform performs
        performed performing hold holds held lie lies come comes came take takes took use uses used using learn learns
        learned learnt learning run runs ran train trains trained training pretrain pretrained pretraining pre-training
        pre-trained evaluate evaluated evaluation measure measures measured measuring rank ranks ranked compare compared
        comparison comparing tested accuracy accuracies top-1 top1 performance result results value values score scores
        scored difference gap classification classifier probe probing test frozen feature features representation
        representations embedding embeddings image method self-supervised self-supervision ssl joint-embedding
        experiment experiments study setting mean means average averaged averages averaging same equal identical
        replacing
        """,
    )
)
PHRASES = _any(
    "our results, our experiments, our setting, our study, our protocol, our runs, our comparison, our evaluation,"
    "rather than, relative to, in terms of, with respect to, lead to, leads to, led to, one on, one of, one with, one "
    "for, one trained, test set, test images, test data, test split, this dataset, the dataset, both methods, both "
    "are, both were, both use, of both, for both, the two methods, under the protocol, under this protocol, a common "
    "protocol, the same conditions, equal conditions, identical conditions, across seeds"
)
# Neutral too, but not where the claim is about an axis, on which nothing else was varied.
SHARED = frozenset(
    re.findall(
        r"\S+",
        """
        seed seeds epoch size backbone encoder network model approach algorithm objective budget
        schedule recipe augmentation augmentations setup protocol
        """,
    )
)

# What only claims of one kind may say.
_STAYS = "stays, stay, stayed, remains, remain, remained"
_COLLAPSE = r"collaps(?:es?|ed|ing)"
KIND_WORDS: dict[str, str] = {
    "best_of": r"(?:of|among|than|over|all|every|any|each)(?: of)?(?: all| every| any| each)?(?: the)?"
    r"(?: other| compared)? (?:methods?|others?)|of all|others?",
    "insensitive": _any(
        f"{_STAYS}, does not depend, do not depend, did not depend, depends, insensitive, independent, independently,"
        "robust, stable, unaffected, changes, change, changed, changing, varies, vary, varied, differs, differ,"
        "differed"
    ),
    "collapses": rf"{_COLLAPSE}(?: in (?:more than|at least))?",
    "does_not_collapse": rf"(?:(?:do|does|did|has|have|is|are) not|no|without)(?: lead to| show)? {_COLLAPSE}"
    rf"(?: in more than)?|{_COLLAPSE} in (?:less than|fewer than|at most|no more than)",
    "wins": r"(?:at|for|in|on) a new (?:seed|trial|run)|(?:at|for|in|on) (?:most|more than)"
    r"(?: of)?(?: all| the)? seeds|(?:at|for|in|on) more than|more often than not|more likely|new (?:seed|trial|run)s?"
    r"|(?:with |by )?(?:a |the )?(?:probability|chance|odds)(?: of)?(?: (?:more than|at least|above|over))?",
    "not_worse": _any(_STAYS),
    "equals": _any("equals, equal, match, matches, matched, reproduces, reproduced, replicates, replicated, published"),
}

# Words of comparison: A above B, A below B, A level with B; and how words of size read where less is better.
ABOVE = _any(
    "better, stronger, higher, above, ahead, superior, more accurate, outperform, outperforms, outperformed,"
    "outperforming, beat, beats, beating, exceed, exceeds, exceeded, exceeding, surpass, surpasses, surpassed,"
    "surpassing, improve, improves, improved, improving, improvement, improvements, gain, gains, gained, gaining, win,"
    "wins, won, lead, leads, leading, led, tops, advantage, favour, favours, favor, favors"
)
BELOW = _any(
    "is outperformed, are outperformed, was outperformed, were outperformed, is beaten, are beaten, was"
    " beaten, were beaten, is exceeded, was exceeded, is surpassed, was surpassed, worse, weaker, lower, below, behind,"
    "falls behind, fall behind, fell behind, inferior, less accurate, lose, loses, lost, losing, trail, trails,"
    "trailed, lag, lags, lagged, underperform, underperforms, underperformed, falls short, fall short, fell short"
)
NOT_BELOW = _any(
    "as good as, as well as, as accurate as, as high as, at least as good as, at least as accurate as, keeps up"
)
LEVEL = _any("on par, on a par, match, matches, matched, matching, comparable")  # neither below nor above
BEST = _any("best, highest, strongest, top")
CHEAPER = _any("faster, cheaper, lighter, quicker, shorter, smaller, fewer, lower, less, below, under")
DEARER = _any("slower, dearer, heavier, longer, larger, more, higher, above")
NEGATIONS = _any("not, no, never, nor, neither, cannot")  # which reverse a comparison
# Those that say no more than that; "never" and "no seed" speak of all seeds.
PLAIN_NEGATIONS = rf"not|nor|neither|cannot|no(?= (?:{ABOVE}|{BELOW})\b)"

UP = _any(
    "increase, increases, increased, increasing, grow, grows, grew, growing, rise, rises, rose, rising, climbs, gain,"
    "gains, gained, benefit, benefits, improve, improves, improved, improving, higher, better, larger, longer, more"
)
DOWN = _any(
    "decrease, decreases, decreased, decreasing, fall, falls, fell, falling, drop, drops, dropped, decline, declines,"
    "declined, lose, loses, lost, losing, shorten, shortens, shrinks, lower, worse, smaller, fewer, shorter, less,"
    "degrades, degraded, hurts, hurt, harms, reduce, reduces, reduced"
)

# Words for what is measured, by the first part of the metric's name.
_NEEDS = "needs?|needed|requires?|required"
_TIME = rf"(?:training |wall[ -]clock )?time|seconds?|minutes?|{_NEEDS}"
METRIC_WORDS = {
    "knn": "k ?-?nn(?: classifiers)?|(?:k-)?nearest[ -]neighbou?rs?",
    "linear": "linear(?:ly)?(?: probes| classifiers)?",
    "ridge": "ridge(?: regression)?",
    "train": _TIME,
    "minutes": _TIME,
    "peak": rf"(?:peak )?(?:gpu )?memory|{_NEEDS}",
}

# Neutral words that together say more.
QUALIFIERS = (
    r"training (?:accuracy|accuracies|results?|performance|scores?|values?)"
    r"|(?:replacing|changing) (?:the )?(?:backbone|encoder|network|model|schedule|recipe|augmentations?|protocol)"
)
