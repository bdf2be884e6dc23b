"""tollama's sentences become codes; the texts are those of its source."""

import pytest

from runner.tollama.notices import MAX_CHARACTERS, MAX_WARNINGS, Notice, Notices

UNSUPPORTED = (
    "ignoring unsupported covariate: model 'mock' (family=mock) does not support past-only numeric "
    "covariates; series='s0' covariate='p'"
)
STATIC = (
    "ignoring unsupported covariate: model 'mock' (family=mock) does not support static "
    "covariates; series='s0' covariates='st', \"it's\""
)


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        (UNSUPPORTED, Notice.COVARIATES_IGNORED),
        (STATIC, Notice.COVARIATES_IGNORED),
        ("Sundial runner ignores covariates and static features; ...", Notice.COVARIATES_IGNORED),
        ("Toto runner ignores future covariates: x", Notice.COVARIATES_IGNORED),
        ("Ignoring categorical covariate 'x'", Notice.COVARIATES_IGNORED),
        (
            "TimesFM best_effort covariates fallback: dropped dynamic covariates after ValueError",
            Notice.COVARIATES_IGNORED,
        ),
        ("TimesFM missing past covariate 'v' for series 's0'; filled", Notice.COVARIATES_FILLED),
        ("series 's0': truncated to last 512 points", Notice.SERIES_CHANGED),
        (
            "Granite TTM padded series 's0' from 60 to context_length 512 by repeating",
            Notice.SERIES_CHANGED,
        ),
        ("TimesFM produced non-finite forecast values; replaced", Notice.VALUES_REPLACED),
        ("TiDE runtime did not expose quantile outputs for 0.1", Notice.LEVELS_APPROXIMATED),
        ("model x supports one input series; using series 's0'", Notice.OTHER),
        ("", Notice.OTHER),
    ],
)
def test_each_sentence_has_a_code(text: str, notice: Notice) -> None:
    assert Notices([text]).of("s0") == (notice.value,)


def test_sentence_about_one_series_is_of_that_one_alone() -> None:
    marked = UNSUPPORTED.replace("s0", "a1b2c3-7")
    notices = Notices([marked, "Toto runner ignores static covariates", STATIC])

    assert notices.of("a1b2c3-7") == ("runtime_ignored_covariates",)
    assert notices.ignored("a1b2c3-7") == ("p",)
    assert notices.ignored("s0") == ("it's", "st")
    assert notices.of("another") == ("runtime_ignored_covariates",)
    assert notices.ignored("another") == ()


@pytest.mark.parametrize("warnings", [None, [], "text", {"a": 1}, 5])
def test_no_list_of_sentences_says_nothing(warnings: object) -> None:
    notices = Notices(warnings)

    assert (notices.of("s0"), notices.ignored("s0")) == ((), ())


def test_endless_and_strange_sentences_are_cut_short() -> None:
    notices = Notices(["x" * 10_000_000, None, *["y"] * 100_000])

    assert notices.of("s0") == ("runtime_warning",)
    assert Notices(["y"] * MAX_WARNINGS + [UNSUPPORTED]).of("s0") == ("runtime_warning",)
    late = "x" * MAX_CHARACTERS + "truncated to last 5 points"
    assert Notices([late]).of("s0") == ("runtime_warning",)
    longest = UNSUPPORTED.replace("'p'", f"'{'p' * 128}'")  # of a name of our API
    assert Notices([longest]).ignored("s0") == ("p" * 128,)
