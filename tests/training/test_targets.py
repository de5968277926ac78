import pytest

from training.targets import Target, missed


def test_a_figure_at_its_bound_meets_it():
    assert Target("mse", 0.1).is_met(0.1)
    assert Target("psnr_db", 20.5, at_least=True).is_met(20.5)


def test_a_figure_on_the_wrong_side_misses():
    assert not Target("mse", 0.1).is_met(0.1001)
    assert not Target("psnr_db", 20.5, at_least=True).is_met(20.49)


@pytest.mark.parametrize(
    ("model", "found", "sentences"),
    [
        ("mnist-conv", {"mse": 0.0030}, {}),
        ("mnist-conv", {"mse": 0.0041}, {"mse": "was to be at most 0.0038 and is 0.0041"}),
        (
            "mnist-denoise",
            {"mse": 1.0, "psnr_db": 20.0},
            {"psnr_db": "was to be at least 20.5 and is 20"},
        ),
        (
            "mnist-sparse",
            {"mse": 0.0030, "share_of_code_values_active": 0.2},
            {"share_of_code_values_active": "was to be at most 0.1 and is 0.2"},
        ),
        ("of somebody else", {"mse": 1.0}, {}),
    ],
)
def test_a_sentence_is_given_for_each_target_that_is_missed(model, found, sentences):
    assert missed(model, found) == sentences


def test_a_figure_that_was_not_measured_is_an_error_and_no_success():
    with pytest.raises(KeyError):
        missed("mnist-cluster", {"mse": 0.01})
