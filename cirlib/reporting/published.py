"""The numbers of the paper, beside which tables show those of this repository."""

# The paper's top-1 and top-5 in percent (tables 1 and 2), by row. Rows that change something else than the loss have the number of their
# loss; for mixtures the paper has the triplet at batch 24 and InfoNCE at batch 48 only. A row without an entry is not in the paper.
TRIPLET, FULL_TRIPLET, INFONCE, SINGLE_INFONCE = (64.8, 85.0), (84.2, 96.4), (75.0, 94.2), (80.4, 93.1)
PUBLISHED = {
    "mixture": {
        "demucs": (14.5, 25.8),
        "multi-encoder": (17.3, 62.6),
        **dict.fromkeys(("triplet", "triplet-24"), TRIPLET),
        "triplet-full-24": (81.7, 95.7),
        **dict.fromkeys(("triplet-full", "triplet-full-48", "triplet-full-tuned", "published"), FULL_TRIPLET),
        **dict.fromkeys(("infonce", "infonce-48"), INFONCE),
    },
    "single": {
        "timbre-toolbox": (29.7, 40.1),
        "single-tags": (62.9, 75.2),
        "single-instrument": (83.2, 95.0),
        "single-triplet": (79.0, 91.2),
        **dict.fromkeys(("single-infonce", "single-infonce-no-twins", "single-sweep"), SINGLE_INFONCE),
    },
}
SOURCE_FAMILIES = {"surge": ("Chromatic Percussion", "Bass", "Synth Lead"), "nsynth": ("Chromatic Percussion", "Bass")}
# mixtures by source and family (companion page of the paper), in the order of SOURCE_FAMILIES
TRIPLET_BY_SOURCE = ((92.1, 99.8), (83.3, 94.6), (85.8, 94.7), (47.4, 99.7), (71.8, 94.7))
INFONCE_BY_SOURCE = ((78.4, 98.7), (82.1, 94.4), (69.1, 91.6), (33.3, 78.4), (71.8, 93.5))
PUBLISHED_BY_SOURCE = {
    "triplet-full-24": ((91.7, 99.5), (79.3, 93.1), (82.5, 94.2), (80.2, 100.0), (57.6, 94.8)),
    **dict.fromkeys((name for name, numbers in PUBLISHED["mixture"].items() if numbers is FULL_TRIPLET), TRIPLET_BY_SOURCE),
    "infonce-24": ((74.4, 98.4), (67.9, 89.7), (63.4, 88.9), (44.3, 95.4), (42.1, 87.2)),
    **dict.fromkeys((name for name, numbers in PUBLISHED["mixture"].items() if numbers is INFONCE), INFONCE_BY_SOURCE),
}
PAPER = "pretrained AST, 86 M parameters, 768 numbers, 20,000 steps of 24 or 48 clips of 10 s, NSynth and Surge, one seed"
